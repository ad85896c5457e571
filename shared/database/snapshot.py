"""Copies of SQLite files that are being written, all of one and the same instant.

While the write locks of all files are held nobody can commit; a reading transaction is begun on each, which goes on seeing that instant, and
the locks are let go after milliseconds. What is copied then is what a power cut at that instant would have left, and starting from that is
what Horo is made for. Copies of two files one after the other would be of two moments: a message acknowledged in the one whose outcome is
missing in the other is lost. It fails by leaving everything as it was.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import quote

TRY = 1.0
"""Seconds for which the locks that are had already are held while the next is waited for: writers wait at least twice as long."""
PAUSE = 0.002
LONGEST_PAUSE = 0.2
"""Seconds between two tries for all locks."""


class SnapshotError(Exception):
    """A file cannot be copied; the text names it and says why."""


class SnapshotBusy(SnapshotError):
    """A file was locked all the time."""


def snapshot(copies: Sequence[tuple[Path, Path]], *, patience: float = 60.0) -> float:
    """Copy each file to where no file is yet; the instant that all copies are of, in seconds since the epoch.

    Raises `SnapshotError` for a file that is missing or damaged, `SnapshotBusy` where the locks were not to be had within `patience` seconds.
    The files are locked in the order given: first the one that is written for long at a time.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(_opened(source)) for source, _ in copies]
        taken_at = _pinned(readers, [source for source, _ in copies], patience)
        for reader, (source, target) in zip(readers, copies, strict=True):
            _copy(reader, source, target)
    return taken_at


def user_version(path: Path) -> int:
    """The number that an application keeps in its file. Raises `SnapshotError`."""
    with _opened(path) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def schema_version(path: Path) -> str:
    """The version of a database of ours, "" for one that has none yet. Raises `SnapshotError`."""
    with _opened(path) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alembic_version'").fetchone():
            return ""
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(found[0]) if found else ""


def renew_epoch(path: Path) -> None:
    """Tell a restored database from the one that it is a copy of: a shared cache may know changes that this one never saw (P6)."""
    with _opened(path) as connection:
        if connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'directory_state'").fetchone():
            connection.execute("UPDATE directory_state SET epoch = ?", (secrets.token_hex(16),))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """An open file, nothing begun on it; one that is not there is not made."""
    try:
        with closing(
            sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, timeout=0, isolation_level=None)
        ) as connection:
            yield connection
    except sqlite3.Error as error:
        raise SnapshotError(f"{path}: {error}") from error


def _pinned(readers: Sequence[sqlite3.Connection], paths: Sequence[Path], patience: float) -> float:
    """Begin a reading transaction on each file at one instant, and say when that was."""
    end = time.monotonic() + patience
    pause = PAUSE
    while True:
        with ExitStack() as locks:
            if all(_locked(locks, path) for path in paths):
                for reader in readers:
                    reader.execute("BEGIN")
                    reader.execute(
                        "SELECT count(*) FROM sqlite_schema"
                    ).fetchone()  # what is seen is settled by the first look
                return time.time()
        if time.monotonic() > end:
            raise SnapshotBusy(f"{' and '.join(map(str, paths))}: another process was writing for {patience:g} s")
        time.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def _locked(locks: ExitStack, path: Path) -> bool:
    """Take the write lock of a file until `locks` closes; False where it is not to be had soon.

    Tried by ourselves in short steps: SQLite's own waiting sleeps up to a tenth of a second between tries, and finds a busy file locked again.
    """
    connection = locks.enter_context(_opened(path))
    end = time.monotonic() + TRY
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            if time.monotonic() > end:
                return False
            time.sleep(PAUSE)
        else:
            locks.callback(connection.execute, "ROLLBACK")
            return True


def _copy(reader: sqlite3.Connection, source: Path, target: Path) -> None:
    """Copy in one step: the reading transaction is open, so what is written meanwhile neither shows nor starts the copy again."""
    target.touch(mode=0o600, exist_ok=False)
    with closing(sqlite3.connect(target, isolation_level=None)) as writer:
        reader.backup(writer)
        found = writer.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise SnapshotError(f"{source} is damaged ({found}): this is no backup")
