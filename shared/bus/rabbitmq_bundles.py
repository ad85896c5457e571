"""Bundles: small messages for one queue that are published at the same time cross the broker as one message.

A hop costs the broker and its client about 0.3 ms of CPU whatever the size of the message, so a post of ten members costs mostly hops. An idle
bus adds no delay: the first message goes at once, and what is published while it waits for its confirm makes up the next bundle. Each part
keeps its own fate: its publisher hears of the bundle's confirm, its consumer ends it alone, and the broker's message is acked with its last part.

An attacker with access to the broker controls the bytes of a bundle: what is none is taken as one message, and fails as such.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import cast

import msgspec

from shared.bus import BusUnavailable
from shared.topology import Queue

BUNDLE_TYPE = "application/x-horo-bundle"
"""The content type of a bundle: a MessagePack array of binaries, each the payload of a message."""

MAX_OCTETS = 256 * 1024
"""Octets of a bundle: what is prefetched has to fit into memory, and the broker's log takes large messages less well."""

MAX_PART = 64 * 1024
"""A larger message travels alone: its hop is cheap beside its octets."""

MAX_PARTS = {
    Queue.POSTS: 32,
    Queue.SLICES: 1,  # one is seconds of work, which all expanders share
    Queue.DELIVERIES_BULK: 8,  # each is a transaction of its own, which all senders share
    Queue.OUTCOMES: 64,
}
"""Messages of a bundle; where a queue is not named, `PARTS`."""

PARTS = 32
PARALLEL = 1
"""Bundles of one queue on their way to the broker at a time. With two, bundles were half as large and a post cost 5 % more CPU."""

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[bytes])


def encode_bundle(parts: Sequence[bytes]) -> bytes:
    """Several payloads as one."""
    return _encode(parts)


def decode_bundle(body: bytes) -> list[bytes] | None:
    """The payloads of a bundle; None for bytes that are no bundle, or an empty one."""
    try:
        return _decoder.decode(body) or None
    except (msgspec.MsgspecError, RecursionError, MemoryError, ValueError):
        return None


class Waiting(msgspec.Struct, eq=False):
    """A message that waits for its bundle, and what its publisher waits for."""

    payload: bytes
    confirmed: asyncio.Future[None]


Send = Callable[[Queue, Sequence[bytes]], Awaitable[None]]
"""Publishes payloads for a queue as one message; returns when it is confirmed, raises `BusUnavailable`."""

Ready = Callable[[], Awaitable[None]]
"""Returns when the broker takes messages; raises `BusUnavailable` when it is not there."""


class Joiner:
    """Gathers the messages for one queue. Memory is bounded by the publishers, for each waits for its message."""

    def __init__(self, queue: Queue, send: Send, ready: Ready) -> None:
        self._queue = queue
        self._send = send
        self._ready = ready
        self._most = MAX_PARTS.get(queue, PARTS)
        self._waiting: deque[Waiting] = deque()
        self._running: set[asyncio.Task[None]] = set()

    def submit(self, payload: bytes) -> asyncio.Future[None]:
        """Have a payload published; the future is done when the broker has confirmed it, or fails with `BusUnavailable`."""
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        while self._waiting and self._waiting[0].confirmed.done():  # given up during an alarm: not to be kept (P10)
            self._waiting.popleft()
        self._waiting.append(Waiting(payload, confirmed))
        if len(self._running) < PARALLEL:
            self._running.add(asyncio.create_task(self._run()))
        return confirmed

    async def close(self) -> None:
        """Send nothing more; who waits hears that the bus is gone."""
        running = list(self._running)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
        self._fail(self._waiting, BusUnavailable("the bus is closed"))
        self._waiting.clear()

    async def _run(self) -> None:
        try:
            await asyncio.sleep(0)  # what is published in the same turn of the loop goes with it
            while self._waiting:
                await self._next()
        finally:  # with nothing awaited since the queue was seen empty: what is submitted next starts another run
            self._running.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _next(self) -> None:
        """One bundle. It is taken when the broker takes messages: what its publisher has given up by then is not sent at all."""
        try:
            await self._ready()
        except Exception as error:
            self._fail(self._waiting, error)
            self._waiting.clear()
        else:
            await self._publish(self._take())

    async def _publish(self, bundle: Sequence[Waiting]) -> None:
        if not bundle:
            return
        try:
            await self._send(self._queue, [waiting.payload for waiting in bundle])
        except Exception as error:
            self._fail(bundle, error)
        except BaseException:  # cancelled: nobody may wait for ever
            self._fail(bundle, BusUnavailable("the bus is closed"))
            raise
        else:
            for waiting in bundle:
                if not waiting.confirmed.done():
                    waiting.confirmed.set_result(None)

    def _take(self) -> list[Waiting]:
        """The next bundle: what waits, up to the limits, without those whose publishers have given up."""
        bundle: list[Waiting] = []
        octets = 0
        while self._waiting and len(bundle) < self._most:
            if self._waiting[0].confirmed.done():
                self._waiting.popleft()
                continue
            octets += len(self._waiting[0].payload)
            if bundle and octets > MAX_OCTETS:
                break
            bundle.append(self._waiting.popleft())
        return bundle

    @staticmethod
    def _fail(bundle: Iterable[Waiting], error: Exception) -> None:
        for waiting in bundle:
            if not waiting.confirmed.done():
                waiting.confirmed.set_exception(error)
