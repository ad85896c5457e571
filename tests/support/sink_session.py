"""One session of the sink (`tests.support.sink`): speaks SMTP or LMTP, and misbehaves at each step as its addresses and its server's faults say."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.sink import Sink


class Hangup(Exception):
    """The session is over."""


_RCPT_REPLIES = {
    "550": "550 5.1.1 no such user",
    "452": "452 4.3.1 no storage",
    "552": "552 5.2.2 mailbox full",
    "552-many": "552 too many recipients",
    "garbage": "hello there, sailor",
    "longline": "250 " + "x" * 10_000_000,
    "manylines": "\r\n".join(["250-more"] * 5000),
    "dup": "250 2.1.5 ok\r\n250 2.1.5 ok",
    "bidi": "550 5.1.1 \x1b[31mevil\u202e\x07 text",
}


def behaviour(address: str) -> str:
    """What an address asks for."""
    local = address.rpartition("@")[0]
    return local.partition("_")[0] if "_" in local else "ok"


class Session:
    """One connection."""

    def __init__(self, sink: Sink, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.sink = sink
        self.reader = reader
        self.writer = writer
        self.buffer = bytearray()
        self.replies: list[bytes] = []
        self.mail_from: str | None = None
        self.recipients: list[str] = []
        self.messages = 0

    async def run(self) -> None:
        await self._banner()
        while True:
            line = (await self._line()).decode("utf-8", "replace")
            self.sink.commands.append(line)
            verb, _, rest = line.partition(" ")
            await getattr(self, f"_{verb.lower()}", self._unknown)(rest)

    # --- input and output ---------------------------------------------------------------------------------------------
    async def _line(self) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            await self._fill()
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 2]
        return line

    async def _fill(self) -> None:
        """Replies go out when there is nothing more to answer (RFC 2920 3.2), so that a group gets one packet."""
        await self._flush()
        data = await self.reader.read(1 << 18)
        if not data:
            raise Hangup
        self.buffer += data

    async def _flush(self) -> None:
        if self.replies:
            self.writer.write(b"".join(self.replies))
            self.replies.clear()
            await self.writer.drain()

    def _say(self, reply: str) -> None:
        self.replies.append(reply.encode() + b"\r\n")

    async def _misbehave(self, how: str, where: str) -> None:
        """What `hang-rcpt`, `drop-rcpt`, `421-rcpt` and the like have in common."""
        if how == f"drop-{where}":
            await self._flush()
            raise Hangup
        if how == f"421-{where}":
            self._say("421 4.3.2 going away")
            await self._flush()
            raise Hangup
        if how == f"hang-{where}":
            await self._flush()
            while await self.reader.read(1 << 16):
                pass
            raise Hangup
        if how == f"drip-{where}":
            with contextlib.suppress(ConnectionError):
                while not self.reader.at_eof():
                    self.writer.write(b"2")
                    await self.writer.drain()
                    await asyncio.sleep(0.05)
            raise Hangup

    # --- commands -----------------------------------------------------------------------------------------------------
    async def _banner(self) -> None:
        for fault in self.sink.faults:
            await self._misbehave(fault, "banner")
        self._say("554 5.3.2 no mail today" if "554-banner" in self.sink.faults else "220 sink ESMTP")
        await self._flush()

    async def _unknown(self, _: str) -> None:
        self._say("500 5.5.1 what?")

    async def _ehlo(self, _: str) -> None:
        if "no-ehlo" in self.sink.faults:
            self._say("502 5.5.1 never heard of it")
            return
        faults = self.sink.faults
        offers = ["sink.example.test greets you"]
        offers += [] if "no-pipelining" in faults else ["PIPELINING"]
        offers += [] if "no-8bit" in faults else ["8BITMIME"]
        offers += [] if "no-utf8" in faults else ["SMTPUTF8"]
        offers += [] if "no-dsn" in faults else ["DSN"]
        offers += [] if "no-size" in faults else [f"SIZE {self.sink.fault('size') or ''}".strip()]
        secure = self.writer.get_extra_info("ssl_object") is not None
        if not secure and (self.sink.tls is not None or faults & {"tls-refuse", "tls-fail"}):
            offers.append("STARTTLS")
        offers.append("ENHANCEDSTATUSCODES")
        for offer in offers[:-1]:
            self._say(f"250-{offer}")
        self._say(f"250 {offers[-1]}")
        self._reset()

    async def _lhlo(self, rest: str) -> None:
        await self._ehlo(rest)

    async def _helo(self, _: str) -> None:
        self._say("250 sink")

    async def _starttls(self, _: str) -> None:
        if "tls-refuse" in self.sink.faults:
            self._say("454 4.7.0 no TLS today")
            return
        injected = "\r\n250-INJECTED\r\n250 SIZE 1" if "tls-inject" in self.sink.faults else ""
        self._say("220 2.0.0 go on" + injected)
        await self._flush()
        if "tls-fail" in self.sink.faults:
            self.writer.write(b"this is not TLS\r\n")
            raise Hangup
        assert self.sink.tls is not None
        self.buffer.clear()
        await self.writer.start_tls(self.sink.tls)

    async def _rset(self, _: str) -> None:
        self._reset()
        self._say("250 2.0.0 flushed")

    async def _noop(self, _: str) -> None:
        self._say("250 2.0.0 ok")

    async def _quit(self, _: str) -> None:
        self._say("221 2.0.0 bye")
        await self._flush()
        raise Hangup

    def _reset(self) -> None:
        self.mail_from, self.recipients = None, []

    async def _mail(self, rest: str) -> None:
        limit = self.sink.fault("close-after")
        if limit is not None and self.messages >= limit:
            await self._misbehave("421-mail", "mail")
        sender = _path(rest)
        how = behaviour(sender)
        await self._misbehave(how, "mail")
        if self.mail_from is not None:
            self._say("503 5.5.1 nested MAIL")
        elif how == "550-mail":
            self._say("550 5.7.1 not you")
        elif how == "450-mail":
            self._say("450 4.7.1 later")
        else:
            self.mail_from = sender
            self._say("250 2.1.0 sender ok")

    async def _rcpt(self, rest: str) -> None:
        recipient = _path(rest)
        how = behaviour(recipient)
        await self._misbehave(how, "rcpt")
        if self.mail_from is None:
            self._say("503 5.5.1 MAIL first")
            return
        self.sink.tries[recipient] += 1
        reply = self._rcpt_reply(how, recipient)
        self._say(reply)
        if reply.startswith("2"):
            self.recipients.append(recipient)

    def _rcpt_reply(self, how: str, recipient: str) -> str:
        limit, limit552 = self.sink.fault("limit"), self.sink.fault("limit552")
        if limit is not None and len(self.recipients) >= limit:
            return "452 4.5.3 too many recipients"
        if limit552 is not None and len(self.recipients) >= limit552:
            return "552 too many recipients"
        if (match := re.fullmatch(r"450-(\d+)", how)) and self.sink.tries[recipient] <= int(match[1]):
            return "450 4.7.1 greylisted"
        return _RCPT_REPLIES.get(how, "250 2.1.5 recipient ok")

    async def _data(self, _: str) -> None:
        hows = {behaviour(recipient) for recipient in self.recipients}
        for how in hows:
            await self._misbehave(how, "data")
        if not self.recipients and "accept-data" not in self.sink.faults:
            self._say("503 5.5.1 no valid recipients" if self.mail_from is not None else "503 5.5.1 MAIL first")
            return
        for how, reply in {
            "550-data": "550 5.7.1 no",
            "450-data": "450 4.3.0 later",
            "250-data": "250 2.0.0 ok",
        }.items():
            if how in hows:
                self._say(reply)
                return
        self._say("354 go on")
        if "early" in hows:
            self._say("250 2.0.0 taken (without having seen it)")
        await self._flush()
        if "drop-body" in hows:
            await self.reader.read(100)
            raise Hangup
        if "552-early" in hows:
            await self.reader.read(100)
            self._say("552 5.3.4 too large, stop")
            await self._flush()
            raise Hangup
        content = await self._content()
        await self._answer_dot(content, hows)

    async def _content(self) -> bytes:
        """The message, unstuffed."""
        while self.buffer[:3] != b".\r\n" and (end := self.buffer.find(b"\r\n.\r\n", max(0, self._seen - 4))) < 0:
            self._seen = len(self.buffer)
            await self._fill()
        self._seen = 0
        if self.buffer[:3] == b".\r\n":
            del self.buffer[:3]
            return b""
        raw = bytes(self.buffer[: end + 2])
        del self.buffer[: end + 5]
        return re.sub(rb"(?m)^\.", b"", raw) if b"\n." in raw or raw[:1] == b"." else raw

    _seen = 0

    async def _answer_dot(self, content: bytes, hows: set[str]) -> None:
        slow = max((int(how[5:]) for how in hows if re.fullmatch(r"slow-\d+", how)), default=0)
        if slow:
            await asyncio.sleep(slow / 1000)
        if "drop-dot-lost" in hows:
            raise Hangup
        mail_from, recipients = self.mail_from or "", self.recipients
        self._reset()
        self.messages += 1
        self.sink.transactions += 1
        if "hang-dot" in hows or "drop-dot-stored" in hows:
            self.sink.take(recipients, mail_from, content)
            await self._misbehave("hang-dot" if "hang-dot" in hows else "drop-dot", "dot")
        if self.sink.protocol == "lmtp":
            await self._answer_each(content, mail_from, recipients)
            return
        await self._misbehave("421-dot" if "421-dot" in hows else "", "dot")
        if "552-dot" in hows or "450-dot" in hows:
            self._say("552 5.3.4 too large" if "552-dot" in hows else "450 4.3.0 cannot store")
            return
        self.sink.take(recipients, mail_from, content)
        self._say("250 2.0.0 taken")
        if "extra-reply" in self.sink.faults:
            self._say("250 2.0.0 and once more")

    async def _answer_each(self, content: bytes, mail_from: str, recipients: list[str]) -> None:
        for recipient in recipients[: -1 if "short-count" in self.sink.faults else None]:
            how = behaviour(recipient)
            await self._misbehave("421-dot" if how == "421-dot" else "", "dot")
            if how == "552-dot":
                self._say("552 5.2.2 mailbox full")
            elif how == "450-dot":
                self._say("450 4.2.0 locked")
            else:
                self.sink.take([recipient], mail_from, content)
                self._say("250 2.0.0 taken")


def _path(rest: str) -> str:
    match = re.match(r"(?i)(?:FROM|TO):<(.*?)>", rest)
    return match[1] if match else ""
