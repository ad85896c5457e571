"""Notes, due reports, bounces and probes beside the ledger; channels and tokens beside the directory."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def _octets() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def _serial() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _column(
    name: str, kind: sa.types.TypeEngine[Any] | type[sa.types.TypeEngine[Any]], *, null: bool = False
) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=null, autoincrement=False)


def upgrade() -> None:
    """Make the tables."""
    _make_notes()
    _make_due()
    _make_bounces()
    _make_channels()
    _make_tokens()


def _make_notes() -> None:
    op.create_table(
        "notes",
        _column("post_id", _octets()),
        _column("mark", sa.BigInteger()),
        _column("at", sa.Double()),
        _column("kind", sa.Text()),
        _column("group_key", _octets()),
        _column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("post_id", "mark", name="pk_notes"),
        comment="What happened to a post beside its copies: reports, bounces. mark: of what makes the note one; detail: JSON",
    )


def _make_due() -> None:
    op.create_table(
        "due",
        _column("id", _octets()),
        _column("at", sa.Double()),
        _column("since", sa.Double()),
        _column("tries", sa.Integer()),
        _column("puts", sa.Integer()),
        _column("post_id", _octets()),
        _column("group_key", _octets()),
        _column("kind", sa.Text()),
        _column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("id", name="pk_due"),
        comment="Reports that wait for something. at: when to look at it next; since: when it became due; detail: JSON",
    )
    op.create_index("ix_due_at", "due", ["at"])


def _make_bounces() -> None:
    op.create_table(
        "bounces",
        _column("group_key", _octets()),
        _column("member_key", _octets()),
        _column("day", _octets()),
        _column("at", sa.Double()),
        _column("post_id", _octets()),
        _column("source", sa.Text()),
        _column("status", sa.Text()),
        _column("reply", sa.Text()),
        sa.PrimaryKeyConstraint("group_key", "member_key", "day", name="pk_bounces"),
        comment="Permanent failures of a member's address, one a day (UTC, ISO 8601) at most: what suspends a member",
    )
    op.create_index("ix_bounces_at", "bounces", ["at"])
    op.create_table(
        "probes",
        _column("token", _octets()),
        _column("group_key", _octets()),
        _column("member_key", _octets()),
        _column("at", sa.Double()),
        sa.PrimaryKeyConstraint("token", name="pk_probes"),
        comment="Messages that ask whether a member's address works, by the token of their bounce address",
    )
    op.create_index("ix_probes_group_key_member_key", "probes", ["group_key", "member_key"])
    op.create_table(
        "suspensions",
        _column("group_key", _octets()),
        _column("member_key", _octets()),
        _column("id", _octets()),
        _column("at", sa.Double()),
        _column("post_id", _octets()),
        _column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("group_key", "member_key", name="pk_suspensions"),
        comment="Members whose suspension has been told. id: of the failures that led to it; the state itself is the directory's",
    )


def _make_channels() -> None:
    op.create_table(
        "channels",
        sa.Column("id", _serial(), nullable=False),
        _column("group_id", _serial()),
        _column("member_key", _octets()),
        _column("label", _octets()),
        _column("slot", sa.Integer()),
        _column("kind", _octets()),
        _column("shown", _octets()),
        _column("secret", sa.LargeBinary()),
        _column("at", sa.Float()),
        sa.PrimaryKeyConstraint("id", name="pk_channels"),
        sa.ForeignKeyConstraint(["group_id"], ["groups.id"], name="fk_channels_group_id"),
        sa.UniqueConstraint("group_id", "member_key", "label", name="uq_channels_group_id_member_key_label"),
        sqlite_autoincrement=True,
        comment="Where signals go beside the events. member_key: empty for the group's own; label: of the URL's digest, slot: of the label; "
        "secret: the URL, encrypted; shown: without its secrets",
    )
    op.create_index("ix_channels_group_id_slot", "channels", ["group_id", "slot"])


def _make_tokens() -> None:
    op.create_table(
        "tokens",
        _column("id", _octets()),
        _column("digest", sa.LargeBinary()),
        _column("name", _octets()),
        _column("scopes", _octets()),
        _column("domain", _octets(), null=True),
        _column("created_at", sa.Float()),
        _column("expires_at", sa.Float(), null=True),
        _column("used_at", sa.Float(), null=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("name", name="uq_tokens_name"),
        sa.ForeignKeyConstraint(["domain"], ["domains.name"], name="fk_tokens_domain", ondelete="CASCADE"),
        comment="Tokens of the API. digest: of the token, which is kept nowhere; scopes: JSON; domain: the only one it is good for, and goes with it",
    )


def downgrade() -> None:
    """There is no way back: a downgrade would throw what was noted away."""
    raise RuntimeError("Horo's migrations go forward only; restore a backup instead")
