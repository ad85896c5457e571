"""One delivery to one next hop: the one function `Hops.deliver`, choosing among SMTP, LMTP, MX and Maildir.

It never raises for what a next hop does: every recipient has an answer. What it hands back beside the answers is trouble of our
own (a body that cannot be read, a fault), with the answers that were heard before it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import cast

import dns.asyncresolver

from services.sender import maildir
from services.sender.answers import BAD_RECIPIENT, BAD_SENDER, Answer, Broken, unreachable
from services.sender.connection import Manners, Peer, Protocol, TlsPolicy
from services.sender.conversation import Conversation
from services.sender.mail import Mail
from services.sender.mx import MailExchangers, is_local
from services.sender.payload import Payload
from services.sender.payloads import Payloads
from services.sender.pool import Pool
from services.sender.shipment import Envelope, Sent, affordable, collect, cut
from services.sender.site import HopState, Lease
from services.sender.tls import context_of
from services.sender.wire import all_sendable, sendable, sendable_sender
from shared.bodies import Bodies
from shared.messages import Content, Recipient
from shared.replies import Kind, Reply
from shared.routes import NextHop
from shared.settings import Settings, endpoint, seconds
from shared.worker import no_cancellation_of_others

__all__ = ["Envelope", "Hops", "Sent"]

SMTP_PORT = 25

MAILS_A_HAND = 10
"""Transactions of one delivery (VERP has one for each recipient) for which one more connection is taken, where one is free."""


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
        self._payloads = Payloads(bodies)
        self._mx_port = mx_port
        manners = Manners(
            hostname=hostname,
            timeout=seconds(settings.hop_timeout),
            tls=cast(TlsPolicy, settings.tls_out),
            context=context_of(settings),
        )
        self.pool = Pool(manners, limits=settings.limit_table)
        own_ports = {SMTP_PORT} | {endpoint(text)[1] for text in (settings.smtp_listen, settings.lmtp_listen) if text}
        self._exchangers = MailExchangers(
            hostname=hostname,
            own=lambda address: mx_port in own_ports and is_local(address),
            rng=rng,
            resolver=resolver,
        )

    async def deliver(self, hop: NextHop, envelope: Envelope, content: Content) -> Sent:
        """Send `content` to every recipient of `envelope` by way of `hop`."""
        sent = _checked(envelope)
        try:
            with no_cancellation_of_others():
                payload = await self._payloads.of(content)
                if hop.kind == "maildir":
                    await self._into_maildirs(Path(hop.path), envelope, payload, sent)
                else:
                    await self._over_network(hop, envelope, payload, sent)
        except Exception as trouble:  # whatever it is: what was heard before it has happened, and must be recorded
            sent.trouble = trouble
        return sent

    def snapshot(self) -> list[HopState]:
        """Every server that is known, with its pace and who uses it."""
        return self.pool.snapshot()

    async def close(self) -> None:
        """Close what is open and idle."""
        self._exchangers.close()
        await self._payloads.close()
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
        """Round after round, until everybody has an answer: each takes a connection, and all that can be sent over it."""
        try:
            peers = await self._peers(hop)
        except Broken as broken:
            _defer(sent, broken.reply, hop.host)
            return
        fresh = False
        while waiting := _unanswered(sent):
            try:
                lease = await self._lease(peers, envelope, waiting, fresh=fresh)
            except Broken as broken:
                _defer(sent, broken.reply, str(peers[0]))
                return
            was_used = lease.line.used
            with lease:
                talk, finished = await self._round(lease, envelope, payload, waiting, sent)
            # A connection that had gone stale while it was idle gets one more chance on a new one; everything else must make headway.
            fresh = was_used and len(_unanswered(sent)) == len(waiting)
            if not finished and not fresh:
                _defer(sent, talk.ended_with or unreachable("no transaction was finished"), str(lease.site.peer))

    async def _peers(self, hop: NextHop) -> Sequence[Peer]:
        """The servers behind a next hop, in the order in which to try them. Raises `Broken`."""
        if hop.kind != "mx":
            return [Peer(cast(Protocol, hop.kind), hop.host, hop.host, hop.port)]
        found = await self._exchangers.find(hop.host)
        return [Peer("smtp", exchanger.name, exchanger.address, self._mx_port) for exchanger in found]

    async def _lease(self, peers: Sequence[Peer], envelope: Envelope, waiting: Sequence[int], *, fresh: bool) -> Lease:
        """A connection to the first of the servers that can be reached. Raises `Broken` of the last."""
        one_sender = envelope.senders.count(envelope.senders[0]) == len(envelope.senders)
        messages, recipients = 1 if one_sender else len(waiting), len(waiting)
        for peer in peers[:-1]:
            with contextlib.suppress(Broken):  # the next server of the domain; the pool has logged it
                return await self.pool.lease(peer, envelope.lane, messages=messages, recipients=recipients, fresh=fresh)
        return await self.pool.lease(peers[-1], envelope.lane, messages=messages, recipients=recipients, fresh=fresh)

    async def _round(
        self, lease: Lease, envelope: Envelope, payload: Payload, waiting: Sequence[int], sent: Sent
    ) -> tuple[Conversation, bool]:
        """Send to those who wait, over one connection, and over more where there are many transactions: what came of the first, and
        whether any transaction at all came to its end."""
        site = lease.site
        mails = cut(envelope, payload, waiting, lease.line, sent, limit=site.max_recipients)
        mails = affordable(mails, site.max_messages, site.allowance)
        queue = iter(mails)
        talk = Conversation(lease.line, queue, lease.pass_on)
        hands = min(len(mails) // MAILS_A_HAND, site.limits.connections) - 1
        try:
            if hands > 0:
                await _all_of(talk.run(), *(self._further_hand(lease, queue) for _ in range(hands)))
            else:
                await talk.run()
        finally:  # also where the body could not be read: what was heard before is true
            collect(mails, sent)
            lease.report(talk)
        return talk, not mails or any(mail.finished for mail in mails)

    async def _further_hand(self, first: Lease, queue: Iterator[Mail]) -> None:
        """Take transactions off the same queue over one more connection, where there is one."""
        lease = await self.pool.one_more(first.site.peer, first.lane)
        if lease is None:
            return
        with lease:
            talk = Conversation(lease.line, queue, lease.pass_on)
            try:
                await talk.run()
            finally:
                lease.report(talk)


async def _all_of(*hands: Coroutine[None, None, None]) -> None:
    """Wait for all, whatever becomes of one: a hand that is cut off after a final dot would lose the answer to it. Raises what the first
    raised."""
    for ended in await asyncio.gather(*hands, return_exceptions=True):
        if isinstance(ended, BaseException):
            raise ended


def _checked(envelope: Envelope) -> Sent:
    """An answer for those whose addresses are never written into a command; almost always for nobody."""
    addresses = [recipient.address for recipient in envelope.recipients]
    addresses += filter(None, set(envelope.senders))
    if all_sendable(addresses):
        return Sent([None] * len(envelope.recipients))
    return Sent([_unsendable(*pair) for pair in zip(envelope.senders, envelope.recipients, strict=True)])


def _unsendable(sender: str, recipient: Recipient) -> Answer | None:
    """The answer for addresses that are never written into a command."""
    if not sendable(recipient.address):
        return Answer(BAD_RECIPIENT, "")
    return None if sendable_sender(sender) else Answer(BAD_SENDER, "")


def _unanswered(sent: Sent) -> Sequence[int]:
    if sent.answers.count(None) == len(sent.answers):
        return range(len(sent.answers))
    return [index for index, answer in enumerate(sent.answers) if answer is None]


def _defer(sent: Sent, reply: Reply, host: str) -> None:
    """Give all who have none this answer (which may be final, as that of a domain that does not exist)."""
    assert reply.kind is not Kind.POSITIVE
    for index in _unanswered(sent):
        sent.answers[index] = Answer(reply, host)
