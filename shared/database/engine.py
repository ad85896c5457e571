"""SQL engines, and transactions that end: SQLite (aiosqlite) and PostgreSQL (psycopg 3).

A server that is stopped, not dead, answers nothing and closes nothing: every wait for one has a limit here, in the client, and what runs into
it is an error within seconds (F19). All trouble of drivers and connections leaves as the caller's own "unavailable" exception;
messages carry no parameters and no URL, for those hold addresses and passwords.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from psycopg import AsyncConnection as PsycopgConnection
from psycopg import Error as PsycopgError
from psycopg import OperationalError, waiting
from sqlalchemy import event, exc, text
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from shared.replies import TransientError

Unavailable = Callable[[str], TransientError]
"""Makes the exception that all trouble becomes, from its cause in words: `DirectoryUnavailable`, `LedgerUnavailable`."""

T = TypeVar("T")

CONNECT_LIMIT = 4.0
"""Seconds for a connection: from the pool, checked, or a new one."""
WAIT_LIMIT = 8.0
"""Seconds for one answer of PostgreSQL, as the client counts; a statement is ended by the server a little earlier."""
STATEMENT_LIMIT = 6.0
BUSY_LIMIT = 6.0
"""Seconds to wait for SQLite's write lock, held by another process or task."""
SERIALIZATION_TRIES = 5

_WRITING = "horo_writing"
RETRIED = frozenset({"40001", "40P01"})
"""SQLSTATE of serialization failure and deadlock: nothing happened, try again."""
_wait_limit: ContextVar[float] = ContextVar("_wait_limit", default=WAIT_LIMIT)
_writers: weakref.WeakKeyDictionary[Any, asyncio.Lock] = weakref.WeakKeyDictionary()


def open_engine(url: str) -> AsyncEngine:
    """An engine for `sqlite:///PATH` or `postgresql://…`; connects when first used. Raises ValueError for another URL.

    A PostgreSQL URL takes libpq's parameters, and `prepare_threshold` (`none` behind PgBouncer: then no server-side limit is set either)
    and `pool_size`. Call `dispose` at the end: an open SQLite connection is a thread.
    """
    if url.startswith("sqlite:///"):
        return _open_sqlite(url.removeprefix("sqlite:///"))
    if url.startswith(("postgresql://", "postgres://")):
        return _open_postgresql(make_url(url))
    raise ValueError("the database is written sqlite:///PATH or postgresql://user:password@host/name")


# --- SQLite ----------------------------------------------------------------------------------------------------------
def _open_sqlite(path: str) -> AsyncEngine:
    if not path or path == ":memory:":
        raise ValueError("sqlite:/// needs the path of a file: a database in memory is gone with the process")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=path),
        hide_parameters=True,
        pool_size=8,
        max_overflow=0,
        pool_timeout=CONNECT_LIMIT,
        connect_args={"timeout": BUSY_LIMIT},
    )
    event.listen(engine.sync_engine, "connect", prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def prepare_sqlite(connection: Any, _record: Any) -> None:
    """Set up a new connection. FULL, not NORMAL: with WAL the latter may roll back a commit after a loss of power (P1)."""
    connection.isolation_level = None  # the driver begins nothing by itself: `_begin_sqlite` does
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={int(BUSY_LIMIT * 1000)}",
        "foreign_keys=ON",
        "temp_store=FILE",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    """A writer takes the lock at once: a reader that turns writer fails with "locked" without waiting, if another wrote meanwhile."""
    writing = connection.get_execution_options().get(_WRITING, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


# --- PostgreSQL ------------------------------------------------------------------------------------------------------
class BoundedConnection(PsycopgConnection[Any]):
    """A connection whose every wait for the server has a limit.

    psycopg's own answer to a cancelled wait is to ask the server to cancel and to wait for that: of a stopped server, seconds more.
    Here the connection is dropped; the server ends the statement by its own limit and rolls back.
    """

    async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait for the server, at most `patience` seconds. Raises psycopg's `OperationalError`.

        What has nothing to wait for, as every statement of a pipeline but the last, ends at once and costs no clock.
        """
        socket = self.pgconn.socket  # raises where the connection is lost: then nothing was begun
        try:
            first = next(gen)
        except StopIteration as ended:
            return ended.value
        limit = _wait_limit.get() if timeout is None else min(timeout, _wait_limit.get())
        try:
            async with asyncio.timeout(limit):
                return await waiting.wait_async(_resumed(first, gen), socket, interval=interval)
        except TimeoutError:
            self._give_up(gen)
            raise OperationalError(f"the server did not answer within {limit:g} s") from None
        except asyncio.CancelledError:
            self._give_up(gen)
            raise

    def _give_up(self, gen: Any) -> None:
        """Drop the connection; what was under way ends first, for it looks at the connection when it does.

        The end of a pipeline is told to end twice: the first time it goes on to fetch what is left (RuntimeError: it ignored the exit).
        """
        for _ in range(2):
            with contextlib.suppress(RuntimeError, PsycopgError):
                gen.close()
        self.pgconn.finish()


def _resumed(first: Any, gen: Any) -> Generator[Any, Any, Any]:
    """A generator of psycopg's that has been asked once already, and said `first`."""
    ready = yield first
    while True:
        try:
            wanted = gen.send(ready)
        except StopIteration as ended:
            return ended.value
        ready = yield wanted


def _open_postgresql(url: URL) -> AsyncEngine:
    query = dict(url.query)
    threshold = str(query.pop("prepare_threshold", "5"))
    size = int(str(query.pop("pool_size", "10")))
    pooled = threshold.lower() == "none"  # PgBouncer refuses the startup parameter `options`, and shares sessions
    arguments: dict[str, Any] = {
        "async_creator_fn": BoundedConnection.connect,
        "prepare_threshold": None if pooled else int(threshold),
        "connect_timeout": int(CONNECT_LIMIT),
    }
    if not pooled and "options" not in query:
        limit = int(STATEMENT_LIMIT * 1000)
        arguments["options"] = f"-c statement_timeout={limit} -c idle_in_transaction_session_timeout=120000"
    return create_async_engine(
        url.set(drivername="postgresql+psycopg", query=query),
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=size,
        max_overflow=size,
        pool_timeout=CONNECT_LIMIT,
        pool_recycle=1800,
        connect_args=arguments,
    )


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Wait up to `seconds` for each answer of PostgreSQL inside this block, in this task."""
    token = _wait_limit.set(seconds)
    try:
        yield
    finally:
        _wait_limit.reset(token)


# --- transactions ----------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def guarded(unavailable: Unavailable) -> Iterator[None]:
    """Turn every trouble of driver, pool, connection and time into the caller's exception; a broken constraint stays what it is."""
    try:
        yield
    except (exc.IntegrityError, exc.DataError):
        raise
    except exc.DBAPIError as error:
        raise unavailable(f"{type(error.orig).__name__}: {_first_line(error.orig)}") from error
    except (exc.TimeoutError, exc.PendingRollbackError, TimeoutError, ConnectionError) as error:
        raise unavailable(f"{type(error).__name__}: {_first_line(error)}") from error


def _first_line(error: BaseException | None) -> str:
    return (str(error).splitlines() or [""])[0][:200]


@contextlib.asynccontextmanager
async def read(
    engine: AsyncEngine, unavailable: Unavailable, *, limit: float = WAIT_LIMIT
) -> AsyncIterator[AsyncConnection]:
    """A transaction for reading: `limit` seconds for each answer."""
    with guarded(unavailable), patience(limit):
        async with connected(engine) as connection, connection.begin():
            await _allow(connection, limit)
            yield connection


@contextlib.asynccontextmanager
async def write(
    engine: AsyncEngine, unavailable: Unavailable, *, limit: float = WAIT_LIMIT
) -> AsyncIterator[AsyncConnection]:
    """A transaction for writing, committed when the block ends; on SQLite the only one of this engine at a time."""
    with guarded(unavailable), patience(limit):
        async with turn(engine), connected(engine) as connection:
            await connection.execution_options(**{_WRITING: True})
            async with connection.begin():
                await _allow(connection, limit)
                yield connection


async def transact(
    engine: AsyncEngine,
    unavailable: Unavailable,
    work: Callable[[AsyncConnection], Awaitable[T]],
    *,
    limit: float = WAIT_LIMIT,
) -> T:
    """Do `work` in a write transaction, and again when the database gave it up for another's sake (it may run several times)."""
    for tries in range(1, SERIALIZATION_TRIES + 1):
        try:
            async with write(engine, unavailable, limit=limit) as connection:
                return await work(connection)
        except TransientError as error:
            if tries == SERIALIZATION_TRIES or not given_up(error):
                raise
            await asyncio.sleep(random.uniform(0.01, 0.05) * tries)  # noqa: S311 - a pause, not a secret
    raise AssertionError("unreachable")


def given_up(error: BaseException) -> bool:
    """Whether this is PostgreSQL giving a transaction up for another's sake (serialization failure, deadlock)."""
    cause = error.__cause__
    return isinstance(cause, exc.DBAPIError) and getattr(cause.orig, "sqlstate", None) in RETRIED


@contextlib.asynccontextmanager
async def connected(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection within `CONNECT_LIMIT`, whatever the pool, its check and the server do."""
    async with asyncio.timeout(CONNECT_LIMIT):
        connection = await engine.connect()
    async with contextlib.aclosing(connection):
        yield connection


@contextlib.asynccontextmanager
async def turn(engine: AsyncEngine) -> AsyncIterator[None]:
    """SQLite's one writer: within a process writers queue here, fairly, rather than poll the file's lock."""
    if engine.dialect.name != "sqlite":
        yield
        return
    lock = _writers.setdefault(engine.sync_engine, asyncio.Lock())
    async with asyncio.timeout(BUSY_LIMIT):
        await lock.acquire()
    try:
        yield
    finally:
        lock.release()


async def _allow(connection: AsyncConnection, limit: float) -> None:
    """Tell PostgreSQL to end statements of this transaction before the client gives up, where the limit is not the usual one."""
    if limit != WAIT_LIMIT and connection.dialect.name == "postgresql":
        await connection.execute(text(f"SET LOCAL statement_timeout = {max(int((limit - 0.5) * 1000), 200)}"))
