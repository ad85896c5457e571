"""A line to the database: one connection that does short transactions of a few statements, each handed over as a whole.

For work that is done a thousand times a second the way through a pool and an engine costs more than the database itself: a check of the
connection, a wait for every single statement. Here PostgreSQL gets a transaction in one write (pipelined) and SQLite in one hand-over to
a thread. So no statement of a transaction can be made from the answers to another one, and none is made by anything but this program:
what strangers wrote travels in the parameters.
"""

from __future__ import annotations

import asyncio
import random
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import psycopg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database import engine as engines
from shared.database.engine import (
    CONNECT_LIMIT,
    RETRIED,
    SERIALIZATION_TRIES,
    Unavailable,
    guarded,
    prepare_sqlite,
    turn,
)

Rows = list[tuple[Any, ...]]


class Step(NamedTuple):
    """A statement by dialect, and its parameters: JSON for a statement over many rows (`rows`), or plain values."""

    texts: Mapping[str, str]
    values: Mapping[str, Any]


class Poison(Exception):
    """A transaction failed for what is in it: it would fail again, and nothing of it was written."""


class Line(ABC):
    """One connection, used by one task at a time; made anew when it breaks."""

    @abstractmethod
    async def run(self, steps: Sequence[Step]) -> list[Rows]:
        """Do all the steps in one transaction, in order; the rows that each returned. Raises the caller's "unavailable", `Poison`."""

    @abstractmethod
    async def close(self) -> None:
        """Let go of the connection; the next `run` makes another."""


def open_line(engine: AsyncEngine, unavailable: Unavailable, *, writing: bool) -> Line:
    """A line to the database of an engine; connects when first used. `writing`: its transactions change something."""
    if engine.dialect.name == "sqlite":
        return _SqliteLine(engine, unavailable, writing=writing)
    return _PostgresLine(engine, unavailable)


# --- PostgreSQL ------------------------------------------------------------------------------------------------------
_PLANS = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
    "plan_cache_mode": "force_generic_plan",
}
"""How a line's statements are planned. They ask for rows by their keys, and a plan is kept for as long as the connection: made while a table is still
small it would be to read all of it, again and again as the table grows, until statistics are gathered a minute later. And it is kept: of a
table in partitions a plan for these very values looks so much cheaper that every statement would be planned anew. Nothing is compiled: what no index
serves looks dear enough to PostgreSQL to compile it, at ten times its cost."""


def _settings(*, local: bool) -> str:
    """Statement that says how to plan: for this transaction, or for the life of the connection."""
    said = ", ".join(f"set_config('{name}', '{value}', {str(local).lower()})" for name, value in _PLANS.items())
    return f"SELECT {said}"


class _PostgresLine(Line):
    """Holds a connection of the engine's pool, and its driver's connection inside it."""

    def __init__(self, engine: AsyncEngine, unavailable: Unavailable) -> None:
        self._engine = engine
        self._unavailable = unavailable
        self._held: AsyncConnection | None = None
        self._driver: psycopg.AsyncConnection[Any] | None = None

    async def run(self, steps: Sequence[Step]) -> list[Rows]:
        for tries in range(1, SERIALIZATION_TRIES + 1):
            fresh = self._driver is None
            try:
                return await self._transaction(steps)
            except psycopg.Error as error:
                again = error.sqlstate in RETRIED or self._went_stale(error, fresh)
                if not again or tries == SERIALIZATION_TRIES:
                    raise self._meaning(error) from error
            await asyncio.sleep(random.uniform(0.0, 0.02) * tries)  # noqa: S311 - a pause, not a secret
        raise AssertionError("unreachable")

    async def close(self) -> None:
        held, self._held, self._driver = self._held, None, None
        if held is not None:
            await held.invalidate()  # not for others: it plans as a line does
            await held.close()

    async def _transaction(self, steps: Sequence[Step]) -> list[Rows]:
        driver = self._driver or await self._connect()
        try:
            async with driver.pipeline():
                if (
                    driver.prepare_threshold is None
                ):  # PgBouncer: the server's connection is another's by the next transaction
                    await driver.execute(_settings(local=True))
                cursors = [await driver.execute(step.texts["postgresql"], step.values) for step in steps]
                await driver.commit()
            return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]
        except psycopg.Error:
            await self._mended(driver)
            raise
        except BaseException:  # cancelled: whatever the connection was at, nobody waits for its end
            await self._drop()
            raise

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        try:
            with guarded(self._unavailable):
                async with asyncio.timeout(CONNECT_LIMIT):
                    self._held = await self._engine.connect()
                    raw = await self._held.get_raw_connection()
                    driver = cast("psycopg.AsyncConnection[Any]", raw.driver_connection)
                    if driver.prepare_threshold is not None:
                        await driver.execute(_settings(local=False))
                        await driver.commit()
        except BaseException:  # the pool gets its place back, or a server that fails a few times leaves none
            await self._drop()
            raise
        self._driver = driver
        return driver

    async def _mended(self, driver: psycopg.AsyncConnection[Any]) -> None:
        """After an error: the transaction is ended, or the connection is given up."""
        if not driver.closed:
            try:
                await driver.rollback()
            except psycopg.Error:
                pass
            else:
                return
        await self._drop()

    async def _drop(self) -> None:
        held, driver = self._held, self._driver
        self._held = self._driver = None
        if driver is not None:
            driver.pgconn.finish()
        if held is not None:
            await held.invalidate()
            await held.close()

    def _went_stale(self, error: psycopg.Error, fresh: bool) -> bool:
        """Whether a connection that was good before has gone: the server was restarted meanwhile, and a new one may do. Every transaction
        may be said again, so it does not matter how far this one came."""
        return not fresh and self._driver is None and isinstance(error, psycopg.OperationalError) and not _slow(error)

    def _meaning(self, error: psycopg.Error) -> Exception:
        state = error.sqlstate or ""
        if isinstance(error, psycopg.IntegrityError | psycopg.DataError) or state.startswith(_PROGRAM_LIMIT):
            return Poison(f"{type(error).__name__}: {_first_line(error)}")
        return self._unavailable(f"{type(error).__name__}: {_first_line(error)}")


_PROGRAM_LIMIT = "54"  # SQLSTATE class: a row too long for an index, which is not the server's trouble


def _slow(error: psycopg.Error) -> bool:
    return "did not answer within" in str(error)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200]


# --- SQLite ----------------------------------------------------------------------------------------------------------
class _SqliteLine(Line):
    """A connection of its own in a thread of its own: one hand-over a transaction, whatever the number of statements."""

    def __init__(self, engine: AsyncEngine, unavailable: Unavailable, *, writing: bool) -> None:
        self._engine = engine
        self._unavailable = unavailable
        self._begin = "BEGIN IMMEDIATE" if writing else "BEGIN"
        self._writing = writing
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def run(self, steps: Sequence[Step]) -> list[Rows]:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        loop = asyncio.get_running_loop()
        try:
            if not self._writing:
                return await loop.run_in_executor(self._thread, self._transaction, steps)
            with guarded(self._unavailable):
                async with turn(self._engine):
                    return await loop.run_in_executor(self._thread, self._transaction, steps)
        except (sqlite3.IntegrityError, sqlite3.DataError) as error:
            raise Poison(f"{type(error).__name__}: {_first_line(error)}") from error
        except sqlite3.Error as error:
            raise self._unavailable(f"{type(error).__name__}: {_first_line(error)}") from error

    async def close(self) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._hang_up)
            thread.shutdown(wait=False)

    def _transaction(self, steps: Sequence[Step]) -> list[Rows]:
        connection = self._connection or self._connect()
        connection.execute(self._begin)
        try:
            answers = [connection.execute(step.texts["sqlite"], step.values).fetchall() for step in steps]
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return answers

    def _connect(self) -> sqlite3.Connection:
        # the limit is looked up late, for tests shorten it
        limit = engines.BUSY_LIMIT
        connection = sqlite3.connect(str(self._engine.url.database), timeout=limit, isolation_level=None)
        try:
            prepare_sqlite(connection, None)
        except sqlite3.Error:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
