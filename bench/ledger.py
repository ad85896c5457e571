"""`python -m bench.ledger`: a ledger of ten million outcomes, what it weighs, how fast it is asked, and how fast its oldest part goes.

Fills a SQLite file and a database of a PostgreSQL server that it starts, asks them what `horo trace` asks, then sweeps everything while a
writer goes on, and cleans up. A few minutes, some gigabytes of disk. Prints tables in Markdown; docs/design/0012-trace.md has them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from bench import ledger_fill as fill
from bench.systems.servers import POSTGRESQL
from shared.database import migrate
from shared.database.engine import open_engine
from shared.identity import derive, new_id
from shared.ledger import Alike, Claim
from shared.ledger.store import SqlLedger
from shared.ledger.store_periods import TABLES, Periods
from shared.messages import Fate, State
from tests.support import binaries
from tests.support.servers import PostgreSQL

KEEP = 90 * fill.DAY
ROUNDS = 20
PAUSE = 0.005
"""Seconds between the writes of the writer that goes on while the ledger is swept."""

Question = Callable[[], Awaitable[object]]


class Size:
    """How much is filled in: `small` posts to ten, `large` posts to `members`."""

    def __init__(self, small: int, large: int, members: int) -> None:
        self.small, self.large, self.members = small, large, members

    @property
    def outcomes(self) -> int:
        return self.small * fill.SMALL + self.large * self.members


# --- filling ---------------------------------------------------------------------------------------------------------
async def _past_periods(url: str, until: float) -> None:
    """The periods that would be there had the ledger been in use since the first post."""
    engine = open_engine(url)
    await migrate.upgrade(engine)
    periods = Periods(engine)
    async with engine.begin() as connection:
        for table in TABLES:
            for period in await periods.all(table):
                await connection.execute(text(f"DROP TABLE {period.name}"))
    at = until - (fill.DAYS + 1) * fill.DAY
    while at < until + fill.DAY:
        await periods.ahead(at, KEEP)
        at += fill.DAY
    await engine.dispose()


async def fill_postgresql(url: str, size: Size, until: float) -> None:
    """Fill the database at `url`."""
    await _past_periods(url, until)
    fill.copy_in(url, fill.rows(size.small, size.large, size.members, until))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


async def fill_sqlite(path: Path, size: Size, until: float) -> None:
    """Fill the file at `path`."""
    engine = open_engine(f"sqlite:///{path}")
    await migrate.upgrade(engine)
    await engine.dispose()
    fill.insert(str(path), fill.rows(size.small, size.large, size.members, until))


async def octets(engine: AsyncEngine) -> int:
    """What the database takes on disk."""
    async with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            return int(await connection.scalar(text("SELECT pg_database_size(current_database())")) or 0)
        pages = [await connection.scalar(text(f"PRAGMA {name}")) for name in ("page_count", "page_size")]
        free = await connection.scalar(text("PRAGMA freelist_count"))
        return (int(pages[0] or 0) - int(free or 0)) * int(pages[1] or 0)


# --- asking ----------------------------------------------------------------------------------------------------------
async def _large_post(ledger: SqlLedger) -> str:
    return (await ledger.find(group=fill.ALL, limit=1))[0].record.id


async def questions(ledger: SqlLedger, size: Size, until: float) -> dict[str, Question]:
    """What people ask, by a name for it."""
    number = size.small // 2
    at = until - fill.DAYS * fill.DAY + number * (fill.DAYS * fill.DAY / (size.small + 1))
    message = f"message.{number}.{int(at)}@mail.people.test"
    group, other = fill.group_name(number % fill.GROUPS), fill.group_name(1)
    member = fill.members_of(number % fill.GROUPS)[3]
    since, end = at - fill.DAY, at + fill.DAY
    asked: dict[str, Question] = {
        "find: Message-ID": lambda: ledger.find(message_id=message),
        "find: Message-ID and recipient": lambda: ledger.find(message_id=message, recipient=member),
        "find: group": lambda: ledger.find(group=group),
        "find: group and time": lambda: ledger.find(group=group, since=since, until=end),
        "find: time": lambda: ledger.find(since=since, until=end),
        "find: time, page 2": lambda: ledger.find(until=at, after=new_id(at)),
        "find: member of a small group": lambda: ledger.find(recipient=member),
        "find: member of a thousand groups": lambda: ledger.find(recipient=fill.BUSY),
        "find: that member and a group": lambda: ledger.find(recipient=fill.BUSY, group=fill.group_name(5)),
        "find: that member and a group of others": lambda: ledger.find(recipient=fill.BUSY, group=other),
        "find: nobody": lambda: ledger.find(recipient="nobody@people.test"),
        "find: nobody, by time": lambda: ledger.find(recipient="nobody@people.test", since=since, until=end),
    }
    if size.large:
        large = await _large_post(ledger)
        person = f"person{size.members // 3}@people{size.members // 3 % 97}.test"
        asked |= {
            "find: the large group": lambda: ledger.find(group=fill.ALL),
            "find: member of the large group": lambda: ledger.find(recipient=person),
            "post: the large one": lambda: ledger.post(large),
            "trace: first page of the large post": lambda: ledger.trace_page(large),
            "trace: its failures": lambda: ledger.trace_page(large, states=["failed"]),
            "trace: one recipient of it": lambda: ledger.trace_page(large, recipient=person),
            "tries: one recipient of it": lambda: ledger.tries(large, person),
        }
        after = (await ledger.trace_page(large, limit=min(size.members // 2, 20_000))).after
        asked["trace: a page further on"] = lambda: ledger.trace_page(large, after=after)
    return asked


async def timed(asked: dict[str, Question]) -> dict[str, tuple[float, float]]:
    """The median and the slowest but one of each, in milliseconds; the first time does not count."""
    told = {}
    for name, question in asked.items():
        await question()
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            await question()
            times.append((time.perf_counter() - began) * 1000)
        told[name] = (statistics.median(times), sorted(times)[-2])
    return told


# --- sweeping --------------------------------------------------------------------------------------------------------
async def swept(url: str, ledger: SqlLedger, before: float) -> dict[str, float]:
    """Sweep all that was accepted before, with a writer beside it, as another process would be: posts gone, seconds, how long the writer waited."""
    writer = SqlLedger(open_engine(url), owned=True)
    waits: list[float] = []
    ended = asyncio.Event()

    async def write() -> None:
        fate = Fate(address="", state=State.DELIVERED, code=250, status="", text="", hop="h", attempt=0, at=time.time())
        post_id = new_id()
        while not ended.is_set():
            claim = Claim(post_id=derive(post_id, str(len(waits))), cell=0, hop="smtp://mx1.people.test:25")
            began = time.perf_counter()
            await writer.record(claim, fill.ALL, [Alike(fate=fate, addresses=fill.members_of(1))])
            waits.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(PAUSE)

    task = asyncio.create_task(write())
    began = time.perf_counter()
    posts = await ledger.sweep(posts_before=before)
    took = time.perf_counter() - began
    ended.set()
    await task
    await writer.close()
    ordered = sorted(waits)
    return {
        "posts": posts,
        "seconds": took,
        "writes": len(waits),
        "wait_p50_ms": statistics.median(ordered),
        "wait_p99_ms": ordered[int(len(ordered) * 0.99)],
        "wait_most_ms": ordered[-1],
    }


# --- all of it -------------------------------------------------------------------------------------------------------
async def measure(url: str, size: Size, until: float, *, sweep: bool) -> None:
    """Ask, weigh and sweep one ledger, and print what was found."""
    engine = open_engine(url)
    ledger = SqlLedger(engine)
    weight = await octets(engine)
    print(f"\n{engine.dialect.name}: {size.outcomes:,} outcomes, {weight / 1e6:,.0f} MB\n")
    print("| question | p50 ms | p95 ms |\n|---|---|---|")
    for name, (middle, most) in (await timed(await questions(ledger, size, until))).items():
        print(f"| {name} | {middle:.1f} | {most:.1f} |", flush=True)
    if sweep:
        for name, value in (await swept(url, ledger, until + 30 * fill.DAY)).items():
            print(f"sweep: {name} {value:,.1f}")
        print(f"left: {await octets(engine) / 1e6:,.0f} MB")
    await ledger.close()
    await engine.dispose()


@asynccontextmanager
async def _database() -> AsyncIterator[str]:
    server = await asyncio.to_thread(_started)
    try:
        yield server.fresh()
    finally:
        await asyncio.to_thread(server.stop)


def _started() -> PostgreSQL:
    server = binaries.postgresql([word for key, value in POSTGRESQL.items() for word in ("-c", f"{key}={value}")])
    server.start()
    return server


async def main() -> None:
    """Run as the words say."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--small", type=int, default=500_000, help="posts to ten")
    words.add_argument("--large", type=int, default=5, help="posts to many")
    words.add_argument("--members", type=int, default=1_000_000, help="members of the large group")
    words.add_argument("--keep", action="store_true", help="do not sweep")
    asked = words.parse_args()
    size, until = Size(asked.small, asked.large, asked.members), time.time()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        path = Path(folder) / "ledger.db"
        await fill_sqlite(path, size, until)
        await measure(f"sqlite:///{path}", size, until, sweep=not asked.keep)
    async with _database() as url:
        await fill_postgresql(url, size, until)
        await measure(url, size, until, sweep=not asked.keep)


if __name__ == "__main__":
    asyncio.run(main())
