"""A running ingress on loopback, over in-memory doubles."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest

from services.ingress.limits import Limits
from services.ingress.server import Ingress
from shared.settings import Settings
from tests.support.doubles import MemoryBodies, MemoryBus, MemoryDirectory
from tests.support.ports import free_port

LIMITS = (
    "data_grace", "junk_commands", "errors", "bad_bytes", "tarpit_after", "tarpit", "greeting_pause", "linger", "max_held"
)  # fmt: skip
PATIENT = {"tarpit": 0.0, "greeting_pause": 0.0}
"""What a test does without, unless it asks for it: waits that are there for attackers."""


class House:
    """An ingress and the doubles around it."""

    def __init__(self, **settings: Any) -> None:
        self.bus = MemoryBus()
        self.directory = MemoryDirectory()
        self.bodies = settings.pop("bodies", None) or MemoryBodies()
        limits = PATIENT | {name: settings.pop(name) for name in LIMITS if name in settings}
        self.settings = Settings(
            **{
                "smtp_listen": f"127.0.0.1:{free_port()}",
                "lmtp_listen": f"127.0.0.1:{free_port()}",
                "hostname": "mx.horo.test",
                **settings,
            },
        )
        self.limits = msgspec.structs.replace(Limits.of(self.settings), **limits)
        self.ingress = Ingress(
            self.settings, bus=self.bus, directory=self.directory, bodies=self.bodies, limits=self.limits
        )
        self.directory.add("office@example.test", "ana@example.test", "boris@example.test")

    @property
    def smtp(self) -> tuple[str, int]:
        return self.ingress.addresses["smtp"]

    @property
    def lmtp(self) -> tuple[str, int]:
        return self.ingress.addresses["lmtp"]


Start = Callable[..., Awaitable[House]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start an ingress with settings and limits by name; all of them are stopped at the end."""
    houses: list[House] = []

    async def go(**settings: Any) -> House:
        house = House(**settings)
        await house.ingress.start()
        houses.append(house)
        return house

    yield go
    for house in houses:
        for fault in (
            house.bus.fault,
            house.bus.late,
            house.directory.fault,
            house.bodies.fault,
            house.bodies.commit_fault,
        ):
            fault.release()
        await house.ingress.stop(grace=0)
        assert house.bodies.open == 0, "a blob in the making was left open"
        assert house.ingress.sessions == 0, "a session was left open"
        assert house.ingress._context.room.held == 0, "octets of messages that are gone are still counted"


@pytest.fixture
async def house(start: Start) -> House:
    """An ingress with default settings and the group office@example.test."""
    return await start()
