"""What the sender's tests are made of: contents, envelopes, hops towards a sink."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from services.sender.hops import Envelope, Hops, Sent
from shared.bodies import BodyMissing
from shared.messages import BodyRef, Content, Lane, Recipient
from shared.routes import NextHop
from shared.settings import Settings
from tests.support.sink import Sink

HEAD = b"From: ana@example.test\r\nSubject: minutes\r\n\r\n"
CONTENT = Content(head=HEAD, tail=b"Dear all,\r\n.hidden\r\n..two\r\n.\r\nbye\r\n")


class ShelfOfBodies:
    """A body store in memory. `broken_after` stops a stream after so many chunks with `trouble`."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.chunk = 64 * 1024
        self.broken_after: int | None = None
        self.trouble: Exception = BodyMissing("gone")
        self.largest = 0

    async def put(self, data: bytes) -> BodyRef:
        key = f"blob{len(self.blobs)}"
        self.blobs[key] = data
        return BodyRef(key=key, size=len(data), sha256=hashlib.sha256(data).digest())

    async def stream(self, ref: BodyRef, offset: int = 0) -> AsyncIterator[bytes]:
        if ref.key not in self.blobs:
            raise BodyMissing(ref.key)
        data = self.blobs[ref.key]
        for number, start in enumerate(range(offset, len(data), self.chunk)):
            if number == self.broken_after:
                raise self.trouble
            yield data[start : start + self.chunk]


def people(*addresses: str) -> tuple[Recipient, ...]:
    return tuple(Recipient(address=address) for address in addresses)


def envelope(*addresses: str, sender: str = "office-bounces+t0@example.test", **changes: Any) -> Envelope:
    recipients = changes.pop("recipients", None) or people(*addresses)
    senders = changes.pop("senders", (sender,) * len(recipients))
    return Envelope(post_id="p0", accepted_at=1.0, recipients=recipients, senders=senders, **changes)


@asynccontextmanager
async def hops(bodies: Any = None, resolver: Any = None, mx_port: int = 25, **changes: Any) -> AsyncIterator[Hops]:
    """Next hops with short patience."""
    settings = Settings(**{"hop_timeout": "0.4s", "next_hop": "smtp://127.0.0.1:1", **changes})
    made = Hops(
        settings,
        bodies if bodies is not None else ShelfOfBodies(),
        hostname="horo.example.test",
        rng=Random(7),
        resolver=resolver,
        mx_port=mx_port,
    )
    try:
        yield made
    finally:
        await made.close()


def towards(sink: Sink) -> NextHop:
    return NextHop(sink.protocol, host="127.0.0.1", port=sink.port)


def codes(sent: Sent) -> list[tuple[int, str]]:
    """(code, status) of each recipient, in order."""
    return [(answer.reply.code, answer.reply.status) if answer else (0, "") for answer in sent.answers]


def unknowns(sent: Sent) -> list[bool]:
    return [answer is not None and answer.unknown for answer in sent.answers]


async def deliver(
    sink: Sink, *addresses: str, content: Content = CONTENT, faults: Sequence[str] = (), **changes: Any
) -> Sent:
    """One delivery over new connections."""
    options = {key: changes.pop(key) for key in ("bodies", "hop_timeout", "tls_out", "tls_ca") if key in changes}
    async with hops(**options) as made:
        return await made.deliver(towards(sink), envelope(*addresses, **changes), content)


BULK = Lane.BULK
