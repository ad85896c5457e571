"""The tables of the directory, and the one `metadata` that the ledger's tables join.

What stands here and what the migrations make must agree (a test compares the two). Keys are compared, sorted and searched by their
UTF-8 octets on both databases (collation "C"), so that an order that one page ends in is the order that the next begins in.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Octets = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that is ordered by its octets."""

Serial = BigInteger().with_variant(Integer(), "sqlite")
"""A number the database gives out: SQLite does so for INTEGER alone."""


def _text(name: str, *extra: Any, **more: Any) -> Column[str]:
    return Column(name, Octets, *extra, nullable=False, **more)


directory_state = Table(
    "directory_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("floor", BigInteger, nullable=False),
    _text("epoch"),
    comment="One row. seq: the last change; floor: the log holds every change after it; epoch: which database this is",
)

changes = Table(
    "changes",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Octets, primary_key=True),
    Column("at", Float, nullable=False),
    comment="Which keys (group:ADDRESS, domain:NAME) each change touched; caches poll it",
)

domains = Table(
    "domains",
    metadata,
    Column("name", Octets, primary_key=True),
    _text("postmaster"),
    Column("disabled", Boolean, nullable=False),
    Column("suspended", Boolean, nullable=False, server_default=false()),
    Column("max_groups", BigInteger, nullable=False, server_default="0"),
    Column("max_members", BigInteger, nullable=False, server_default="0"),
    Column("messages_per_day", BigInteger, nullable=False, server_default="0"),
    Column("recipients_per_day", BigInteger, nullable=False, server_default="0"),
)

groups = Table(
    "groups",
    metadata,
    Column("id", Serial, primary_key=True),
    _text("address", unique=True),
    _text("domain", ForeignKey("domains.name")),
    _text("settings"),
    Column("members", Integer, nullable=False),
    _text("search"),
    Index("ix_groups_domain_address", "domain", "address"),
    sqlite_autoincrement=True,  # an id is never given out twice: a reader of a deleted group must not run into its successor
)

members = Table(
    "members",
    metadata,
    Column("group_id", Serial, ForeignKey("groups.id"), primary_key=True, autoincrement=False),
    Column("key", Octets, primary_key=True),
    Column("slot", Integer, nullable=False),
    _text("address"),
    _text("name"),
    _text("search"),
    Column("paused", Boolean, nullable=False),
    Column("own_copies", Boolean, nullable=False),
    _text("bounce"),
    Column("group_key", Octets, nullable=True),
    Index("ix_members_group_id_slot_key", "group_id", "slot", "key"),
    Index("ix_members_key", "key"),
    sqlite_with_rowid=False,
)

Index(
    "ix_members_group_key",
    members.c.group_key,
    members.c.group_id,
    postgresql_where=members.c.group_key.is_not(None),
    sqlite_where=members.c.group_key.is_not(None),
)

channels = Table(
    "channels",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("group_id", Serial, ForeignKey("groups.id"), nullable=False),
    _text("member_key"),
    _text("label"),
    Column("slot", Integer, nullable=False),
    _text("kind"),
    _text("shown"),
    Column("secret", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
    Index("ix_channels_group_id_slot", "group_id", "slot"),
    UniqueConstraint("group_id", "member_key", "label", name="uq_channels_group_id_member_key_label"),
    sqlite_autoincrement=True,
    comment="Where signals go beside the events. member_key: empty for the group's own; label: of the URL's digest, slot: of the label; "
    "secret: the URL, encrypted; shown: without its secrets",
)

tokens = Table(
    "tokens",
    metadata,
    Column("id", Octets, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    _text("name", unique=True),
    _text("scopes"),
    Column("domain", Octets, ForeignKey("domains.name", ondelete="CASCADE"), nullable=True),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=True),
    Column("used_at", Float, nullable=True),
    comment="Tokens of the API. digest: of the token, which is kept nowhere; scopes: JSON; domain: the only one it is good for, and goes with it",
)

installation = Table(
    "installation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("secret_digest", LargeBinary, nullable=False),
    Column("at", Float, nullable=False),
    comment="One row. secret_digest: salt and scrypt of HORO_SECRET, so that a process with another one is told",
)
