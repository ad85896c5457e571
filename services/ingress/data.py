"""Read one message after 354, to its final dot, whatever is wrong with it; memory is bounded whatever its size (P10).

The header section is kept up to HORO_MAX_HEADER_SIZE, the body up to HORO_INLINE_LIMIT; beyond that it flows into the body store. A message that
cannot be taken is read to its end all the same, and thrown away, so that client and server agree where the next command begins; a client
that does not end it is hung up on. Trouble of the body store becomes the message's reply, never an exception here.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import AsyncExitStack

import msgspec

from services.ingress.limits import Limits, Room, Share
from services.ingress.unstuff import Unstuffer
from services.ingress.wire import Wire
from shared import headers, journal
from shared.bodies import Bodies, BodyWriter
from shared.messages import Content
from shared.replies import (
    BAD_LINE_ENDING,
    HEADER_TOO_LARGE,
    LINE_TOO_LONG,
    NO_ROOM,
    TOO_LARGE,
    TROUBLE,
    Reply,
    TransientError,
)

SPILL = 64 * 1024
"""Octets that are gathered for one write into the body store."""

SMALL = 16 * 1024
"""Octets of a message in memory that are taken even where those of all clients together are too many: nearly all mail is not much larger."""

STORE_KEEPS = 256 * 1024
"""Octets of a blob in the making that the body store may keep in memory, as far as they are counted here."""

OVERSHOOT = 1 << 20
"""A message with a fault is thrown away up to twice HORO_MAX_SIZE and this; then its client is hung up on."""


class Endless(Exception):
    """The client sends on after its message is refused anyway: answer with `reply`, and hang up."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


class Gone(Exception):
    """The client ended the connection before the final dot: there is no message, and nobody to answer."""


class Received(msgspec.Struct, kw_only=True):
    """A message to its final dot. `digest` is the SHA-256 of its octets, `size` their number. `fault` is set where it cannot be taken.

    `writer` is the body's blob in the making, `tail` what is not in it yet; without a writer `tail` is the body.
    """

    head: bytes
    tail: bytes
    size: int
    digest: bytes
    writer: BodyWriter | None
    fault: Reply | None

    async def commit(self) -> Content:
        """The content, with its blob durable. Raises what the body store raises."""
        if self.writer is None:
            return Content(head=self.head, tail=self.tail)
        if self.tail:
            await self.writer.write(self.tail)
        return Content(head=self.head, ref=await self.writer.commit())


class DataReader:
    """Reads one message. The blob that it may make is thrown away with `stack`, unless it was committed before; until then, too, the message has
    its share of the room."""

    def __init__(
        self, wire: Wire, *, limits: Limits, bodies: Bodies, room: Room, stack: AsyncExitStack, ends_at: float
    ) -> None:
        self._wire = wire
        self._limits = limits
        self._bodies = bodies
        self._room = room
        self._share = Share(room)
        self._stack = stack
        stack.callback(self._share.hold, 0)
        self._ends_at = ends_at
        self._loop = asyncio.get_running_loop()
        self._unstuffer = Unstuffer()
        self._raw = 0
        self._size = 0
        self._digest = hashlib.sha256()
        self._head: bytes | None = None
        self._looked_at = 0  # octets in which the header's end was looked for with the grammar,
        self._searched = 0  # and with a plain search for a blank line
        self._kept = bytearray()  # the header section until it is whole, then the body's octets that are not in a blob
        self._writer: BodyWriter | None = None
        self._stored = 0  # octets that the writer has been given
        self._fault: Reply | None = None
        self._patience = self._loop.time() + limits.data_grace

    async def read(self) -> Received:
        """The message, to its final dot. Raises `Gone`, `Endless`, and TimeoutError for a client that is too slow."""
        while not self._unstuffer.ended:
            if not self._wire.pending and not await self._wire.more(self._deadline()) and not self._wire.pending:
                raise Gone
            data = self._wire.take()
            self._raw += len(data)
            await self._take(self._unstuffer.feed(data))
        self._wire.put_back(self._unstuffer.rest)
        await self._finish()
        return Received(
            head=self._head or b"",
            tail=bytes(self._kept),
            size=self._size,
            digest=self._digest.digest(),
            writer=self._writer,
            fault=self._fault,
        )

    def _deadline(self) -> float:
        """Until when the next octets must come: a pause is as long as one before a command, and the whole keeps the least rate."""
        rate = self._patience + self._raw / self._limits.data_min_rate
        return min(self._loop.time() + self._limits.command_timeout, rate, self._ends_at)

    async def _take(self, octets: bytes) -> None:
        self._size += len(octets)
        if self._unstuffer.smuggled:
            self._fail(BAD_LINE_ENDING)
        elif self._size > self._limits.max_size:
            self._fail(TOO_LARGE)
        elif self._unstuffer.overlong:
            self._fail(LINE_TOO_LONG)
        if self._fault is not None:
            if self._raw > 2 * self._limits.max_size + OVERSHOOT:
                raise Endless(self._fault)
            return
        self._digest.update(octets)
        self._kept += octets
        if self._head is None:
            self._look_for_head()
        if self._head is not None:
            await self._spill()
        if self._count() > SMALL and self._room.full:
            self._fail(NO_ROOM)

    def _fail(self, reply: Reply) -> None:
        """Note why the message cannot be taken: the first reason stands, but smuggling is told above all."""
        if self._fault is None or reply is BAD_LINE_ENDING:
            self._fault = reply
        self._kept.clear()
        self._count()

    def _count(self) -> int:
        """Octets of the message that are in memory."""
        held = len(self._kept) + len(self._head or b"") + min(self._stored, STORE_KEEPS)
        self._share.hold(held)
        return held

    def _look_for_head(self) -> None:
        """Find the header section's end, without looking at the same octets again and again when they come one by one."""
        kept = self._kept
        blank = kept.startswith(b"\r\n") or kept.find(b"\r\n\r\n", max(self._searched - 3, 0)) >= 0
        self._searched = len(kept)
        limit = self._limits.max_header_size
        if not blank and len(kept) <= limit and len(kept) < 2 * self._looked_at + 1024:
            return
        self._looked_at = len(kept)
        end = headers.find_end(bytes(kept[: limit + 4]))
        if end is not None and end <= limit:
            self._cut_head(end)
        elif len(kept) > limit:
            self._fail(HEADER_TOO_LARGE)

    def _cut_head(self, end: int) -> None:
        self._head = bytes(self._kept[:end])
        del self._kept[:end]

    async def _spill(self) -> None:
        """Send the body on into the body store once it is too large to travel on the bus."""
        if self._writer is None and len(self._kept) <= self._limits.inline_limit:
            return
        if self._writer is not None and len(self._kept) < SPILL:
            return
        before = self._loop.time()
        try:
            async with asyncio.timeout(self._limits.accept_timeout):
                if self._writer is None:
                    self._writer = await self._stack.enter_async_context(self._bodies.create())
                await self._writer.write(bytes(self._kept))
            self._stored += len(self._kept)
            self._kept.clear()
        except TransientError as error:
            journal.unavailable("bodies", error.why)
            self._fail(error.reply)
        except Exception as error:
            journal.crashed("ingress.data", error)
            self._fail(TROUBLE)
        self._patience += self._loop.time() - before  # the client is not blamed for our own slowness

    async def _finish(self) -> None:
        """The final dot has come: what is still taken for header is split as it stands."""
        if self._fault is not None or self._head is not None:
            return
        head, _ = headers.split(bytes(self._kept))
        if len(head) > self._limits.max_header_size:
            self._fail(HEADER_TOO_LARGE)
            return
        self._cut_head(len(head))
        await self._spill()
