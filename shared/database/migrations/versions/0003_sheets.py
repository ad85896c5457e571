"""The ledger in sheets: one row a batch and one a share, instead of one a recipient."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _octets() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _column(
    name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]], *, null: bool = False
) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, autoincrement=False)


def upgrade() -> None:
    """Make the new tables. What the old ones hold is not taken over: no release has written any."""
    for index, table in (("ix_claims_owner", "claims"), ("ix_posts_accepted_at", "posts")):
        op.drop_index(index, table_name=table)
    for table in ("recipients", "suppressions", "slices"):
        op.drop_table(table)
    _make_attempts()
    _make_shares()
    op.create_table(
        "people",
        _column("hash", sa.BigInteger()),
        _column("post_id", _octets()),
        sa.PrimaryKeyConstraint("hash", "post_id", name="pk_people"),
        sqlite_with_rowid=False,
        comment="Posts by the addresses of their small shares; hash: 63 bits of the key",
    )


def _make_attempts() -> None:
    op.create_table(
        "attempts",
        _column("mark", sa.BigInteger()),
        _column("seq", sa.BigInteger()),
        _column("at", sa.Double()),
        _column("digest", sa.BigInteger()),
        _column("cell", sa.Integer()),
        _column("delivered", sa.Integer()),
        _column("failed", sa.Integer()),
        _column("deferred", sa.Integer()),
        _column("attempts", sa.SmallInteger()),
        _column("post_id", _octets()),
        _column("group_key", _octets()),
        _column("content", sa.Text()),
        sa.PrimaryKeyConstraint("post_id", "cell", "mark", name="pk_attempts"),
        comment="What became of a batch. mark: of group, attempt and content; seq: the order of telling; digest: of the keys that are final",
    )


def _make_shares() -> None:
    op.create_table(
        "shares",
        _column("mark", sa.BigInteger()),
        _column("seq", sa.BigInteger()),
        _column("at", sa.Double()),
        _column("digest", sa.BigInteger()),
        _column("number", sa.Integer()),
        _column("parts", sa.Integer()),
        _column("announced", sa.Integer()),
        _column("queued", sa.Integer()),
        _column("suppressed", sa.Integer()),
        _column("post_id", _octets()),
        _column("group_key", _octets()),
        _column("signature", sa.Text(), null=True),
        _column("content", sa.Text()),
        sa.PrimaryKeyConstraint("post_id", "group_key", "number", "mark", name="pk_shares"),
        comment="Who gets a copy and who does not, by shares. digest: of the keys that are queued; signature: of a share of many",
    )
    where = sa.text("signature IS NOT NULL")
    op.create_index("ix_shares_big", "shares", ["post_id"], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """There is no way back: a downgrade would throw outcomes away."""
    raise RuntimeError("Horo's migrations go forward only; restore a backup instead")
