"""The large tables of the ledger in periods, on PostgreSQL: what is old is dropped in no time. And big shares by their place in the cut.

SQLite has no periods. What a table held so far becomes its first period; nothing is copied.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

from shared.identity import new_id

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

DAY = 86400
KEYS = {
    "attempts": "post_id, cell, mark",
    "shares": "post_id, group_key, number, mark",
    "people": "hash, post_id",
}


def upgrade() -> None:
    """Make each table one in periods, with a period for each of the next days and one for the rest."""
    op.drop_index("ix_shares_big", table_name="shares")
    if op.get_bind().dialect.name == "postgresql":
        _divide_all()
    big = sa.text("signature IS NOT NULL")
    op.create_index("ix_shares_big", "shares", ["parts", "number", "post_id"], postgresql_where=big, sqlite_where=big)


def _divide_all() -> None:
    today = int(time.time()) // DAY * DAY
    for table, key in KEYS.items():
        filled = op.get_bind().exec_driver_sql(f"SELECT EXISTS (SELECT 1 FROM {table})").scalar()  # noqa: S608 - constants
        first = today + 2 * DAY if filled else today
        _divide(table, key, first if filled else None)
        for number in range(4):
            _period(table, first + number * DAY)


def _divide(table: str, key: str, until: int | None) -> None:
    old = f"{table}_first"
    op.execute(f"ALTER TABLE {table} RENAME TO {old}")
    op.execute(f"ALTER INDEX pk_{table} RENAME TO pk_{old}")
    op.execute(
        f"CREATE TABLE {table} (LIKE {old} INCLUDING DEFAULTS INCLUDING STORAGE, CONSTRAINT pk_{table} PRIMARY KEY ({key})) "
        "PARTITION BY RANGE (post_id)"
    )
    op.execute(
        f"DO $$ BEGIN EXECUTE format('COMMENT ON TABLE {table} IS %L', obj_description('{old}'::regclass)); END $$"
    )
    op.execute(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")
    if until is None:
        op.execute(f"DROP TABLE {old}")
    else:
        op.execute(f"ALTER TABLE {table} ATTACH PARTITION {old} FOR VALUES FROM (MINVALUE) TO ('{new_id(until)[:10]}')")


def _period(table: str, start: int) -> None:
    name = f"{table}_{_day(start)}_{_day(start + DAY)}"
    bounds = f"FROM ('{new_id(start)[:10]}') TO ('{new_id(start + DAY)[:10]}')"
    op.execute(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES {bounds}")


def _day(at: int) -> str:
    return time.strftime("%Y%m%d", time.gmtime(at))


def downgrade() -> None:
    """There is no way back: a downgrade would throw outcomes away."""
    raise RuntimeError("Horo's migrations go forward only; restore a backup instead")
