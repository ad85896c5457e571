"""Events on the broker: many small messages that mostly nobody reads, published with as little work as AMQP allows.

Every post makes two events, and the library spends 140 us of CPU on one (measured: 19 us this way, and a third of the broker's time). So events
that are emitted at the same time are written as one run of frames onto a channel of their own, and each waits for its own confirm. The frames are
those that the library would make; channel, confirms, flow control and recovery stay the library's. Events are not mandatory, so no return can
be confused with another's, which is what the library keeps message ids for.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, cast

import msgspec
from aiormq.abc import ChannelFrame
from aiormq.channel import Channel
from pamqp import commands, frame
from pamqp.header import ContentHeader

from shared.bus import BusUnavailable
from shared.bus.rabbitmq_link import Link, Single, close_channel
from shared.topology import EVENTS_EXCHANGE

TIMEOUT = 30.0
"""Seconds for an event's confirm."""
AT_ONCE = 200
"""Events of one run of frames."""
IN_FLIGHT = 1000
"""Unconfirmed events: a confirm of many walks all that are outstanding."""
_SIZE_MARK = 0x1122334455667788
_BODY = struct.Struct(">BHI")
_SIZE = struct.Struct(">Q")
_BODY_FRAME, _FRAME_END = 3, b"\xce"


class Group:
    """Events that one emitter waits for together: `confirmed` is done with the last of them, or fails with the first trouble."""

    def __init__(self, count: int) -> None:
        self.confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = count

    def one(self, trouble: BaseException | None) -> None:
        """One of them has its answer."""
        self._left -= 1
        if self.confirmed.done():
            return
        if trouble is not None:
            self.confirmed.set_exception(trouble)
        elif self._left == 0:
            self.confirmed.set_result(None)


class Waiting(msgspec.Struct, eq=False):
    """An event, and those it was emitted with."""

    routing_key: str
    payload: bytes
    group: Group


class Emitter:
    """Publishes to the topic exchange. Memory is bounded by the emitters, for each waits for its event."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel = Single(lambda: link.channel(confirms=True), lambda channel: not channel.is_closed)
        self._waiting: deque[Waiting] = deque()
        self._outstanding: deque[asyncio.Future[object]] = deque()
        self._task: asyncio.Task[None] | None = None

    async def emit_all(self, events: Sequence[tuple[str, bytes]]) -> None:
        """Publish events, each (routing key, payload), and wait for their confirms. Raises `BusUnavailable`."""
        if not events:
            return
        with self._link.failing(f"publish to {EVENTS_EXCHANGE}"):
            while (
                self._waiting and self._waiting[0].group.confirmed.done()
            ):  # given up during an alarm: not to be kept (P10)
                self._waiting.popleft()
            group = Group(len(events))
            self._waiting.extend(Waiting(routing_key, payload, group) for routing_key, payload in events)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._run())
            async with asyncio.timeout(TIMEOUT):
                await group.confirmed

    async def close(self) -> None:
        """Publish nothing more; who waits hears that the bus is gone."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
        _fail(list(self._waiting), BusUnavailable("the bus is closed"))
        await self._channel.close()

    async def _run(self) -> None:
        await asyncio.sleep(0)  # what is emitted in the same turn of the loop goes with it
        while self._waiting:
            batch: list[Waiting] = []
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._link.unblocked()
                    channel = cast(Channel, await (await self._channel.get()).get_underlay_channel())
                    batch = self._take()
                    await self._write(channel, batch)
                    await self._room()
            except Exception as error:
                _fail(batch or self._take(), error)
                await self._leave()
            except BaseException:
                _fail(batch, BusUnavailable("the bus is closed"))
                raise

    def _take(self) -> list[Waiting]:
        """The next events, without those whose emitters have given up."""
        batch = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
        return [waiting for waiting in batch if not waiting.group.confirmed.done()]

    async def _leave(self) -> None:
        """Give the channel up: how the broker counts what was written on it is no longer known."""
        channel = self._channel.value
        self._channel.forget()
        self._outstanding.clear()
        if channel is not None:
            await close_channel(channel)

    async def _write(self, channel: Channel, batch: list[Waiting]) -> None:
        """One run of frames; the broker numbers what it confirms in the order of these frames."""
        most = channel.max_content_size
        frames = b"".join([published(channel.number, one.routing_key, one.payload, most=most) for one in batch])
        async with channel.lock:
            for waiting in batch:
                channel.delivery_tag += 1
                confirmation = channel.create_future()
                channel.confirmations[channel.delivery_tag] = confirmation
                confirmation.add_done_callback(_told(waiting.group))
                self._outstanding.append(confirmation)
            await channel.write_queue.put(ChannelFrame(payload=frames, should_close=False))

    async def _room(self) -> None:
        while self._outstanding and (self._outstanding[0].done() or len(self._outstanding) > IN_FLIGHT):
            await asyncio.wait((self._outstanding.popleft(),))


def _told(group: Group) -> Callable[[asyncio.Future[Any]], None]:
    """Hands the broker's answer to who waits for it."""

    def tell(confirmation: asyncio.Future[Any]) -> None:
        group.one(ConnectionError("the channel was closed") if confirmation.cancelled() else confirmation.exception())

    return tell


def _fail(batch: Sequence[Waiting], error: Exception) -> None:
    for waiting in batch:
        waiting.group.one(error)


def published(channel: int, routing_key: str, payload: bytes, *, most: int) -> bytes:
    """The frames of one publish to the exchange; `most` is how many octets of a payload one frame may hold."""
    method, before, after = _constant(channel, routing_key)
    frames = [method, before, _SIZE.pack(len(payload)), after]
    for start in range(0, len(payload), most):
        part = payload[start : start + most]
        frames += (_BODY.pack(_BODY_FRAME, channel, len(part)), part, _FRAME_END)
    return b"".join(frames)


@lru_cache(maxsize=256)
def _constant(channel: int, routing_key: str) -> tuple[bytes, bytes, bytes]:
    """The method frame, and the header frame without the payload's size in it: both are the same for every event of a kind."""
    method = frame.marshal(commands.Basic.Publish(exchange=EVENTS_EXCHANGE, routing_key=routing_key), channel)
    properties = commands.Basic.Properties(delivery_mode=2, content_type="application/json")
    header = frame.marshal(ContentHeader(properties=properties, body_size=_SIZE_MARK), channel)
    before, _, after = header.partition(_SIZE.pack(_SIZE_MARK))
    return method, before, after
