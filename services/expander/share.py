"""One share of a fan-out (a small post whole, or one slice of a large one): people, filters, batches, publish, tell."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence

import msgspec

from services.expander.announce import announce
from services.expander.batches import Batch, Hops, by_cell, cut, deliveries
from services.expander.envelope import envelope
from services.expander.expand import Facts
from services.expander.graph import Aim
from services.expander.inside import Inside
from services.expander.judging import Added, Judged, judge_all
from services.expander.people import are_people, read, thread_authors
from services.expander.plan import Plan
from services.expander.publishing import publish_each
from services.expander.records import brief as brief_of
from services.expander.rows import told
from shared import journal, policy
from shared.address import key, person_key
from shared.bodies import Bodies
from shared.bus import Bus, Outgoing
from shared.directory import Directory
from shared.ledger import Ledger, PostRecord
from shared.messages import BodyRef, Content, Delivery, Lane, Post
from shared.rendering import render
from shared.settings import Settings
from shared.topology import Queue

SHARED_BODY = 4 * 1024 * 1024
"""Octets that a body may cost the bus (size x batches) before it goes to the store once and is named by reference. The store is a sync of the disk
before the first copy, and 0.2 ms of the sender for every batch: a message of 10 KiB to ten thousand people is cheaper on the bus."""

FEW_GROUPS = 8
"""Groups of one fan-out that are judged cell by cell."""

LANES = {Lane.EXPRESS: Queue.DELIVERIES_EXPRESS, Lane.BULK: Queue.DELIVERIES_BULK}


class Share(msgspec.Struct, frozen=True):
    """The recipients of a post with slots in [low, high), slice `index` of `plan`. `thread_authors` by group, from the ledger.

    `record` is what the ledger was told of a post that is one share, and that it had not known. `stopped`: who would get a copy is told, so that the
    sums are whole, and nothing is published for them.
    """

    post: Post
    aims: Sequence[Aim]
    thread_authors: Mapping[str, str]
    plan: Plan
    index: int
    low: int
    high: int
    record: PostRecord | None = None
    stopped: bool = False

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
        self._hops = Hops(settings.route_table)
        self._bus = bus
        self._directory = directory
        self._ledger = ledger
        self._bodies = bodies
        self._secret = secret
        self._hostname = hostname
        self._inside = Inside(bus=bus, directory=directory, ledger=ledger)

    async def run(self, share: Share) -> None:
        """Read, judge, cut, publish, tell: in this order, so that who is told of has been published for."""
        judged = await self._judge(share)
        batches: list[list[Batch]] = [[] for _ in judged]
        if share.stopped:
            self._note_stopped(share, judged)
        else:
            batches = [cut(of_aim.copies, self._hops, batch_size=self._settings.batch_size) for of_aim in judged]
            await self._publish(share, batches)
        for aim, of_aim, cut_of_aim in zip(share.aims, judged, batches, strict=True):
            if share.index == 0 and not share.stopped:
                await self._hand_on(share, aim)
                await announce(self._bus, self._directory, share.post, aim)
            await self._tell(share, aim, of_aim, len(cut_of_aim))

    @staticmethod
    def _note_stopped(share: Share, judged: Sequence[Judged]) -> None:
        for aim, of_aim in zip(share.aims, judged, strict=True):
            copies = sum(len(cell.keys) for cell in of_aim.copies)
            journal.halted(share.post.id, group=aim.group.address, copies=copies, where="expander")

    async def _judge(self, share: Share) -> list[Judged]:
        facts = facts_of(share.post)
        cells, low, high = self._unit(share), share.low, share.high
        sources = await read(self._directory, share.aims, cells=cells, low=low, high=high)
        added: list[Added] = []
        # in a post made inside nobody is added: who started the thread has a copy of the post from outside
        if share.post.parent is None and share.thread_authors:
            authors = await are_people(self._directory, share.thread_authors)
            added = thread_authors(share.aims, authors, cells=cells, low=low, high=high)
        judged = judge_all(sources, added, share.aims, facts)
        if cells != share.plan.cells:
            judged = [of_aim._replace(copies=by_cell(of_aim.copies, share.plan.cells)) for of_aim in judged]
        return judged

    @staticmethod
    def _unit(share: Share) -> int:
        """In how many ranges the members are read and judged: the cells, or where many groups have few members each in a cell, the slices.

        What one group has in one range costs about as much as twenty of its members. Whoever is in a slice twice is in one cell twice, so both
        come to the same; finding the cells afterwards costs a hash a person.
        """
        groups = sum(len(aim.scope.nodes) for aim in share.aims)
        return share.plan.cells if groups <= FEW_GROUPS else share.plan.slices

    def _template(self, share: Share, aim: Aim, ref: BodyRef | None) -> Delivery:
        """What all deliveries of one target have in common; the body is `ref` where it is in the store."""
        post, group = share.post, aim.group
        out = envelope(post, aim.target, group, self._secret)
        content = self._rendered(post, aim)
        return Delivery(
            post_id=post.id,
            group=group.address,
            cell=0,
            hop="",
            mail_from=out.mail_from,
            recipients=(out.like,),
            content=content if ref is None else Content(head=content.head, ref=ref),
            accepted_at=post.accepted_at,
            lane=share.lane,
            queued_at=time.time(),
            smtputf8=post.smtputf8,
            envid=out.envid,
            ret=out.ret,
            verp=group.settings.verp and group.settings.envelope == "list",
        )

    def _rendered(self, post: Post, aim: Aim) -> Content:
        """The post as the group's members get it: its own head, the body as it came (P8)."""
        head = render(post.content.head, group=aim.group, post=post, hostname=self._hostname, secret=self._secret)
        return msgspec.structs.replace(post.content, head=head)

    async def with_body_stored(self, post: Post) -> Post:
        """The post with its body in the store, once: the blob that the ledger knows is kept for as long as the post needs it."""
        stored = await self._ledger.set_body(post.id, await self._bodies.put(post.content.tail))
        return msgspec.structs.replace(post, content=Content(head=post.content.head, ref=stored))

    async def _publish(self, share: Share, batches: Sequence[Sequence[Batch]]) -> None:
        """The deliveries of all targets, made and encoded as they go out."""
        ref = None
        if len(share.post.content.tail) * sum(map(len, batches)) > SHARED_BODY:
            ref = (await self.with_body_stored(share.post)).content.ref
        made = (
            deliveries(self._template(share, aim, ref), of_aim)
            for aim, of_aim in zip(share.aims, batches, strict=True)
            if of_aim
        )
        await publish_each(self._bus, LANES[share.lane], itertools.chain.from_iterable(made))

    async def _hand_on(self, share: Share, aim: Aim) -> None:
        """Posts for the sub-groups that are not expanded in place: the first share's business."""
        if not aim.scope.handed_on:
            return
        content = self._rendered(share.post, aim)
        out = envelope(share.post, aim.target, aim.group, self._secret)
        for aside in aim.scope.handed_on:
            await self._inside.hand_on(share.post, aim, aside, content, out.mail_from)

    async def _tell(self, share: Share, aim: Aim, judged: Judged, batches: int) -> None:
        """Tell the reporter who gets a copy and who does not; a target of one share that gives nobody a copy has its verdict at once."""
        post_id, plan = share.post.id, share.plan
        verdict = "open" if judged.queued or aim.scope.handed_on else "no_recipients"
        brief = brief_of(share.post, share.record, aim.target, aim.group, verdict) if share.record is not None else None
        message, payload = told(
            post_id, aim.scope, judged, index=share.index, of=plan.slices, at=time.time(), brief=brief
        )
        if plan.slices == 1 and verdict == "no_recipients":
            await self._ledger.set_target(post_id, aim.group.address, "no_recipients")
            journal.ended(post_id, group=aim.group.address, verdict="no_recipients")
        await self._bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=payload))
        journal.expanded(
            post_id,
            group=message.group,
            recipients=message.copies,
            suppressed=message.left_out,
            batches=batches,
            took=message.at - share.post.accepted_at,
        )


def facts_of(post: Post) -> Facts:
    """What the filters need of a message: read once a share."""
    authors = {person_key(author) for author in policy.authors(post.content.head)}
    if post.authenticated:
        authors.add(person_key(key(post.authenticated)))
    return Facts(frozenset(authors), policy.recipients_in_header(post.content.head))
