"""A connection to one SMTP or LMTP server, opened: greeting, EHLO, STARTTLS. Then it is for `services.sender.conversation`.

What a server offers in the clear is forgotten in TLS, and a TLS that fails is told apart from a server that cannot be reached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Literal

import msgspec

from services.sender.answers import Broken, tls_trouble, unreachable
from services.sender.channel import Channel
from services.sender.tls import Resuming
from services.sender.wire import capabilities, parse_reply
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
    context: Resuming | None

    @property
    def final_timeout(self) -> float:
        """The wait after the final dot: servers scan and store then (RFC 5321 4.5.3.2.6)."""
        return self.timeout * 10


class TlsFailed(Broken):
    """STARTTLS was offered and came to nothing; with an opportunistic policy the caller connects again without it."""


class Connection:
    """An open connection. One task writes to it at a time; while that one waits for its last reply, another may write behind it.

    `reading` is held by whoever reads; `used` says that it has seen a transaction, `unclean` that the last one may still be open,
    `transactions` counts them, `chain` that commands may be written before a final dot is answered; a `doomed` connection gets no more.
    """

    def __init__(self, channel: Channel, peer: Peer, manners: Manners) -> None:
        self.channel = channel
        self.manners = manners
        self.peer = peer
        self.offers: Mapping[str, str] = {}
        self.secure = False
        self.shown = str(peer)
        self.used = False
        self.chain = True
        self.unclean = False
        self.transactions = 0
        self.opened_at = time.monotonic()
        self.reading = asyncio.Lock()
        self.doomed = False
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
        banner = await self.channel.reply(self.manners.timeout, "before the greeting")
        if banner.code != 220:
            raise Broken(unreachable(f"greeted with {banner}"))

    async def _hello(self) -> None:
        """EHLO or LHLO; HELO where EHLO is not known. A refusal is about us, not about a recipient: always temporary."""
        verb = "LHLO" if self.peer.protocol == "lmtp" else "EHLO"
        self.channel.write(f"{verb} {self.manners.hostname}\r\n".encode("ascii"), f"before {verb}")
        lines = await self.channel.lines(self.manners.timeout, f"after {verb}")
        reply = parse_reply(lines)
        if reply.kind is Kind.POSITIVE:
            self.offers = capabilities(lines)
            return
        if reply.kind is Kind.PERMANENT and verb == "EHLO":
            reply = await self.command(f"HELO {self.manners.hostname}\r\n".encode("ascii"), "after HELO")
        if reply.kind is not Kind.POSITIVE:
            raise Broken(unreachable(f"our greeting was answered with {reply}"))

    async def _secure(self) -> None:
        required = self.manners.tls == "required"
        if "STARTTLS" not in self.offers:
            if required:
                raise Broken(tls_trouble("STARTTLS is not offered"))
            return
        try:
            await self._start_tls()
        except Broken as error:
            raise TlsFailed(error.reply) from error

    async def _start_tls(self) -> None:
        assert self.manners.context is not None
        reply = await self.command(b"STARTTLS\r\n", "after STARTTLS")
        if reply.code != 220:
            raise Broken(tls_trouble(f"STARTTLS was answered with {reply}"))
        await self.channel.start_tls(self.manners.context, self.peer.name, self.manners.timeout)
        self.secure = True
        self.offers = {}  # what was said in the clear is forgotten (RFC 3207 4.2)
        await self._hello()
        self.manners.context.keep(self.peer.name, self.channel.session)

    # --- for conversations --------------------------------------------------------------------------------------------
    async def command(self, line: bytes, when: str) -> Reply:
        """Write a command, read its reply."""
        self.channel.write(line, when)
        return await self.channel.reply(self.manners.timeout, when)

    async def expect(self, line: bytes, when: str) -> Reply:
        """As `command`; 421 means that the server is going away, whatever was asked (RFC 5321 3.8)."""
        reply = await self.command(line, when)
        if reply.code == 421:
            raise Broken(reply)
        return reply

    # --- the end ----------------------------------------------------------------------------------------------------
    @property
    def reusable(self) -> bool:
        """Whether another transaction may follow: nothing broke, and nothing unasked-for was said."""
        return not (self._broken or self.doomed) and self.channel.quiet

    @property
    def broken(self) -> bool:
        """Whether it was aborted."""
        return self._broken

    def close(self) -> None:
        """Say QUIT and close; its answer is not waited for. A doomed connection is closed by the one who is owed its last reply."""
        if self.doomed and self.reading.locked():
            return
        if self.reusable:
            self.channel.write(b"QUIT\r\n", "before QUIT")
        self.channel.close()

    def abort(self) -> None:
        """Close at once."""
        self._broken = True
        self.channel.abort()
