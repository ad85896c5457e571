"""One timer for all the waits of a connection: what is too late ends as with `asyncio.timeout`, what is not never notices."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP

from services.ingress.patience import Patience
from services.ingress.session import LmtpSession, Session
from tests.ingress.conftest import House


class Watched(Patience):
    """Counts its timers."""

    timers = 0

    def _set(self, when: float) -> None:
        self.timers += 1
        super()._set(when)


@pytest.fixture
async def patience() -> Watched:
    return Watched(asyncio.get_running_loop())


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_what_is_too_late_is_a_timeout_and_the_task_goes_on(patience: Watched) -> None:
    for _ in range(2):
        with pytest.raises(TimeoutError), patience.until(soon(0.01)):
            await asyncio.Event().wait()
    with pytest.raises(TimeoutError), patience.until(soon(-1)):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


async def test_many_waits_that_end_in_time_have_one_timer(patience: Watched) -> None:
    for number in range(100):
        with patience.until(soon(60 + number)):
            await asyncio.sleep(0)
    assert patience.timers == 1
    with patience.until(soon(5)):  # an earlier end than that of the timer
        await asyncio.sleep(0)
    assert patience.timers == 2


async def test_a_timer_of_an_earlier_wait_ends_no_later_one(patience: Watched) -> None:
    with patience.until(soon(0.02)):
        await asyncio.sleep(0)
    with patience.until(soon(30)):
        await asyncio.sleep(0.05)
    assert patience.timers == 2
    with pytest.raises(TimeoutError), patience.until(soon(0.02)):
        await asyncio.Event().wait()


async def test_a_cancellation_from_outside_stays_one(patience: Watched) -> None:
    waiting = asyncio.Event()

    async def wait() -> None:
        with patience.until(soon(30)):
            waiting.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancellation_at_the_moment_of_the_deadline_is_not_lost(patience: Watched) -> None:
    async def wait() -> None:
        with patience.until(soon(30)):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    patience._until = 0.0
    patience._ring()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_wait_itself_passes(patience: Watched) -> None:
    with pytest.raises(ConnectionError), patience.until(soon(30)):
        raise ConnectionError
    with patience.until(soon(30)):
        await asyncio.sleep(0)


async def test_two_waits_at_one_time_are_a_mistake(patience: Watched) -> None:
    with patience.until(soon(30)), pytest.raises(RuntimeError, match="one wait"):
        patience.until(soon(30))


async def test_nothing_rings_after_the_end(patience: Watched) -> None:
    with patience.until(soon(0.01)):
        await asyncio.sleep(0)
    patience.close()
    assert patience._timer is None
    patience.close()


@pytest.mark.parametrize("kind", [Session, LmtpSession])
async def test_a_session_begins_with_all_that_aiosmtpd_gives_it(house: House, kind: type[Any]) -> None:
    """It is not asked for each client (which costs a tenth of a millisecond), but nothing that it would have said is missing."""
    loop = asyncio.get_running_loop()
    made = kind(house.ingress._context)
    asked = SMTP(None, hostname=made.hostname, enable_SMTPUTF8=True, loop=loop)
    assert vars(asked).keys() - vars(made).keys() == {"_smtp_methods", "_auth_methods"}
    for name, value in vars(asked).items():
        if value is loop:
            assert vars(made)[name] is loop
    assert asked._smtp_methods.keys() <= made.verbs.keys()
