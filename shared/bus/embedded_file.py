"""The file of the embedded bus: its schema and every statement that is run on it. Plain functions over an open connection; no threads, no asyncio.

One row a message, its payload in a table of its own, so that marking a message as taken does not rewrite it. `taken` is 1 while a consumer holds
the message; whoever gets the consumers' lock finds what a crash left taken and gives it back.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from shared.topology import DELIVERY_LIMIT, Queue

VERSION = 1
BUSY = 2.0
"""Seconds to wait for another process that writes to the same file."""
CHECKED = 256 * 1024 * 1024
"""Octets of a file that is checked whenever it is opened; a larger one is checked by whoever consumes from it, for that takes seconds."""
EVENTS_KEPT = 20_000
EVENTS_AGE = 3600.0
"""Events are kept for subscribers that are behind: so many, and for so many seconds."""

SCHEMA = (
    """CREATE TABLE IF NOT EXISTS messages (
        id INTEGER PRIMARY KEY, queue TEXT NOT NULL, due REAL NOT NULL, tries INTEGER NOT NULL,
        taken INTEGER NOT NULL DEFAULT 0, returned INTEGER NOT NULL DEFAULT 0, crashes INTEGER NOT NULL DEFAULT 0,
        origin TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '')""",
    "CREATE TABLE IF NOT EXISTS payloads (id INTEGER PRIMARY KEY, payload BLOB NOT NULL)",
    "CREATE INDEX IF NOT EXISTS ready ON messages (queue, due, id) WHERE taken = 0",
    "CREATE INDEX IF NOT EXISTS held ON messages (id) WHERE taken = 1",
    """CREATE TABLE IF NOT EXISTS events (
        id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, routing_key TEXT NOT NULL, payload BLOB NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS canary (id INTEGER PRIMARY KEY, at REAL NOT NULL)",
    f"PRAGMA user_version = {VERSION}",
)


class Unusable(Exception):
    """The file cannot be used; the text names it and says why."""


class Row(NamedTuple):
    """A message as taken."""

    id: int
    tries: int
    returned: bool
    origin: str
    reason: str
    payload: bytes


class Taken(NamedTuple):
    """What a take found: rows, and when the next message of the queue is due (epoch seconds; None for never)."""

    rows: list[Row]
    next_due: float | None


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, make it where it is missing. Raises `Unusable`, or sqlite3.Error when it is locked or the disk is in trouble."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600, exist_ok=True)  # mail is private; SQLite gives its side files the same mode
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from error
    connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None)
    try:
        _prepare(connection, path)
    except sqlite3.DatabaseError as error:
        connection.close()
        if is_ruined(error):
            raise Unusable(
                f"{path} is damaged or no queue of ours ({error}): restore it, or move it away and start again"
            ) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size <= CHECKED:
        check(connection, path)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise Unusable(f"{path} is of a newer version of Horo ({version}, this one knows {VERSION})")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("BEGIN IMMEDIATE")
    for statement in SCHEMA:
        connection.execute(statement)
    connection.execute("COMMIT")


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Read the whole file. Raises `Unusable` when it is damaged."""
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise Unusable(f"{path} is damaged ({found}): restore it, or move it away and start again")


def identity(path: Path) -> tuple[int, int] | None:
    """Which file a path names, None for none: SQLite goes on writing to a file that was deleted, and would confirm what nobody can read again."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_ruined(error: sqlite3.Error) -> bool:
    """Whether an error says that the file itself is no good."""
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_broken(error: sqlite3.Error) -> bool:
    """Whether an error ends our trust in this connection: after a failed fsync the system may have forgotten what we wrote, so that
    trying again would succeed and lie. A new process reads the log from the disk and knows."""
    return is_ruined(error) or _code(error) in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY)


def is_final(error: Exception) -> bool:
    """Whether an error at opening stays until a person has changed something: the path, its rights, or what is there."""
    codes = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH)
    return isinstance(error, Unusable) or (isinstance(error, sqlite3.Error) and _code(error) in codes)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


# --- messages --------------------------------------------------------------------------------------------------------
def add(connection: sqlite3.Connection, messages: Iterable[tuple[str, float, int, bytes]]) -> None:
    """Store messages: (queue, due in epoch seconds, tries, payload)."""
    for queue, due, tries, payload in messages:
        row = connection.execute(
            "INSERT INTO messages (queue, due, tries) VALUES (?, ?, ?)", (queue, due, tries)
        ).lastrowid
        connection.execute("INSERT INTO payloads (id, payload) VALUES (?, ?)", (row, payload))


def take(connection: sqlite3.Connection, queue: str, limit: int) -> Taken:
    """Mark at most `limit` messages that are due as taken, the oldest first."""
    found = connection.execute(
        "SELECT id, tries, returned, origin, reason, payload FROM messages JOIN payloads USING (id)"
        " WHERE queue = ? AND taken = 0 AND due <= ? ORDER BY due, id LIMIT ?",
        (queue, time.time(), limit),
    ).fetchall()
    connection.executemany("UPDATE messages SET taken = 1 WHERE id = ?", ((row[0],) for row in found))
    rows = [Row(row[0], row[1], bool(row[2]), row[3], row[4], row[5]) for row in found]
    return Taken(rows, None if len(rows) == limit else next_due(connection, queue))


def next_due(connection: sqlite3.Connection, queue: str) -> float | None:
    """When the next message of a queue is due."""
    found: float | None = connection.execute(
        "SELECT min(due) FROM messages WHERE queue = ? AND taken = 0", (queue,)
    ).fetchone()[0]
    return found


def remove(connection: sqlite3.Connection, row: int) -> None:
    """Forget a message."""
    connection.execute("DELETE FROM messages WHERE id = ?", (row,))
    connection.execute("DELETE FROM payloads WHERE id = ?", (row,))


def give_back(connection: sqlite3.Connection, rows: Iterable[int]) -> None:
    """Let others take messages that were taken."""
    connection.executemany("UPDATE messages SET taken = 0, returned = 1 WHERE id = ?", ((row,) for row in rows))


def put_aside(connection: sqlite3.Connection, row: int, reason: str) -> None:
    """Move a message to `parked`."""
    connection.execute(
        "UPDATE messages SET origin = queue, queue = ?, reason = ?, due = ?, taken = 0, crashes = 0 WHERE id = ?",
        (Queue.PARKED.value, reason, time.time(), row),
    )


def recover(connection: sqlite3.Connection) -> None:
    """Give back what a crash left taken; what was in hand in too many crashes is put aside. For the holder of the consumers' lock only."""
    held = connection.execute("SELECT id, crashes, queue FROM messages WHERE taken = 1").fetchall()
    for row, crashes, queue in held:
        if crashes >= DELIVERY_LIMIT and queue != Queue.PARKED.value:
            put_aside(connection, row, f"delivery_limit: in hand when the process died, {crashes + 1} times")
        else:
            connection.execute(
                "UPDATE messages SET taken = 0, returned = 1, crashes = crashes + 1 WHERE id = ?", (row,)
            )


def depth(connection: sqlite3.Connection, queue: str) -> int:
    """Messages of a queue that nobody holds."""
    found: int = connection.execute("SELECT count(*) FROM messages WHERE queue = ? AND taken = 0", (queue,)).fetchone()[
        0
    ]
    return found


def touch_canary(connection: sqlite3.Connection) -> None:
    """Write something, to see whether one can."""
    connection.execute("INSERT OR REPLACE INTO canary (id, at) VALUES (1, ?)", (time.time(),))


# --- events ----------------------------------------------------------------------------------------------------------
def add_events(connection: sqlite3.Connection, events: Sequence[tuple[str, bytes]]) -> None:
    """Keep events, and from time to time forget the old ones."""
    now = time.time()
    for routing_key, payload in events:
        row = connection.execute(
            "INSERT INTO events (at, routing_key, payload) VALUES (?, ?, ?)", (now, routing_key, payload)
        ).lastrowid
        if row and row % 500 == 0:
            connection.execute("DELETE FROM events WHERE id <= ? OR at < ?", (row - EVENTS_KEPT, now - EVENTS_AGE))


def last_event(connection: sqlite3.Connection) -> int:
    """The id of the last event there ever was."""
    found = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'events'").fetchone()
    return int(found[0]) if found else 0


def events_after(connection: sqlite3.Connection, last: int, limit: int) -> list[tuple[int, str, bytes]]:
    """The next events: (id, routing key, payload)."""
    return connection.execute(
        "SELECT id, routing_key, payload FROM events WHERE id > ? ORDER BY id LIMIT ?", (last, limit)
    ).fetchall()
