"""One statement for many rows, the same on both databases: the rows travel as one JSON text and are a table `r` in the statement.

Measured on 13 columns (2 cores, 1,000 rows a statement): PostgreSQL 76,000 rows/s at 1 us of the client's CPU a row, where arrays
(`unnest`) took 9 us and psycopg's executemany 12 us; SQLite 118,000 rows/s outside of Python's lock (executemany: 213,000 inside of it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database.line import Step
from shared.ledger.rows import SqlRow

CHUNK = 5000
"""Rows of one statement: well within the time that a statement has."""

CLOCK = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "CAST(extract(epoch FROM clock_timestamp()) AS float8)",
}
"""The database's own clock, seconds since the epoch: leases are compared by it alone, so the senders' clocks may differ."""


def _filled(body: str, **parts: str) -> str:
    for name, part in parts.items():
        body = body.replace(f"{{{name}}}", part)
    return body


def _joins(table: str, condition: str) -> dict[str, str]:
    """The join of `{near}` by dialect; OFFSET 0 keeps PostgreSQL from taking the subquery apart again."""
    within = f"{table}.post_id >= {{low}} AND {table}.post_id <= {{high}} AND {condition}"
    return {
        "sqlite": f"JOIN {table} ON {condition}",
        "postgresql": f"CROSS JOIN LATERAL (SELECT * FROM {table} WHERE {within} OFFSET 0) AS {table}",  # noqa: S608 - constants
    }


class Bulk:
    """A statement over rows `r`. `columns` are theirs with PostgreSQL's types; `{columns}`, `{clock}` and `parts` are filled in.

    `near` joins a table that is in periods (`store_periods.py`): its name, and what it has to do with `r`, `r.post_id` being its own; `{near}` is the
    join. On PostgreSQL only the periods of these posts are opened, and each of `r` is looked up by itself, for of a range of ids the planner thinks
    that it is little, and would read all of it.
    """

    def __init__(
        self, columns: Mapping[str, str], body: str, *, near: tuple[str, str] | None = None, **parts: str
    ) -> None:
        names = ", ".join(columns)
        self._near = list(columns).index("post_id") if near else None
        joins = _joins(*near) if near else dict.fromkeys(CLOCK, "")
        cells = {
            "sqlite": [f"value ->> {number} AS {name}" for number, name in enumerate(columns)],
            "postgresql": [
                f"CAST(value ->> {n} AS {kind}) AS {name}" for n, (name, kind) in enumerate(columns.items())
            ],
        }
        source = {"sqlite": "json_each({rows})", "postgresql": "jsonb_array_elements(CAST({rows} AS jsonb))"}
        template = {
            dialect: f"WITH r AS (SELECT {', '.join(cells[dialect])} FROM {source[dialect]}) "  # noqa: S608 - constants of this package
            + _filled(_filled(body, **parts), columns=names, clock=CLOCK[dialect], near=joins[dialect])
            for dialect in CLOCK
        }
        self._texts = {
            "sqlite": _filled(template["sqlite"], rows=":rows"),
            "postgresql": _filled(
                template["postgresql"].replace("%", "%%"), rows="%(rows)s", low="%(low)s", high="%(high)s"
            ),
        }
        self._statements = {
            dialect: text(_filled(template[dialect], rows=":rows", low=":low", high=":high")) for dialect in CLOCK
        }

    def step(self, rows: Sequence[SqlRow]) -> Step:
        """The statement over `rows`, for a line."""
        return Step(self._texts, self._values(rows))

    def _values(self, rows: Sequence[SqlRow]) -> dict[str, str]:
        values = {"rows": msgspec.json.encode(rows).decode()}
        if self._near is not None:
            ids = [str(row[self._near]) for row in rows]
            values |= {"low": min(ids, default=""), "high": max(ids, default="")}
        return values

    async def run(self, connection: AsyncConnection, rows: Sequence[SqlRow]) -> list[Any]:
        """Run it over `rows`, in chunks; returns the rows that it returns."""
        statement = self._statements[connection.dialect.name]
        answers: list[Any] = []
        for start in range(0, len(rows), CHUNK):
            result = await connection.execute(statement, self._values(rows[start : start + CHUNK]))
            if result.returns_rows:
                answers.extend(result.all())
        return answers
