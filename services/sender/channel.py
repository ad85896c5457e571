"""A byte channel to one server: bounded replies in, commands out, TLS in between. Knows nothing of transactions.

A hostile or broken server controls what comes in: lines and replies are bounded (`services.sender.wire`), reading stops while more than
64 KiB wait, a deadline holds for a whole reply (one octet a second does not keep us), and octets that came before TLS are dropped.
`patience` is seconds throughout. All trouble is `Broken`, with the reply that it means for the recipients.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import cast

from services.sender.answers import Broken, garbled, lost, timed_out, tls_trouble, unreachable
from services.sender.wire import MAX_LINE, MAX_LINES, line_ends, one_line, parse_reply
from shared.replies import Reply

_HIGH_WATER = 64 * 1024
_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class Channel(asyncio.Protocol):
    """An open connection. One task uses it at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._ended = False
        self._paused = False
        self._owes_ack = False
        self._trouble: Broken | None = None
        self._input: asyncio.Future[bool] | None = None
        self._room: asyncio.Future[bool] | None = None
        self._full = False
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = self._deadline = 0.0

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
        self._owes_ack = True
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
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        _wake(self._input)
        _wake(self._room)

    # --- reading ----------------------------------------------------------------------------------------------------
    @property
    def quiet(self) -> bool:
        """Nothing unread, and the other side is there: only then another transaction may begin."""
        return not (self._ended or self._buffer or self._lines or self._trouble)

    def ready(self, most: int) -> list[Reply]:
        """Up to `most` replies that have arrived whole; 421 is the last of those that it comes with. Raises `Broken` for what is no reply,
        once all replies before it were handed out."""
        if self._trouble is not None:
            raise self._trouble
        if not self._lines and (replies := self._single_lines(most)) is not None:
            return replies
        replies = []
        try:
            while len(replies) < most and (lines := self._ready_lines()) is not None:
                replies.append(parse_reply(lines))
                if replies[-1].code == 421:
                    break
        except Broken as broken:
            if not replies:
                raise
            self._trouble = broken
        return replies

    def _single_lines(self, most: int) -> list[Reply] | None:
        """As `ready` in one pass over what is there, where every reply is a single line; None where one is not, or is none."""
        *lines, rest = bytes(self._buffer).split(b"\n", most)
        if not lines:
            return None if len(rest) > MAX_LINE else []
        try:
            replies = list(map(one_line, lines))
        except Broken:
            return None
        if not all(replies):
            return None
        self._buffer = bytearray(rest)
        return cast(list[Reply], replies)

    def _ready_lines(self) -> list[bytes] | None:
        """The lines of the next reply if it has arrived whole. Raises `Broken` for what is no reply."""
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
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

    async def replies(self, most: int, patience: float, when: str) -> list[Reply]:
        """At least one reply, and what else of `most` is there by then, in order. `when` says in an error what it was waited for."""
        deadline = 0.0
        while not (replies := self.ready(most)):
            deadline = deadline or self._loop.time() + patience
            await self._more(deadline, when)
        return replies

    async def reply(self, patience: float, when: str) -> Reply:
        """The next reply."""
        return (await self.replies(1, patience, when))[0]

    async def lines(self, patience: float, when: str) -> list[bytes]:
        """The lines of the next reply."""
        deadline = self._loop.time() + patience
        while (lines := self._ready_lines()) is None:
            await self._more(deadline, when)
        return lines

    async def _more(self, deadline: float, when: str) -> None:
        """Wait until more has come. Raises `Broken` at the deadline, or where no more will come."""
        if self._ended:
            raise Broken(lost(when))
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        self._input = self._loop.create_future()
        self._set_alarm(deadline)
        self._acknowledge()
        try:
            if not await self._input:
                raise Broken(timed_out(when))
        finally:
            self._input = None

    def _acknowledge(self) -> None:
        """Have what came acknowledged now, when it was not all that we wait for. A server that writes its replies one by one is kept by Nagle's
        algorithm from sending the second before our system has acknowledged the first, for which that takes up to 40 ms."""
        if not self._owes_ack or _QUICKACK is None or self._transport is None:
            return
        self._owes_ack = False
        with contextlib.suppress(OSError):  # it has just been closed, which the next read will tell
            self._transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)

    def _set_alarm(self, deadline: float) -> None:
        """One timer for many waits: one that rings early is set again, which is much cheaper than a timer for every reply."""
        self._deadline = deadline
        if self._alarm is not None and self._alarm_at > deadline:
            self._alarm.cancel()
            self._alarm = None
        if self._alarm is None:
            self._alarm, self._alarm_at = self._loop.call_at(deadline, self._ring), deadline

    def _ring(self) -> None:
        self._alarm = None
        if self._input is None or self._input.done():
            return
        if self._loop.time() >= self._deadline - 0.001:
            self._input.set_result(False)
        else:
            self._set_alarm(self._deadline)

    # --- writing ----------------------------------------------------------------------------------------------------
    def write(self, data: bytes, when: str) -> None:
        """Hand octets to the connection; nothing of them is sent if it is known to be gone."""
        if self._ended or self._transport is None or self._transport.is_closing():
            raise Broken(lost(when))
        self._owes_ack = False  # an acknowledgement goes with what is written
        self._transport.write(data)

    async def drain(self, patience: float, when: str) -> None:
        """Wait until the other side has taken enough of what was written."""
        if not self._full:
            return
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
        self._trouble = None
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

    @property
    def session(self) -> ssl.SSLSession | None:
        """The TLS session, to be taken up again by a later connection."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return tls.session if tls is not None else None

    @property
    def resumed(self) -> bool:
        """Whether the TLS of this connection took up a session of an earlier one."""
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return tls is not None and bool(tls.session_reused)

    def close(self) -> None:
        """Close after what was written is sent."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once: a half-written message must never look whole."""
        if self._transport is not None:
            self._transport.abort()
        self._end()


def _wake(future: asyncio.Future[bool] | None) -> None:
    if future is not None and not future.done():
        future.set_result(True)


def _cause(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return error.reason or "handshake failed"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
