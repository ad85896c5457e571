"""A byte channel to one server: bounded replies in, commands out, TLS in between. Knows nothing of transactions.

A hostile or broken server controls what comes in: lines and replies are bounded (`services.sender.wire`), reading stops while more than
64 KiB wait, a deadline holds for a whole reply (one octet a second does not keep us), and octets that came before TLS are dropped.
`patience` is seconds throughout. All trouble is `Broken`, with the reply that it means for the recipients.
"""

from __future__ import annotations

import asyncio
import ssl

from services.sender.answers import Broken, garbled, lost, timed_out, tls_trouble, unreachable
from services.sender.wire import MAX_LINE, MAX_LINES, line_ends, parse_reply
from shared.replies import Reply

_HIGH_WATER = 64 * 1024


class Channel(asyncio.Protocol):
    """An open connection. One task uses it at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._ended = False
        self._paused = False
        self._input: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._full = False

    @classmethod
    async def connect(cls, host: str, port: int, *, patience: float) -> Channel:
        """Connect. Raises `Broken`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience):
                _, channel = await loop.create_connection(cls, host, port)
        except TimeoutError:
            raise Broken(unreachable("time-out")) from None
        except (OSError, UnicodeError) as error:
            raise Broken(unreachable(_cause(error))) from error
        return channel

    # --- what the loop calls ----------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > _HIGH_WATER and not self._paused and self._transport is not None:
            self._transport.pause_reading()
            self._paused = True
        _wake(self._input)

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._room)

    def _end(self) -> None:
        self._ended = True
        _wake(self._input)
        _wake(self._room)

    # --- reading ----------------------------------------------------------------------------------------------------
    @property
    def quiet(self) -> bool:
        """Nothing unread, and the other side is there: only then another transaction may begin."""
        return not self._ended and not self._buffer and not self._lines

    def ready_reply(self) -> list[bytes] | None:
        """The lines of the next reply if it has arrived whole. Raises `Broken` for what is no reply."""
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            if len(line) > MAX_LINE or len(self._lines) >= MAX_LINES:
                raise Broken(garbled("reply too long"))
            self._lines.append(line)
            if line_ends(line):
                lines, self._lines = self._lines, []
                return lines
        if len(self._buffer) > MAX_LINE:
            raise Broken(garbled("reply line too long"))
        return None

    async def lines(self, patience: float, when: str) -> list[bytes]:
        """The lines of the next reply. `when` says in an error what it was waited for."""
        if (lines := self.ready_reply()) is not None:
            return lines
        try:
            async with asyncio.timeout(patience):
                while (lines := self.ready_reply()) is None:
                    if self._ended:
                        raise Broken(lost(when))
                    await self._more()
        except TimeoutError:
            raise Broken(timed_out(when)) from None
        return lines

    async def reply(self, patience: float, when: str) -> Reply:
        """The next reply."""
        return parse_reply(await self.lines(patience, when))

    async def _more(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._input = self._loop.create_future()
        try:
            await self._input
        finally:
            self._input = None

    # --- writing ----------------------------------------------------------------------------------------------------
    def write(self, data: bytes, when: str) -> None:
        """Hand octets to the connection; nothing of them is sent if it is known to be gone."""
        if self._ended or self._transport is None or self._transport.is_closing():
            raise Broken(lost(when))
        self._transport.write(data)

    async def drain(self, patience: float, when: str) -> None:
        """Wait until the other side has taken enough of what was written."""
        try:
            async with asyncio.timeout(patience):
                while self._full:
                    if self._ended:
                        raise Broken(lost(when))
                    self._room = self._loop.create_future()
                    await self._room
        except TimeoutError:
            raise Broken(timed_out(when)) from None
        finally:
            self._room = None

    async def start_tls(self, context: ssl.SSLContext, name: str, patience: float) -> None:
        """Go on in TLS. What the server sent in the clear behind its 220 is dropped: it may be anybody's (STARTTLS injection)."""
        self._buffer.clear()
        self._lines.clear()
        assert self._transport is not None
        try:
            transport = await self._loop.start_tls(
                self._transport, self, context, server_hostname=name, ssl_handshake_timeout=patience
            )
        except (OSError, ssl.SSLError, TimeoutError) as error:
            raise Broken(tls_trouble(_cause(error))) from error
        if transport is None:
            raise Broken(tls_trouble("the connection was closed"))
        self._transport = transport

    def close(self) -> None:
        """Close after what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once: a half-written message must never look whole."""
        if self._transport is not None:
            self._transport.abort()
        self._end()


def _wake(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)


def _cause(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or "handshake failed"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
