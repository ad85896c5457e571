"""Bounces in SQL: a row for a member and a day. Written in the order of their keys, so that two reporters never wait for each other in a ring."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.address import key
from shared.database.engine import read, transact
from shared.groups import SLOTS
from shared.groups import slot as slot_of
from shared.identity import new_id
from shared.ledger import LedgerUnavailable, Row
from shared.ledger.bounces import Failure, Probe, Source, Suspension, bounce_note
from shared.ledger.fold import people_rows
from shared.ledger.rows import TEXT_LIMIT, bounded, clean
from shared.ledger.sheets import hashes, mark_of
from shared.ledger.store_bulk import Bulk
from shared.ledger.store_notes import mark_of_note
from shared.ledger.store_read import books
from shared.ledger.store_sums import Run, Span, folds
from shared.ledger.tables import bounces, notes, people, post_groups, probes, shares, suspensions
from shared.messages import State

KEPT = 60 * 86400.0
"""Seconds that a failure and a probe are kept: twice as long as they count."""
SUSPENSIONS_KEPT = 400 * 86400.0
"""Seconds that it is known why a member is suspended."""
LOOKED_AT = 25
"""Posts that are looked at for a success."""
SLOWEST = 5 * 86400.0
"""Seconds after which no copy of a post is delivered any more, about: an older post is not looked at."""
LONG = 30.0
"""Seconds for looking through the big shares of a month."""

_FAILURES = Bulk(
    {
        "group_key": "text",
        "member_key": "text",
        "day": "text",
        "at": "float8",
        "post_id": "text",
        "source": "text",
        "status": "text",
        "reply": "text",
    },
    "INSERT INTO bounces ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (group_key, member_key, day) DO UPDATE "
    "SET post_id = excluded.post_id, source = excluded.source, status = excluded.status, reply = excluded.reply "
    "WHERE bounces.source = 'hearsay' AND excluded.source <> 'hearsay'",
)
_PROBE = Bulk(
    {"token": "text", "group_key": "text", "member_key": "text", "at": "float8", "since": "float8"},
    "INSERT INTO probes (token, group_key, member_key, at) SELECT token, group_key, member_key, at FROM r WHERE NOT EXISTS "
    "(SELECT 1 FROM probes WHERE probes.group_key = r.group_key AND probes.member_key = r.member_key AND probes.at >= r.since) "
    "ON CONFLICT (token) DO NOTHING",
)
_SUSPENSION = Bulk(
    {"group_key": "text", "member_key": "text", "id": "text", "at": "float8", "post_id": "text", "reason": "text"},
    "INSERT INTO suspensions ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (group_key, member_key) DO UPDATE "
    "SET id = excluded.id, at = excluded.at, post_id = excluded.post_id, reason = excluded.reason",
)


class StoredBounces:
    """The ledger's bounces in one database."""

    _engine: AsyncEngine
    _ask: Run

    async def failed(self, failures: Sequence[Failure], *, since: float) -> Sequence[Failure]:
        """Keep failures, one a member and day, and tell those of these members since `since`, oldest first."""
        rows: dict[tuple[str, str, str], tuple[Any, ...]] = {}
        for failure in sorted(failures, key=lambda one: (one.source is Source.HEARSAY, one.at)):
            name = (bounded(failure.group), bounded(failure.member), failure.day)
            rows.setdefault(name, _failure_row(failure))
        members = sorted({name[:2] for name in rows})

        async def work(connection: AsyncConnection) -> list[Failure]:
            await _FAILURES.run(connection, [rows[name] for name in sorted(rows)])
            return await _failures(connection, members, since)

        return await transact(self._engine, LedgerUnavailable, work) if rows else []

    async def forgive(self, group: str, member: str, *, until: float, hearsay: float = 0.0) -> None:
        """Forget a member's failures until `until`, hearsay until `hearsay`, and a probe that was made until either."""
        columns = bounces.c
        whose = (columns.group_key == bounded(group), columns.member_key == bounded(member))
        old = or_(columns.at <= until, and_(columns.source == Source.HEARSAY.value, columns.at <= hearsay))
        asked = delete(probes).where(*_probes_of(group, member), probes.c.at <= max(until, hearsay))

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(bounces).where(*whose, old))
            await connection.execute(asked)

        await transact(self._engine, LedgerUnavailable, work)

    async def probe(self, probe: Probe, *, since: float) -> Probe:
        """Keep a probe, unless the member has had one since `since`; the one that the member has now.

        Two who do this at the same moment make the same token of the same failures, and so one row.
        """
        row = (bounded(probe.token), bounded(probe.group), bounded(probe.member), probe.at, since)
        query = select(probes).where(*_probes_of(probe.group, probe.member)).order_by(probes.c.at.desc()).limit(1)

        async def work(connection: AsyncConnection) -> Probe:
            await _PROBE.run(connection, [row])
            return _probe((await connection.execute(query)).one())

        return await transact(self._engine, LedgerUnavailable, work)

    async def probe_of_token(self, token: str) -> Probe | None:
        """The probe whose bounce address carries this token."""
        async with read(self._engine, LedgerUnavailable) as connection:
            row = (await connection.execute(select(probes).where(probes.c.token == bounded(token)))).one_or_none()
        return None if row is None else _probe(row)

    async def probe_of_member(self, group: str, member: str) -> Probe | None:
        """The last probe that the member has had."""
        query = select(probes).where(*_probes_of(group, member)).order_by(probes.c.at.desc()).limit(1)
        async with read(self._engine, LedgerUnavailable) as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _probe(row)

    async def suspended(self, suspension: Suspension) -> None:
        """Note that a suspension has been told."""
        row = (
            bounded(suspension.group),
            bounded(suspension.member),
            suspension.id,
            suspension.at,
            bounded(suspension.post_id),
            clean(suspension.reason)[:TEXT_LIMIT],
        )

        async def work(connection: AsyncConnection) -> None:
            await _SUSPENSION.run(connection, [row])

        await transact(self._engine, LedgerUnavailable, work)

    async def suspensions(self, group: str, members: Sequence[str]) -> Mapping[str, Suspension]:
        """The suspensions of these members of a group, by key."""
        names = {bounded(member): member for member in members}
        query = select(suspensions).where(suspensions.c.group_key == bounded(group))
        async with read(self._engine, LedgerUnavailable) as connection:
            rows = (await connection.execute(query.where(suspensions.c.member_key.in_(sorted(names))))).all()
        return {names[row.member_key]: _suspension(row, names[row.member_key]) for row in rows}

    async def suspended_since(self, group: str, at: float) -> int:
        """How many members of a group were suspended since that time."""
        columns = suspensions.c
        query = select(func.count()).select_from(suspensions)
        async with read(self._engine, LedgerUnavailable) as connection:
            return await connection.scalar(query.where(columns.group_key == bounded(group), columns.at >= at)) or 0

    async def bring_back(self, group: str, member: str) -> None:
        """Forget all failures, probes and the suspension of a member."""

        async def work(connection: AsyncConnection) -> None:
            for table in (bounces, probes, suspensions):
                whose = (table.c.group_key == bounded(group), table.c.member_key == bounded(member))
                await connection.execute(delete(table).where(*whose))

        await transact(self._engine, LedgerUnavailable, work)

    async def last_success(self, member: str, *, since: float, until: float) -> float | None:
        """When the last copy was delivered to the address between these times that did not come back: of mail that comes back to us."""
        for post_id in await self._posts_for(member, since - SLOWEST, until):
            async for page in self.trace(post_id, recipient=member):
                for row in page:
                    if row.state is State.DELIVERED and since < row.at <= until and not await self._came_back(row):
                        return row.at
        return None

    async def _posts_for(self, member: str, since: float, until: float) -> list[str]:
        """The newest posts between these times that have a copy for the address, or (of big ones, rarely) seem to.

        Not signals: everybody is told of one by an event, whatever the mailbox does, and a group may announce each of its posts so. Nor forwards
        and copies under an author's envelope, of which we would not hear that they came back.
        """
        (number,) = hashes([bounded(member)])
        low, high = new_id(since)[:10], new_id(until)[:10] + "~"
        small = select(people.c.post_id).where(
            people.c.hash == number, people.c.post_id >= low, people.c.post_id < high, _comes_back(people.c.post_id)
        )
        within = func.instr if self._engine.dialect.name == "sqlite" else func.strpos
        columns = shares.c
        big = (
            select(columns.post_id)
            .distinct()
            .where(
                columns.signature.is_not(None),
                columns.post_id >= low,
                columns.post_id < high,
                _comes_back(columns.post_id),
            )
        )
        big = (
            big.where(within(columns.signature, mark_of(number)) > 0).order_by(columns.post_id.desc()).limit(LOOKED_AT)
        )
        found: set[str] = set()
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            found.update(await connection.scalars(small.order_by(people.c.post_id.desc()).limit(LOOKED_AT)))
            found.update(await connection.scalars(big))
        return sorted(found, reverse=True)[:LOOKED_AT]

    async def _came_back(self, row: Row) -> bool:
        mark = mark_of_note(bounce_note(row.post_id, row.group, key(row.address)))
        query = select(notes.c.mark).where(notes.c.post_id == bounded(row.post_id), notes.c.mark == mark)
        async with read(self._engine, LedgerUnavailable) as connection:
            return (await connection.execute(query)).first() is not None

    async def at_slot(self, post_id: str, slot: int) -> Sequence[Row]:
        """The recipients of a post whose key has this slot."""
        post_id = bounded(post_id)
        plan = (await books(self._ask, [post_id]))[post_id].plan
        found: list[Row] = []
        async for _, folded in folds(self._ask, [Span(post_id, plan, slot * plan.slices // SLOTS)]):
            folded.people = {who: entry for who, entry in folded.people.items() if slot_of(who) == slot}
            found += people_rows(post_id, folded)
        return found

    async def _sweep_bounces(self, now: float) -> None:
        """Drop what is too old to count, and to be asked for."""
        for table, kept in ((bounces, KEPT), (probes, KEPT), (suspensions, SUSPENSIONS_KEPT)):
            statement = delete(table).where(table.c.at < now - kept)

            async def work(connection: AsyncConnection, statement: Any = statement) -> None:
                await connection.execute(statement)

            await transact(self._engine, LedgerUnavailable, work, limit=60.0)

    if TYPE_CHECKING:  # the ledger's own

        def trace(self, post_id: str, *, recipient: str = "") -> AsyncIterator[Sequence[Row]]: ...


def _comes_back(post_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a post has copies that come back to us where they cannot be delivered: its bounce address has a token, and is what they leave with."""
    columns = post_groups.c
    ours = (columns.token != "", columns.detail.not_like('%"envelope":"alias"%'))
    return select(columns.post_id).where(columns.post_id == post_id, *ours).exists()


async def _failures(connection: AsyncConnection, members: Sequence[tuple[str, str]], since: float) -> list[Failure]:
    columns, found = bounces.c, []
    for group, member in members:
        query = select(bounces).where(columns.group_key == group, columns.member_key == member, columns.at >= since)
        found += [_failure(row) for row in await connection.execute(query.order_by(columns.day))]
    return found


def _failure_row(failure: Failure) -> tuple[Any, ...]:
    return (
        bounded(failure.group),
        bounded(failure.member),
        failure.day,
        failure.at,
        bounded(failure.post_id),
        failure.source.value,
        clean(failure.status)[:TEXT_LIMIT],
        clean(failure.reply)[:TEXT_LIMIT],
    )


def _failure(row: Any) -> Failure:
    return Failure(
        group=row.group_key,
        member=row.member_key,
        at=row.at,
        post_id=row.post_id,
        source=Source(row.source),
        status=row.status,
        reply=row.reply,
    )


def _probes_of(group: str, member: str) -> tuple[Any, ...]:
    return (probes.c.group_key == bounded(group), probes.c.member_key == bounded(member))


def _probe(row: Any) -> Probe:
    return Probe(token=row.token, group=row.group_key, member=row.member_key, at=row.at)


def _suspension(row: Any, member: str) -> Suspension:
    return Suspension(id=row.id, group=row.group_key, member=member, at=row.at, post_id=row.post_id, reason=row.reason)
