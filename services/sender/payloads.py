"""The payloads of the messages in work: a body from the store is read and stuffed once, not once for each of a thousand transactions.

Memory is bounded (P10): what is kept is at most KEPT octets, the least recently used goes first, and a body over LARGE is streamed for each
transaction anew. A body that cannot be read is tried again by the next delivery that needs it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from services.sender.payload import Payload
from shared.bodies import Bodies
from shared.messages import Content

LARGE = 1024 * 1024
"""Octets of a message that is not kept in memory: reading it is little beside sending it."""

KEPT = 16 * 1024 * 1024
"""Octets that are kept in all."""

_Name = tuple[str, int, bytes]  # of a body: key, offset; and the head, which differs by group


class Payloads:
    """Makes the payload of a delivery's content. One instance a process."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._kept: OrderedDict[_Name, Payload] = OrderedDict()
        self._octets = 0
        self._reading: dict[_Name, asyncio.Task[Payload]] = {}

    async def of(self, content: Content) -> Payload:
        """The payload. Raises `BodyMissing` and `BodiesUnavailable` as the body store does."""
        if content.ref is None or content.size > LARGE:
            return Payload(content, self._bodies)
        name = (content.ref.key, content.offset, content.head)
        if (known := self._kept.get(name)) is not None:
            self._kept.move_to_end(name)
            return known
        if (reading := self._reading.get(name)) is None:
            reading = self._reading[name] = asyncio.create_task(self._read(name, content))
            reading.add_done_callback(lambda done: done.cancelled() or done.exception())  # who waited may have gone
        return await asyncio.shield(reading)

    async def close(self) -> None:
        """Read nothing more."""
        reading = list(self._reading.values())
        for task in reading:
            task.cancel()
        if reading:
            await asyncio.wait(reading)

    async def _read(self, name: _Name, content: Content) -> Payload:
        try:
            payload = Payload(content, self._bodies)
            payload.whole = b"".join([chunk async for chunk in payload.stuffed()])
        finally:
            del self._reading[name]
        self._kept[name] = payload
        self._octets += len(payload.whole)
        while self._octets > KEPT:
            _, oldest = self._kept.popitem(last=False)
            self._octets -= len(oldest.whole or b"")
        return payload
