"""A conversation with one SMTP or LMTP server: greeting, EHLO, STARTTLS, then transactions, pipelined as RFC 2920 allows.

A group is RSET? MAIL RCPT* DATA: all are written at once, all replies are read, in order. A body may be followed by the next
transaction's group, so many small transactions cost one round trip each. The final dot is never written for a body that broke off.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from services.sender.answers import TOO_LARGE, Broken, garbled, tls_trouble, unreachable
from services.sender.channel import Channel
from services.sender.mail import Mail, Stage
from services.sender.wire import capabilities, mail_command, parse_reply, rcpt_command
from shared.replies import Kind, Reply

Protocol = Literal["smtp", "lmtp"]
TlsPolicy = Literal["none", "opportunistic", "required"]


class Peer(msgspec.Struct, frozen=True):
    """One server: `name` is what its certificate must say, `address` what is dialled."""

    protocol: Protocol
    name: str
    address: str
    port: int

    def __str__(self) -> str:
        shown = self.name if self.name == self.address else f"{self.name}[{self.address}]"
        return f"{shown}:{self.port}"


class Manners(msgspec.Struct, frozen=True):
    """How we introduce ourselves: our name, how long we wait for a reply (seconds), and TLS."""

    hostname: str
    timeout: float
    tls: TlsPolicy
    context: ssl.SSLContext | None

    @property
    def final_timeout(self) -> float:
        """The wait after the final dot: servers scan and store then (RFC 5321 4.5.3.2.6)."""
        return self.timeout * 10


class TlsFailed(Broken):
    """STARTTLS was offered and came to nothing; with an opportunistic policy the caller connects again without it."""


class Connection:
    """An open conversation, between transactions. One task uses it at a time."""

    def __init__(self, channel: Channel, peer: Peer, manners: Manners) -> None:
        self._channel = channel
        self._manners = manners
        self.peer = peer
        self.offers: Mapping[str, str] = {}
        self.secure = False
        self.used = False
        self.chain = True
        self.ended_with: Reply | None = None
        self.opened_at = time.monotonic()
        self._unclean = False
        self._broken = False

    # --- the greeting -----------------------------------------------------------------------------------------------
    @classmethod
    async def open(cls, peer: Peer, manners: Manners, *, plain: bool = False) -> Connection:
        """Connect and greet. `plain` leaves STARTTLS out. Raises `Broken`, `TlsFailed` among it."""
        channel = await Channel.connect(peer.address, peer.port, patience=min(manners.timeout, 30.0))
        connection = cls(channel, peer, manners)
        try:
            await connection._greeted()
            await connection._hello()
            if manners.tls != "none" and not plain:
                await connection._secure()
        except BaseException:
            channel.abort()
            raise
        return connection

    async def _greeted(self) -> None:
        """Read the greeting; 554 there (RFC 5321 3.1) says that this server takes no mail now, which is not for ever."""
        banner = await self._channel.reply(self._manners.timeout, "before the greeting")
        if banner.code != 220:
            raise Broken(unreachable(f"greeted with {banner}"))

    async def _hello(self) -> None:
        """EHLO or LHLO; HELO where EHLO is not known. A refusal is about us, not about a recipient: always temporary."""
        verb = "LHLO" if self.peer.protocol == "lmtp" else "EHLO"
        self._channel.write(f"{verb} {self._manners.hostname}\r\n".encode("ascii"), f"before {verb}")
        lines = await self._channel.lines(self._manners.timeout, f"after {verb}")
        reply = parse_reply(lines)
        if reply.kind is Kind.POSITIVE:
            self.offers = capabilities(lines)
            return
        if reply.kind is Kind.PERMANENT and verb == "EHLO":
            reply = await self._command(f"HELO {self._manners.hostname}\r\n".encode("ascii"), "after HELO")
        if reply.kind is not Kind.POSITIVE:
            raise Broken(unreachable(f"our greeting was answered with {reply}"))

    async def _secure(self) -> None:
        required = self._manners.tls == "required"
        if "STARTTLS" not in self.offers:
            if required:
                raise Broken(tls_trouble("STARTTLS is not offered"))
            return
        try:
            await self._start_tls()
        except Broken as error:
            raise TlsFailed(error.reply) from error

    async def _start_tls(self) -> None:
        assert self._manners.context is not None
        reply = await self._command(b"STARTTLS\r\n", "after STARTTLS")
        if reply.code != 220:
            raise Broken(tls_trouble(f"STARTTLS was answered with {reply}"))
        await self._channel.start_tls(self._manners.context, self.peer.name, self._manners.timeout)
        self.secure = True
        self.offers = {}  # what was said in the clear is forgotten (RFC 3207 4.2)
        await self._hello()

    # --- transactions -----------------------------------------------------------------------------------------------
    async def converse(self, mails: Sequence[Mail]) -> None:
        """Send transactions in order and write into each what was heard. Trouble of the connection ends in the mails, not in an error.

        Raises `BodyMissing` and `BodiesUnavailable`; the mail whose body it is then was not delivered.
        """
        idle, self.used = self.used, True
        try:
            if "PIPELINING" in self.offers:
                await self._pipelined(mails, reset=idle)
            else:
                self._unclean |= idle
                for mail in mails:
                    await self._stepwise(mail)
        except Broken as broken:
            self.ended_with = broken.reply
            self.abort()
            for number, mail in enumerate(mails):
                mail.broke(broken.reply, stale=idle or number > 0)
        except BaseException:
            self.abort()
            raise

    async def _pipelined(self, mails: Sequence[Mail], *, reset: bool) -> None:
        """Each mail's group goes out behind the body before it, unless `chain` is off. An LMTP mail of many recipients ends its
        chain: a server that sends too few replies after the dot must not have the next mail's replies taken for them."""
        owed: Mail | None = None
        self._unclean |= reset
        for mail in mails:
            if too_large(mail, self.offers):
                mail.refused(TOO_LARGE)
                continue
            if owed is not None and (not self.chain or (self.peer.protocol == "lmtp" and len(owed.recipients) > 1)):
                await self._finish(owed)
                owed = None
            try:
                cleaning = self._write_group(mail)
            finally:
                if owed is not None:  # also where the server has gone: its last reply may be here already
                    await self._finish(owed)
            owed = mail if await self._hear_group(mail, cleaning=cleaning) else None
        if owed is not None:
            await self._finish(owed)

    def _write_group(self, mail: Mail) -> bool:
        """Write RSET (where the last transaction may still be open), MAIL, RCPT*, DATA; whether RSET was among it."""
        cleaning, self._unclean = self._unclean, False
        group = [b"RSET\r\n"] if cleaning else []
        group.append(self._mail_command(mail))
        group.extend(rcpt_command(recipient, self.offers) for recipient in mail.recipients)
        group.append(b"DATA\r\n")
        self._channel.write(b"".join(group), "before MAIL")
        mail.opened(str(self.peer))
        return cleaning

    async def _hear_group(self, mail: Mail, *, cleaning: bool) -> bool:
        """Read a group's replies and send the body; whether replies to a final dot are owed now."""
        if cleaning:
            await self._expect("after RSET")
        answer = await self._expect("after MAIL")
        mail.heard()
        for index in range(len(mail.recipients)):
            reply = await self._expect("after RCPT")
            if answer.kind is Kind.POSITIVE:
                mail.heard_recipient(index, reply)
        go = await self._expect("after DATA")
        if answer.kind is not Kind.POSITIVE:
            mail.refused(answer)
        if go.code == 354 and not mail.accepted:
            await self._nobody_wants_it(mail)
            return False
        return await self._body(mail, go)

    async def _stepwise(self, mail: Mail) -> None:
        """A transaction with a server that wants one command at a time."""
        if too_large(mail, self.offers):
            mail.refused(TOO_LARGE)
            return
        mail.opened(str(self.peer))
        if self._unclean:
            self._unclean = False
            await self._checked(b"RSET\r\n", "after RSET")
        answer = await self._checked(self._mail_command(mail), "after MAIL")
        mail.heard()
        if answer.kind is not Kind.POSITIVE:
            mail.refused(answer)
            return
        for index, recipient in enumerate(mail.recipients):
            mail.heard_recipient(index, await self._checked(rcpt_command(recipient, self.offers), "after RCPT"))
        if not mail.accepted:
            self._unclean = True
            mail.done()
            return
        if await self._body(mail, await self._checked(b"DATA\r\n", "after DATA")):
            await self._finish(mail)

    async def _body(self, mail: Mail, go: Reply) -> bool:
        """After the reply to DATA: send the body and its dot; False where nobody is to get it."""
        if go.code != 354:
            self._unclean = True
            if go.kind in (Kind.POSITIVE, Kind.INTERMEDIATE) or (mail.accepted and go.code == 503):
                # "250" or "503 no recipients" after accepted ones: it counts other replies than we do
                raise Broken(garbled(f"{go.code} to DATA"))
            mail.settled(go)
            return False
        try:
            await self._write_body(mail)
        except Broken:
            self._last_words(mail)
            raise
        return True

    async def _write_body(self, mail: Mail) -> None:
        when, timeout = "while the message was sent", self._manners.timeout
        if mail.payload.whole is not None:
            self._still_silent()
            mail.stage = Stage.DOTTED
            self._channel.write(mail.payload.whole, when)
            await self._channel.drain(timeout, when)
            return
        held = b""  # one chunk is held back, so that the final dot goes out only when all came before it
        async for chunk in mail.payload.stuffed():
            if held:
                self._channel.write(held, when)
                await self._channel.drain(timeout, when)
            held = chunk
        self._still_silent()
        mail.stage = Stage.DOTTED
        self._channel.write(held, when)

    def _still_silent(self) -> None:
        """A reply before our final dot is no reply to it: a server that said "250" early must not be believed."""
        lines = self._channel.ready_reply()
        if lines is None:
            return
        reply = parse_reply(lines)
        refusal = reply.kind in (Kind.TRANSIENT, Kind.PERMANENT)
        raise Broken(reply if refusal else garbled(f"{reply.code} before the final dot"))

    def _last_words(self, mail: Mail) -> None:
        """The server closed in mid-message: if it said why (552, 421), that is the answer; otherwise nothing was delivered."""
        if mail.stage is Stage.DOTTED:
            return
        lines = self._channel.ready_reply()
        if lines is not None and (reply := parse_reply(lines)).kind in (Kind.TRANSIENT, Kind.PERMANENT):
            mail.settled(reply)

    async def _finish(self, mail: Mail) -> None:
        """Read what the final dot is answered with: one reply, or one for each accepted recipient (LMTP)."""
        timeout, when = self._manners.final_timeout, "after the final dot"
        if self.peer.protocol == "lmtp":
            for index in mail.accepted:
                reply = _final(await self._channel.reply(timeout, when))
                mail.answered(index, reply)
                if reply.code == 421:
                    mail.settled(reply)
                    raise Broken(reply)
            mail.done()
            return
        reply = _final(await self._channel.reply(timeout, when))
        mail.settled(reply)
        if reply.code == 421:
            raise Broken(reply)

    async def _nobody_wants_it(self, mail: Mail) -> None:
        """DATA was accepted though no recipient was: end it with a dot alone (RFC 2920 3.1); its answer means nothing."""
        mail.done()
        if self.peer.protocol == "lmtp":
            raise Broken(garbled("354 to DATA without recipients"))  # how many replies come now is anybody's guess
        self._channel.write(b".\r\n", "after DATA")
        await self._expect("after an empty message")
        self._unclean = True

    # --- small steps ------------------------------------------------------------------------------------------------
    def _mail_command(self, mail: Mail) -> bytes:
        payload = mail.payload
        return mail_command(
            mail.sender,
            self.offers,
            size=payload.size,
            eight_bit=payload.eight_bit,
            utf8=mail.utf8,
            envid=mail.envid,
            ret=mail.ret,
        )

    async def _command(self, line: bytes, when: str) -> Reply:
        self._channel.write(line, when)
        return await self._channel.reply(self._manners.timeout, when)

    async def _checked(self, line: bytes, when: str) -> Reply:
        self._channel.write(line, when)
        return await self._expect(when)

    async def _expect(self, when: str) -> Reply:
        """The next reply; 421 means that the server is going away, whatever was asked (RFC 5321 3.8)."""
        reply = await self._channel.reply(self._manners.timeout, when)
        if reply.code == 421:
            raise Broken(reply)
        return reply

    # --- the end ----------------------------------------------------------------------------------------------------
    @property
    def reusable(self) -> bool:
        """Whether another transaction may follow: nothing broke, and nothing unasked-for was said."""
        return not self._broken and self._channel.quiet

    def close(self) -> None:
        """Say QUIT and close; its answer is not waited for."""
        if self.reusable:
            self._channel.write(b"QUIT\r\n", "before QUIT")
        self._channel.close()

    def abort(self) -> None:
        """Close at once."""
        self._broken = True
        self._channel.abort()


def _final(reply: Reply) -> Reply:
    """The reply to a final dot; 3xx there is no answer."""
    if reply.kind is Kind.INTERMEDIATE:
        raise Broken(garbled(f"{reply.code} after the final dot"))
    return reply


def too_large(mail: Mail, offers: Mapping[str, str]) -> bool:
    """Whether the next hop has said that it takes no message of this size (RFC 1870 6.1: then it is not tried)."""
    limit = offers.get("SIZE", "")
    return limit.isascii() and limit.isdigit() and 0 < int(limit[:20]) < mail.payload.size
