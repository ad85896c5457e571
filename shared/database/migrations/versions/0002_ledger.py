"""The ledger: posts, their targets, recipients and outcomes, claims, parked messages, refusals."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
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


def _partial(name: str, table: str, column: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, [column], postgresql_where=where, sqlite_where=where)


def upgrade() -> None:
    """Make the tables and their indexes."""
    _make_posts()
    _make_targets()
    _make_recipients()
    _make_shares()
    _make_parked()
    _make_refusals()


def _make_posts() -> None:
    op.create_table(
        "posts",
        _column("id", _octets()),
        _column("accepted_at", sa.Double()),
        _column("size", sa.BigInteger()),
        _column("body_size", sa.BigInteger(), null=True),
        _column("cells", sa.Integer()),
        _column("slices", sa.Integer()),
        _column("mail_from", sa.Text()),
        _column("author", sa.Text()),
        _column("message_id", sa.Text()),
        _column("message_key", _octets()),
        _column("subject", sa.Text()),
        _column("ip", sa.Text()),
        _column("envid", sa.Text(), null=True),
        _column("ret", sa.Text(), null=True),
        _column("parent", sa.Text(), null=True),
        _column("body_key", _octets(), null=True),
        _column("body_sha256", sa.Text(), null=True),
        _column("graph", sa.Text(), null=True),
        sa.PrimaryKeyConstraint("id", name="pk_posts"),
    )
    op.create_index("ix_posts_message_key", "posts", ["message_key"])
    op.create_index("ix_posts_accepted_at", "posts", ["accepted_at"])
    _partial("ix_posts_body_key", "posts", "body_key", "body_key IS NOT NULL")


def _make_targets() -> None:
    op.create_table(
        "post_groups",
        _column("post_id", _octets()),
        _column("group_key", _octets()),
        _column("position", sa.Integer()),
        _column("verdict", sa.Text()),
        _column("token", _octets()),
        _column("thread_author", sa.Text()),
        _column("detail", sa.Text()),
        sa.PrimaryKeyConstraint("post_id", "group_key", name="pk_post_groups"),
        comment="A target of a post; detail is the rest of its record, as JSON",
    )
    op.create_index("ix_post_groups_group_key_post_id", "post_groups", ["group_key", "post_id"])
    _partial("ix_post_groups_token", "post_groups", "token", "token != ''")
    op.create_table(
        "fingerprints",
        _column("fingerprint", _octets()),
        _column("post_id", _octets()),
        _column("at", sa.Double()),
        sa.PrimaryKeyConstraint("fingerprint", name="pk_fingerprints"),
        comment="What a post is (hexadecimal), known for a week: whoever comes second is a repetition",
    )
    op.create_index("ix_fingerprints_at", "fingerprints", ["at"])


def _make_recipients() -> None:
    op.create_table(
        "recipients",
        _column("post_id", _octets()),
        _column("key", _octets()),
        _column("at", sa.Double()),
        _column("next_at", sa.Double(), null=True),
        _column("state", sa.SmallInteger()),
        _column("attempts", sa.SmallInteger()),
        _column("code", sa.SmallInteger()),
        _column("group_key", _octets()),
        _column("address", sa.Text(), null=True),
        _column("via", sa.Text(), null=True),
        _column("status", sa.Text()),
        _column("reply", sa.Text()),
        _column("hop", sa.Text()),
        sa.PrimaryKeyConstraint("post_id", "key", name="pk_recipients"),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 85},
        comment="Who gets a copy. state: 0 queued, 1 deferred, 2 delivered, 3 failed; address: NULL where it is the key",
    )
    op.create_index("ix_recipients_key_post_id", "recipients", ["key", "post_id"])
    _partial("ix_recipients_next_at", "recipients", "next_at", "next_at IS NOT NULL")


def _make_shares() -> None:
    op.create_table(
        "suppressions",
        _column("post_id", _octets()),
        _column("key", _octets()),
        _column("group_key", _octets()),
        _column("path", sa.BigInteger()),
        _column("at", sa.Double()),
        _column("address", sa.Text(), null=True),
        _column("via", sa.Text(), null=True),
        _column("reason", sa.Text()),
        sa.PrimaryKeyConstraint("post_id", "key", "group_key", "path", name="pk_suppressions"),
        sqlite_with_rowid=False,
        comment="Who gets none. path: a digest of reason and path of groups, for one address may be left out on several",
    )
    op.create_index("ix_suppressions_key_post_id", "suppressions", ["key", "post_id"])
    op.create_table(
        "slices",
        _column("post_id", _octets()),
        _column("group_key", _octets()),
        _column("number", sa.Integer()),
        _column("parts", sa.Integer()),
        _column("announced", sa.Integer()),
        sa.PrimaryKeyConstraint("post_id", "group_key", "number", name="pk_slices"),
        sqlite_with_rowid=False,
        comment="The shares of a fan-out that are filed; announced: how many addresses the expander said",
    )
    op.create_table(
        "claims",
        _column("post_id", _octets()),
        _column("cell", sa.Integer()),
        _column("hop", _octets()),
        _column("owner", _octets()),
        _column("until", sa.Double()),
        sa.PrimaryKeyConstraint("post_id", "cell", "hop", name="pk_claims"),
        comment="What senders are at; until is by the database's own clock",
    )
    op.create_index("ix_claims_owner", "claims", ["owner"])


def _make_parked() -> None:
    op.create_table(
        "parked",
        sa.Column("id", _serial(), nullable=False),
        _column("tries", sa.Integer()),
        _column("at", sa.Double()),
        _column("queue", sa.Text()),
        _column("reason", sa.Text()),
        _column("payload", sa.LargeBinary()),
        _column("mark", _octets()),
        sa.PrimaryKeyConstraint("id", name="pk_parked"),
        sa.UniqueConstraint("mark", name="uq_parked_mark"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "parked_bodies",
        _column("parked_id", _serial()),
        _column("body_key", _octets()),
        sa.PrimaryKeyConstraint("parked_id", "body_key", name="pk_parked_bodies"),
    )
    op.create_index("ix_parked_bodies_body_key", "parked_bodies", ["body_key"])


def _make_refusals() -> None:
    op.create_table(
        "refusals",
        _column("digest", _octets()),
        _column("at", sa.Double()),
        _column("code", sa.SmallInteger()),
        _column("group_key", _octets()),
        _column("mail_from", sa.Text()),
        _column("status", sa.Text()),
        _column("reply", sa.Text()),
        _column("ip", sa.Text()),
        sa.PrimaryKeyConstraint("digest", name="pk_refusals"),
        comment="The last recipients that were refused in the session, a bounded number",
    )
    op.create_index("ix_refusals_group_key_at", "refusals", ["group_key", "at"])
    op.create_index("ix_refusals_at", "refusals", ["at"])
    op.create_table(
        "refusal_counts",
        _column("group_key", _octets()),
        _column("day", _octets()),
        _column("refused", sa.BigInteger()),
        sa.PrimaryKeyConstraint("group_key", "day", name="pk_refusal_counts"),
        comment="How many recipients of a group were refused on a day (UTC, ISO 8601)",
    )


def downgrade() -> None:
    """There is no way back: a downgrade would throw outcomes away."""
    raise RuntimeError("Horo's migrations go forward only; restore a backup instead")
