"""One client's connection: bytes in, replies out, time, conduct and the end. What the commands mean is in `session.py`.

aiosmtpd gives the protocol's frame and its state; its command loop is replaced, for it takes a bare LF for a line's end, closes a session
that has waited 300 s for our own work, and answers a fault of ours with a permanent 500 that quotes it. Here a fault of ours is always 451
with a fixed text, every wait has an end, and replies leave together when the client has sent its commands together (RFC 2920).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any, ClassVar, cast

from aiosmtpd.smtp import SMTP

from services.ingress import commands
from services.ingress.context import Context
from services.ingress.data import Gone
from services.ingress.limits import Conduct
from services.ingress.patience import Patience
from services.ingress.recipients import Transaction
from services.ingress.wire import Wire
from shared import journal, metrics
from shared.replies import (
    BAD_COMMAND_BYTES,
    LINE_TOO_LONG,
    NOT_HTTP,
    OUT_OF_SYNC,
    SHUTTING_DOWN,
    TOO_BUSY,
    TOO_MANY_ERRORS,
    TOO_MUCH_JUNK,
    TOO_SLOW,
    TROUBLE,
    UNKNOWN_COMMAND,
    Kind,
    PermanentError,
    Reply,
    TransientError,
)

MAX_UNSENT = 8192
"""Octets of replies that wait for the end of a group of commands."""

MAX_LINGER = 8 * 1024 * 1024
"""Octets that are thrown away after our last words, so that the client can read them."""

NO_MAIL = frozenset(("HELO", "EHLO", "LHLO", "NOOP", "RSET", "VRFY", "EXPN", "HELP"))
"""Commands that lead nowhere when they come again and again."""


class HangUp(Exception):
    """The session ends with this reply. `linger` is off where the client is about to close anyway."""

    def __init__(self, reply: Reply, *, linger: bool = True) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.linger = linger


Command = Callable[[Any, str | None], Awaitable[Any]]
_A_CONNECTIONS_OWN = frozenset(("loop", "hostname", "_smtp_methods", "_auth_methods"))


@cache
def _frame() -> Mapping[str, Any]:
    """What aiosmtpd keeps of a session that has not begun. It finds it by looking through every attribute of the class, a tenth of a millisecond for
    each client; but it is the same for all."""
    loop = asyncio.get_running_loop()
    made = vars(SMTP(None, hostname="localhost", enable_SMTPUTF8=True, loop=loop))
    streams = vars(asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), loop=loop))
    return {name: value for name, value in made.items() if name not in _A_CONNECTIONS_OWN and name not in streams}


class Connection(SMTP):
    """The frame of a session. A subclass has the commands, as aiosmtpd names them: `smtp_MAIL(argument)`, and so on."""

    lmtp = False
    verbs: ClassVar[Mapping[str, Command]] = {}
    """The commands by their verbs in upper case."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.verbs = {name[5:]: getattr(cls, name) for name in dir(cls) if name.startswith("smtp_")}

    def __init__(self, context: Context) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        asyncio.StreamReaderProtocol.__init__(self, reader, client_connected_cb=self._cb_client_connected, loop=loop)
        vars(self).update(_frame())
        self.loop = loop
        self.hostname = context.hostname
        self.context = context
        self.limits = context.limits
        self.patience = Patience(loop)
        self.wire = Wire(self.patience)
        self.conduct = Conduct(context.limits)
        self.ip = ""
        self.ends_at = loop.time() + context.limits.session_timeout
        self.mail: Transaction | None = None
        self.receiving = False
        self.accepting = False
        self._unsent: list[bytes] = []
        self._unsent_size = 0
        self._leaving = False
        self._ending = False
        self._choked = False

    @property
    def busy(self) -> bool:
        """Whether a mail transaction is open or a message is being accepted: then a drain waits."""
        return self.mail is not None or self.receiving

    @property
    def task(self) -> asyncio.Task[None] | None:
        """The task that serves this client."""
        return self._handler_coroutine

    # --- asyncio's side ---
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client is here."""
        peer = transport.get_extra_info("peername")
        self.ip = str(peer[0]) if isinstance(peer, tuple) and peer else ""
        self.wire.attach(cast(asyncio.ReadTransport, transport))
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Bytes of the client, before or after TLS."""
        self.wire.feed(data)

    def eof_received(self) -> bool:
        """The client has said its last word, and may still listen: what it asked for is answered, except under TLS, which ends both ways."""
        self.wire.end()
        return self.transport is not None and self.transport.get_extra_info("sslcontext") is None

    def connection_lost(self, error: Exception | None) -> None:
        """The client is gone: the session's task is cancelled; an acceptance in flight is a task of its own and goes on."""
        self.wire.end()
        super().connection_lost(error)

    def pause_writing(self) -> None:
        """The client does not read what we send."""
        self._choked = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._choked = False
        super().resume_writing()

    def _reset_timeout(self, duration: float | None = None) -> None:
        """A last resort behind the deadlines of every wait, set once: whatever hangs, the connection ends."""
        if self._timeout_handle is None:
            last = self.limits.session_timeout + self.limits.accept_timeout + 2 * self.limits.command_timeout
            self._timeout_handle = self.loop.call_later(last, self._timeout_cb)

    # --- the session from beginning to end ---
    async def _handle_client(self) -> None:
        """Admit, serve, close."""
        context = self.context
        if context.draining or not context.crowd.admit(self.ip):
            reply = SHUTTING_DOWN if context.draining else TOO_BUSY
            journal.session_closed(self.ip, str(reply))
            self._writer.write(f"{reply}\r\n".encode("ascii"))
            self._close()
            return
        gauge = metrics.SESSIONS.labels("lmtp" if self.lmtp else "smtp")
        gauge.inc()
        context.sessions.add(self)
        try:
            await self._serve()
        finally:
            self._close()
            context.sessions.discard(self)
            context.crowd.leave(self.ip)
            gauge.dec()

    async def _serve(self) -> None:
        end: HangUp | None = None
        try:
            await self._greet()
            while (line := await self._next_line()) is not None:
                await self._obey(line)
            await self.flush()
        except Gone:
            return
        except HangUp as reason:
            end = reason
        except Exception as error:
            journal.crashed("ingress", error)
            end = HangUp(TROUBLE)
        if end is not None:
            with contextlib.suppress(Gone):
                await self._hang_up(end)

    async def _greet(self) -> None:
        """The banner, unless the client has spoken first: a server waits for it, a spammer or a browser does not."""
        if not self.wire.pending:
            with contextlib.suppress(TimeoutError):
                await self.wire.more(self.loop.time() + self.limits.greeting_pause)
        if self.wire.pending:
            raise HangUp(NOT_HTTP if commands.is_other_protocol(self.wire.head(64)) else OUT_OF_SYNC)
        self._put(f"220 {self.hostname} {'LMTP' if self.lmtp else 'ESMTP'} Horo".encode("ascii"))

    async def _next_line(self) -> bytes | None:
        """The next command line with its LF, None at the client's end. Replies leave before we wait. Raises `HangUp`, `Gone`."""
        until = min(self.loop.time() + self.limits.command_timeout, self.ends_at)
        while True:
            if self.loop.time() >= until:
                raise HangUp(TOO_SLOW)
            if (line := self.wire.take_line()) is not None:
                return line
            if self.wire.full or len(self.wire) > commands.MAX_PENDING:
                raise HangUp(LINE_TOO_LONG)
            if commands.is_other_protocol(self.wire.head(2)):
                raise HangUp(NOT_HTTP)
            await self.flush()
            if self._leaving and not self.busy:
                raise HangUp(SHUTTING_DOWN)
            try:
                if not await self.wire.more(until):
                    return None
            except TimeoutError:
                raise HangUp(TOO_SLOW) from None

    async def _obey(self, line: bytes) -> None:
        """One command: check its bytes, find its method, and turn whatever goes wrong into a reply."""
        if commands.is_other_protocol(line):
            raise HangUp(NOT_HTTP)
        if commands.has_bad_bytes(line):
            await self.reply(BAD_COMMAND_BYTES)
            if not self.conduct.bad_bytes():
                raise HangUp(TOO_MANY_ERRORS)
            return
        command = commands.parse(line)
        method = self.verbs.get(command.verb)
        if (method is None or command.verb in NO_MAIL) and not self.conduct.junk():
            raise HangUp(TOO_MUCH_JUNK)
        if commands.is_too_long(line, command.verb):
            await self.reply(LINE_TOO_LONG)
        elif method is None:
            await self.reply(UNKNOWN_COMMAND)
        else:
            await self._call(method, command.argument)

    async def _call(self, method: Command, argument: bytes | None) -> None:
        try:
            await method(self, None if argument is None else argument.decode("utf-8", "surrogateescape"))
        except (HangUp, Gone):
            raise
        except asyncio.CancelledError:
            # A library may raise it when its own connection dies (then nobody has cancelled us): that is trouble like any other.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            journal.session_trouble(self.ip, "a call was cancelled from inside")
            await self.reply(TROUBLE)
        except Exception as error:
            await self.reply(self.fault(error))

    # --- replies ---
    async def reply(self, reply: Reply) -> None:
        """Answer a command, and count what the client did wrong. Raises `HangUp` when that was one error too many."""
        refused = reply.kind is Kind.PERMANENT
        if refused and (pause := self.conduct.pause):
            await self.flush()
            await asyncio.sleep(pause)
        self._put(str(reply).encode("ascii"))
        if refused and not self.conduct.error():
            raise HangUp(TOO_MANY_ERRORS)
        if self._unsent_size > MAX_UNSENT:
            await self.flush()

    def fault(self, error: Exception) -> Reply:
        """The reply to what a command raised: its own where it carries one, else 451 with a fixed text; the cause goes to the journal alone."""
        match error:
            case PermanentError():
                return error.reply
            case TransientError():
                journal.session_trouble(self.ip, error.why or str(error.reply))
                return error.reply
            case TimeoutError():
                journal.session_trouble(self.ip, "no answer in time")
            case _:
                journal.crashed("ingress", error)
        return TROUBLE

    async def handle_exception(self, error: Exception) -> str:
        """aiosmtpd's own door for faults, which would say 500 and quote the error."""
        return str(self.fault(error))

    async def push(self, status: str | bytes) -> None:
        """aiosmtpd's own door for replies."""
        self._put(status if isinstance(status, bytes) else status.encode("ascii", "replace"))

    def _put(self, line: bytes) -> None:
        self._unsent.append(line + b"\r\n")
        self._unsent_size += len(line) + 2

    async def flush(self) -> None:
        """Send the replies that wait. Raises `Gone` when the client does not take them."""
        if not self._unsent:
            return
        data = b"".join(self._unsent)
        self._unsent.clear()
        self._unsent_size = 0
        try:
            self._writer.write(data)
            if self._choked or self._writer.is_closing():
                with self.patience.until(self.loop.time() + self.limits.command_timeout):
                    await self._writer.drain()
        except (OSError, TimeoutError) as error:
            self._writer.transport.abort()
            raise Gone from error

    # --- the end ---
    def leave(self) -> None:
        """The service is closing: end this session when it has no mail in hand."""
        self._leaving = True
        self.wire.wake()

    def expel(self) -> None:
        """The service has waited long enough: end this session now, unless its client waits for the word about a message in acceptance."""
        if not self.accepting and self.transport is not None and self._handler_coroutine is not None:
            if not self._ending:
                self._writer.write(f"{SHUTTING_DOWN}\r\n".encode("ascii"))
            self._writer.close()
            self._handler_coroutine.cancel()

    def _close(self) -> None:
        """Close when the last reply is sent, or soon: a client that does not read must not keep the socket."""
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        self._timeout_handle = self.loop.call_later(self.limits.linger, self._writer.transport.abort)
        self._writer.close()
        self.patience.close()

    async def _hang_up(self, end: HangUp) -> None:
        """Say the last reply. Then listen a little, for closing over unread bytes would reset the connection and take our words with it."""
        self._ending = True
        self._put(str(end.reply).encode("ascii"))
        if end.linger:
            journal.session_closed(self.ip, str(end.reply))
        await self.flush()
        if not end.linger:
            return
        if self._writer.can_write_eof():
            self._writer.write_eof()
        until = self.loop.time() + self.limits.linger
        thrown = 0
        with contextlib.suppress(TimeoutError, OSError):
            while thrown < MAX_LINGER:
                while data := self.wire.take():
                    thrown += len(data)
                if not await self.wire.more(until):
                    break
