"""What is swept, and above all what is not."""

from __future__ import annotations

import asyncio

import pytest

from services.reporter.sweeper import MARGIN, Sweeper
from shared.settings import Settings
from shared.topology import Queue
from tests.reporter.doubles import MemoryBodies, MemoryBus, MemoryLedger, until
from tests.reporter.world import NOW

DAY = 86400.0


class Parts:
    def __init__(self) -> None:
        self.bus, self.ledger, self.bodies = MemoryBus(), MemoryLedger(), MemoryBodies()
        settings = Settings(ledger_keep="30d", retry_max_age="5d")
        self.sweeper = Sweeper(settings, bus=self.bus, ledger=self.ledger, bodies=self.bodies)


async def test_posts_by_the_setting_bodies_by_need_and_age() -> None:
    parts = Parts()
    parts.bodies.blobs = {"old": (b"", NOW - 7 * DAY), "needed": (b"", NOW - 7 * DAY), "young": (b"", NOW - 5.5 * DAY)}
    parts.ledger.needed = {"needed"}
    assert MARGIN == DAY
    assert await parts.sweeper.sweep(NOW)
    assert parts.ledger.swept_before == [NOW - 30 * DAY]
    assert set(parts.bodies.blobs) == {"needed", "young"}


@pytest.mark.parametrize("queue", [Queue.POSTS, Queue.SLICES])
async def test_p1_no_body_goes_while_posts_wait_for_the_expander(queue: Queue) -> None:
    """A system that was off for a week comes back with posts that the ledger does not know yet."""
    parts = Parts()
    parts.bodies.blobs = {"waiting": (b"", NOW - 30 * DAY)}
    parts.bus.depths[queue] = 1
    assert not await parts.sweeper.sweep(NOW)
    assert set(parts.bodies.blobs) == {"waiting"}
    parts.bus.depths[queue] = 0
    assert await parts.sweeper.sweep(NOW)
    assert not parts.bodies.blobs


async def test_trouble_is_tried_again_soon_and_never_ends_the_service() -> None:
    parts = Parts()
    parts.ledger.away = True
    running = asyncio.create_task(parts.sweeper.run(first=0.0, every=3600.0, soon=0.001))
    asked = parts.ledger.sweep
    calls = 0

    async def counted(*, posts_before: float) -> int:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError("nobody foresaw this")
        if calls == 3:
            raise asyncio.CancelledError  # as a driver whose connection dies may give up
        parts.ledger.away = calls < 4
        return await asked(posts_before=posts_before)

    parts.ledger.sweep = counted  # type: ignore[method-assign]
    await until(lambda: parts.ledger.swept_before)
    assert calls == 4
    parts.sweeper.stop()
    await asyncio.wait_for(running, 10)
