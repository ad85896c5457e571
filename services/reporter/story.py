"""The reporter's story: outcomes come in; the ledger is filed, authors and owners are told, events go out. Then the ack.

Does: files every share of a fan-out, writes the delivery report of a complete one, tells failures to whom they concern, emits the events.
Must not: send anything twice, answer the null sender, or name a member to an author of an `envelope=list` group (P9). Every report and
event has an id derived from what it is about, so an outcome may come any number of times (F7): the sender's record makes one message of it.
Attacker controls: subjects, Message-IDs, NOTIFY, ENVID, ORCPT, the text of servers' replies. Fails by trying again later (`shared.worker`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from services.reporter import decide, dsn, events, notices, signals
from services.reporter.decide import Action, Tell
from services.reporter.parked import Filer
from services.reporter.post_office import PostOffice
from services.reporter.returned import original_of
from services.reporter.sweeper import Sweeper
from shared import journal
from shared.address import key
from shared.bodies import Bodies
from shared.bus import Bus, Incoming
from shared.directory import Directory
from shared.identity import derive
from shared.ledger import Ledger, PostRecord, PostSummary, TargetRecord, Totals
from shared.messages import (
    Attempted,
    Brief,
    Content,
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

EVENTS_AT_ONCE = 100
"""Events of one message in flight at a time: a signal to ten thousand members is ten thousand events."""

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
        self, settings: Settings, *, bus: Bus, ledger: Ledger, bodies: Bodies, directory: Directory, hostname: str = ""
    ) -> None:
        """`hostname` is the name in reports: HORO_HOSTNAME or the machine's own where it is empty."""
        self._bus = bus
        self._ledger = ledger
        self._bodies = bodies
        self._directory = directory
        self._postmaster = settings.postmaster
        self._hostname = hostname or settings.hostname or socket.gethostname()
        self._delay_warning = seconds(settings.delay_warning)
        self._max_age = seconds(settings.retry_max_age)
        self._known: dict[str, PostSummary] = {}
        self._accepted: dict[str, None] = {}
        self._post_office = PostOffice(settings.route_table, bus)
        self._worker = Worker(
            bus, Queue.OUTCOMES, self.handle, concurrency=settings.workers, max_tries=settings.max_tries
        )
        self._filer = Filer(bus, ledger)
        self._sweeper = Sweeper(settings, bus=bus, ledger=ledger, bodies=bodies)

    async def run(self) -> None:
        """Work until stopped."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._worker.run())
            tasks.create_task(self._filer.run())
            tasks.create_task(self._sweeper.run())

    def stop(self) -> None:
        """Take no more; `run` returns when the work in hand is done."""
        self._worker.stop()
        self._filer.stop()
        self._sweeper.stop()

    async def handle(self, message: Wire, incoming: Incoming) -> None:
        """One outcome, from its message to what is told of it. Raises `Undecodable` for a message that is no outcome."""
        match message:
            case Expanded():
                await self._expanded(message)
            case Attempted():
                await self._attempted(message)
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
        """`post.expanded`, and the delivery report, if somebody is to get one."""
        summary, target, verdict, totals = await self._now(share.post_id, share.group)
        await self._emit(events.post_expanded(summary, share.group, verdict, totals, share.at))
        action = decide.of_expansion(summary.record, target, verdict)
        if action is not None:
            status = dsn.GONE_STATUS if action is Action.FAILED else dsn.POSITIVE_STATUS
            block = dsn.Block(final=target.recipient, action=action, status=status, orcpt=target.orcpt)
            await self._report(summary.record, target, action, (block,), at=share.at)

    # --- an attempt --------------------------------------------------------------------------------------------------
    async def _attempted(self, message: Attempted) -> None:
        """The sender has recorded the fates: tell of those that are final failures, and of those that are late."""
        failed = tuple(fate for fate in message.fates if fate.state is State.FAILED)
        deferred = tuple(fate for fate in message.fates if fate.state is State.DEFERRED)
        if message.kind is DeliveryKind.REPORT:  # nothing answers an answer; and its post is not in the ledger
            self._leave_untold(message, failed, why="a report")
            return
        if not failed and not deferred:
            return
        summary, target, _, _ = await self._remembered(message.post_id, message.group)
        if message.kind is DeliveryKind.FORWARD:
            await self._forward_failed(message, summary.record, target, failed)
            return
        if failed:
            await self._emit(*(events.delivery_failed(message.post_id, message.group, fate) for fate in failed))
            await self._tell_failed(message, summary.record, target, failed)
        if late := decide.late(summary.record, target, deferred, self._delay_warning):
            await self._tell_late(summary.record, target, late)

    async def _tell_failed(
        self, message: Attempted, record: PostRecord, target: TargetRecord, failed: tuple[Fate, ...]
    ) -> None:
        match decide.of_failure(record, target):
            case Tell.AUTHOR:
                blocks = dsn.blocks_of_fates(failed, action=Action.FAILED, orcpt=target.orcpt)
                await self._report(
                    record,
                    target,
                    Action.FAILED,
                    blocks,
                    *_keys(failed),
                    at=_latest(failed),
                    content=message.content,
                )
            case Tell.OWNERS:
                await self._notify(message, record, target, failed)
            case Tell.NOBODY:
                self._leave_untold(message, failed, why="the author wants none")

    async def _forward_failed(
        self, message: Attempted, record: PostRecord, target: TargetRecord, failed: tuple[Fate, ...]
    ) -> None:
        """Mail to an owner or postmaster address that did not arrive: told to whoever answers next for the domain, not to the author,
        whose address nobody has checked (no backscatter). A bounce that cannot be forwarded stands in the log alone (RFC 3461 5.2)."""
        if not failed:
            return
        if record.mail_from:
            await self._notify(message, record, target, failed)
        else:
            self._leave_untold(message, failed, why="a bounce")

    async def _tell_late(self, record: PostRecord, target: TargetRecord, late: tuple[Fate, ...]) -> None:
        until = record.accepted_at + self._max_age
        blocks = dsn.blocks_of_fates(late, action=Action.DELAYED, orcpt=target.orcpt, retry_until=until)
        await self._report(record, target, Action.DELAYED, blocks, at=_latest(late))

    # --- refusals and signals ----------------------------------------------------------------------------------------
    async def _refused(self, message: Refused) -> None:
        await self._ledger.refused(message)
        await self._emit(events.post_refused(message))

    async def _signal(self, message: SignalExpanded) -> None:
        """One `signal.delivered` a member, or one `signal.suppressed` for all of them."""
        await signals.tell(message, ledger=self._ledger, emit=self._emit)

    # --- telling -----------------------------------------------------------------------------------------------------
    async def _report(
        self,
        record: PostRecord,
        target: TargetRecord,
        action: Action,
        blocks: tuple[dsn.Block, ...],
        *parts: str,
        at: float,
        content: Content | None = None,
    ) -> None:
        """A DSN to the author: one a (post, group, action), or, for failures behind an alias, one a failed attempt (`parts`)."""
        report_id = derive(record.id, target.group, action.value, *parts)
        full = action is Action.FAILED and record.ret == "FULL"
        report = dsn.Dsn(
            id=report_id,
            hostname=self._hostname,
            to=record.mail_from,
            address=target.recipient,
            action=action,
            at=at,
            arrived_at=record.accepted_at,
            blocks=blocks,
            message_id=record.message_id,
            subject=record.subject,
            envid=record.envid,
            returned=await original_of(record, content, self._bodies, full=full),
        )
        await self._post_office.send(report_id, target.group, (record.mail_from,), dsn.build(report), at=at)
        await self._told(record, target, report_id, action.value, (record.mail_from,), at)

    async def _notify(
        self, message: Attempted, record: PostRecord, target: TargetRecord, failed: tuple[Fate, ...]
    ) -> None:
        """A notice to the people who look after the group, one a failed attempt."""
        role, people = await self._guardians(target, failed)
        if not people:
            self._leave_untold(message, failed, why="no owner and no postmaster")
            return
        report_id = derive(record.id, target.group, "owners", *_keys(failed))
        notice = notices.Notice(
            id=report_id,
            hostname=self._hostname,
            to=role,
            group=target.group,
            at=_latest(failed),
            post_id=record.id,
            accepted_at=record.accepted_at,
            failed=failed,
            mail_from=record.mail_from,
            subject=record.subject,
            message_id=record.message_id,
            forward=message.kind is DeliveryKind.FORWARD,
        )
        await self._post_office.send(report_id, target.group, people, notices.build(notice), at=notice.at)
        await self._told(record, target, report_id, "owners", people, notice.at)

    async def _guardians(self, target: TargetRecord, failed: Sequence[Fate]) -> tuple[str, tuple[str, ...]]:
        """Who looks after the group, and the name they are addressed by: its owners, else its domain's postmaster, else ours.

        Whoever's own copy failed just now is not written to: that mail would fail the same way, and nobody would hear of it.
        """
        local, _, domain_name = target.group.rpartition("@")
        dead = {key(fate.address) for fate in failed}
        owners = tuple(owner for owner in target.owners if decide.usable(owner) and key(owner) not in dead)
        if owners:
            return f"{local}-owner@{domain_name}", owners
        domain = await self._directory.domain(domain_name)
        for postmaster in (domain.postmaster if domain is not None else "", self._postmaster):
            if decide.usable(postmaster) and key(postmaster) not in dead:
                return f"postmaster@{domain_name}", (postmaster,)
        return f"postmaster@{domain_name}", ()

    async def _told(
        self, record: PostRecord, target: TargetRecord, report_id: str, kind: str, to: tuple[str, ...], at: float
    ) -> None:
        journal.reported(record.id, group=target.group, kind=kind, to=", ".join(to))
        await self._emit(events.report_sent(report_id, post_id=record.id, group=target.group, kind=kind, to=to, at=at))

    def _leave_untold(self, message: Attempted, failed: Sequence[Fate], *, why: str) -> None:
        """Failures that nobody is told of stand in the log and, for posts, in the trace and the events."""
        for fate in failed:
            journal.untold(message.post_id, group=message.group, recipient=fate.address, reply=dsn.reply(fate), why=why)

    async def _emit(self, *happened: events.Event) -> None:
        """Emit events; done when all are durable."""
        for start in range(0, len(happened), EVENTS_AT_ONCE):
            page = happened[start : start + EVENTS_AT_ONCE]
            await self._bus.emit_all([(events.routing_key(event), events.encode(event)) for event in page])
            for event in page:
                journal.emitted(events.routing_key(event))

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


def _keys(fates: Sequence[Fate]) -> list[str]:
    return sorted({key(fate.address) for fate in fates})


def _latest(fates: Sequence[Fate]) -> float:
    return max(fate.at for fate in fates)
