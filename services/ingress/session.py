"""What the commands mean: SMTP (RFC 5321) and LMTP (RFC 2033) with PIPELINING, 8BITMIME, SMTPUTF8, SIZE, ENHANCEDSTATUSCODES, DSN, STARTTLS.

The commands check their syntax and sequence; `recipients.py` decides at RCPT, `accept.py` after the final dot. Neither BDAT nor AUTH is
offered: the one is where smuggling came in elsewhere, the other has no passwords to check here.
"""

# ruff: noqa: N802  (aiosmtpd finds a command's method by its name)

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import cast

from services.ingress import commands
from services.ingress.connection import Connection, HangUp
from services.ingress.data import DataReader, Endless, Gone, Received
from services.ingress.params import mail_params, rcpt_params
from services.ingress.recipients import Refusal, Transaction
from shared import journal
from shared.address import Address, AddressError, parse_path
from shared.messages import Origin
from shared.replies import (
    BAD_ADDRESS,
    BAD_LINE_ENDING,
    BAD_SENDER,
    BAD_SEQUENCE,
    BAD_SYNTAX,
    BYE,
    CANNOT_VERIFY,
    HELP,
    NOT_IMPLEMENTED,
    OK,
    OUT_OF_SYNC,
    RATE_LIMITED,
    RECIPIENT_OK,
    RESET,
    SENDER_OK,
    SHUTTING_DOWN,
    START_DATA,
    START_TLS,
    TOO_LARGE,
    TOO_MANY_ERRORS,
    TOO_SLOW,
    TRACED,
    TROUBLE,
    UNKNOWN_COMMAND,
    UTF8_NEEDED,
    Kind,
    PermanentError,
    Reply,
)

Argument = str | None

ANSWER_MARGIN = 1.0
"""Seconds over HORO_ACCEPT_TIMEOUT after which the client is answered even if an acceptance does not end when it is told to."""


def octets(argument: Argument) -> bytes | None:
    """An argument as it came: aiosmtpd's methods take text, in which the octets are kept."""
    return None if argument is None else argument.encode("utf-8", "surrogateescape")


class Session(Connection):
    """An SMTP session."""

    helo = ""
    extended = False
    secure = False

    # --- greetings and small commands ---
    async def smtp_HELO(self, arg: Argument) -> None:
        """The greeting of 1982: no extensions."""
        if await self._greeted(arg, extended=False):
            self._put(f"250 {self.hostname}".encode("ascii"))

    async def smtp_EHLO(self, arg: Argument) -> None:
        """The greeting that tells what we can do."""
        if await self._greeted(arg, extended=True):
            self._put_extensions()

    async def _greeted(self, arg: Argument, *, extended: bool) -> bool:
        name = commands.helo_name(octets(arg))
        if name is None:
            await self.reply(BAD_SYNTAX)
            return False
        self.helo, self.extended, self.mail = name, extended, None
        return True

    def _put_extensions(self) -> None:
        words = [
            self.hostname,
            "PIPELINING",
            "8BITMIME",
            "SMTPUTF8",
            f"SIZE {self.limits.max_size}",
            "ENHANCEDSTATUSCODES",
            "DSN",
        ]
        if self.context.tls is not None and not self.secure:
            words.append("STARTTLS")
        for word in words[:-1]:
            self._put(f"250-{word}".encode("ascii"))
        self._put(f"250 {words[-1]}".encode("ascii"))

    async def smtp_NOOP(self, arg: Argument) -> None:
        """Nothing."""
        await self.reply(OK)

    async def smtp_RSET(self, arg: Argument) -> None:
        """Forget the transaction."""
        if arg is not None:
            await self.reply(BAD_SYNTAX)
            return
        self.mail = None
        await self.reply(RESET)

    async def smtp_QUIT(self, arg: Argument) -> None:
        """The end."""
        raise HangUp(BYE, linger=False)

    async def smtp_HELP(self, arg: Argument) -> None:
        """The same for everybody."""
        await self.reply(HELP)

    async def smtp_VRFY(self, arg: Argument) -> None:
        """The same answer whether the address is there or not: who is a group is told by RCPT, slowly."""
        await self.reply(BAD_SYNTAX if arg is None else CANNOT_VERIFY)

    async def smtp_EXPN(self, arg: Argument) -> None:
        """The members of a group are nobody's business (P9)."""
        await self.reply(NOT_IMPLEMENTED)

    async def smtp_BDAT(self, arg: Argument) -> None:
        """CHUNKING is not offered. A client that sends a chunk all the same is out of step with us: its octets are no commands."""
        raise HangUp(NOT_IMPLEMENTED)

    async def smtp_AUTH(self, arg: Argument) -> None:
        """AUTH is not offered."""
        await self.reply(NOT_IMPLEMENTED)

    # --- TLS ---
    async def smtp_STARTTLS(self, arg: Argument) -> None:
        """Go on under TLS, with nothing left of what was said before (RFC 3207 4.2)."""
        tls = self.context.tls
        if tls is None:
            await self.reply(NOT_IMPLEMENTED)
        elif arg is not None:
            await self.reply(BAD_SYNTAX)
        elif self.secure:
            await self.reply(BAD_SEQUENCE)
        else:
            await self._start_tls(tls)

    async def _start_tls(self, tls: ssl.SSLContext) -> None:
        # Reading stops before the reply, so that whatever an attacker in the middle adds in clear text is never read as a command that
        # came under TLS (CVE-2011-0411): what is here already ends the session, what comes later breaks the handshake.
        self.wire.hold()
        self._synchronise()
        await self.reply(START_TLS)
        await self.flush()
        try:
            async with asyncio.timeout(self.limits.command_timeout):
                await self._writer.start_tls(tls)
        except (OSError, TimeoutError) as error:
            journal.session_closed(self.ip, f"TLS: {type(error).__name__}")
            self._writer.transport.abort()
            raise Gone from error
        self.transport = self._writer.transport
        self.wire.attach(cast(asyncio.ReadTransport, self._writer.transport))
        self.secure, self.helo, self.extended, self.mail = True, "", False, None

    def _synchronise(self) -> None:
        """The client must have waited here for our reply. Raises `HangUp`."""
        if self.wire.pending:
            raise HangUp(OUT_OF_SYNC)

    # --- the transaction ---
    async def smtp_MAIL(self, arg: Argument) -> None:
        """Begin a transaction."""
        if not self.helo or self.mail is not None:
            await self.reply(BAD_SEQUENCE)
            return
        if self.context.draining:
            raise HangUp(SHUTTING_DOWN)
        mail = self._sender(octets(arg))
        if (mail.params.size or 0) > self.limits.max_size:
            journal.refused(str(TOO_LARGE), TOO_LARGE.code, ip=self.ip, mail_from=mail.mail_from)
            await self.reply(TOO_LARGE)
        elif not self.context.pace.allows(self.ip, self.loop.time()):
            journal.refused(str(RATE_LIMITED), RATE_LIMITED.code, ip=self.ip, mail_from=mail.mail_from)
            await self.reply(RATE_LIMITED)
        else:
            self.mail = mail
            await self.reply(SENDER_OK)

    def _sender(self, argument: bytes | None) -> Transaction:
        """The transaction that a MAIL argument begins. Raises `PermanentError` with the reply."""
        path = commands.after_keyword(argument, b"FROM:")
        if path is None:
            raise PermanentError(BAD_SYNTAX)
        address, rest, needs_utf8 = _sender_path(path)
        params = mail_params(rest, extended=self.extended)
        if needs_utf8 and not params.smtputf8:
            raise PermanentError(UTF8_NEEDED)
        if address is not None and not address.domain:
            raise PermanentError(BAD_SENDER)
        return Transaction(mail_from="" if address is None else str(address), params=params)

    async def smtp_RCPT(self, arg: Argument) -> None:
        """Add a recipient to the transaction."""
        mail = self.mail
        if mail is None:
            await self.reply(BAD_SEQUENCE)
            return
        path = commands.after_keyword(octets(arg), b"TO:")
        if path is None:
            raise PermanentError(BAD_SYNTAX)
        address, rest = _recipient_path(path, utf8=mail.params.smtputf8)
        params = rcpt_params(rest, extended=self.extended, utf8=mail.params.smtputf8)
        try:
            with self.patience.until(self.loop.time() + self.limits.accept_timeout):
                mail.add(await self.context.recipients.decide(mail, address, params, one_answer=not self.lmtp))
        except Refusal as refusal:
            await self._refuse_recipient(mail, address, refusal)
        else:
            await self.reply(RECIPIENT_OK)

    async def _refuse_recipient(self, mail: Transaction, address: Address, refusal: Refusal) -> None:
        self._note_refusal(mail, refusal.reply, group=refusal.group, recipient=str(address))
        mail.refused += 1
        if mail.refused > self.limits.max_recipients:  # it goes on and on after 452
            raise HangUp(TOO_MANY_ERRORS)
        await self.reply(refusal.reply)

    def _note_refusal(self, mail: Transaction, reply: Reply, *, group: str, recipient: str) -> None:
        journal.refused(str(reply), reply.code, ip=self.ip, recipient=recipient, mail_from=mail.mail_from)
        if group and (reply.kind is Kind.PERMANENT or reply in TRACED):
            self.context.refusals.note(group, reply, mail_from=mail.mail_from, ip=self.ip)

    # --- the message ---
    async def smtp_DATA(self, arg: Argument) -> None:
        """Read the message, have it judged and made durable, and answer."""
        mail = self.mail
        if mail is None or not mail.accepted:
            await self.reply(BAD_SEQUENCE)
            return
        if arg is not None:
            await self.reply(BAD_SYNTAX)
            return
        self._synchronise()
        await self.reply(START_DATA)
        await self.flush()
        self.receiving = True
        try:
            async with AsyncExitStack() as stack:
                received = await self._receive(stack)
                self.mail = None
                if received.fault is not None:
                    replies = [received.fault] * len(mail.accepted)
                elif self.context.overloaded:
                    journal.session_trouble(self.ip, "too many messages wait for the bus and the stores")
                    replies = [TROUBLE] * len(mail.accepted)
                else:
                    replies = await self._accept(mail, received, stack.pop_all())
            await self._answer(mail, replies)
        finally:
            self.receiving = False

    async def _receive(self, stack: AsyncExitStack) -> Received:
        """The message to its final dot; where that is not found, client and server no longer agree, and the session ends."""
        reader = DataReader(
            self.wire,
            limits=self.limits,
            bodies=self.context.bodies,
            room=self.context.room,
            stack=stack,
            ends_at=self.ends_at,
        )
        try:
            return await reader.read()
        except TimeoutError:
            raise HangUp(TOO_SLOW) from None
        except Endless as endless:
            raise HangUp(endless.reply) from None
        except Gone:
            raise
        except Exception as error:
            raise HangUp(self.fault(error)) from error

    async def _accept(self, mail: Transaction, received: Received, stack: AsyncExitStack) -> list[Reply]:
        """The replies for the accepted recipients. The work goes on when the client, and this task, are gone."""
        task = self.context.spawn(self._transact(mail, received, stack))
        self.accepting = True
        try:
            with self.patience.until(self.loop.time() + self.limits.accept_timeout + ANSWER_MARGIN):
                return await asyncio.shield(task)
        except TimeoutError:
            pass  # told below
        except asyncio.CancelledError:
            if (own := asyncio.current_task()) is not None and own.cancelling():
                raise
        finally:
            self.accepting = False
        journal.session_trouble(self.ip, "an acceptance did not end in time")
        return [TROUBLE] * len(mail.accepted)

    async def _transact(self, mail: Transaction, received: Received, stack: AsyncExitStack) -> list[Reply]:
        origin = Origin(ip=self.ip, helo=self.helo, protocol=self._protocol(utf8=mail.params.smtputf8))
        replies = [TROUBLE] * len(mail.accepted)
        try:
            async with stack:
                replies = await self.context.acceptance.accept(mail, received, origin, one_answer=not self.lmtp)
        except Exception as error:  # from throwing an unused blob away: the post is what it is
            journal.crashed("ingress", error)
        return replies

    def _protocol(self, *, utf8: bool) -> str:
        """The transmission type for Received (RFC 3848, RFC 6531 4.3)."""
        if not self.extended:
            return "SMTP"
        base = ("UTF8LMTP" if self.lmtp else "UTF8SMTP") if utf8 else ("LMTP" if self.lmtp else "ESMTP")
        return f"{base}S" if self.secure else base

    async def _answer(self, mail: Transaction, replies: Sequence[Reply]) -> None:
        """One reply for all, or under LMTP one for each accepted RCPT, in order (RFC 2033 4.2)."""
        for accepted, reply in zip(mail.accepted, replies, strict=True):
            if reply.kind is not Kind.POSITIVE:
                group = accepted.group.address if accepted.group else ""
                self._note_refusal(mail, reply, group=group, recipient=accepted.target.recipient)
        shown = list(replies) if self.lmtp else list(replies[:1])
        if BAD_LINE_ENDING in shown:
            for reply in shown[:-1]:
                self._put(str(reply).encode("ascii"))
            raise HangUp(BAD_LINE_ENDING)
        if any(reply.kind is Kind.POSITIVE for reply in shown):
            self.conduct.accepted()
        for reply in shown[:-1]:
            self._put(str(reply).encode("ascii"))
        await self.reply(shown[-1])


class LmtpSession(Session):
    """An LMTP session: LHLO greets, and after the dot every accepted recipient has a reply of its own."""

    lmtp = True

    async def smtp_LHLO(self, arg: Argument) -> None:
        """The greeting of LMTP."""
        if await self._greeted(arg, extended=True):
            self._put_extensions()

    async def smtp_HELO(self, arg: Argument) -> None:
        """Not a command of LMTP (RFC 2033 4.1)."""
        await self.reply(UNKNOWN_COMMAND)

    async def smtp_EHLO(self, arg: Argument) -> None:
        """Not a command of LMTP (RFC 2033 4.1)."""
        await self.reply(UNKNOWN_COMMAND)


def _sender_path(path: bytes) -> tuple[Address | None, bytes, bool]:
    """(address, parameters, whether it needs SMTPUTF8, which is among the parameters and so known only later)."""
    try:
        with contextlib.suppress(_NeedsUtf8):
            return *_parse(path, utf8=False), False
        return *_parse(path, utf8=True), True
    except AddressError as error:
        raise PermanentError(BAD_SENDER, why=str(error)) from error


def _recipient_path(path: bytes, *, utf8: bool) -> tuple[Address, bytes]:
    try:
        address, rest = _parse(path, utf8=utf8)
    except _NeedsUtf8 as error:
        raise PermanentError(UTF8_NEEDED) from error
    except AddressError as error:
        raise PermanentError(BAD_ADDRESS, why=str(error)) from error
    if address is None:
        raise PermanentError(BAD_ADDRESS, why="the null path is no recipient")
    return address, rest


class _NeedsUtf8(Exception):
    """A path that SMTPUTF8 would make good."""


def _parse(path: bytes, *, utf8: bool) -> tuple[Address | None, bytes]:
    try:
        return parse_path(path, utf8=utf8)
    except AddressError as error:
        if error.needs_utf8:
            raise _NeedsUtf8 from error
        raise
