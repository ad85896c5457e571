"""Real parts that can be made to blink: a ledger and a bus around the embedded ones, and a message that is not on any queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from shared.bus import Bus, BusUnavailable, Outgoing
from shared.ledger import Ledger, LedgerUnavailable
from shared.messages import Attempted, Delivery, Wire, decode, encode
from shared.topology import Queue


class Crash(BaseException):
    """The process dies here: nothing after it happens, nobody handles it."""


class BlinkingLedger:
    """A ledger whose methods fail as often as `fail` says ({"record": 2}); `calls` counts what was asked."""

    def __init__(self, real: Ledger) -> None:
        self.real = real
        self.fail: dict[str, int] = {}
        self.calls: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.real, name)

        async def blinking(*args: Any, **keywords: Any) -> Any:
            self.calls[name] = self.calls.get(name, 0) + 1
            if self.fail.get(name, 0) > 0:
                self.fail[name] -= 1
                raise LedgerUnavailable(f"{name} blinks")
            return await real(*args, **keywords)

        return blinking


class RecordingBus:
    """A bus that keeps what is published; `fail` times it refuses, `crash` makes the next publish the end of the process."""

    def __init__(self) -> None:
        self.published: list[Outgoing] = []
        self.fail = 0
        self.crash = False

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout: float = 30.0) -> None:
        if self.crash:
            self.crash = False
            raise Crash
        if self.fail > 0:
            self.fail -= 1
            raise BusUnavailable("the bus blinks")
        self.published.extend(messages)

    @property
    def retries(self) -> list[tuple[Delivery, float]]:
        """Deliveries to be tried again, with their delays."""
        found = [(decode(message.payload), message.delay) for message in self.published]
        return [(message, delay) for message, delay in found if isinstance(message, Delivery)]

    @property
    def told(self) -> list[Attempted]:
        """What the reporter hears."""
        found = [decode(message.payload) for message in self.published if message.queue is Queue.OUTCOMES]
        return [message for message in found if isinstance(message, Attempted)]


class Hand:
    """A message in a sender's hand."""

    def __init__(self, message: Wire, *, redelivered: bool = False, tries: int = 0) -> None:
        self.queue = Queue.DELIVERIES_EXPRESS
        self.payload = encode(message)
        self.redelivered = redelivered
        self.tries = tries

    async def ack(self) -> None:
        """Not on any queue."""

    async def park(self, reason: str) -> None:
        """Not on any queue."""

    async def release(self) -> None:
        """Not on any queue."""


async def drained(bus: Bus, *queues: Queue) -> None:
    """Wait until nothing is ready or delayed on the queues."""
    async with asyncio.timeout(30):
        while any([await bus.depth(queue) for queue in queues]):
            await asyncio.sleep(0.02)
