"""rspamd's verdict on a post, before anybody gets a copy: one HTTP request to its normal worker, with the whole message.

An attacker controls the message, its envelope and the name he greets with: what goes into a header of the request is made one line. The answer is
believed, but bounded in size and time. Where rspamd does not answer, HORO_RSPAMD_FAIL decides; it is then left alone for a moment, so that
not every client waits for the time limit.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from urllib.parse import urlsplit

import msgspec

from shared import journal
from shared.messages import Checked
from shared.settings import Settings, seconds

MAX_ANSWER = 1 << 20
"""Octets of an answer: symbols and their options."""
MAX_RECIPIENTS = 100
"""Recipients that rspamd is told of."""
AT_ONCE = 32
"""Checks under way: each has up to 256 KiB of the message in memory (P10)."""
CONNECT = 3.0
"""Seconds for a connection."""
LEFT_ALONE = 5.0
"""Seconds in which it is not asked again after it could not be reached."""
SYMBOLS = 20
"""Symbols that the trace has, those that weighed most."""

Asked = Sequence[tuple[str, str]]
"""Headers of a request: `From`, `Rcpt`, `IP`, `Helo`, ..."""


class Unchecked(Exception):
    """rspamd gave no verdict: why."""


class _Symbol(msgspec.Struct):
    score: float = 0.0


class _Answer(msgspec.Struct):
    """What is read of rspamd's answer (protocol of /checkv2)."""

    action: str
    score: float = 0.0
    required_score: float = 0.0
    symbols: dict[str, _Symbol] = {}


_answer = msgspec.json.Decoder(_Answer)


class Rspamd:
    """One rspamd at HORO_RSPAMD_URL."""

    def __init__(self, settings: Settings) -> None:
        url = urlsplit(settings.rspamd_url)
        self._tls = ssl.create_default_context() if url.scheme == "https" else None
        self._host = url.hostname or ""
        self._port = url.port or (443 if self._tls else 11333)
        self._path = f"{url.path.rstrip('/')}/checkv2"
        self._timeout = seconds(settings.rspamd_timeout)
        self.max_size = settings.rspamd_max_size
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._ask_again_at = 0.0

    async def check(self, asked: Asked, size: int, message: AsyncIterator[bytes]) -> Checked:
        """The verdict on a message of `size` octets. Raises `Unchecked`; what reading the message raises."""
        if size > self.max_size:
            return Checked(action="too large")
        if time.monotonic() < self._ask_again_at:
            raise Unchecked("rspamd did not answer a moment ago")
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout), self._turns:
                body = await self._request(asked, size, message)
            found = _answer.decode(body)
        except (OSError, EOFError, TimeoutError, ValueError, asyncio.LimitOverrunError, msgspec.MsgspecError) as error:
            raise Unchecked(f"{type(error).__name__}: {error}") from error
        journal.checked(found.action, took=time.monotonic() - started)
        weight = sorted(found.symbols, key=lambda name: -abs(found.symbols[name].score))
        return Checked(
            action=_line(found.action)[:100],
            score=round(found.score, 2),
            required=round(found.required_score, 2),
            symbols=tuple(_line(name)[:100] for name in weight[:SYMBOLS]),
        )

    async def _request(self, asked: Asked, size: int, message: AsyncIterator[bytes]) -> bytes:
        reader, writer = await self._connect()
        try:
            writer.write(self._head(asked, size))
            left = size
            async for chunk in message:
                left -= len(chunk)
                writer.write(chunk)
                await writer.drain()
            if left:
                raise ValueError(f"the message has {size - left} octets, and not {size}")
            return await _read(reader)
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection. Only that none can be made has rspamd left alone: a message may be made to break the check of its own, not that of others."""
        try:
            async with asyncio.timeout(CONNECT):
                return await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=64 * 1024)
        except (OSError, TimeoutError):
            self._ask_again_at = time.monotonic() + LEFT_ALONE
            raise

    def _head(self, asked: Asked, size: int) -> bytes:
        host = f"[{self._host}]" if ":" in self._host else self._host
        lines = [f"POST {self._path} HTTP/1.1", f"Host: {host}:{self._port}", f"Content-Length: {size}"]
        lines += ["Connection: close", *(f"{name}: {_line(value)}" for name, value in asked if value)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "replace")


def _line(text: str) -> str:
    """Text for one line: whatever could end it, or is no character, is a question mark."""
    return "".join(c if c.isprintable() else "?" for c in text)


async def _read(reader: asyncio.StreamReader) -> bytes:
    """The body of the answer. Raises `ValueError` for one that is no success or too long, `EOFError` for half of one."""
    status = (await reader.readuntil(b"\r\n")).split(None, 2)
    if len(status) < 2 or status[1] != b"200":
        raise ValueError(f"it answered {b' '.join(status)[:100]!r}")
    fields = await _fields(reader)
    if b"chunked" in fields.get(b"transfer-encoding", b"").lower():
        raise ValueError("it answered in chunks, which it was not asked for")
    length = fields.get(b"content-length")
    if length is None:
        body = await reader.read(MAX_ANSWER + 1)
        while not reader.at_eof() and len(body) <= MAX_ANSWER:
            body += await reader.read(MAX_ANSWER + 1 - len(body))
    else:
        body = await reader.readexactly(min(int(length), MAX_ANSWER + 1))
    if len(body) > MAX_ANSWER:
        raise ValueError(f"its answer has more than {MAX_ANSWER} octets")
    return body


async def _fields(reader: asyncio.StreamReader) -> Mapping[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.partition(b":")
        fields[name.strip().lower()] = value.strip()
        if len(fields) > 100:
            raise ValueError("its answer has more than 100 header fields")
    return fields
