"""Mail to owner, bounce and postmaster addresses: forwarded to the people who answer for the group, never expanded as a post.

What the desk for bounces recognises ends here: the reporter is told of it, people are not bothered.
The envelope sender stays as it came: these are single forwards to a few people, and the null sender must stay null (RFC 5321 4.5.5), so that nothing
can ever be sent in answer to a bounce. Where nobody answers for an address the message is parked for the operator, not dropped.
"""

from __future__ import annotations

import time

import msgspec

from services.expander.batches import Copies, Hops, cut, deliveries
from services.expander.bounces.desk import Desk
from services.expander.plan import Plan
from services.expander.publishing import publish_each
from services.expander.records import post_record, target_name, target_record
from shared import journal
from shared.address import key, split_role
from shared.answering import people_behind
from shared.bodies import Bodies
from shared.bus import Bus, Outgoing
from shared.directory import Directory
from shared.headers import loops
from shared.identity import derive
from shared.ledger import Ledger, Verdict
from shared.messages import (
    Delivery,
    DeliveryKind,
    Expanded,
    Post,
    Queued,
    Reason,
    Recipient,
    Suppressed,
    Target,
    TargetKind,
    encode,
)
from shared.rendering import render_forward
from shared.replies import PermanentError, Reply
from shared.settings import Settings
from shared.topology import Queue


class Forwarder:
    """Forwards what is addressed to a group's owners, its bounce address or a postmaster."""

    def __init__(
        self,
        settings: Settings,
        *,
        bus: Bus,
        directory: Directory,
        ledger: Ledger,
        bodies: Bodies,
        secret: str,
        hostname: str,
    ) -> None:
        self._settings = settings
        self._hops = Hops(settings.route_table)
        self._bus = bus
        self._directory = directory
        self._ledger = ledger
        self._secret = secret
        self._hostname = hostname
        self._desk = Desk(bus=bus, directory=directory, ledger=ledger, bodies=bodies, secret=secret)

    async def forward(self, post: Post, target: Target) -> None:
        """Forward one target of a post. Raises `PermanentError` where nobody answers for it."""
        name = target_name(target)
        post = own_post(post, target)
        opened = await self._ledger.open_post(
            post_record(post, Plan(1, 1)), [target_record(post, target, None, self._secret)]
        )
        if opened.verdicts[name] is Verdict.REPETITION:
            await self._tell(post, name, left_out=(Suppressed(addresses=(name,), reason=Reason.REPETITION),))
        elif name in loops(post.content.head, self._secret):
            await self._ledger.set_target(post.id, name, "loop")
            await self._tell(post, name, left_out=(Suppressed(addresses=(name,), reason=Reason.LOOP),))
        elif verdict := await self._desk.take(post, target):
            await self._ledger.set_target(post.id, name, verdict)
            await self._tell(post, name)
            journal.ended(post.id, group=name, verdict=verdict)
        else:
            await self._send(post, name, await self._responsible(target))

    async def _send(self, post: Post, name: str, people: list[str]) -> None:
        head = render_forward(post.content.head, name=name, post=post, hostname=self._hostname, secret=self._secret)
        template = Delivery(
            post_id=post.id,
            group=name,
            cell=0,
            hop="",
            mail_from=post.mail_from,
            recipients=(Recipient(address=""),),
            content=msgspec.structs.replace(post.content, head=head),
            accepted_at=post.accepted_at,
            kind=DeliveryKind.FORWARD,
            smtputf8=post.smtputf8,
        )
        ordered = sorted((key(address), address) for address in people)
        copies = Copies(0, [who for who, _ in ordered], [address for _, address in ordered])
        batches = cut((copies,), self._hops, batch_size=self._settings.batch_size)
        await publish_each(self._bus, Queue.DELIVERIES_EXPRESS, deliveries(template, batches))
        await self._tell(post, name, queued=(Queued(addresses=tuple(people), via=(name,)),))

    async def _tell(
        self, post: Post, name: str, *, queued: tuple[Queued, ...] = (), left_out: tuple[Suppressed, ...] = ()
    ) -> None:
        message = Expanded(
            post_id=post.id, group=name, index=0, of=1, queued=queued, suppressed=left_out, at=time.time()
        )
        await self._bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=encode(message)))
        journal.expanded(
            post.id,
            group=name,
            recipients=message.copies,
            suppressed=message.left_out,
            batches=1,
            took=message.at - post.accepted_at,
        )

    async def _responsible(self, target: Target) -> list[str]:
        """Who answers for the address: the group's owners, else its domain's postmaster, else HORO_POSTMASTER."""
        domain = target.group.rpartition("@")[2]
        if address := await self._group_answered_for(target):
            group = await self._directory.group(address)
            if group is not None and (people := await people_behind(self._directory, group.settings.owners)):
                return people
        ours = await self._directory.domain(domain)
        for postmaster in (ours.postmaster if ours else "", self._settings.postmaster):
            if postmaster and (people := await people_behind(self._directory, (postmaster,))):
                return people
        nobody = Reply(550, "1.1", f"nobody answers for {target_name(target)}")
        raise PermanentError(
            nobody, why="set owners of the group, a postmaster of the domain, or HORO_POSTMASTER; then retry"
        )

    async def _group_answered_for(self, target: Target) -> str:
        """The group whose owners answer; "" for none. `postmaster+TOKEN@` is the bounce address of a group with a long name."""
        if target.kind is not TargetKind.POSTMASTER:
            return target.group
        _, _, token = split_role(key(target.recipient))
        token = token.partition("-")[0]
        known = await self._ledger.target_of_token(token) if token else None
        probe = await self._ledger.probe_of_token(token) if token and known is None else None
        return known[1] if known else probe.group if probe else ""


def own_post(post: Post, target: Target) -> Post:
    """The post under which a target's forward stands in the ledger: the post itself, or one of its own beside groups and other forwards.

    A recipient stands in the ledger once for a post, and who is a member and an owner gets both, each for its own reason.
    """
    if target == post.targets[0] and all(other.kind is not TargetKind.GROUP for other in post.targets):
        return post
    return msgspec.structs.replace(post, id=derive(post.id, target_name(target)))
