"""A day of a group for its owners: its posts, the sums, what failed on that day of whichever post, and members who get no mail. One mail a day (UTC).

Read when the day is over, page by page; what is named is bounded, what is counted is not (P10).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from services.reporter import decide, letters, notices
from services.reporter.notices import Counts, Day, Head, Line
from services.reporter.owners import about, counts
from services.reporter.telling import Teller
from services.reporter.waiting import DAY, fate_of
from shared.directory import Directory
from shared.groups import Group
from shared.identity import derive, new_id
from shared.ledger import Ledger, PostRecord, PostSummary, Totals
from shared.messages import Fate, State

PAGE = 100
LINES = 100
"""Posts that are listed."""

NAMED = 50
"""Suspended members who are named."""


class Days:
    """Sums up days. `max_age`: seconds that delivery is tried, so the age of a post that may fail today."""

    def __init__(self, ledger: Ledger, teller: Teller, directory: Directory, *, max_age: float) -> None:
        self._ledger = ledger
        self._teller = teller
        self._directory = directory
        self._max_age = max_age

    async def tell(self, group: str, day: float, now: float) -> None:
        """The mail about the day that began at `day`, where the group still wants one and the day brought anything."""
        known = await self._directory.group(group)
        if known is None or known.settings.notify_owners != "daily":
            return
        guardians = await self._teller.guardians(group, known.settings.owners)
        report_id = derive(new_id(day)[:10], group, "day")
        head = Head(
            id=report_id,
            hostname=self._teller.hostname,
            to=guardians.role,
            group=group,
            at=now,
            language=guardians.language,
        )
        summary = await self._summary(head, known, day)
        if not guardians.people or not (summary.count or summary.failures):
            return
        content = notices.day(summary)
        await self._teller.people(
            guardians.people, content, report_id=report_id, post_id="", group=group, kind="day", at=now
        )

    async def _summary(self, head: Head, group: Group, day: float) -> Day:
        number, failures, sums = 0, 0, Counts()
        lines: list[Line] = []
        failed: list[Fate] = []
        async for record, totals in self._posts(group.address, day - self._max_age - DAY, day + DAY):
            if totals.failed:
                found, count = await self._failed(record, totals, group.address, day)
                failures += count
                failed += found[: letters.ROWS - len(failed)]
            if record.accepted_at >= day:
                number += 1
                sums = _added(sums, counts(totals))
                lines += [Line(about=about(record), counts=counts(totals))] if len(lines) < LINES else []
        suspended, named = await self._suspended(group.address)
        return Day(
            head=head,
            day=day,
            count=number,
            counts=sums,
            posts=lines,
            failures=failures,
            failed=failed,
            suspended=suspended,
            suspended_named=named,
        )

    async def _posts(self, group: str, since: float, until: float) -> AsyncIterator[tuple[PostRecord, Totals]]:
        """Posts to the group; what is a repetition of another, or came back, is none."""
        after = ""
        while page := await self._ledger.posts_between(group, since, until, after=after, limit=PAGE):
            after = page[-1].record.id
            for summary in page:
                for totals in _totals(summary, group):
                    yield summary.record, totals

    async def _failed(self, record: PostRecord, totals: Totals, group: str, day: float) -> tuple[list[Fate], int]:
        """Failures of that day, and how many. Of a post with more than are named, accepted that day, all count."""
        rows = await self._ledger.unreached(record.id, group, limit=letters.ROWS)
        fates = [fate_of(row) for row in rows if row.state is State.FAILED and day <= row.at < day + DAY]
        many = totals.failed > letters.ROWS and record.accepted_at >= day
        return fates, totals.failed if many else len(fates)

    async def _suspended(self, group: str) -> tuple[int, Sequence[str]]:
        """Members who get no mail, and the first of them."""
        number, named = 0, list[str]()
        async for page in self._directory.members(group):
            for member in page:
                if member.bounce == "suspended":
                    number += 1
                    named += [member.address] if len(named) < NAMED else []
        return number, named


def _totals(summary: PostSummary, group: str) -> list[Totals]:
    return [
        totals for target, verdict, totals in summary.targets if target.group == group and verdict not in decide.SILENT
    ]


def _added(one: Counts, other: Counts) -> Counts:
    return Counts(
        delivered=one.delivered + other.delivered,
        failed=one.failed + other.failed,
        waiting=one.waiting + other.waiting,
        left_out=one.left_out + other.left_out,
    )
