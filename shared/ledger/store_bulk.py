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


class Bulk:
    """A statement over rows `r`. `columns` are theirs with PostgreSQL's types; `{columns}`, `{clock}` and `parts` are filled in.

    `near` names the column of a table in periods (`store_periods.py`) that `r.post_id` is joined to: then only the periods of these posts are opened.
    """

    def __init__(self, columns: Mapping[str, str], body: str, *, near: str = "", **parts: str) -> None:
        names = ", ".join(columns)
        self._near = list(columns).index("post_id") if near else None
        between = {"sqlite": "", "postgresql": f"{near} >= {{low}} AND {near} <= {{high}} AND " if near else ""}
        cells = {
            "sqlite": [f"value ->> {number} AS {name}" for number, name in enumerate(columns)],
            "postgresql": [
                f"CAST(value ->> {n} AS {kind}) AS {name}" for n, (name, kind) in enumerate(columns.items())
            ],
        }
        source = {"sqlite": "json_each({rows})", "postgresql": "jsonb_array_elements(CAST({rows} AS jsonb))"}
        template = {
            dialect: f"WITH r AS (SELECT {', '.join(cells[dialect])} FROM {source[dialect]}) "  # noqa: S608 - constants of this package
            + _filled(_filled(body, **parts), columns=names, clock=CLOCK[dialect], near=between[dialect])
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
