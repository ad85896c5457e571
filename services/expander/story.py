"""The expander's story: a post comes, its groups become people, and deliveries leave; a large one is shared out in slices first.

Must never send (that is the sender's), never lose a member between two reads, and never ack before everything it owes is durable on the bus.
An attacker controls the message's bytes and, as a group's administrator, the graph of groups. Whatever fails is put off and repeated as a
whole: every step is the same the second time (docs/design/0001-pipeline.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from services.expander.forward import Forwarder
from services.expander.graph import Aim, Walk
from services.expander.graph import decode as decode_graph
from services.expander.graph import encode as encode_graph
from services.expander.plan import Plan, bounds, plan
from services.expander.publishing import publish_each
from services.expander.records import post_record, target_record
from services.expander.share import SHARED_BODY, Share, ShareOut
from services.expander.signals import SignalStory
from shared import journal
from shared.bodies import Bodies
from shared.bus import Bus, Incoming, Outgoing
from shared.directory import Directory
from shared.groups import Group
from shared.headers import loops
from shared.ledger import Ledger, Opened, PostRecord, Verdict
from shared.ledger.notes import check_note, stop_note
from shared.messages import (
    Content,
    Expanded,
    Post,
    Reason,
    Slice,
    Suppressed,
    Target,
    TargetKind,
    Undecodable,
    Wire,
    encode,
)
from shared.replies import AUTOMATIC, PermanentError, Reply
from shared.settings import Settings
from shared.signals import decode_request
from shared.topology import Queue
from shared.worker import Worker

Groups = Mapping[str, Group | None]


class Expander:
    """Works the queues `posts`, `slices`, `signals` and `signals.in`. `secret` is the effective one, `hostname` this host's name in headers."""

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
        self._bus = bus
        self._directory = directory
        self._ledger = ledger
        self._bodies = bodies
        self._secret = secret
        self._share_out = ShareOut(
            settings, bus=bus, directory=directory, ledger=ledger, bodies=bodies, secret=secret, hostname=hostname
        )
        self._forwarder = Forwarder(
            settings, bus=bus, directory=directory, ledger=ledger, bodies=bodies, secret=secret, hostname=hostname
        )
        signals = SignalStory(bus=bus, directory=directory, ledger=ledger)
        count, tries = settings.workers, settings.max_tries
        self._workers = [
            Worker(bus, Queue.POSTS, self._handle, concurrency=count, max_tries=tries),
            # two at a time: a slice is thousands of members in memory (P10)
            Worker(bus, Queue.SLICES, self._handle, concurrency=2, max_tries=tries),
            # a large one takes its time, slice by slice: the others do not wait for it (P7)
            Worker(bus, Queue.SIGNALS, signals.handle, concurrency=8, max_tries=tries),
            Worker(bus, Queue.SIGNALS_IN, signals.take_in, concurrency=2, max_tries=tries, read=decode_request),
        ]

    async def run(self) -> None:
        """Work until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            for worker in self._workers:
                tasks.create_task(worker.run())

    def stop(self) -> None:
        """Take no more; `run` returns when the work in hand is done."""
        for worker in self._workers:
            worker.stop()

    async def _handle(self, message: Wire, incoming: Incoming) -> None:
        match message:
            case Post():
                await self._post(message)
            case Slice():
                await self._slice(message)
            case _:
                raise Undecodable(f"a {type(message).__name__} is no work for the expander")

    async def _post(self, post: Post) -> None:
        """A post: record it, then expand it at once, or cut it into slices; mail for owners and the like is forwarded."""
        targets = [target for target in post.targets if target.kind is TargetKind.GROUP]
        if targets and not post.mail_from:
            await self._end_unsent(post, targets)
        elif targets:
            groups = {target.group: await self._directory.group(target.group) for target in targets}
            opened, record = await self._open(post, targets, groups)
            aims = await self._aims(post, targets, groups, opened)
            recorded = Plan(opened.cells, opened.slices)
            if aims and recorded.slices > 1:
                await self._cut(post, opened, recorded)
            elif aims:
                low, high = bounds(0, recorded)
                # opened before: what is due of it is in the ledger, whatever the group's settings say by now
                new = all(opened.verdicts[aim.target.group] is Verdict.NEW for aim in aims)
                told = record if new else None
                await self._share_out.run(
                    Share(
                        self._kept(post, opened),
                        aims,
                        opened.thread_authors,
                        recorded,
                        0,
                        low,
                        high,
                        told,
                        opened.stopped,
                    )
                )
        await self._forward(post)

    async def _open(self, post: Post, targets: Sequence[Target], groups: Groups) -> tuple[Opened, PostRecord]:
        """Record the post with the plan and the graph of this expansion; those of the first expansion come back, and are obeyed."""
        been_through = loops(post.content.head, self._secret) | set(post.trail)
        walk = Walk(self._directory, targets=groups, trail=been_through)
        live = [group for name, group in groups.items() if group is not None and name not in been_through]
        scopes = [await walk.scope(group) for group in live]
        settings = self._settings
        proposed = plan(
            sum(scope.people for scope in scopes),
            express_limit=settings.express_limit,
            slice_size=settings.slice_size,
            batch_size=settings.batch_size,
        )
        records = [target_record(post, target, groups[target.group], self._secret) for target in targets]
        record = post_record(post, proposed, encode_graph(scopes))
        opened = await self._ledger.open_post(record, records)
        if opened.stopped and post.parent is not None:  # with the one that it was made from: this one's sums say so too
            await self._ledger.note(stop_note(post.id, at=time.time(), why=f"with post {post.parent}"))
        if post.checked is not None:
            await self._ledger.note(check_note(post.id, post.accepted_at, post.checked))
        return opened, record

    async def _aims(self, post: Post, targets: Sequence[Target], groups: Groups, opened: Opened) -> list[Aim]:
        """What is to be expanded, by the recorded graph, in the order of the RCPTs; every other target ends here, and is told of."""
        scopes = {scope.group: scope for scope in decode_graph(opened.graph)}
        aims: dict[str, Aim] = {}
        for target in targets:
            scope, group = scopes.get(target.group), groups[target.group]
            if opened.verdicts[target.group] is Verdict.REPETITION:
                await self._end(post, target.group, "repetition", Reason.REPETITION)
            elif scope is None:
                await self._end(post, target.group, "loop" if group else "gone", Reason.LOOP if group else None)
            elif group is None:  # recorded, then deleted, before this repetition
                await self._end(post, target.group, "gone", None)
            else:
                aims.setdefault(target.group, Aim(target, group, scope))
        return list(aims.values())

    async def _slice(self, part: Slice) -> None:
        """A slice of a large fan-out: its share of the people, by the recorded graph."""
        post = part.post
        if not post.mail_from:
            raise PermanentError(AUTOMATIC, why="a slice of a post with the null sender, which is never expanded")
        targets = [target for target in post.targets if target.kind is TargetKind.GROUP]
        groups = {target.group: await self._directory.group(target.group) for target in targets}
        recorded = Plan(part.cells, part.of)
        records = [target_record(post, target, groups[target.group], self._secret) for target in targets]
        opened = await self._ledger.open_post(post_record(post, recorded, b""), records)
        if not opened.graph:  # a ledger put back to an earlier time: parked, for nobody must be left out in silence
            unknown = Reply(554, "3.0", f"the ledger has no graph of groups for post {post.id}")
            raise PermanentError(unknown, why="send the message again, or put the ledger right and retry")
        post = self._kept(post, opened)
        aims: dict[str, Aim] = {}
        for scope in decode_graph(opened.graph):
            target = next(target for target in targets if target.group == scope.group)
            group = groups[scope.group]
            if opened.verdicts[scope.group] is Verdict.REPETITION:
                continue
            if group is None:  # deleted in mid-fan-out: nobody of this slice, and the fan-out still becomes complete
                await self._tell(post, scope.group, (), index=part.index, of=part.of)
            else:
                aims[scope.group] = Aim(target, group, scope)
        if aims:
            await self._share_out.run(
                Share(
                    post,
                    list(aims.values()),
                    opened.thread_authors,
                    recorded,
                    part.index,
                    part.low,
                    part.high,
                    stopped=opened.stopped,
                )
            )

    async def _cut(self, post: Post, opened: Opened, recorded: Plan) -> None:
        """Share a large fan-out among all expanders; a body that would cross the bus many times goes to the store first."""
        post = self._kept(post, opened)
        if post.content.ref is None and len(post.content.tail) * recorded.cells > SHARED_BODY:
            post = await self._share_out.with_body_stored(post)
        await publish_each(self._bus, Queue.SLICES, _slices(post, recorded))
        journal.sliced(
            post.id, people=sum(scope.people for scope in decode_graph(opened.graph)), slices=recorded.slices
        )

    @staticmethod
    def _kept(post: Post, opened: Opened) -> Post:
        """The post with the body that an earlier try has stored."""
        if post.content.ref is not None or opened.body is None:
            return post
        return msgspec.structs.replace(post, content=Content(head=post.content.head, ref=opened.body))

    async def _end(self, post: Post, group: str, verdict: str, reason: Reason | None) -> None:
        """A target that is not expanded: the same message again, its own copy come back, or a group deleted since its RCPT. Traced."""
        if verdict != "repetition":
            await self._ledger.set_target(post.id, group, verdict)
        await self._tell(
            post, group, () if reason is None else (Suppressed(addresses=(group,), reason=reason),), index=0, of=1
        )
        journal.ended(post.id, group=group, verdict=verdict)

    async def _end_unsent(self, post: Post, targets: Sequence[Target]) -> None:
        """Mail with the null sender is never expanded, whatever a group's switches say: ingress takes none, but it is not alone on the bus."""
        await self._open(post, targets, dict.fromkeys(target.group for target in targets))
        for target in targets:
            await self._end(post, target.group, "null_sender", None)

    async def _tell(self, post: Post, group: str, suppressed: tuple[Suppressed, ...], *, index: int, of: int) -> None:
        message = Expanded(
            post_id=post.id, group=group, index=index, of=of, queued=(), suppressed=suppressed, at=time.time()
        )
        await self._bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=encode(message)))

    async def _forward(self, post: Post) -> None:
        """Mail for owners and the like. That nobody answers for one address is told when the others have theirs: the post is then parked."""
        unanswered: PermanentError | None = None
        for target in post.targets:
            if target.kind is TargetKind.GROUP:
                continue
            try:
                await self._forwarder.forward(post, target)
            except PermanentError as error:
                unanswered = unanswered or error
        if unanswered is not None:
            raise unanswered


def _slices(post: Post, recorded: Plan) -> Iterator[Slice]:
    for index in range(recorded.slices):
        low, high = bounds(index, recorded)
        yield Slice(post=post, cells=recorded.cells, index=index, of=recorded.slices, low=low, high=high)
