"""Rows for a large ledger: posts to a million members and very many to ten, as the services record them, put in with COPY (SQLite: inserted).

The rows are made by the functions that make them in the ledger itself, so that their shape and size are the real ones.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import psycopg

from services.expander.plan import plan
from shared.groups import SLOTS, slot
from shared.identity import new_id
from shared.ledger import Alike, Claim, PostRecord, TargetRecord
from shared.ledger.rows import POST_COLUMNS, TARGET_COLUMNS, SqlRow, post_row, target_row
from shared.ledger.sheets import ATTEMPT_COLUMNS, SHARE_COLUMNS, attempt_rows, share_rows
from shared.messages import Expanded, Fate, Queued, Reason, State, Suppressed, TargetKind

DAY = 86400.0
DAYS = 84
"""Days over which the posts are spread."""
SMALL = 10
"""Members of a small group."""
GROUPS = 5000
BUSY = "busy@people.test"
"""A member of every fifth small group, and of the large one."""
ALL = "all@large.test"
COLUMNS = {
    "posts": tuple(POST_COLUMNS),
    "post_groups": tuple(TARGET_COLUMNS),
    "attempts": tuple(ATTEMPT_COLUMNS),
    "shares": tuple(SHARE_COLUMNS),
    "people": ("hash", "post_id"),
}


class Row(NamedTuple):
    """A row of one table."""

    table: str
    values: SqlRow


def members_of(group: int) -> list[str]:
    """The members of a small group."""
    names = [f"member{group}.{number}@people{group % 97}.test" for number in range(SMALL)]
    if group % 5 == 0:
        names[0] = BUSY
    return names


def group_name(group: int) -> str:
    """A small group's address."""
    return f"group{group}@domain{group % 500}.test"


def _record(number: int, at: float, cells: int = 1, slices: int = 1) -> PostRecord:
    return PostRecord(
        id=new_id(at),
        accepted_at=at,
        mail_from=f"author{number % 4000}@people.test",
        author=f"author{number % 4000}@people.test",
        message_id=f"<message.{number}.{int(at)}@mail.people.test>",
        subject=f"About the matter number {number}",
        size=4096,
        ip="192.0.2.17",
        cells=cells,
        slices=slices,
    )


def _target(group: str, number: int) -> TargetRecord:
    return TargetRecord(group=group, recipient=group, kind=TargetKind.GROUP, token=f"t{number:011d}")


def _fate(number: int, state: State, attempt: int, at: float) -> Fate:
    code, status = (250, "2.0.0") if state is State.DELIVERED else (451, "4.7.1")
    text = f"Ok: queued as {number:010X}" if state is State.DELIVERED else "Greylisted, please try again later"
    return Fate(
        address="", state=state, code=code, status=status, text=text, hop="mx1.people.test", attempt=attempt, at=at
    )


def small_post(number: int, at: float) -> Iterator[Row]:
    """A post to ten: one in twenty has a member who was put off once, one in a thousand one who still is."""
    group = number % GROUPS
    name, record = group_name(group), _record(number, at)
    yield Row("posts", post_row(record))
    yield Row("post_groups", target_row(record, 0, _target(name, number), "open", ""))
    members, author = members_of(group), (record.author,)
    late = number % 1000 == 500
    first = members[1:] if number % 20 == 0 or late else members
    claim = Claim(post_id=record.id, cell=0, hop="smtp://mx1.people.test:25")
    told = [Alike(fate=_fate(number, State.DELIVERED, 0, at + 0.2), addresses=first)]
    if first is not members:
        told.append(Alike(fate=_fate(number, State.DEFERRED, 0, at + 0.2), addresses=members[:1]))
    for row in attempt_rows(claim, name, told, int(at * 1e9)):
        yield Row("attempts", row)
    if first is not members and not late:
        again = [Alike(fate=_fate(number, State.DELIVERED, 1, at + 300), addresses=members[:1])]
        for row in attempt_rows(claim, name, again, int((at + 300) * 1e9)):
            yield Row("attempts", row)
    yield from _share(record.id, name, 0, 1, members, author, at)


def _share(
    post_id: str, group: str, index: int, of: int, queued: Sequence[str], left_out: Sequence[str], at: float
) -> Iterator[Row]:
    suppressed = (Suppressed(addresses=tuple(left_out), reason=Reason.AUTHOR, via=(group,)),) if left_out else ()
    share = Expanded(
        post_id=post_id,
        group=group,
        index=index,
        of=of,
        queued=(Queued(addresses=tuple(queued), via=(group,)),),
        suppressed=suppressed,
        at=at,
    )
    row, people = share_rows(share, int(at * 1e9))
    yield Row("shares", row)
    yield from (Row("people", each) for each in people)


class Large:
    """A group of many members, cut as the expander cuts it."""

    def __init__(self, members: int) -> None:
        self._plan = plan(members, express_limit=1000, slice_size=5000, batch_size=100)
        names = [BUSY, *(f"person{number}@people{number % 97}.test" for number in range(members - 1))]
        self._cells: list[list[str]] = [[] for _ in range(self._plan.cells)]
        for name in names:
            self._cells[slot(name) * self._plan.cells // SLOTS].append(name)

    def post(self, number: int, at: float) -> Iterator[Row]:
        """A post to everybody, delivered."""
        cells, slices = self._plan
        record = _record(number, at, cells, slices)
        yield Row("posts", post_row(record))
        yield Row("post_groups", target_row(record, 0, _target(ALL, number), "open", ""))
        for cell, names in enumerate(self._cells):
            if names:
                claim = Claim(post_id=record.id, cell=cell, hop="smtp://mx1.people.test:25")
                told = [Alike(fate=_fate(cell, State.DELIVERED, 0, at + cell / 100), addresses=names)]
                for row in attempt_rows(claim, ALL, told, int(at * 1e9) + cell):
                    yield Row("attempts", row)
        for index in range(slices):
            share = cells // slices
            names = [name for cell in self._cells[index * share : (index + 1) * share] for name in cell]
            yield from _share(record.id, ALL, index, slices, names, (), at + index / 100)


def rows(small: int, large: int, members: int, until: float) -> Iterator[Row]:
    """All rows, in the order of time."""
    start, everybody = until - DAYS * DAY, Large(members) if large else None
    step = DAYS * DAY / (small + 1)
    every = small // (large + 1) + 1 if large else small + 1
    for number in range(small):
        at = start + number * step
        yield from small_post(number, at)
        if everybody is not None and number % every == every - 1:
            yield from everybody.post(10**9 + number, at + 0.5)


# --- putting them in -------------------------------------------------------------------------------------------------
PORTION = 100_000


def _portions(all_rows: Iterator[Row]) -> Iterator[dict[str, list[SqlRow]]]:
    while portion := list(islice(all_rows, PORTION)):
        tables: dict[str, list[SqlRow]] = {}
        for row in portion:
            tables.setdefault(row.table, []).append(row.values)
        yield tables


def copy_in(url: str, all_rows: Iterator[Row]) -> None:
    """Into PostgreSQL."""
    with psycopg.connect(url) as connection:
        for portion in _portions(all_rows):
            for table, values in portion.items():
                with connection.cursor().copy(f"COPY {table} ({', '.join(COLUMNS[table])}) FROM STDIN") as copy:
                    for row in values:
                        copy.write_row(row)
            connection.commit()


def insert(path: str, all_rows: Iterator[Row]) -> None:
    """Into SQLite; `people`, which is ordered by hash, last and sorted, or it would take hours to no purpose."""
    connection = sqlite3.connect(path)
    people: list[SqlRow] = []
    for portion in _portions(all_rows):
        people += portion.pop("people", [])
        for table, values in portion.items():
            _insert(connection, table, values)
        connection.commit()
    people.sort(key=str)
    _insert(connection, "people", people)
    connection.commit()
    connection.close()


def _insert(connection: sqlite3.Connection, table: str, values: Sequence[SqlRow]) -> None:
    columns = COLUMNS[table]
    marks = ", ".join("?" * len(columns))
    connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)
