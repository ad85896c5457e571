"""One share of a fan-out (a small post whole, or one slice of a large one): people, filters, batches, publish, tell."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from services.expander.batches import cut
from services.expander.envelope import envelope
from services.expander.expand import Facts, Judgement
from services.expander.graph import Scope
from services.expander.inside import Inside
from services.expander.people import add_thread_authors, judge_all, read
from services.expander.plan import Plan
from shared import journal, policy
from shared.address import key, person_key
from shared.bodies import Bodies
from shared.bus import Bus, Outgoing
from shared.directory import Directory
from shared.ledger import Ledger
from shared.messages import Content, Delivery, Expanded, Lane, Post, Queued, Suppressed, encode
from shared.rendering import render
from shared.settings import Settings
from shared.topology import Queue

SHARED_BODY = 1024 * 1024
"""Octets that a body may cost the bus (size x batches) before it goes to the store once and is named by reference."""

LANES = {Lane.EXPRESS: Queue.DELIVERIES_EXPRESS, Lane.BULK: Queue.DELIVERIES_BULK}


class Share(msgspec.Struct, frozen=True):
    """The recipients of a post with slots in [low, high), slice `index` of `plan`. `thread_authors` by group, from the ledger."""

    post: Post
    scopes: Sequence[Scope]
    thread_authors: Mapping[str, str]
    plan: Plan
    index: int
    low: int
    high: int

    @property
    def lane(self) -> Lane:
        """What was cut into slices is bulk, all else express (P7)."""
        return Lane.BULK if self.plan.slices > 1 else Lane.EXPRESS


class ShareOut:
    """Works one share at a time: everything it publishes is confirmed before it returns."""

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
        self._routes = settings.route_table
        self._bus = bus
        self._directory = directory
        self._bodies = bodies
        self._secret = secret
        self._hostname = hostname
        self._inside = Inside(settings, bus=bus, directory=directory, ledger=ledger, secret=secret)

    async def run(self, share: Share) -> None:
        """Read, judge, cut, publish, tell: in this order, so that who is told of has been published for."""
        judged = await self._judge(share)
        deliveries: list[list[Delivery]] = []
        for scope, judgements in zip(share.scopes, judged, strict=True):
            deliveries.append(self._cut(share, scope, judgements))
        await self._publish(share, [delivery for of_scope in deliveries for delivery in of_scope])
        handed = {scope.group.address: await self._hand_on(share, scope) for scope in share.scopes}
        messages = [
            self._expanded(share, scope, rows, handed[scope.group.address])
            for scope, rows in zip(share.scopes, judged, strict=True)
        ]
        await self._bus.publish_all([Outgoing(queue=Queue.OUTCOMES, payload=encode(message)) for message in messages])
        for message, of_scope in zip(messages, deliveries, strict=True):
            await self._note(share, message, len(of_scope))

    async def _judge(self, share: Share) -> list[list[Judgement]]:
        facts = facts_of(share.post)
        rows = await read(self._directory, share.scopes, share.low, share.high)
        add_thread_authors(rows, share.scopes, share.thread_authors, facts, share.low, share.high)
        return judge_all(rows, share.scopes, facts)

    def _cut(self, share: Share, scope: Scope, judgements: Sequence[Judgement]) -> list[Delivery]:
        post, group = share.post, scope.group
        out = envelope(post, scope.target, group, self._secret)
        template = Delivery(
            post_id=post.id,
            group=group.address,
            cell=0,
            hop="",
            mail_from=out.mail_from,
            recipients=(out.like,),
            content=self.rendered(post, scope),
            accepted_at=post.accepted_at,
            lane=share.lane,
            smtputf8=post.smtputf8,
            envid=out.envid,
            ret=out.ret,  # type: ignore[arg-type]
            verp=group.settings.verp and group.settings.envelope == "list",
        )
        copies = [judgement.address for judgement in judgements if judgement.reason is None]
        return list(
            cut(template, copies, cells=share.plan.cells, routes=self._routes, batch_size=self._settings.batch_size)
        )

    def rendered(self, post: Post, scope: Scope) -> Content:
        """The post as the group's members get it: its own head, the body as it came (P8)."""
        head = render(post.content.head, group=scope.group, post=post, hostname=self._hostname, secret=self._secret)
        return msgspec.structs.replace(post.content, head=head)

    async def _publish(self, share: Share, deliveries: list[Delivery]) -> None:
        tail = share.post.content.tail
        if len(tail) * len(deliveries) > SHARED_BODY:
            ref = await self._bodies.put(tail)
            deliveries = [
                msgspec.structs.replace(delivery, content=Content(head=delivery.content.head, ref=ref))
                for delivery in deliveries
            ]
        queue = LANES[share.lane]
        await self._bus.publish_all([Outgoing(queue=queue, payload=encode(delivery)) for delivery in deliveries])

    async def _hand_on(self, share: Share, scope: Scope) -> tuple[list[Queued], list[Suppressed]]:
        """Posts for the sub-groups that are not expanded in place, and the rows about sub-groups: the first share's business."""
        if share.index != 0:
            return [], []
        content = self.rendered(share.post, scope)
        out = envelope(share.post, scope.target, scope.group, self._secret)
        for handed in scope.handed_on:
            await self._inside.hand_on(share.post, scope.group, handed, content, out.mail_from)
        return [Queued(address=handed.address, via=handed.via) for handed in scope.handed_on], scope.suppressed

    @staticmethod
    def _expanded(
        share: Share, scope: Scope, judgements: Sequence[Judgement], handed: tuple[list[Queued], list[Suppressed]]
    ) -> Expanded:
        queued = [Queued(address=row.address, via=row.via) for row in judgements if row.reason is None]
        suppressed = [
            Suppressed(address=row.address, reason=row.reason, via=row.via)
            for row in judgements
            if row.reason is not None
        ]
        return Expanded(
            post_id=share.post.id,
            group=scope.group.address,
            index=share.index,
            of=share.plan.slices,
            queued=tuple(queued + handed[0]),
            suppressed=tuple(suppressed + handed[1]),
            at=time.time(),
        )

    async def _note(self, share: Share, message: Expanded, batches: int) -> None:
        journal.expanded(
            message.post_id,
            group=message.group,
            recipients=len(message.queued),
            suppressed=len(message.suppressed),
            batches=batches,
            took=message.at - share.post.accepted_at,
        )


def facts_of(post: Post) -> Facts:
    """What the filters need of a message: read once a share."""
    authors = {person_key(author) for author in policy.authors(post.content.head)}
    if post.authenticated:
        authors.add(person_key(key(post.authenticated)))
    return Facts(frozenset(authors), policy.recipients_in_header(post.content.head))
