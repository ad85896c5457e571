"""One delivery to one next hop: the one function `Hops.deliver`, choosing among SMTP, LMTP, MX and Maildir.

It never raises for what a next hop does: every recipient has an answer. What it hands back beside the answers is trouble of our
own (a body that cannot be read, a fault), with the answers that were heard before it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import groupby
from pathlib import Path
from random import Random
from typing import cast

import dns.asyncresolver
import msgspec

from services.sender import maildir
from services.sender.answers import BAD_RECIPIENT, BAD_SENDER, UTF8_NEEDED, Answer, Broken, unreachable
from services.sender.connection import Connection, Manners, Peer, Protocol, TlsPolicy
from services.sender.mail import Mail
from services.sender.mx import MailExchangers, is_local
from services.sender.payload import Payload
from services.sender.pool import Pool
from services.sender.wire import sendable, sendable_sender
from shared.bodies import Bodies
from shared.messages import Content, Lane, Recipient
from shared.replies import Kind, Reply
from shared.routes import NextHop
from shared.settings import Settings, endpoint, seconds
from shared.worker import no_cancellation_of_others

SMTP_PORT = 25


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Who a content goes to. `senders` has one envelope sender for each recipient; equal neighbours share a transaction."""

    post_id: str
    accepted_at: float
    recipients: tuple[Recipient, ...]
    senders: tuple[str, ...]
    lane: Lane = Lane.EXPRESS
    smtputf8: bool = False
    envid: str | None = None
    ret: str | None = None


class Sent(msgspec.Struct):
    """What came of it: an answer for each recipient, None where `trouble` (of ours) came before it was sent."""

    answers: list[Answer | None]
    trouble: Exception | None = None


class Hops:
    """All next hops of this process, with their connections. `mx_port` and `resolver` are other than the defaults in tests only."""

    def __init__(
        self,
        settings: Settings,
        bodies: Bodies,
        *,
        hostname: str,
        rng: Random,
        resolver: dns.asyncresolver.Resolver | None = None,
        mx_port: int = SMTP_PORT,
    ) -> None:
        self._bodies = bodies
        self._mx_port = mx_port
        manners = Manners(
            hostname=hostname,
            timeout=seconds(settings.hop_timeout),
            tls=cast(TlsPolicy, settings.tls_out),
            context=_tls_context(settings),
        )
        self.pool = Pool(manners, limit=settings.hop_connections)
        own_ports = {SMTP_PORT} | {endpoint(text)[1] for text in (settings.smtp_listen, settings.lmtp_listen) if text}
        self._exchangers = MailExchangers(
            hostname=hostname,
            own=lambda address: mx_port in own_ports and is_local(address),
            rng=rng,
            resolver=resolver,
        )

    async def deliver(self, hop: NextHop, envelope: Envelope, content: Content) -> Sent:
        """Send `content` to every recipient of `envelope` by way of `hop`."""
        payload = Payload(content, self._bodies)
        sent = Sent([_unsendable(*pair) for pair in zip(envelope.senders, envelope.recipients, strict=True)])
        try:
            with no_cancellation_of_others():
                if hop.kind == "maildir":
                    await self._into_maildirs(Path(hop.path), envelope, payload, sent)
                else:
                    await self._over_network(hop, envelope, payload, sent)
        except Exception as trouble:  # whatever it is: what was heard before it has happened, and must be recorded
            sent.trouble = trouble
        return sent

    async def close(self) -> None:
        """Close what is open and idle."""
        await self.pool.close()

    # --- Maildir ----------------------------------------------------------------------------------------------------
    async def _into_maildirs(self, root: Path, envelope: Envelope, payload: Payload, sent: Sent) -> None:
        waiting = _unanswered(sent)
        senders = [envelope.senders[index] for index in waiting]
        recipients = [envelope.recipients[index].address for index in waiting]
        replies = await maildir.deliver(root, envelope.post_id, envelope.accepted_at, senders, recipients, payload)
        for index, reply in zip(waiting, replies, strict=True):
            sent.answers[index] = Answer(reply, "maildir")

    # --- SMTP and LMTP ----------------------------------------------------------------------------------------------
    async def _over_network(self, hop: NextHop, envelope: Envelope, payload: Payload, sent: Sent) -> None:
        try:
            peers = await self._peers(hop)
        except Broken as broken:
            _defer(sent, broken.reply, hop.host)
            return
        fresh = False
        while waiting := _unanswered(sent):
            try:
                async with self._connected(peers, envelope.lane, fresh=fresh) as connection:
                    was_used = connection.used
                    finished = await self._round(connection, envelope, payload, waiting, sent)
            except Broken as broken:
                _defer(sent, broken.reply, str(peers[0]))
                return
            # A connection that had gone stale while it was idle gets one more chance on a new one; everything else must make headway.
            fresh = was_used and len(_unanswered(sent)) == len(waiting)
            if not finished and not fresh:
                _defer(sent, connection.ended_with or unreachable("no transaction was finished"), str(connection.peer))

    async def _peers(self, hop: NextHop) -> Sequence[Peer]:
        """The servers behind a next hop, in the order in which to try them. Raises `Broken`."""
        if hop.kind != "mx":
            return [Peer(cast(Protocol, hop.kind), hop.host, hop.host, hop.port)]
        found = await self._exchangers.find(hop.host)
        return [Peer("smtp", exchanger.name, exchanger.address, self._mx_port) for exchanger in found]

    @asynccontextmanager
    async def _connected(self, peers: Sequence[Peer], lane: Lane, *, fresh: bool) -> AsyncIterator[Connection]:
        """A connection to the first of the servers that can be reached. Raises `Broken` of the last."""
        async with AsyncExitStack() as stack:
            for peer in peers[:-1]:
                try:
                    connection = await stack.enter_async_context(self.pool.connection(peer, lane, fresh=fresh))
                except Broken:
                    continue  # the next server of the domain; the pool has logged it
                yield connection
                return
            yield await stack.enter_async_context(self.pool.connection(peers[-1], lane, fresh=fresh))

    async def _round(
        self, connection: Connection, envelope: Envelope, payload: Payload, waiting: Sequence[int], sent: Sent
    ) -> bool:
        """Send to those who wait, over one connection; whether at least one transaction came to its end."""
        state = self.pool.state(connection.peer)
        batches = self._batches(connection, envelope, payload, waiting, sent, limit=state.max_recipients)
        mails = [mail for _, mail in batches]
        try:
            await connection.converse(mails)
        finally:  # also where the body could not be read: what was heard before is true
            for indexes, mail in batches:
                for position, answer in mail.answers.items():
                    sent.answers[indexes[position]] = answer
                if mail.left:
                    state.learn_max_recipients(len(mail.accepted))
        if len(mails) > 1 and any(answer.unknown for mail in mails for answer in mail.answers.values()):
            state.learn_unchained()
        return not mails or any(mail.finished for mail in mails)

    def _batches(
        self,
        connection: Connection,
        envelope: Envelope,
        payload: Payload,
        waiting: Sequence[int],
        sent: Sent,
        *,
        limit: int | None,
    ) -> list[tuple[list[int], Mail]]:
        """The transactions for those who wait: one for each sender, cut to what the server takes; those it cannot take are answered."""
        offered = "SMTPUTF8" in connection.offers
        head_needs = envelope.smtputf8 and payload.utf8_head
        batches: list[tuple[list[int], Mail]] = []
        for sender, group in groupby(waiting, key=lambda index: envelope.senders[index]):
            indexes = []
            for index in group:
                if not offered and (head_needs or not (sender + envelope.recipients[index].address).isascii()):
                    sent.answers[index] = Answer(UTF8_NEEDED, str(connection.peer))
                else:
                    indexes.append(index)
            for start in range(0, len(indexes), limit or max(len(indexes), 1)):
                part = indexes[start : start + (limit or len(indexes))]
                recipients = [envelope.recipients[index] for index in part]
                addresses = "".join(recipient.address for recipient in recipients)
                utf8 = offered and (head_needs or not (sender + addresses).isascii())
                mail = Mail(sender, recipients, payload, utf8=utf8, envid=envelope.envid, ret=envelope.ret)
                batches.append((part, mail))
        return batches


def _unsendable(sender: str, recipient: Recipient) -> Answer | None:
    """The answer for addresses that are never written into a command."""
    if not sendable(recipient.address):
        return Answer(BAD_RECIPIENT, "")
    return None if sendable_sender(sender) else Answer(BAD_SENDER, "")


def _unanswered(sent: Sent) -> list[int]:
    return [index for index, answer in enumerate(sent.answers) if answer is None]


def _defer(sent: Sent, reply: Reply, host: str) -> None:
    """Give all who have none this answer (which may be final, as that of a domain that does not exist)."""
    assert reply.kind is not Kind.POSITIVE
    for index in _unanswered(sent):
        sent.answers[index] = Answer(reply, host)


def _tls_context(settings: Settings) -> ssl.SSLContext | None:
    """Required: verified against HORO_TLS_CA or the system's authorities. Opportunistic: any certificate is better than none."""
    if settings.tls_out == "none":
        return None
    context = ssl.create_default_context(cafile=settings.tls_ca or None)
    if settings.tls_out == "opportunistic":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
