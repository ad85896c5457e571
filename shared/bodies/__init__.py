"""The body store: message bodies too large to travel inside the bus, stored once and named by reference.

Two implementations keep this port, `files.py` (local files, fsynced) and `s3.py`; `tests/contract/test_bodies.py` holds both to it.
A blob never changes; its key is random, never taken from the message (a path made of user data is a hole).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from shared.messages import BodyRef
from shared.replies import NO_ROOM, TROUBLE, TransientError


class BodiesUnavailable(TransientError):
    """The store cannot answer now. The client's answer is 451 (452 where there is no room)."""

    def __init__(self, why: str, *, full: bool = False) -> None:
        super().__init__(NO_ROOM if full else TROUBLE, why=why)


class BodyMissing(Exception):
    """The blob is not there, or is not what was stored (size or SHA-256 differ): never send it, park instead."""


class BodyWriter(Protocol):
    """A blob in the making: nothing of it can be read before `commit`, nothing is left of it without."""

    async def write(self, chunk: bytes) -> None:
        """Append octets; memory stays bounded whatever the size."""

    async def commit(self) -> BodyRef:
        """Make it durable (file, then directory, fsynced; or the object put and acknowledged), and name it."""


class Bodies(Protocol):
    """The port."""

    def create(self) -> AbstractAsyncContextManager[BodyWriter]:
        """Write a blob; leaving the context without a commit throws it away."""

    async def put(self, data: bytes) -> BodyRef:
        """Store `data` as one blob."""

    async def get(self, ref: BodyRef) -> bytes:
        """The whole blob, checked against size and SHA-256. Raises `BodyMissing`, `BodiesUnavailable`."""

    def stream(self, ref: BodyRef, offset: int = 0) -> AsyncIterator[bytes]:
        """The blob from `offset` on, in chunks of at most 256 KiB; raises as `get` does (a wrong SHA-256 is seen at the end when offset is 0)."""

    async def delete(self, key: str) -> None:
        """Forget a blob; not there is fine."""

    def list(self, *, older_than: float) -> AsyncIterator[str]:
        """Keys of the blobs that were made before `older_than` (seconds since the epoch), for the collector of orphans."""

    async def check(self) -> None:
        """Whether the store can be written to; raises `BodiesUnavailable`."""

    async def close(self) -> None:
        """Let go of everything."""
