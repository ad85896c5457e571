"""A subscription to the broker ends when it is cancelled, and never before: not by what the client library raises, in whatever way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from shared.bus import BusUnavailable
from shared.bus import rabbitmq_consumer as module
from shared.bus.rabbitmq_consumer import Subscription
from shared.bus.rabbitmq_link import Translation


class Link:
    """A link whose channels do what the test says."""

    def __init__(self, channel: Callable[[], Awaitable[Any]]) -> None:
        self.failing = Translation("amqp://user:secret@broker/")
        self.channel = channel


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES", (0.001,))


@pytest.mark.parametrize(
    "error",
    [asyncio.CancelledError(), BusUnavailable("down"), RuntimeError("a fault"), KeyError("x"), TimeoutError()],
    ids=repr,
)
async def test_p3_no_error_of_the_library_ends_a_consumer_for_good(error: BaseException) -> None:
    """A `CancelledError` among them that nobody asked for: the library raises it when a connection dies (faults.md 0.8)."""
    sessions = 0
    enough = asyncio.Event()

    async def channel() -> Any:
        nonlocal sessions
        sessions += 1
        if sessions == 4:
            enough.set()
            await asyncio.Event().wait()
        raise error

    subscription = Subscription(Link(channel), "posts", None, 1)  # type: ignore[arg-type]
    task = asyncio.create_task(subscription.run())
    async with asyncio.timeout(5):
        await enough.wait()
        assert not task.done()
        task.cancel()
        await asyncio.wait((task,))
    assert task.cancelled()


async def test_a_cancellation_that_the_library_turns_into_an_error_still_ends_it() -> None:
    reached = asyncio.Event()

    async def channel() -> Any:
        reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("closed") from None

    task = asyncio.create_task(Subscription(Link(channel), "posts", None, 1).run())  # type: ignore[arg-type]
    async with asyncio.timeout(5):
        await reached.wait()
        task.cancel()
        await asyncio.wait((task,))
    assert task.done()
