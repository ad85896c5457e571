"""The ledger on SQL, SQLite or PostgreSQL: keeps the port of `shared.ledger`.

What many tasks write at the same time shares a transaction (`batch.py`), and goes to the database in one trip (`shared.database.line`); an
answer to its caller means that it is committed. Whatever SQL does, callers hear `LedgerUnavailable` within seconds; nothing is recorded
in half, and everything may be said again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, Double, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database import migrate
from shared.database.batch import Batcher, Entry
from shared.database.engine import read, transact
from shared.database.line import Rows, Step, open_line
from shared.ledger import (
    Alike,
    Claim,
    LedgerUnavailable,
    Opened,
    ParkedRecord,
    PostRecord,
    PostSummary,
    Standing,
    Taken,
    TargetRecord,
    Totals,
    store_open,
    store_parked,
    store_read,
    store_refuse,
    store_write,
)
from shared.ledger.rows import bounded
from shared.ledger.store_bounces import StoredBounces
from shared.ledger.store_bulk import CLOCK
from shared.ledger.store_days import StoredDays
from shared.ledger.store_due import StoredDue
from shared.ledger.store_notes import StoredNotes
from shared.ledger.store_sweep import Sweeper, needs_body
from shared.ledger.store_trace import StoredTraces
from shared.ledger.store_write import Filed, Recorded, Work
from shared.ledger.tables import claims, post_groups, refusal_counts, refusals
from shared.messages import BodyRef, Expanded, Fate, Refused
from shared.replies import TransientError

BATCH_ROWS = 5000
"""Recipients of one shared transaction, about."""
QUESTIONS = 200
"""Statements of one shared read."""
LONG = 30.0
"""Seconds for a read that may look through all big shares."""

_Kind = Callable[[Sequence[Any]], Work]
_KINDS: dict[str, _Kind] = {  # in the order in which they are done: who takes sees what is recorded beside it
    "record": store_write.record_all,
    "release": store_write.release_all,
    "take": store_write.take_all,
    "file": store_write.file_all,
}


class SqlLedger(StoredTraces, StoredBounces, StoredDays, StoredDue, StoredNotes):
    """The ledger in one database. `owned`: the engine is disposed of by `close`."""

    def __init__(self, engine: AsyncEngine, *, owned: bool = False) -> None:
        self._engine = engine
        self._owned = owned
        self._writing = open_line(engine, LedgerUnavailable, writing=True)
        self._reading = open_line(engine, LedgerUnavailable, writing=False)
        self._batch = Batcher(self._commit, _poisonous, LedgerUnavailable, parallel=1, limit=BATCH_ROWS)
        self._questions = Batcher(self._answer, _poisonous, LedgerUnavailable, parallel=1, limit=QUESTIONS)
        self._posts = Batcher(self._summaries, _poisonous, LedgerUnavailable, parallel=2, limit=QUESTIONS)
        self._refusals = Batcher(self._refuse, _poisonous, LedgerUnavailable, parallel=1, limit=BATCH_ROWS)
        self._seq = 0

    async def _commit(self, entries: Sequence[Entry]) -> list[Any]:
        """Entries in one transaction, kind by kind; their answers."""
        works: list[tuple[list[int], Work]] = []
        for kind, work_of in _KINDS.items():
            if numbers := [n for n, entry in enumerate(entries) if entry.kind == kind]:
                works.append((numbers, work_of([entries[n].payload for n in numbers])))
        if numbers := [n for n, entry in enumerate(entries) if entry.kind == "open"]:
            works.append((numbers, await self._opening([entries[n].payload for n in numbers])))
        told = await self._writing.run([step for _, work in works for step in work.steps])
        answers: list[Any] = [None] * len(entries)
        for numbers, work in works:
            mine, told = told[: len(work.steps)], told[len(work.steps) :]
            for number, answer in zip(numbers, work.answers(mine), strict=True):
                answers[number] = answer
        return answers

    async def _opening(self, asked: Sequence[store_open.Opening]) -> Work:
        """What opens posts, once it is known who started the threads that they answer."""
        step = store_open.starters_step(asked)
        starters = {} if step is None else store_open.starters_of((await self._writing.run([step]))[0])
        return store_open.open_all(asked, starters)

    async def _answer(self, entries: Sequence[Entry]) -> list[list[Rows]]:
        """What many want to know in one trip."""
        told = await self._reading.run([step for entry in entries for step in entry.payload])
        answers = []
        for entry in entries:
            answers.append(told[: len(entry.payload)])
            told = told[len(entry.payload) :]
        return answers

    async def _ask(self, steps: Sequence[Step]) -> list[Rows]:
        """The rows of some statements, read with those of others."""
        return cast("list[Rows]", await self._questions.submit("steps", steps, weight=len(steps)))

    async def _summaries(self, entries: Sequence[Entry]) -> list[PostSummary | None]:
        """The posts that many ask for."""
        ids = list(dict.fromkeys(entry.payload for entry in entries))
        found = {summary.record.id: summary for summary in await store_read.summaries(self._ask, ids)}
        return [found.get(entry.payload) for entry in entries]

    async def _refuse(self, entries: Sequence[Entry]) -> list[None]:
        """Refusals in one transaction."""

        async def work(connection: AsyncConnection) -> list[None]:
            return await store_refuse.refuse_all(connection, [entry.payload for entry in entries])

        return await transact(self._engine, LedgerUnavailable, work)

    def _numbered(self, count: int = 1) -> int:
        """The first of `count` numbers that follow all that this process gave out: its clock in nanoseconds, mostly."""
        first = max(self._seq + 1, time.time_ns())
        self._seq = first + count - 1
        return first

    # --- the expander's ----------------------------------------------------------------------------------------------
    async def open_post(self, post: PostRecord, targets: Sequence[TargetRecord]) -> Opened:
        """Record a post and its targets, insert-if-absent (group commit); fingerprints are known for a week."""
        return cast(Opened, await self._batch.submit("open", (post, tuple(targets)), weight=1 + len(targets)))

    async def set_body(self, post_id: str, body: BodyRef) -> BodyRef:
        """Name a post's body where none is named; the one that is."""

        async def work(connection: AsyncConnection) -> BodyRef:
            return await store_open.set_body(connection, post_id, body)

        return await transact(self._engine, LedgerUnavailable, work)

    async def set_target(self, post_id: str, group: str, verdict: str) -> None:
        """Why a target ended without recipients."""
        columns = post_groups.c
        where = (columns.post_id == bounded(post_id)) & (columns.group_key == bounded(group))
        statement = update(post_groups).where(where).values(verdict=verdict)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await transact(self._engine, LedgerUnavailable, work)

    # --- the sender's ------------------------------------------------------------------------------------------------
    async def take(self, claim: Claim, owner: str, lease: float) -> Taken:
        """Take the claim, and read where the recipients of its cell stand (group commit)."""
        return cast(Taken, await self._batch.submit("take", (claim, owner, lease)))

    async def renew(self, owner: str, lease: float) -> None:
        """Renew all claims of `owner`, from now on by the database's clock."""
        until: ColumnElement[float] = literal_column(CLOCK[self._engine.dialect.name], Double()) + lease
        statement = update(claims).where(claims.c.owner == bounded(owner)).values(until=until)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await transact(self._engine, LedgerUnavailable, work)

    async def release(self, claim: Claim, owner: str) -> None:
        """Let go of a claim (group commit)."""
        await self._batch.submit("release", (claim, owner))

    async def standings(self, post_id: str, keys: Sequence[str]) -> Mapping[str, Standing]:
        """Where the recipients stand that have a standing; queued, where they were filed and not tried."""
        return await store_read.standings(self._ask, post_id, keys) if keys else {}

    async def record(self, claim: Claim, group: str, fates: Sequence[Fate | Alike], *, owner: str = "") -> None:
        """Record an attempt's fates, and let go of the claim of its owner (group commit). A final state stays; an older attempt is ignored,
        unless it delivered."""
        weight = sum(len(fate.addresses) if isinstance(fate, Alike) else 1 for fate in fates)
        if fates:
            recorded = Recorded(claim, group, tuple(fates), owner, self._numbered(weight))
            await self._batch.submit("record", recorded, weight=weight)
        elif owner:
            await self.release(claim, owner)

    # --- the reporter's ----------------------------------------------------------------------------------------------
    async def file(self, share: Expanded) -> bool:
        """File a share (group commit). True when all shares of the group are there: for the last one, and for each that is told again after it."""
        weight = 1 + share.copies + share.left_out
        await self._batch.submit("file", Filed(share, self._numbered()), weight=weight)
        if share.of <= 1:
            return True
        # read after the commit: of two shares that are filed last and at once, one at least sees both
        asked = [(share.post_id, share.group)]
        return store_read.filed_of(asked, (await self._ask([store_read.filed_step(asked)]))[0])[0]

    async def refused(self, message: Refused) -> None:
        """Count a refusal in the session, once however often it is told, and keep the group's last ones (group commit)."""
        await self._refusals.submit("refuse", message)

    async def park(self, queue: str, reason: str, payload: bytes, tries: int, *, unique: str) -> int:
        """Keep a parked message and note the body it needs; `unique` makes a repeated filing one row."""

        async def work(connection: AsyncConnection) -> int:
            return await store_parked.park(connection, queue, reason, payload, tries, unique)

        return await transact(self._engine, LedgerUnavailable, work)

    # --- everybody's -------------------------------------------------------------------------------------------------
    async def parked(self, *, after: int = 0, limit: int = 100) -> Sequence[ParkedRecord]:
        """Parked messages by number."""
        async with read(self._engine, LedgerUnavailable) as connection:
            return await store_parked.page(connection, after, limit)

    async def parked_one(self, number: int) -> ParkedRecord | None:
        """One parked message."""
        async with read(self._engine, LedgerUnavailable) as connection:
            return await store_parked.one(connection, number)

    async def unpark(self, number: int) -> bool:
        """Forget a parked message; whether it was there."""

        async def work(connection: AsyncConnection) -> bool:
            return await store_parked.unpark(connection, number)

        return await transact(self._engine, LedgerUnavailable, work)

    async def post(self, post_id: str) -> PostSummary | None:
        """One post with its targets and sums; many who ask at the same time are answered together."""
        return cast("PostSummary | None", await self._posts.submit("post", bounded(post_id)))

    async def target_of_token(self, token: str) -> tuple[str, str] | None:
        """(post id, group) of a bounce address's token."""
        async with read(self._engine, LedgerUnavailable) as connection:
            return await store_read.target_of_token(connection, token)

    async def totals(self, post_id: str, group: str = "") -> Totals:
        """The sums of a post or of one of its groups: each recipient of its sheets is counted once (P4)."""
        return await store_read.totals(self._ask, post_id, group)

    async def refusals(self, group: str, *, limit: int = 100) -> Sequence[Refused]:
        """The last refusals of a group, newest first (at most some hundreds are kept)."""
        columns = refusals.c
        query = select(refusals).where(columns.group_key == bounded(group)).order_by(columns.at.desc()).limit(limit)
        async with read(self._engine, LedgerUnavailable) as connection:
            return [store_refuse.refusal_of(row) for row in await connection.execute(query)]

    async def refusals_by_day(self, group: str) -> Mapping[str, int]:
        """How many recipients of a group were refused, by day (UTC, "2026-11-23")."""
        columns = refusal_counts.c
        query = select(columns.day, columns.refused).where(columns.group_key == bounded(group)).order_by(columns.day)
        async with read(self._engine, LedgerUnavailable) as connection:
            return {row.day: row.refused for row in await connection.execute(query)}

    async def body_in_use(self, key: str) -> bool:
        """Whether a post that is recent or not finished, or a parked message, still needs this blob."""
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            return await store_parked.needs(connection, key) or await needs_body(connection, self._ask, key)

    async def sweep(self, *, posts_before: float) -> int:
        """Drop finished posts accepted before that time, and what has run out; how many posts went."""
        await self._sweep_bounces(time.time())
        return await Sweeper(self._engine, self._ask).sweep(posts_before)

    async def check(self) -> None:
        """Whether SQL answers, and its schema is ours or a newer Horo's (else `migrate.SchemaError`, which says what to do)."""
        try:
            await migrate.check(self._engine, newer=True)
        except migrate.DatabaseUnavailable as error:
            raise LedgerUnavailable(error.why) from error
        async with read(self._engine, LedgerUnavailable) as connection:
            await connection.execute(select(func.count()).select_from(select(claims.c.cell).limit(1).subquery()))

    async def close(self) -> None:
        """Write what was submitted, then let go of the engine if it is ours."""
        for batcher in (self._posts, self._questions, self._refusals, self._batch):
            await batcher.close()
        for line in (self._writing, self._reading):
            await line.close()
        if self._owned:
            await self._engine.dispose()


def _poisonous(error: Exception) -> bool:
    """Whether a transaction failed for what is in it: then its entries are tried one by one."""
    return not isinstance(error, TransientError)
