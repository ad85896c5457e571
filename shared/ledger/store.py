"""The ledger on SQL, SQLite or PostgreSQL: keeps the port of `shared.ledger`.

What many tasks write at the same time shares a transaction (`batch.py`); an answer to its caller means that it is committed. Whatever SQL
does, callers hear `LedgerUnavailable` within seconds; nothing is recorded in half, and everything may be said again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, cast

from sqlalchemy import ColumnElement, Double, exc, func, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database import migrate
from shared.database.engine import read, transact
from shared.ledger import (
    Claim,
    LedgerUnavailable,
    Opened,
    ParkedRecord,
    PostRecord,
    PostSummary,
    Row,
    Standing,
    TargetRecord,
    Totals,
    store_open,
    store_parked,
    store_read,
    store_write,
)
from shared.ledger.batch import Batcher, Entry
from shared.ledger.rows import bounded
from shared.ledger.store_bulk import CLOCK
from shared.ledger.store_sweep import Sweeper, needs_body
from shared.ledger.tables import claims, post_groups, refusal_counts, refusals
from shared.messages import BodyRef, Expanded, Fate, Refused
from shared.replies import TransientError

BATCH_ROWS = 5000
"""Rows of one shared transaction, about."""
LONG = 30.0
"""Seconds for a read that may go over a million rows."""
_PARALLEL = {"sqlite": 1, "postgresql": 2}  # SQLite has one writer
_PROGRAM_LIMIT = "54"  # SQLSTATE class: a row too long for an index, which is not the server's trouble

_Kind = Callable[[AsyncConnection, Sequence[Any]], Awaitable[Sequence[Any]]]
_KINDS: dict[str, _Kind] = {
    "release": store_write.release_all,
    "claim": store_write.claim_all,
    "open": store_open.open_all,
    "record": store_write.record_all,
    "file": store_write.file_all,
    "refuse": store_write.refuse_all,
}


class SqlLedger:
    """The ledger in one database. `owned`: the engine is disposed of by `close`."""

    def __init__(self, engine: AsyncEngine, *, owned: bool = False) -> None:
        self._engine = engine
        self._owned = owned
        self._questions = Batcher(self._ask, _poisonous, parallel=2, limit=BATCH_ROWS)
        self._batch = Batcher(self._commit, _poisonous, parallel=_PARALLEL[engine.dialect.name], limit=BATCH_ROWS)

    async def _commit(self, entries: Sequence[Entry]) -> list[Any]:
        """Entries in one transaction, kind by kind; their answers."""
        kinds = {kind: [n for n, entry in enumerate(entries) if entry.kind == kind] for kind in _KINDS}

        async def work(connection: AsyncConnection) -> list[Any]:
            answers: list[Any] = [None] * len(entries)
            for kind, numbers in kinds.items():
                if numbers:
                    told = await _KINDS[kind](connection, [entries[number].payload for number in numbers])
                    for number, answer in zip(numbers, told, strict=True):
                        answers[number] = answer
            return answers

        return await transact(self._engine, LedgerUnavailable, work)

    async def _ask(self, entries: Sequence[Entry]) -> list[Any]:
        """Questions of many senders in one read."""
        async with read(self._engine, LedgerUnavailable) as connection:
            return list(await store_read.standings_all(connection, [entry.payload for entry in entries]))

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
    async def claim(self, claim: Claim, owner: str, lease: float) -> float:
        """Take the claim (group commit): 0.0 when it is ours now, else the seconds until the other's lease ends."""
        return cast(float, await self._batch.submit("claim", (claim, owner, lease)))

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
        """The recorded standing of the recipients that have one; many senders' questions make one read, begun after they asked."""
        if not keys:
            return {}
        asked = post_id, tuple(keys)
        return cast(dict[str, Standing], await self._questions.submit("standings", asked, weight=len(keys)))

    async def record(self, post_id: str, group: str, fates: Sequence[Fate]) -> None:
        """Record an attempt's fates (group commit). A final state stays; an older attempt is ignored, unless it delivered."""
        if fates:
            await self._batch.submit("record", (post_id, group, tuple(fates)), weight=len(fates))

    # --- the reporter's ----------------------------------------------------------------------------------------------
    async def file(self, share: Expanded) -> bool:
        """File a share (group commit). True when all shares of the group are there: for the last one, and for each that is told again after it."""
        await self._batch.submit("file", share, weight=1 + len(share.queued) + len(share.suppressed))
        if share.of <= 1:
            return True
        # read after the commit: of two shares that are filed last and at once, one at least sees both
        async with read(self._engine, LedgerUnavailable) as connection:
            return await store_read.filed(connection, share.post_id, share.group)

    async def refused(self, message: Refused) -> None:
        """Count a refusal in the session, once however often it is told, and keep the group's last ones (group commit)."""
        await self._batch.submit("refuse", message)

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
        """One post with its targets and sums."""
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            found = await store_read.summaries(connection, [bounded(post_id)])
        return found[0] if found else None

    async def find(
        self, *, message_id: str = "", group: str = "", recipient: str = "", limit: int = 20
    ) -> Sequence[PostSummary]:
        """Posts by Message-ID (with or without its brackets), group and/or recipient, newest first."""
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            return await store_read.find(
                connection, message_id=message_id, group=group, recipient=recipient, limit=limit
            )

    async def target_of_token(self, token: str) -> tuple[str, str] | None:
        """(post id, group) of a bounce address's token."""
        async with read(self._engine, LedgerUnavailable) as connection:
            return await store_read.target_of_token(connection, token)

    async def trace(self, post_id: str, *, recipient: str = "") -> AsyncIterator[Sequence[Row]]:
        """Every address of a post, in pages of at most 500, each its own read: recipients first, then those left out."""
        after = ""
        while True:
            async with read(self._engine, LedgerUnavailable) as connection:
                rows, after = await store_read.recipient_page(connection, post_id, recipient, after)
            if not rows:
                break
            yield rows
        place: store_read.Place = ("", "", -1)
        while True:
            async with read(self._engine, LedgerUnavailable) as connection:
                rows, place = await store_read.suppression_page(connection, post_id, recipient, place)
            if not rows:
                break
            yield rows

    async def totals(self, post_id: str, group: str = "") -> Totals:
        """The sums of a post or of one of its groups, counted from the rows in one snapshot (P4)."""
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            return await store_read.totals_of(connection, post_id, group)

    async def refusals(self, group: str, *, limit: int = 100) -> Sequence[Refused]:
        """The last refusals of a group, newest first (at most some hundreds are kept)."""
        columns = refusals.c
        query = select(refusals).where(columns.group_key == bounded(group)).order_by(columns.at.desc()).limit(limit)
        async with read(self._engine, LedgerUnavailable) as connection:
            return [store_write.refusal_of(row) for row in await connection.execute(query)]

    async def refusals_by_day(self, group: str) -> Mapping[str, int]:
        """How many recipients of a group were refused, by day (UTC, "2026-11-23")."""
        columns = refusal_counts.c
        query = select(columns.day, columns.refused).where(columns.group_key == bounded(group)).order_by(columns.day)
        async with read(self._engine, LedgerUnavailable) as connection:
            return {row.day: row.refused for row in await connection.execute(query)}

    async def body_in_use(self, key: str) -> bool:
        """Whether a post that is recent or not finished, or a parked message, still needs this blob."""
        async with read(self._engine, LedgerUnavailable, limit=LONG) as connection:
            return await store_parked.needs(connection, key) or await needs_body(connection, key)

    async def sweep(self, *, posts_before: float) -> int:
        """Drop finished posts accepted before that time, and what has run out; how many posts went."""
        return await Sweeper(self._engine).sweep(posts_before)

    async def check(self) -> None:
        """Whether SQL answers, and its schema is ours (else `migrate.SchemaError`, which says what to do)."""
        try:
            await migrate.check(self._engine)
        except migrate.DatabaseUnavailable as error:
            raise LedgerUnavailable(error.why) from error
        async with read(self._engine, LedgerUnavailable) as connection:
            await connection.execute(select(func.count()).select_from(select(claims.c.cell).limit(1).subquery()))

    async def close(self) -> None:
        """Write what was submitted, then let go of the engine if it is ours."""
        await self._questions.close()
        await self._batch.close()
        if self._owned:
            await self._engine.dispose()


def _poisonous(error: Exception) -> bool:
    """Whether a transaction failed for what is in it: then its entries are tried one by one."""
    if not isinstance(error, TransientError):
        return True
    cause = error.__cause__
    state = getattr(cause.orig, "sqlstate", None) if isinstance(cause, exc.DBAPIError) else None
    return bool(state) and str(state).startswith(_PROGRAM_LIMIT)
