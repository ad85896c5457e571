"""Signals: a request to a group (chat, notification) becomes its members and channels, or is suppressed where the group refuses signals.

The expansion is that of mail (`graph`, `judging`): groups in groups in place, cycle-safe, each person once, slice by slice. What is another: all
sub-groups are expanded in place, but those that refuse signals themselves and those of another domain that do not allow it, for a signal has no
policy of its own that would need a sub-group to judge it. The switches about mail (`disabled`, `expand_groups`, the filters on headers) say nothing
here, and who is suspended after bounces gets signals: what does not work is a mailbox. A paused member is left alone.

A signal is recorded like a post before anything of it goes out, with its plan and graph, and a repetition obeys the record: the same people in the
same slices, with the same ids of events. Its origin controls all of its text, and a group's administrator the graph.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

import msgspec

from services.expander.expand import Facts
from services.expander.graph import Aim, Scope, decode
from services.expander.graph import encode as encode_graph
from services.expander.judging import Judged, Source, judge_all
from services.expander.people import read
from services.expander.plan import Plan, bounds
from services.expander.publishing import publish_each
from services.expander.rows import told
from services.expander.signal_graph import SignalWalk
from shared import journal
from shared.bus import Bus, Incoming, Outgoing
from shared.directory import Directory
from shared.groups import Group, Roll, cell, slot
from shared.ledger import Ledger, Opened, PostRecord, TargetRecord, Verdict
from shared.messages import (
    Expanded,
    Notification,
    Queued,
    Reason,
    Signal,
    SignalExpanded,
    Suppressed,
    Target,
    TargetKind,
    Undecodable,
    Wire,
    encode,
)
from shared.topology import Queue

SPAN = 2_000
"""Memberships that one slice holds, about: what de-duplication keeps in memory, and one message to the reporter names (P10)."""

NOBODY_KNOWN = Facts(frozenset(), frozenset())


class Share(NamedTuple):
    """What a slice of a signal came to: its people, and the channels it notifies, by the path to the group that has them."""

    number: int
    judged: Judged
    notified: list[Notification]
    channels: tuple[Queued, ...]

    @property
    def people(self) -> int:
        """How many people it reaches."""
        return sum(len(copies.keys) for copies in self.judged.copies)


class SignalStory:
    """Works the queues `signals` and `signals.in`."""

    def __init__(self, *, bus: Bus, directory: Directory, ledger: Ledger) -> None:
        self._bus = bus
        self._directory = directory
        self._ledger = ledger

    async def take_in(self, message: Wire, incoming: Incoming) -> None:
        """A signal that came from outside as JSON, checked by now: put where all signals are, and so given its id for good."""
        if not isinstance(message, Signal):
            raise Undecodable(f"a {type(message).__name__} is no signal")
        await self._bus.publish(Outgoing(queue=Queue.SIGNALS, payload=encode(message)))

    async def handle(self, message: Wire, incoming: Incoming) -> None:
        """Record one signal, resolve it, notify the channels and tell the reporter."""
        if not isinstance(message, Signal):
            raise Undecodable(f"a {type(message).__name__} is no signal")
        group = await self._directory.group(message.group)
        scope = await SignalWalk(self._directory).scope(group) if group is not None else None
        taken = scope is not None and group is not None and not group.settings.disable_signals
        opened = await self._open(message, scope if taken else None)
        if opened.verdicts[message.group] is Verdict.REPETITION:
            await self._refuse(message, "repetition", left_out=(Reason.REPETITION,))
        elif group is None or scope is None:  # where it was known before, what was not told of yet never will be
            await self._refuse(message, "unknown_group", slices=opened.slices)
        elif not opened.graph:
            spared = [share.people async for share in self._shares(message, group, scope, _plan(scope))]
            await self._refuse(message, "disabled", spared=sum(spared))
        else:
            (recorded,) = decode(opened.graph)
            await self._fan_out(message, group, recorded, Plan(opened.cells, opened.slices))

    async def _open(self, signal: Signal, scope: Scope | None) -> Opened:
        """Record the signal with its plan and graph, none where it is refused; those of the first time come back."""
        plan = Plan(1, 1) if scope is None else _plan(scope)
        record = PostRecord(
            id=signal.id,
            accepted_at=signal.sent_at,
            mail_from=signal.origin,
            author="",
            message_id="",
            subject=(signal.title or signal.text)[:200],
            size=len(signal.text.encode("utf-8", "replace")),
            ip="",
            cells=plan.cells,
            slices=plan.slices,
            graph=b"" if scope is None else encode_graph([scope]),
        )
        target = TargetRecord(
            group=signal.group, recipient=signal.group, kind=TargetKind.SIGNAL, fingerprint=fingerprint(signal)
        )
        return await self._ledger.open_post(record, [target])

    async def _refuse(
        self, signal: Signal, verdict: str, *, spared: int = 0, slices: int = 1, left_out: tuple[Reason, ...] = ()
    ) -> None:
        """Nobody gets it: in the ledger, and by one event."""
        if verdict != "repetition":  # that one is on record already
            await self._ledger.set_target(signal.id, signal.group, verdict)
        nobody = tuple(Suppressed(addresses=(signal.group,), reason=reason) for reason in left_out)
        for index in reversed(range(slices)):
            share = Expanded(
                post_id=signal.id,
                group=signal.group,
                index=index,
                of=slices,
                queued=(),
                suppressed=nobody,
                at=time.time(),
            )
            word = verdict if index == 0 else None
            await self._tell(SignalExpanded(signal=signal, suppressed=word, spared=spared, share=share))
        journal.ended(signal.id, group=signal.group, verdict=verdict)

    async def _fan_out(self, signal: Signal, group: Group, scope: Scope, plan: Plan) -> None:
        """Slice by slice: the channels' notifications are durable first, then the reporter is told."""
        reached = 0
        async for share in self._shares(signal, group, scope, plan):
            await publish_each(self._bus, Queue.NOTIFICATIONS, share.notified)
            reached += share.people + len(share.notified)
            empty = reached == 0 and share.number == plan.slices - 1
            if empty:
                await self._ledger.set_target(signal.id, signal.group, "no_recipients")
            message, _ = told(signal.id, scope, share.judged, index=share.number, of=plan.slices, at=time.time())
            await self._tell(
                SignalExpanded(
                    signal=signal,
                    suppressed="no_members" if empty else None,
                    share=message,
                    channels=share.channels,
                )
            )
        journal.signalled(
            signal.id, group=signal.group, reached=reached, origin=signal.origin, took=time.time() - signal.sent_at
        )

    async def _shares(self, signal: Signal, group: Group, scope: Scope, plan: Plan) -> AsyncIterator[Share]:
        """The slices of a fan-out, one in memory at a time."""
        aim = Aim(Target(group=signal.group, recipient=signal.group, kind=TargetKind.SIGNAL), group, scope)
        for index in range(plan.slices):
            low, high = bounds(index, plan)
            sources = await read(self._directory, [aim], cells=plan.cells, low=low, high=high)
            (judged,) = judge_all(map(_unsuspended, sources), (), [aim], NOBODY_KNOWN)
            channels, notified = await self._channels(signal, scope, plan, low, high)
            yield Share(index, judged, notified, channels)

    async def _channels(
        self, signal: Signal, scope: Scope, plan: Plan, low: int, high: int
    ) -> tuple[tuple[Queued, ...], list[Notification]]:
        """The channels whose labels are in the slice, each URL once: of equal ones that of the group found first."""
        places = {node.group: number for number, node in reversed(list(enumerate(scope.nodes)))}
        reached = await self._directory.reached(list(places), low=low, high=high)
        queued: dict[str, Queued] = {}
        notified = []
        for channel in sorted(reached, key=lambda channel: (places[channel.group], channel.id)):
            if channel.label not in queued:
                via = scope.via(places[channel.group])
                queued[channel.label] = Queued(addresses=(channel.label,), via=via)
                place = cell(slot(channel.label), plan.cells)
                notified.append(Notification(signal=signal, channel=channel.id, label=channel.label, cell=place))
        return tuple(queued.values()), notified

    async def _tell(self, message: SignalExpanded) -> None:
        await self._bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=encode(message)))


def fingerprint(signal: Signal) -> bytes | None:
    """What the signal is, where its origin gave it an id; None for one that is never taken for a repetition."""
    if not signal.once:
        return None
    facts = "\0".join(("signal", signal.origin, signal.group, signal.once))
    return hashlib.sha256(facts.encode("utf-8", "surrogatepass")).digest()


def _plan(scope: Scope) -> Plan:
    slices = -(-scope.people // SPAN) or 1
    return Plan(cells=slices, slices=slices)


def _unsuspended(source: Source) -> Source:
    """The source with everybody's mailbox well again: that mail bounces says nothing of a chat."""
    if not any(member.bounce != "ok" for roll in source.rolls.values() for member in roll.others):
        return source
    rolls: Mapping[int, Roll] = {number: _well(roll) for number, roll in source.rolls.items()}
    return source._replace(rolls=rolls)


def _well(roll: Roll) -> Roll:
    return Roll(roll.keys, roll.spelled, [msgspec.structs.replace(member, bounce="ok") for member in roll.others])
