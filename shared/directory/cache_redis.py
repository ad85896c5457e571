"""The door to Redis (or Valkey): values shared by the processes, and the witness of the change counter. Losing it changes speed alone (P6).

Whoever can write to Redis controls every byte read here. A value counts only with an HMAC over what it is the value of, when it was read, and
in which database: other keys' values, and whatever else Redis holds, are a miss; an older value of the same key is refused by its stamp
(`cache_log`). Reads are bounded in size and in time. Every error is a miss; one that cost time shuts the door until the watch has found
Redis well again.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable
from typing import Any, TypeVar

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, ResponseError

from shared import journal
from shared.directory.store_read import Progress

PREFIX = "horo:directory"
WITNESS = f"{PREFIX}:witness"
TIMEOUT = 0.2
"""Seconds for one answer; SQL is there for what takes longer."""
TTL = 300
TTL_WITNESS = 3
MAX_VALUE = 256 * 1024
"""Octets of a value; a larger one is neither written nor read."""
CONNECTIONS = 32
WITNESS_AGE = 0.7
"""Seconds after which a witness's word is too old."""
SKEW = 0.2
"""Seconds by which the clocks of two machines may differ: counted as age, to be on the safe side."""
WITNESS_CHANGES = 200

T = TypeVar("T")


class Value(msgspec.Struct, frozen=True, array_like=True):
    """What Redis holds under a key."""

    stamp: int
    payload: bytes
    mac: bytes


class Word(msgspec.Struct, frozen=True, array_like=True):
    """What a witness says: the change counter as SQL told it at `at` (seconds since the epoch)."""

    epoch: str
    seq: int
    after: int
    changes: list[tuple[int, str]]
    at: float


_values = msgspec.msgpack.Decoder(Value)
_words = msgspec.msgpack.Decoder(Word)


class SharedCache:
    """Values and the witness in Redis. `usable` says whether lookups should ask at all."""

    def __init__(self, url: str, secret: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=TIMEOUT,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=TIMEOUT,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 0),  # the default tries three times more: seconds, for what must take a moment
            decode_responses=False,
        )
        self._redis: Any = Redis.from_pool(pool)
        self._secret = hashlib.sha256(b"horo directory cache\0" + secret.encode()).digest()
        self.usable = False

    async def get(self, epoch: str, kind: str, name: str) -> tuple[int, bytes] | None:
        """A value's stamp and payload, as one of us wrote them for exactly this key; None for everything else."""
        raw = await self._ask(self._redis.getrange(f"{PREFIX}:{kind}:{name}", 0, MAX_VALUE), b"")
        value = _decoded(_values, raw)
        if value is None or not hmac.compare_digest(
            value.mac, self._mac(epoch, kind, name, value.stamp, value.payload)
        ):
            return None
        return value.stamp, value.payload

    async def put(self, epoch: str, kind: str, name: str, stamp: int, payload: bytes) -> None:
        """Share a value, for a while."""
        value = Value(stamp, payload, self._mac(epoch, kind, name, stamp, payload))
        raw = msgspec.msgpack.encode(value)
        if len(raw) <= MAX_VALUE:
            await self._ask(self._redis.set(f"{PREFIX}:{kind}:{name}", raw, ex=TTL), None)

    async def testify(self, known: Progress, at: float) -> None:
        """Tell the others what SQL said at `at`; finds out whether Redis is well, too."""
        payload = msgspec.msgpack.encode(Word(known.epoch, known.seq, known.after, list(known.changes), at))
        value = Value(known.seq, payload, self._mac(known.epoch, "witness", "", known.seq, payload))
        await self._ask(self._redis.set(WITNESS, msgspec.msgpack.encode(value), ex=TTL_WITNESS), None, probe=True)

    async def witness(self, now: float) -> tuple[Progress, float] | None:
        """What a witness says of the counter, and how many seconds ago at most that was so; None where none is to be believed."""
        value = _decoded(_values, await self._ask(self._redis.getrange(WITNESS, 0, MAX_VALUE), b"", probe=True))
        word = None if value is None else _decoded(_words, value.payload)
        if value is None or word is None:
            return None
        if not hmac.compare_digest(value.mac, self._mac(word.epoch, "witness", "", value.stamp, value.payload)):
            return None
        age = now - word.at
        if not -SKEW <= age <= WITNESS_AGE:
            return None
        return Progress(word.epoch, word.seq, word.after, word.changes), age + SKEW

    async def close(self) -> None:
        """Let go of the connections."""
        await self._redis.aclose(close_connection_pool=True)

    def _mac(self, epoch: str, kind: str, name: str, stamp: int, payload: bytes) -> bytes:
        what = msgspec.msgpack.encode((epoch, kind, name, stamp, payload))
        return hmac.digest(self._secret, what, "sha256")

    async def _ask(self, command: Awaitable[Any], nothing: Any, *, probe: bool = False) -> Any:
        """Redis's answer, or `nothing` for any trouble: a hostile server may provoke any exception in its client.

        An error that Redis itself answers at once (OOM, READONLY, WRONGTYPE, NOPERM) costs nothing and shuts no door.
        """
        try:
            async with asyncio.timeout(TIMEOUT * 2):
                answer = await command
        except ResponseError as error:
            if isinstance(error, BusyLoadingError):
                self._shut(error)
                return nothing
            answer = nothing
        except Exception as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise asyncio.CancelledError from error  # the client turns one that meets its own time limit into an error
            self._shut(error)
            return nothing
        if probe and not self.usable:
            self.usable = True
            journal.available("Redis")
        return answer

    def _shut(self, error: Exception) -> None:
        if self.usable:
            journal.unavailable("Redis", f"{type(error).__name__}: {error}"[:200])
        self.usable = False


def _decoded(decoder: msgspec.msgpack.Decoder[T], raw: Any) -> T | None:
    """What the bytes hold, None for whatever bytes hold nothing of ours."""
    if not isinstance(raw, bytes) or not raw:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, ValueError, MemoryError):
        return None
