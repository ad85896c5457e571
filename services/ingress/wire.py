"""A client's bytes as they arrive: a bounded buffer with deadlines. The transport is told to pause while it is full.

It stands in for asyncio's StreamReader, which has no way to look at what is pending (protocol synchronisation, STARTTLS) nor to be
woken from outside (drain).
"""

from __future__ import annotations

import asyncio

from services.ingress.patience import Patience

HIGH_WATER = 128 * 1024
LOW_WATER = 32 * 1024
"""Octets buffered at which reading is paused, and taken up again."""

CHUNK = 64 * 1024
"""Octets that `take` gives at most."""


class Wire:
    """What a client sent and nobody has taken. One task reads."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._buffer = bytearray()
        self._transport: asyncio.ReadTransport | None = None
        self._paused = False
        self._held = False
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    # --- the protocol's side ---
    def attach(self, transport: asyncio.ReadTransport) -> None:
        """Read from this transport: the first one, or the one that TLS has put on top."""
        self._transport = transport
        self._paused = False
        self._held = False

    def feed(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._buffer += data
        if len(self._buffer) > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()
        self.wake()

    def end(self) -> None:
        """The client will send no more."""
        self._ended = True
        self.wake()

    def wake(self) -> None:
        """Let the reading task look around: bytes, an end, or something that it has to see to."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- the session's side ---
    @property
    def pending(self) -> bool:
        """Whether there are bytes that nobody has taken."""
        return bool(self._buffer)

    def __len__(self) -> int:
        return len(self._buffer)

    @property
    def ended(self) -> bool:
        """Whether the client will send no more."""
        return self._ended

    @property
    def full(self) -> bool:
        """Whether reading is paused because nobody takes what is there."""
        return self._paused

    def hold(self) -> None:
        """Read nothing more from the transport: what comes now belongs to TLS."""
        self._held = True
        if self._transport is not None:
            self._transport.pause_reading()

    def head(self, size: int) -> bytes:
        """The first bytes, not taken."""
        return bytes(self._buffer[:size])

    def take_line(self) -> bytes | None:
        """A line with the LF that ends it, None where there is no whole one."""
        end = self._buffer.find(b"\n")
        return None if end < 0 else self._take(end + 1)

    def has_line(self) -> bool:
        """Whether `take_line` would give one."""
        return b"\n" in self._buffer

    def take(self) -> bytes:
        """At most `CHUNK` octets of what is there."""
        return self._take(CHUNK)

    def put_back(self, data: bytes) -> None:
        """Give back what was taken too much: the commands after the final dot."""
        self._buffer[:0] = data

    async def more(self, until: float) -> bool:
        """Wait for something new until `until` (loop time); False when the client will send no more. Raises TimeoutError.

        Also returns when somebody called `wake`.
        """
        if self._ended:
            return False
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            with self._patience.until(until):
                await self._waiter
        finally:
            self._waiter = None
        return not self._ended or self.pending

    def _take(self, size: int) -> bytes:
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        if self._paused and len(self._buffer) < LOW_WATER:
            self._resume()
        return data

    def _resume(self) -> None:
        self._paused = False
        if self._transport is not None and not self._held and not self._transport.is_closing():
            self._transport.resume_reading()
