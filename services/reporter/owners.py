"""What the people who look after a group hear: one notice of a post's failures, how each post ended, or a day's sums, as `notify_owners` says then.

Looks of the desk. Nothing is said where nothing went wrong, unless the group wants every post; what nobody hears of stands in the log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from services.reporter import letters, notices, waiting
from services.reporter.due import Next, remember
from services.reporter.letters import reply
from services.reporter.notices import About, Counts, Head
from services.reporter.telling import Guardians, Teller
from services.reporter.waiting import Case, fate_of
from shared import journal
from shared.identity import derive
from shared.ledger import Ledger, PostRecord, Totals
from shared.messages import Content, Fate, State


class Owners:
    """The look at a post for its owners. `wait_day` makes the day's sums due, where owners want those."""

    def __init__(
        self, ledger: Ledger, teller: Teller, *, max_age: float, wait_day: Callable[[str, float], Awaitable[None]]
    ) -> None:
        self._ledger = ledger
        self._teller = teller
        self._max_age = max_age
        self._wait_day = wait_day

    async def look(self, case: Case) -> Next:
        """A notice, a summary, or nothing yet."""
        memory = case.memory
        mode = "failures" if memory.forward else await self._teller.mode(case.target.group)
        if mode == "daily":
            await self._wait_day(case.target.group, case.now)
        if mode in ("daily", "none"):
            return Next(done=True)
        if memory.summed:
            return Next(done=True)
        if mode == "posts" and case.over:
            await self._sum_up(case)
            memory.summed = True
            return Next(done=True)
        failures = case.totals.failed
        sending = bool(memory.sending)  # written down before, and perhaps not sent
        if sending or waiting.tell_owners(
            failures=failures, told=memory.told, notices=memory.round, over=case.over, age=case.age
        ):
            if not sending:
                memory.sending, memory.last = [failures], case.now
                await remember(self._ledger, case)
            await self._notify(case)
            memory.told, memory.sending = memory.sending[0], []
            memory.round += 1
        return Next(done=case.over, until=case.due.since + waiting.QUIET)

    async def _notify(self, case: Case) -> None:
        """A notice of failures, to whoever answers."""
        record, group, memory = case.record, case.target.group, case.memory
        failed = await self._failed(case)
        guardians = await self._guardians(case, failed)
        if not guardians.people:
            return
        report_id = derive(record.id, group, "owners", str(memory.round))
        notice = notices.Notice(
            head=self._head(report_id, guardians, group, memory.last),
            about=about(record),
            failures=case.totals.failed,
            failed=failed,
            waiting=case.totals.deferred,
            until=record.accepted_at + self._max_age,
            again=memory.round > 0,
            forward=memory.forward,
        )
        await self._send(case, guardians, report_id, "owners", notices.notice(notice), at=memory.last)

    async def _sum_up(self, case: Case) -> None:
        """How a post ended."""
        record, group = case.record, case.target.group
        failed = await self._failed(case) if case.totals.failed else []
        guardians = await self._guardians(case, failed)
        if not guardians.people:
            return
        report_id = derive(record.id, group, "summary")
        ended = notices.Ended(
            head=self._head(report_id, guardians, group, case.now),
            about=about(record),
            verdict=case.verdict,
            counts=counts(case.totals),
            reasons=await self._ledger.left_out(record.id, group) if case.totals.suppressed else {},
            failed=failed,
        )
        await self._send(case, guardians, report_id, "summary", notices.ended(ended), at=case.now)

    async def _failed(self, case: Case) -> list[Fate]:
        rows = await self._ledger.unreached(case.record.id, case.target.group, limit=letters.ROWS)
        return [fate_of(row) for row in rows if row.state is State.FAILED]

    async def _guardians(self, case: Case, failed: Sequence[Fate]) -> Guardians:
        found = await self._teller.guardians(case.target.group, case.target.owners, post_id=case.record.id)
        for fate in () if found.people else failed:
            journal.untold(
                case.record.id,
                group=case.target.group,
                recipient=fate.address,
                reply=reply(fate),
                why="no owner and no postmaster",
            )
        return found

    def _head(self, report_id: str, guardians: Guardians, group: str, at: float) -> Head:
        return Head(
            id=report_id,
            hostname=self._teller.hostname,
            to=guardians.role,
            group=group,
            at=at,
            language=guardians.language,
        )

    async def _send(
        self, case: Case, guardians: Guardians, report_id: str, kind: str, content: Content, *, at: float
    ) -> None:
        await self._teller.people(
            guardians.people,
            content,
            report_id=report_id,
            post_id=case.record.id,
            group=case.target.group,
            kind=kind,
            at=at,
        )


def about(record: PostRecord) -> About:
    """A post in a mail to owners."""
    return About(
        post_id=record.id,
        accepted_at=record.accepted_at,
        mail_from=record.mail_from,
        subject=record.subject,
        message_id=record.message_id,
    )


def counts(totals: Totals) -> Counts:
    """A post's sums in a mail to owners."""
    return Counts(delivered=totals.delivered, failed=totals.failed, waiting=totals.deferred, left_out=totals.suppressed)
