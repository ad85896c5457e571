"""The expander's story: a post comes, its groups become people, and deliveries leave; a large one is shared out in slices first.

Must never send (that is the sender's), never lose a member between two reads, and never ack before everything it owes is durable on the bus.
An attacker controls the message's bytes and, as a group's administrator, the graph of groups. Whatever fails is put off and repeated as a
whole: every step is the same the second time (docs/design/0001-pipeline.md).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import msgspec

from services.expander.forward import Forwarder
from services.expander.graph import Scope, find_scope
from services.expander.plan import Plan, bounds, plan
from services.expander.records import post_record, target_record
from services.expander.share import SHARED_BODY, Share, ShareOut
from services.expander.signals import SignalStory
from shared import journal
from shared.bodies import Bodies
from shared.bus import Bus, Incoming, Outgoing
from shared.directory import Directory
from shared.groups import Group
from shared.headers import loops
from shared.ledger import Ledger, Opened, Verdict
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
from shared.settings import Settings
from shared.topology import Queue
from shared.worker import Worker


class Expander:
    """Works the queues `posts`, `slices` and `signals`. `secret` is the effective one, `hostname` this host's name in headers."""

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
            settings, bus=bus, directory=directory, ledger=ledger, secret=secret, hostname=hostname
        )
        signals = SignalStory(bus=bus, directory=directory)
        count, tries = settings.workers, settings.max_tries
        self._workers = [
            Worker(bus, Queue.POSTS, self._handle, concurrency=count, max_tries=tries),
            Worker(
                bus, Queue.SLICES, self._handle, concurrency=2, max_tries=tries
            ),  # two: a slice is thousands of members in memory (P10)
            Worker(bus, Queue.SIGNALS, signals.handle, concurrency=2, max_tries=tries),
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
        scopes = await self._scopes(post)
        if scopes:
            proposed = plan(
                sum(scope.people for scope in scopes),
                express_limit=self._settings.express_limit,
                slice_size=self._settings.slice_size,
                batch_size=self._settings.batch_size,
            )
            opened = await self._open(post, scopes, proposed)
            scopes = await self._unrepeated(post, scopes, opened)
            recorded = Plan(opened.cells, opened.slices)
            if scopes and recorded.slices > 1:
                await self._cut(post, scopes, recorded)
            elif scopes:
                low, high = bounds(0, recorded)
                await self._share_out.run(Share(post, scopes, opened.thread_authors, recorded, 0, low, high))
        for target in post.targets:
            if target.kind is not TargetKind.GROUP:
                await self._forwarder.forward(post, target)

    async def _slice(self, part: Slice) -> None:
        """A slice of a large fan-out: the graph again (few rows), then its share of the people."""
        scopes = await self._scopes(part.post, ended=False)
        recorded = Plan(part.cells, part.of)
        opened = await self._open(part.post, scopes, recorded)
        scopes = [scope for scope in scopes if opened.verdicts.get(scope.group.address) is not Verdict.REPETITION]
        if scopes:
            await self._share_out.run(
                Share(part.post, scopes, opened.thread_authors, recorded, part.index, part.low, part.high)
            )

    async def _scopes(self, post: Post, *, ended: bool = True) -> list[Scope]:
        """The scopes of the post's groups, in the order of their RCPTs; groups that are gone or that it has been through already end here."""
        been_through = loops(post.content.head, self._secret) | set(post.trail)
        scopes = []
        for target in post.targets:
            if target.kind is not TargetKind.GROUP:
                continue
            group = await self._directory.group(target.group)
            if group is None or target.group in been_through:
                if ended:
                    await self._end(post, target, group)
                continue
            scopes.append(await find_scope(self._directory, target, group, trail=post.trail))
        return scopes

    async def _end(self, post: Post, target: Target, group: Group | None) -> None:
        """A target that is not expanded: the group was deleted since its RCPT, or this is its own copy come back. Traced, not bounced."""
        verdict = "gone" if group is None else "loop"
        await self._ledger.open_post(post_record(post, Plan(1, 1)), [target_record(post, target, group, self._secret)])
        await self._ledger.set_target(post.id, target.group, verdict)
        left_out = () if group is None else (Suppressed(address=target.group, reason=Reason.LOOP),)
        await self._tell(post, target.group, left_out)
        journal.ended(post.id, group=target.group, verdict=verdict)

    async def _open(self, post: Post, scopes: Sequence[Scope], proposed: Plan) -> Opened:
        records = [target_record(post, scope.target, scope.group, self._secret) for scope in scopes]
        return await self._ledger.open_post(post_record(post, proposed), records)

    async def _unrepeated(self, post: Post, scopes: Sequence[Scope], opened: Opened) -> list[Scope]:
        """The scopes that are to be expanded; a repetition (the client lost our 250) is filed as one and ends."""
        fresh = []
        for scope in scopes:
            if opened.verdicts[scope.group.address] is not Verdict.REPETITION:
                fresh.append(scope)
                continue
            await self._tell(
                post, scope.group.address, (Suppressed(address=scope.group.address, reason=Reason.REPETITION),)
            )
            journal.ended(post.id, group=scope.group.address, verdict="repetition")
        return fresh

    async def _tell(self, post: Post, group: str, suppressed: tuple[Suppressed, ...]) -> None:
        message = Expanded(
            post_id=post.id, group=group, index=0, of=1, queued=(), suppressed=suppressed, at=time.time()
        )
        await self._bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=encode(message)))

    async def _cut(self, post: Post, scopes: Sequence[Scope], recorded: Plan) -> None:
        """Share a large fan-out among all expanders; its body goes to the store first, so that a slice is small."""
        content = post.content
        if content.ref is None and len(content.tail) * recorded.slices > SHARED_BODY:
            content = Content(head=content.head, ref=await self._bodies.put(content.tail))
            post = msgspec.structs.replace(post, content=content)
        slices = []
        for index in range(recorded.slices):
            low, high = bounds(index, recorded)
            slices.append(Slice(post=post, cells=recorded.cells, index=index, of=recorded.slices, low=low, high=high))
        await self._bus.publish_all([Outgoing(queue=Queue.SLICES, payload=encode(part)) for part in slices])
        journal.sliced(post.id, people=sum(scope.people for scope in scopes), slices=recorded.slices)
