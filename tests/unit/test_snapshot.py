"""Copies of several SQLite files, of one instant, while they are being written."""

from __future__ import annotations

import random
import sqlite3
import threading
from pathlib import Path

import pytest

from shared.database.snapshot import SnapshotBusy, SnapshotError, snapshot


def make(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY)")
    connection.commit()
    connection.close()


def numbers(path: Path) -> list[int]:
    connection = sqlite3.connect(path)
    found = [row[0] for row in connection.execute("SELECT n FROM rows ORDER BY n")]
    connection.close()
    return found


def test_p3_copies_of_two_files_are_of_one_instant(tmp_path: Path) -> None:
    """A writer puts each number into the first file, then into the second: at any instant the second has all but at most the last."""
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    make(first)
    make(second)
    stop = threading.Event()

    def write() -> None:
        left, right = (sqlite3.connect(path, timeout=10, isolation_level=None) for path in (first, second))
        number = 0
        while not stop.is_set():
            number += 1
            left.execute("INSERT INTO rows VALUES (?)", (number,))
            right.execute("INSERT INTO rows VALUES (?)", (number,))
        left.close()
        right.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        sizes = []
        for round_ in range(15):
            copies = [tmp_path / f"{round_}-{name}" for name in ("first", "second")]
            snapshot([(first, copies[0]), (second, copies[1])])
            one, two = map(numbers, copies)
            assert one == list(range(1, len(one) + 1))
            assert two == one[: len(two)]
            assert len(one) - len(two) <= 1
            sizes.append(len(one))
    finally:
        stop.set()
        writer.join()
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]  # it wrote all the while
    assert numbers(first) == numbers(second)


def test_a_file_that_is_locked_all_the_time_or_damaged_or_missing_is_told(tmp_path: Path) -> None:
    path, other = tmp_path / "a.db", tmp_path / "b.db"
    make(path)
    make(other)
    holder = sqlite3.connect(other, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(SnapshotBusy, match=r"b\.db"):
        snapshot([(path, tmp_path / "c1"), (other, tmp_path / "c2")], patience=0.1)
    holder.execute("ROLLBACK")
    holder.close()
    writer = sqlite3.connect(path, isolation_level=None, timeout=0)
    writer.execute("INSERT INTO rows VALUES (1)")  # the lock that was had was let go
    writer.close()
    with pytest.raises(SnapshotError, match="none"):
        snapshot([(tmp_path / "none.db", tmp_path / "c3")])
    (tmp_path / "noise.db").write_bytes(random.Random(1).randbytes(8192))
    with pytest.raises(SnapshotError, match="not a database"):
        snapshot([(tmp_path / "noise.db", tmp_path / "c4")])
