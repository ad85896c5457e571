"""The reporter's story: outcomes come in; the ledger is filed, authors and owners are told, events go out. Then the ack.

Does: files every share of a fan-out, sends the delivery report of a complete one, remembers what is to be told later (`due`), emits the events.
Must not: send anything twice, answer the null sender, or name a member to an author of an `envelope=list` group (P9). Every report and
event has an id derived from what it is about, so an outcome may come any number of times (F7): the sender's record makes one message of it.
Attacker controls: subjects, Message-IDs, NOTIFY, ENVID, ORCPT, the text of servers' replies. Fails by trying again later (`shared.worker`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from services.reporter import decide, dsn, events, signals, waiting
from services.reporter.authors import Authors
from services.reporter.bounces.story import Scorer
from services.reporter.days import Days
from services.reporter.decide import Action, Owed, Tell, When
from services.reporter.due import Act, Desk
from services.reporter.letters import reply
from services.reporter.owners import Owners
from services.reporter.parked import Filer
from services.reporter.returned import kept
from services.reporter.survey import survey
from services.reporter.sweeper import Sweeper
from services.reporter.telling import Teller
from services.reporter.waiting import Kind, Memory, packed
from shared import journal
from shared.bodies import Bodies
from shared.bus import Bus, Incoming
from shared.directory import Directory, Registry
from shared.identity import derive
from shared.ledger import Ledger, PostRecord, PostSummary, TargetRecord, Totals
from shared.messages import (
    Attempted,
    Bounced,
    Brief,
    DeliveryKind,
    Expanded,
    Fate,
    Refused,
    SignalExpanded,
    State,
    TargetKind,
    Undecodable,
    Wire,
)
from shared.replies import TROUBLE, TransientError
from shared.settings import Settings, seconds
from shared.topology import Queue
from shared.worker import Worker

KNOWN = 200
"""Posts whose records are remembered: a large post is attempted thousands of times, and what is told of it does not change."""


T = TypeVar("T")


class Entry(NamedTuple):
    """What the ledger knows of one target of a post."""

    summary: PostSummary
    target: TargetRecord
    verdict: str
    totals: Totals


class Reporter:
    """Works the queue `outcomes`, files what was parked, and sweeps, until `stop`."""

    def __init__(
        self,
        settings: Settings,
        *,
        bus: Bus,
        ledger: Ledger,
        bodies: Bodies,
        directory: Directory,
        registry: Registry,
        secret: str,
        hostname: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`hostname` is the name in reports: HORO_HOSTNAME or the machine's own where it is empty. `clock` tells when what waits is looked at.

        `registry` is where members are suspended, and `secret` the key of their bounce addresses.
        """
        self._bus = bus
        self._ledger = ledger
        self._bodies = bodies
        self._directory = directory
        self._clock = clock
        self._delay_warning = seconds(settings.delay_warning)
        self._known: dict[str, PostSummary] = {}
        self._accepted: dict[str, None] = {}
        self._teller = Teller(settings, bus=bus, ledger=ledger, bodies=bodies, directory=directory, hostname=hostname)
        self._scorer = Scorer(
            settings, bus=bus, ledger=ledger, registry=registry, teller=self._teller, secret=secret, clock=clock
        )
        self.desk = self._make_desk(seconds(settings.retry_max_age))
        self._worker = Worker(
            bus, Queue.OUTCOMES, self.handle, concurrency=settings.workers, max_tries=settings.max_tries
        )
        self._filer = Filer(bus, ledger)
        self._sweeper = Sweeper(settings, bus=bus, ledger=ledger, bodies=bodies)

    def _make_desk(self, max_age: float) -> Desk:
        """The desk of what waits, with all that is done there."""
        authors = Authors(self._ledger, self._teller, max_age=max_age)
        days = Days(self._ledger, self._teller, self._directory, max_age=max_age)
        acts: dict[str, Act] = {
            Kind.DELIVERED: authors.delivered,
            Kind.DELAYED: authors.delayed,
            Kind.FAILED: authors.failed,
        }
        desk = Desk(self._ledger, acts, days.tell, max_age=max_age, clock=self._clock)
        acts[Kind.OWNERS] = Owners(self._ledger, self._teller, max_age=max_age, wait_day=desk.wait_day).look
        return desk

    async def run(self) -> None:
        """Work until stopped."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._worker.run())
            tasks.create_task(self._filer.run())
            tasks.create_task(self._sweeper.run())
            tasks.create_task(self.desk.run())

    def stop(self) -> None:
        """Take no more; `run` returns when the work in hand is done."""
        self._worker.stop()
        self._filer.stop()
        self._sweeper.stop()
        self.desk.stop()

    async def survey(self) -> None:
        """How much waits in the whole installation, for the gauges."""
        await survey(self._bus, self._ledger, self._clock())

    async def handle(self, message: Wire, incoming: Incoming) -> None:
        """One outcome, from its message to what is told of it. Raises `Undecodable` for a message that is no outcome."""
        match message:
            case Expanded():
                await self._expanded(message)
            case Attempted():
                await self._attempted(message)
            case Bounced():
                await self._scorer.bounced(message)
            case Refused():
                await self._refused(message)
            case SignalExpanded():
                await self._signal(message)
            case _:
                raise Undecodable(f"a {type(message).__name__} is no outcome")

    # --- a fan-out ---------------------------------------------------------------------------------------------------
    async def _expanded(self, share: Expanded) -> None:
        """File the share; tell of the post with its first, and of the group's fan-out with the one that completes it."""
        complete = await self._ledger.file(share)
        if share.brief is not None:
            await self._tell_brief(share, share.brief)
            return
        if share.index == 0:
            await self._tell_accepted(share.post_id, share.group)
        if complete:
            await self._tell_complete(share)

    async def _tell_accepted(self, post_id: str, group: str) -> None:
        """`post.accepted`, by the first share of one target: which, is the same whatever the order the shares come in.

        An owner address is opened apart from the groups of its post, so the post may not have all its targets yet: those that it gets later come
        first only if they are groups, and then the event is known to be out.
        """
        summary, _, _, _ = await self._remembered(post_id, group)
        groups = sorted((target.kind is not TargetKind.GROUP, target.group) for target, _, _ in summary.targets)
        if groups[0][1] == group and post_id not in self._accepted:
            await self._emit(events.post_accepted(post_id, summary.record, [name for _, name in groups]))
            _remember(self._accepted, post_id, None)

    async def _tell_brief(self, share: Expanded, brief: Brief) -> None:
        """The events of a fan-out that came whole and brings no report: both at once, from what the share itself says."""
        happened: list[events.Event] = [events.post_expanded_whole(share, brief)]
        if first := brief.groups[:1] == (share.group,) and share.post_id not in self._accepted:
            happened.insert(0, events.post_accepted(share.post_id, brief, brief.groups))
        await self._emit(*happened)
        if first:
            _remember(self._accepted, share.post_id, None)

    async def _tell_complete(self, share: Expanded) -> None:
        """`post.expanded`; the delivery report, if somebody is to get one now; and what is to be told when all is over."""
        summary, target, verdict, totals = await self._now(share.post_id, share.group)
        await self._emit(events.post_expanded(summary, share.group, verdict, totals, share.at))
        owed = decide.of_expansion(summary.record, target, verdict)
        if owed is not None and owed.when is When.AT_END:
            await self.desk.wait(Kind.DELIVERED, share.post_id, share.group)
        elif owed is not None:
            await self._report(summary.record, target, owed, at=share.at)
        if target.kind is TargetKind.GROUP:
            await self._promise_summary(summary.record, target, verdict)

    async def _report(self, record: PostRecord, target: TargetRecord, owed: Owed, *, at: float) -> None:
        """The DSN to the author on a fan-out: one a (post, group, action), naming the group alone (P9)."""
        status = dsn.GONE_STATUS if owed.action is Action.FAILED else dsn.POSITIVE_STATUS
        block = dsn.Block(final=target.recipient, action=owed.action, status=status, orcpt=target.orcpt)
        report_id = derive(record.id, target.group, owed.action.value)
        await self._teller.author(record, target, owed.action, (block,), report_id=report_id, at=at)

    async def _promise_summary(self, record: PostRecord, target: TargetRecord, verdict: str) -> None:
        """Owners who want to hear of every post will."""
        mode = await self._teller.mode(target.group)
        if not decide.summed_up(mode, verdict):
            return
        if mode == "daily":
            await self.desk.wait_day(target.group, record.accepted_at)
        else:
            await self.desk.wait(Kind.OWNERS, record.id, target.group)

    # --- an attempt --------------------------------------------------------------------------------------------------
    async def _attempted(self, message: Attempted) -> None:
        """The sender has recorded the fates: of final failures, and of delays, somebody may have to hear."""
        failed = tuple(fate for fate in message.fates if fate.state is State.FAILED)
        deferred = any(fate.state is State.DEFERRED for fate in message.fates)
        if message.kind is DeliveryKind.REPORT:  # nothing answers an answer; and its post is not in the ledger
            self._leave_untold(message, failed, why="a report")
            await self._scorer.report_failed(message, failed)
            return
        if not failed and not deferred:
            return
        summary, target, _, _ = await self._remembered(message.post_id, message.group)
        if message.kind is DeliveryKind.FORWARD:
            await self._forward_failed(message, summary.record, failed)
            return
        if failed:
            await self._emit(*(events.delivery_failed(message.post_id, message.group, fate) for fate in failed))
            await self._tell_failed(message, summary.record, target, failed)
            await self._scorer.attempted(message, target, failed)
        if deferred and decide.of_delay(summary.record, target):
            late = summary.record.accepted_at + self._delay_warning - self._clock()
            await self.desk.wait(Kind.DELAYED, message.post_id, message.group, first=max(late, 0.0))

    async def _tell_failed(
        self, message: Attempted, record: PostRecord, target: TargetRecord, failed: tuple[Fate, ...]
    ) -> None:
        match decide.of_failure(record, target):
            case Tell.AUTHOR:
                content = kept(message.content, full=record.ret == "FULL")
                memory = Memory(content=packed(content))
                await self.desk.wait(Kind.FAILED, message.post_id, message.group, memory=memory)
            case Tell.OWNERS:
                await self._tell_owners(message, failed)
            case Tell.NOBODY:
                self._leave_untold(message, failed, why="the author wants none")

    async def _tell_owners(self, message: Attempted, failed: tuple[Fate, ...]) -> None:
        match await self._teller.mode(message.group):
            case "none":
                self._leave_untold(message, failed, why="the owners want none")
            case "daily":
                for day in {waiting.day_of(fate.at) for fate in failed}:
                    await self.desk.wait_day(message.group, day)
            case _:
                await self.desk.wait(Kind.OWNERS, message.post_id, message.group)

    async def _forward_failed(self, message: Attempted, record: PostRecord, failed: tuple[Fate, ...]) -> None:
        """Mail to an owner or postmaster address that did not arrive: told to whoever answers next for the domain, not to the author,
        whose address nobody has checked (no backscatter). A bounce that cannot be forwarded stands in the log alone (RFC 3461 5.2)."""
        if not failed:
            return
        if record.mail_from:
            await self.desk.wait(Kind.OWNERS, message.post_id, message.group, memory=Memory(forward=True))
        else:
            self._leave_untold(message, failed, why="a bounce")

    # --- refusals and signals ----------------------------------------------------------------------------------------
    async def _refused(self, message: Refused) -> None:
        await self._ledger.refused(message)
        await self._emit(events.post_refused(message))

    async def _signal(self, message: SignalExpanded) -> None:
        """One `signal.delivered` a member, or one `signal.suppressed` for all of them."""
        await signals.tell(message, ledger=self._ledger, emit=self._emit)

    # --- telling -----------------------------------------------------------------------------------------------------
    def _leave_untold(self, message: Attempted, failed: Sequence[Fate], *, why: str) -> None:
        """Failures that nobody is told of stand in the log and, for posts, in the trace and the events."""
        for fate in failed:
            journal.untold(message.post_id, group=message.group, recipient=fate.address, reply=reply(fate), why=why)

    async def _emit(self, *happened: events.Event) -> None:
        await self._teller.emit(*happened)

    # --- the ledger's answers ----------------------------------------------------------------------------------------
    async def _now(self, post_id: str, group: str) -> Entry:
        """The post and its target as they are now. The expander opened both before it published anything of them, so what is not there is trouble."""
        summary = await self._ledger.post(post_id)
        if summary is None:
            raise TransientError(TROUBLE, why=f"post {post_id} is not in the ledger")
        _remember(self._known, post_id, summary)
        entry = _find(summary, group)
        if entry is None:
            raise TransientError(TROUBLE, why=f"post {post_id} has no target {group} in the ledger")
        return entry

    async def _remembered(self, post_id: str, group: str) -> Entry:
        """The post's record and target, which never change once opened. Its verdict and sums may be old."""
        summary = self._known.get(post_id)
        return (_find(summary, group) if summary is not None else None) or await self._now(post_id, group)


def _find(summary: PostSummary, group: str) -> Entry | None:
    """The target of a post that a message is about."""
    for target, verdict, totals in summary.targets:
        if target.group == group:
            return Entry(summary, target, verdict, totals)
    return None


def _remember(known: dict[str, T], name: str, value: T) -> None:
    """Put a value last in `known`, which keeps the latest `KNOWN` (P10)."""
    known.pop(name, None)
    known[name] = value
    if len(known) > KNOWN:
        del known[next(iter(known))]
