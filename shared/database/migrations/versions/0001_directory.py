"""The directory: domains, groups, members, the change counter and its log."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _octets() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _serial() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables, and the one row of the counter: its epoch tells this database from every other."""
    _make_counter()
    op.create_table(
        "domains",
        sa.Column("name", _octets(), nullable=False),
        sa.Column("postmaster", _octets(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_domains"),
    )
    op.create_table(
        "groups",
        sa.Column("id", _serial(), nullable=False),
        sa.Column("address", _octets(), nullable=False),
        sa.Column("domain", _octets(), nullable=False),
        sa.Column("settings", _octets(), nullable=False),
        sa.Column("members", sa.Integer(), nullable=False),
        sa.Column("search", _octets(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_groups"),
        sa.UniqueConstraint("address", name="uq_groups_address"),
        sa.ForeignKeyConstraint(["domain"], ["domains.name"], name="fk_groups_domain"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_groups_domain_address", "groups", ["domain", "address"])
    _make_members()


def _make_counter() -> None:
    state = op.create_table(
        "directory_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("floor", sa.BigInteger(), nullable=False),
        sa.Column("epoch", _octets(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_directory_state"),
        comment="One row. seq: the last change; floor: the log holds every change after it; epoch: which database this is",
    )
    op.bulk_insert(state, [{"id": 1, "seq": 1, "floor": 1, "epoch": secrets.token_hex(16)}])
    op.create_table(
        "changes",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("key", _octets(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("seq", "key", name="pk_changes"),
        comment="Which keys (group:ADDRESS, domain:NAME) each change touched; caches poll it",
    )


def _make_members() -> None:
    op.create_table(
        "members",
        sa.Column("group_id", _serial(), autoincrement=False, nullable=False),
        sa.Column("key", _octets(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("address", _octets(), nullable=False),
        sa.Column("name", _octets(), nullable=False),
        sa.Column("search", _octets(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("own_copies", sa.Boolean(), nullable=False),
        sa.Column("bounce", _octets(), nullable=False),
        sa.Column("group_key", _octets(), nullable=True),
        sa.PrimaryKeyConstraint("group_id", "key", name="pk_members"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_members_group_id"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_members_group_id_slot_key", "members", ["group_id", "slot", "key"])
    op.create_index("ix_members_key", "members", ["key"])
    nested = sa.text("group_key IS NOT NULL")
    op.create_index(
        "ix_members_group_key", "members", ["group_key", "group_id"], postgresql_where=nested, sqlite_where=nested
    )


def downgrade() -> None:
    """There is no way back: a downgrade would throw members away."""
    raise RuntimeError("Horo's migrations go forward only; restore a backup instead")
