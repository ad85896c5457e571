"""Bodies in an S3-compatible store.

Up to a part's size a body is one put; above it a multipart upload, of which at most three parts are in memory, and which is aborted when its writer
gives up. An object appears whole or not at all. A process that dies leaves an upload that only the bucket's lifecycle rule removes
(AbortIncompleteMultipartUpload). Credentials come from the environment (AWS_ACCESS_KEY_ID, ...) or the machine's role, never from the URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from shared.bodies import BodiesUnavailable, BodyMissing
from shared.bodies.keys import CHUNK, is_key, new_key
from shared.messages import BodyRef

PART = 5 * 1024 * 1024
"""Octets of a part; S3 takes no smaller ones."""
LIMIT = 45.0
"""Seconds for one exchange with the store, retries and all: less than a client's wait for our 250."""
_OPTIONS = {"endpoint", "region"}
_SYNTAX = "the body store is written s3://bucket/prefix?endpoint=URL&region=NAME; credentials come from the environment"
_FULL = ("InsufficientStorage", "StorageFull", "QuotaExceeded", "507 ")


class S3Bodies:
    """The store in a bucket, under a prefix."""

    def __init__(self, store: S3Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    @contextlib.asynccontextmanager
    async def create(self) -> AsyncIterator[S3Writer]:
        """Write a blob; leaving the context without a commit throws it away."""
        key = new_key()
        writer = S3Writer(self._store, self._name(key), key)
        try:
            yield writer
        finally:
            await asyncio.shield(writer.discard())

    async def put(self, data: bytes) -> BodyRef:
        """Store `data` as one blob."""
        key = new_key()
        with _guarded():
            async with asyncio.timeout(LIMIT):
                await obstore.put_async(self._store, self._name(key), data, chunk_size=PART, max_concurrency=2)
        return BodyRef(key=key, size=len(data), sha256=hashlib.sha256(data).digest())

    async def get(self, ref: BodyRef) -> bytes:
        """The whole blob, checked."""
        return b"".join([chunk async for chunk in self.stream(ref)])

    async def stream(self, ref: BodyRef, offset: int = 0) -> AsyncIterator[bytes]:
        """The blob from `offset` on; its size is checked first, its SHA-256 at the end when all of it was read."""
        name = self._named(ref.key)
        with _guarded(reading=True):
            async with asyncio.timeout(LIMIT):
                # a range that begins at the end is an error in S3, and an empty blob has no other
                whole = offset == 0 or offset >= ref.size
                result = await obstore.get_async(
                    self._store, name, options={} if whole else {"range": {"offset": offset}}
                )
        if result.meta["size"] != ref.size:
            raise BodyMissing(f"{ref.key} has {result.meta['size']} octets, {ref.size} were stored")
        if offset >= ref.size > 0:
            return
        digest, left = hashlib.sha256(), ref.size - offset
        async for chunk in _chunks(result):
            digest.update(chunk)
            left -= len(chunk)
            yield chunk
        if left or (offset == 0 and digest.digest() != ref.sha256):
            raise BodyMissing(f"{ref.key} is not what was stored")

    async def delete(self, key: str) -> None:
        """Forget a blob; not there is fine."""
        if is_key(key):
            with _guarded(), contextlib.suppress(FileNotFoundError):
                async with asyncio.timeout(LIMIT):
                    await obstore.delete_async(self._store, self._name(key))

    async def list(self, *, older_than: float) -> AsyncIterator[str]:
        """Keys of the blobs made before that time."""
        pages = obstore.list(self._store, self._prefix or None)
        while True:
            with _guarded():
                try:
                    async with asyncio.timeout(LIMIT):
                        page = await anext(pages)
                except StopAsyncIteration:
                    return
            for item in page:
                key = item["path"].rpartition("/")[2]
                if is_key(key) and item["last_modified"].timestamp() < older_than:
                    yield key

    async def check(self) -> None:
        """Whether a blob can be made and removed."""
        ref = await self.put(b"check")
        await self.delete(ref.key)

    async def close(self) -> None:
        """Nothing is held open between calls."""

    def _name(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _named(self, key: str) -> str:
        if not is_key(key):
            raise BodyMissing("that is no key of a body")
        return self._name(key)


class S3Writer:
    """A blob in the making: one part in its own buffer, one waiting, the rest on its way."""

    def __init__(self, store: S3Store, name: str, key: str) -> None:
        self._store = store
        self._name = name
        self._key = key
        self._buffer = bytearray()
        self._digest = hashlib.sha256()
        self._size = 0
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._upload: asyncio.Task[Any] | None = None

    async def write(self, chunk: bytes) -> None:
        """Append octets; waits while the store is slower than the writer."""
        self._digest.update(chunk)
        self._size += len(chunk)
        self._buffer += chunk
        while len(self._buffer) >= PART:
            part = bytes(self._buffer[:PART])
            del self._buffer[:PART]
            await self._hand_over(part)

    async def commit(self) -> BodyRef:
        """The object is put and acknowledged."""
        if self._upload is None:
            with _guarded():
                async with asyncio.timeout(LIMIT):
                    await obstore.put_async(self._store, self._name, bytes(self._buffer), use_multipart=False)
        else:
            if self._buffer:
                await self._hand_over(bytes(self._buffer))
            await self._hand_over(None)
            with _guarded():
                async with asyncio.timeout(LIMIT):
                    await asyncio.shield(self._upload)
        self._buffer.clear()
        return BodyRef(key=self._key, size=self._size, sha256=self._digest.digest())

    async def discard(self) -> None:
        """Abort an upload that is not finished."""
        if self._upload is None:
            return
        if self._upload.done():
            self._upload.cancelled() or self._upload.exception()  # heard of by `_hand_over`, or by nobody who waits
            return
        while not self._parts.empty():
            self._parts.get_nowait()
        self._parts.put_nowait(_ABORT)
        with contextlib.suppress(
            _Aborted, BaseError, OSError, TimeoutError
        ):  # it failed by itself, or is aborted: as wished
            async with asyncio.timeout(LIMIT):
                await self._upload

    async def _hand_over(self, part: bytes | None) -> None:
        """Queue a part; hear of an upload that failed meanwhile, rather than wait for it to take more."""
        if self._upload is None:
            self._upload = asyncio.create_task(self._put())
        putting = asyncio.ensure_future(self._parts.put(part))
        try:
            async with asyncio.timeout(LIMIT):
                await asyncio.wait((putting, self._upload), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            raise BodiesUnavailable("the store takes no more of a body") from None
        finally:
            if not putting.done():
                putting.cancel()
        if self._upload.done():
            with _guarded():
                self._upload.result()

    async def _put(self) -> None:
        await obstore.put_async(
            self._store, self._name, self._given(), use_multipart=True, chunk_size=PART, max_concurrency=1
        )

    async def _given(self) -> AsyncIterator[bytes]:
        while (part := await self._parts.get()) is not None:
            if part is _ABORT:
                raise _Aborted  # obstore aborts the upload and passes this on
            yield part


class _Aborted(Exception):
    """The writer gave up."""


_ABORT = b"abort"


async def _chunks(result: Any) -> AsyncIterator[bytes]:
    """The octets of an answer in chunks of our size: obstore's may be larger."""
    stream = result.stream(min_chunk_size=CHUNK)
    while True:
        with _guarded(reading=True):
            try:
                async with asyncio.timeout(LIMIT):
                    data = memoryview(bytes(await anext(stream)))
            except StopAsyncIteration:
                return
        for start in range(0, len(data), CHUNK):
            yield bytes(data[start : start + CHUNK])


@contextlib.contextmanager
def _guarded(*, reading: bool = False) -> Iterator[None]:
    """Turn the store's trouble into ours. A missing object is `BodyMissing`, a missing bucket is trouble."""
    try:
        yield
    except FileNotFoundError as error:
        if reading and "NoSuchBucket" not in str(error):
            raise BodyMissing("the body is not there") from error
        raise BodiesUnavailable("the bucket is not there") from error
    except (BaseError, OSError, TimeoutError) as error:
        text = str(error)
        why = f"{type(error).__name__}: {(text.splitlines() or [''])[0][:200]}"
        raise BodiesUnavailable(why, full=any(sign in text for sign in _FULL)) from error


def open_s3(url: str) -> S3Bodies:
    """The store that `s3://bucket/prefix?endpoint=URL&region=NAME` names. Raises ValueError."""
    parts = urlsplit(url)
    try:
        options = {name: values[-1] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
    except ValueError as error:
        raise ValueError(_SYNTAX) from error
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or options.keys() - _OPTIONS:
        raise ValueError(_SYNTAX)
    endpoint = options.get("endpoint", "")
    where: dict[str, Any] = {"region": options.get("region", "us-east-1")}
    if endpoint:
        where["endpoint"] = endpoint
    store = S3Store(
        parts.netloc,
        virtual_hosted_style_request=False,  # in-cluster stores have no name for each bucket
        client_options={"allow_http": endpoint.startswith("http:"), "timeout": "30s", "connect_timeout": "5s"},
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20)},
        **where,
    )
    return S3Bodies(store, parts.path.strip("/"))
