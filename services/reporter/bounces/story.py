"""The story of an address that does not work: failures come in, those that count are kept, and a member who has enough of them is asked or suspended.

An ordinary post leaves nothing here: only failures come, and only when a member has enough of them is it asked whether a copy arrived meanwhile.
Must not: suspend anybody on hearsay, nor anybody but a member of the group that holds the address. Everything may be repeated, and by two at once:
what is done has ids made of the failures it is done for, and "it is told" is written down last. An attacker controls what bounces say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from services.reporter import events
from services.reporter.bounces import judge, letters
from services.reporter.bounces.counts import counts
from services.reporter.bounces.judge import DAY, PROBE_LASTS, WINDOW, Judgment
from services.reporter.bounces.letters import Letter
from services.reporter.post_office import PostOffice
from services.reporter.telling import Teller
from shared import journal
from shared.address import bounce_address, key
from shared.bus import Bus
from shared.directory import NotFound, Registry
from shared.groups import Member, slot
from shared.identity import bounce_token
from shared.ledger import Ledger, TargetRecord
from shared.ledger.bounces import Failure, Probe, Source, Suspension, bounce_note
from shared.ledger.notes import Note
from shared.messages import Attempted, Bounced, Comeback, Fate
from shared.settings import Settings

BRAKE_LEAST = 10
BRAKE_SHARE = 0.05
"""Members of a group that are suspended within a day at most: so many, or this share of it where that is more. A provider's stale list of a
thousand is through its dead addresses in days; a relay that has lost its table of users takes ten members of a school's group, not all."""


class Holding(NamedTuple):
    """A member of a group: whose copy it was."""

    group: str
    member: Member


class Scorer:
    """Keeps the score of addresses that fail. `registry` is the directory itself: what was changed a moment ago is seen."""

    def __init__(
        self,
        settings: Settings,
        *,
        bus: Bus,
        ledger: Ledger,
        registry: Registry,
        teller: Teller,
        secret: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._days = settings.bounce_days
        self._ledger = ledger
        self._registry = registry
        self._teller = teller
        self._post_office = PostOffice(settings.route_table, bus)
        self._secret = secret
        self._clock = clock

    # --- what comes in -------------------------------------------------------------------------------------------------
    async def attempted(self, message: Attempted, target: TargetRecord, failed: Sequence[Fate]) -> None:
        """Copies of a post that servers refused. What an alias's envelope met may be about its author."""
        if target.envelope != "list":
            return
        failures = []
        for fate in failed:
            if _of_the_address(fate):
                holding = await self._holding(message.post_id, message.group, fate.address)
                if holding is not None:
                    reply = f"{fate.code} {fate.text}" if fate.code else fate.text
                    failures.append(_failure(holding, message.post_id, Source.SESSION, fate.at, fate.status, reply))
        await self._score(failures)

    async def bounced(self, message: Bounced) -> None:
        """Mail to a bounce address was recognised: a line of the post's trace for each recipient, and a failure where it counts."""
        if message.probe:
            for one in message.recipients:
                if one.action == "failed" and counts(0, one.status, one.text):
                    await self._probe_came_back(message.probe, one.status, one.text, message.at)
            return
        failures = []
        for one in message.recipients:
            await self._ledger.note(_note(message, one))
            if one.action == "failed" and one.address and counts(0, one.status, one.text):
                holding = await self._holding(message.post_id, message.group, one.address)
                if holding is not None:
                    source = Source.OWN if one.sure else Source.HEARSAY
                    failures.append(_failure(holding, message.post_id, source, message.at, one.status, one.text))
        await self._score(failures)

    async def report_failed(self, message: Attempted, failed: Sequence[Fate]) -> None:
        """Mail of ours that a server refused: a probe, perhaps."""
        for fate in failed:
            if _of_the_address(fate):
                token = bounce_token(self._secret, message.post_id, message.group)
                await self._probe_came_back(token, fate.status, f"{fate.code} {fate.text}", fate.at)

    # --- whose it is ---------------------------------------------------------------------------------------------------
    async def _holding(self, post_id: str, group: str, address: str) -> Holding | None:
        """The member whose copy it was: of the group itself or, by the recorded path, of the one inside it. None for a thread's author, or one who
        is a member no more."""
        holder = group
        if await self._registry.subgroups(group):
            async for page in self._ledger.trace(post_id, recipient=address):
                for row in page:
                    if row.group == group and row.state is not None and row.via:
                        holder = row.via[-1]
        member = await self._member(holder, key(address))
        return None if member is None else Holding(holder, member)

    async def _member(self, group: str, name: str) -> Member | None:
        place = slot(name)
        async for page in self._registry.members(group, low=place, high=place + 1):
            for member in page:
                if member.key == name and member.group is None:
                    return member
        return None

    # --- the score -----------------------------------------------------------------------------------------------------
    async def _score(self, failures: Sequence[Failure]) -> None:
        if not failures:
            return
        kept = await self._ledger.failed(failures, since=min(failure.at for failure in failures) - WINDOW)
        for group, name in dict.fromkeys((failure.group, failure.member) for failure in failures):
            mine = judge.in_window([failure for failure in kept if (failure.group, failure.member) == (group, name)])
            if judge.enough(mine, self._days):
                member = await self._member(group, name)
                if member is not None:
                    await self._judge(Holding(group, member), mine)

    async def _judge(self, holding: Holding, failures: Sequence[Failure]) -> None:
        """What there are enough days for: what was told, is over, or has been refuted since does not count."""
        group, name = holding.group, holding.member.key
        told = (await self._ledger.suspensions(group, [name])).get(name)
        if told is not None:
            if holding.member.bounce == "suspended":
                return
            # somebody brought the member back another way: a new start, with what has come since
            await self._ledger.bring_back(group, name)
            failures = judge.since(failures, told.at)
            failures = await self._ledger.failed(failures, since=told.at) if failures else []
        failures = await self._unrefuted(holding, failures)
        judgment, evidence = judge.judge(failures, self._days)
        if judgment is Judgment.SUSPEND:
            if await self._braked(holding, evidence):
                return
            await self._suspend(holding, evidence, judge.identity(evidence, "suspended"))
        elif judgment is Judgment.PROBE:
            await self._ask(holding, evidence)

    async def _braked(self, holding: Holding, failures: Sequence[Failure]) -> bool:
        """Whether so many of the group were suspended within a day that it looks like somebody else's trouble: a relay that takes nobody for known.

        Then the member stays, its failures are kept, and the next one asks again. The owners have a letter for each of the others by then.
        """
        if holding.member.bounce == "suspended":  # by one of us that did not come to tell of it
            return False
        group = await self._registry.group(holding.group)
        allowed = max(BRAKE_LEAST, int((group.members if group is not None else 0) * BRAKE_SHARE))
        if await self._ledger.suspended_since(holding.group, self._clock() - DAY) < allowed:
            return False
        last = failures[-1]
        detail = {"member": holding.member.address, "reason": f"{allowed} were suspended within a day"}
        note = Note(
            post_id=last.post_id,
            kind="not suspended",
            group=holding.group,
            at=last.at,
            unique=judge.identity(failures, "braked"),
            detail=detail,
        )
        await self._ledger.note(note)
        return True

    async def _unrefuted(self, holding: Holding, failures: Sequence[Failure]) -> Sequence[Failure]:
        """Less what an arrived probe, or a copy that arrived after it and did not come back, shows to be over."""
        group, name, now = holding.group, holding.member.key, self._clock()
        probe = await self._ledger.probe_of_member(group, name)
        if probe is not None and probe.at <= now - PROBE_LASTS:
            await self._ledger.forgive(group, name, until=probe.at, hearsay=probe.at + PROBE_LASTS)
            failures = judge.after_probe(failures, probe)
        if not judge.enough(failures, self._days):
            return failures
        first = min(failure.at for failure in failures)
        # who refuses addresses in the session means it when it takes one; others take all, and say within a day what became of it
        at_once = all(failure.source is Source.SESSION for failure in failures)
        success = await self._ledger.last_success(name, since=first, until=now if at_once else now - DAY)
        if success is not None:
            await self._ledger.forgive(group, name, until=success)
        return judge.since(failures, success)

    # --- what is done --------------------------------------------------------------------------------------------------
    async def _ask(self, holding: Holding, failures: Sequence[Failure]) -> None:
        """A probe to the member, one in seven days: its own bounce address tells whether it arrived."""
        group, member = holding
        report_id = judge.identity(failures, "probe")
        at = failures[-1].at
        asked = Probe(
            token=bounce_token(self._secret, report_id, group), group=group, member=member.key, at=self._clock()
        )
        kept = await self._ledger.probe(asked, since=asked.at - PROBE_LASTS)
        if kept.token != asked.token:
            return  # asked already
        letter = Letter(
            id=report_id,
            hostname=self._teller.hostname,
            to=member.address,
            group=group,
            member=member.address,
            at=kept.at,
            language=await self._teller.language(group),
        )
        await self._post_office.send(
            report_id,
            group,
            (member.address,),
            letters.probe(letter),
            at=kept.at,
            mail_from=bounce_address(group, asked.token),
        )
        await self._ledger.note(
            Note(
                post_id=failures[-1].post_id,
                kind="probe",
                group=group,
                at=at,
                unique=report_id,
                detail={"member": member.address},
            )
        )
        journal.probed(group, member=member.address)

    async def _probe_came_back(self, token: str, status: str, reply: str, at: float) -> None:
        probe = await self._ledger.probe_of_token(token)
        if probe is None:
            return
        member = await self._member(probe.group, probe.member)
        if member is None:
            return
        holding = Holding(probe.group, member)
        told = (await self._ledger.suspensions(probe.group, [member.key])).get(member.key)
        if told is not None and member.bounce == "suspended":
            return
        came = _failure(holding, "", Source.OWN, at, status, reply)
        kept = judge.in_window(await self._ledger.failed([came], since=at - WINDOW))
        await self._suspend(
            holding,
            kept,
            judge.identity([msgspec.structs.replace(came, at=probe.at)], token),
            probe=letters.reply(came),
        )

    async def _suspend(self, holding: Holding, failures: Sequence[Failure], report_id: str, *, probe: str = "") -> None:
        """Suspend a member, tell whoever is to hear of it, and write down that they were told."""
        group, member = holding
        last = failures[-1]
        days = ", ".join(f"{failure.day} {letters.reply(failure)}" for failure in failures)
        reason = f"{days}; a probe: {probe}" if probe else days
        try:
            await self._registry.set_member(group, member.key, bounce="suspended")
        except NotFound:  # removed a moment ago
            return
        await self._teller.emit(events.member_suspended(group, member.address, reason, at=last.at))
        detail = {"member": member.address, "reason": reason}
        post_id = next((failure.post_id for failure in reversed(failures) if failure.post_id), "")
        if post_id:
            note = Note(post_id=post_id, kind="suspended", group=group, at=last.at, unique=report_id, detail=detail)
            await self._ledger.note(note)
        await self._tell_owners(holding, failures, report_id, post_id, probe)
        journal.suspended(group, member=member.address, why=reason)
        await self._ledger.suspended(
            Suspension(id=report_id, group=group, member=member.key, at=last.at, post_id=post_id, reason=reason)
        )

    async def _tell_owners(
        self, holding: Holding, failures: Sequence[Failure], report_id: str, post_id: str, probe: str
    ) -> None:
        """The letter to the owners, unless they want to hear of nothing."""
        group, member = holding
        known = await self._registry.group(group)
        if known is None or known.settings.notify_owners == "none":
            return
        owners = [owner for owner in known.settings.owners if key(owner) != member.key]
        guardians = await self._teller.guardians(group, owners)
        if not guardians.people:
            return
        letter = Letter(
            id=report_id,
            hostname=self._teller.hostname,
            to=guardians.role,
            group=group,
            member=member.address,
            at=failures[-1].at,
            language=guardians.language,
        )
        await self._teller.people(
            guardians.people,
            letters.suspension(letter, failures, probe),
            report_id=report_id,
            post_id=post_id,
            group=group,
            kind="owners",
            at=letter.at,
        )


def _of_the_address(fate: Fate) -> bool:
    """Whether a refusal counts. What a server said of the whole transaction it said of no address: were it to refuse our sender with the words of an
    unknown user on three days, everybody would be suspended."""
    return not fate.common and counts(fate.code, fate.status, fate.text)


def _failure(holding: Holding, post_id: str, source: Source, at: float, status: str, reply: str) -> Failure:
    return Failure(
        group=holding.group,
        member=holding.member.key,
        at=at,
        post_id=post_id,
        source=source,
        status=status,
        reply=reply,
    )


def _note(message: Bounced, one: Comeback) -> Note:
    """What the post's trace shows: one line a recipient who failed, however many bounces said so, and one for each other thing that came."""
    detail = {"recipient": one.address, "action": one.action, "status": one.status, "reply": one.text}
    detail["known"] = "by the member's own bounce address" if one.sure else "by hearsay"
    if one.action == "failed":
        return bounce_note(message.post_id, message.group, key(one.address), at=message.at, detail=detail)
    kind = "auto_reply" if one.action == "auto_reply" else "bounce"
    unique = f"{message.id} {one.action} {key(one.address)}"
    return Note(post_id=message.post_id, kind=kind, group=message.group, at=message.at, unique=unique, detail=detail)
