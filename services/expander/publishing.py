"""Publishing what an expansion made, a portion at a time: every copy carries the whole header section, and none is cheap to hold (P10)."""

from __future__ import annotations

from collections.abc import Iterable

from shared.bus import Bus, Outgoing
from shared.messages import Wire, encode
from shared.topology import Queue

PORTION = 4 * 1024 * 1024
"""Octets of messages that wait for their confirms together, about: the last one may go over it."""


async def publish_each(bus: Bus, queue: Queue, messages: Iterable[Wire]) -> None:
    """Make all messages durable, in their order; encoded as they go, so that no more than a portion is in memory.

    Raises `BusUnavailable` when one is not; those before it are durable then, and a repetition makes them again.
    """
    portion: list[Outgoing] = []
    octets = 0
    for message in messages:
        payload = encode(message)
        portion.append(Outgoing(queue=queue, payload=payload))
        octets += len(payload)
        if octets >= PORTION:
            await bus.publish_all(portion)
            portion, octets = [], 0
    if portion:
        await bus.publish_all(portion)
