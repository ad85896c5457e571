"""The tables of the ledger, on the metadata of `shared.database.tables`.

The layout is made for tens of millions of outcomes a day: they are written as sheets (`attempts`, `shares`), one row for what one batch or one
share says of all its recipients, and a row is never changed. Post ids sort by time and every key of a large table but `people` begins with
one, so that rows are appended. What an outsider makes long is shortened before it becomes a key (`rows.bounded`).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, SmallInteger, Table, Text

from shared.database.tables import Octets, Serial, metadata


def _text(name: str) -> Column[str]:
    return Column(name, Text(), nullable=False)


def _key(name: str, *, primary: bool = False) -> Column[str]:
    return Column(name, Octets, primary_key=primary, nullable=False)


def _time(name: str) -> Column[float]:
    return Column(name, Double(), nullable=False)


posts = Table(
    "posts",
    metadata,
    _key("id", primary=True),
    _time("accepted_at"),
    Column("size", BigInteger(), nullable=False),
    Column("body_size", BigInteger(), nullable=True),
    Column("cells", Integer(), nullable=False),
    Column("slices", Integer(), nullable=False),
    _text("mail_from"),
    _text("author"),
    _text("message_id"),
    _key("message_key"),
    _text("subject"),
    _text("ip"),
    Column("envid", Text(), nullable=True),
    Column("ret", Text(), nullable=True),
    Column("parent", Text(), nullable=True),
    Column("body_key", Octets, nullable=True),
    Column("body_sha256", Text(), nullable=True),
    Column("graph", Text(), nullable=True),
    Index("ix_posts_message_key", "message_key"),
)
Index(
    "ix_posts_body_key",
    posts.c.body_key,
    postgresql_where=posts.c.body_key.is_not(None),
    sqlite_where=posts.c.body_key.is_not(None),
)

post_groups = Table(
    "post_groups",
    metadata,
    _key("post_id", primary=True),
    _key("group_key", primary=True),
    Column("position", Integer(), nullable=False),
    _text("verdict"),
    _key("token"),
    _text("thread_author"),
    _text("detail"),
    Index("ix_post_groups_group_key_post_id", "group_key", "post_id"),
    comment="A target of a post; detail is the rest of its record, as JSON",
)
Index(
    "ix_post_groups_token",
    post_groups.c.token,
    postgresql_where=post_groups.c.token != "",
    sqlite_where=post_groups.c.token != "",
)

fingerprints = Table(
    "fingerprints",
    metadata,
    _key("fingerprint", primary=True),
    _key("post_id"),
    _time("at"),
    Index("ix_fingerprints_at", "at"),
    comment="What a post is (hexadecimal), known for a week: whoever comes second is a repetition",
)

attempts = Table(
    "attempts",
    metadata,
    _key("post_id", primary=True),
    Column("cell", Integer(), primary_key=True, autoincrement=False, nullable=False),
    Column("mark", BigInteger(), primary_key=True, autoincrement=False, nullable=False),
    Column("seq", BigInteger(), nullable=False),
    _time("at"),
    Column("digest", BigInteger(), nullable=False),
    Column("attempts", SmallInteger(), nullable=False),
    Column("delivered", Integer(), nullable=False),
    Column("failed", Integer(), nullable=False),
    Column("deferred", Integer(), nullable=False),
    _key("group_key"),
    _text("content"),
    comment="What became of a batch. mark: of group, attempt and content; seq: the order of telling; digest: of the keys that are final",
)

shares = Table(
    "shares",
    metadata,
    _key("post_id", primary=True),
    _key("group_key", primary=True),
    Column("number", Integer(), primary_key=True, autoincrement=False, nullable=False),
    Column("mark", BigInteger(), primary_key=True, autoincrement=False, nullable=False),
    Column("parts", Integer(), nullable=False),
    Column("seq", BigInteger(), nullable=False),
    _time("at"),
    Column("digest", BigInteger(), nullable=False),
    Column("announced", Integer(), nullable=False),
    Column("queued", Integer(), nullable=False),
    Column("suppressed", Integer(), nullable=False),
    Column("signature", Text(), nullable=True),
    _text("content"),
    comment="Who gets a copy and who does not, by shares. digest: of the keys that are queued; signature: of a share of many",
)
Index(
    "ix_shares_big",
    shares.c.parts,
    shares.c.number,
    shares.c.post_id,
    postgresql_where=shares.c.signature.is_not(None),
    sqlite_where=shares.c.signature.is_not(None),
)

people = Table(
    "people",
    metadata,
    Column("hash", BigInteger(), primary_key=True, autoincrement=False, nullable=False),
    _key("post_id", primary=True),
    sqlite_with_rowid=False,
    comment="Posts by the addresses of their small shares; hash: 63 bits of the key",
)

claims = Table(
    "claims",
    metadata,
    _key("post_id", primary=True),
    Column("cell", Integer(), primary_key=True, autoincrement=False, nullable=False),
    _key("hop", primary=True),
    _key("owner"),
    _time("until"),
    comment="What senders are at; until is by the database's own clock",
)

parked = Table(
    "parked",
    metadata,
    Column("id", Serial, primary_key=True),
    Column("tries", Integer(), nullable=False),
    _time("at"),
    _text("queue"),
    _text("reason"),
    Column("payload", LargeBinary(), nullable=False),
    Column("mark", Octets, nullable=False, unique=True),
    sqlite_autoincrement=True,  # a number that a person has noted down is never another message's
)

parked_bodies = Table(
    "parked_bodies",
    metadata,
    Column("parked_id", Serial, primary_key=True, autoincrement=False),
    _key("body_key", primary=True),
    Index("ix_parked_bodies_body_key", "body_key"),
)

refusals = Table(
    "refusals",
    metadata,
    _key("digest", primary=True),
    _time("at"),
    Column("code", SmallInteger(), nullable=False),
    _key("group_key"),
    _text("mail_from"),
    _text("status"),
    _text("reply"),
    _text("ip"),
    Index("ix_refusals_group_key_at", "group_key", "at"),
    Index("ix_refusals_at", "at"),
    comment="The last recipients that were refused in the session, a bounded number",
)

refusal_counts = Table(
    "refusal_counts",
    metadata,
    _key("group_key", primary=True),
    _key("day", primary=True),
    Column("refused", BigInteger(), nullable=False),
    comment="How many recipients of a group were refused on a day (UTC, ISO 8601)",
)

notes = Table(
    "notes",
    metadata,
    _key("post_id", primary=True),
    Column("mark", BigInteger(), primary_key=True, autoincrement=False, nullable=False),
    _time("at"),
    _text("kind"),
    _key("group_key"),
    _text("detail"),
    comment="What happened to a post beside its copies: reports, bounces. mark: of what makes the note one; detail: JSON",
)

domain_days = Table(
    "domain_days",
    metadata,
    _key("domain", primary=True),
    _key("day", primary=True),
    Column("messages", BigInteger(), nullable=False),
    Column("recipients", BigInteger(), nullable=False),
    comment="What domains with a quota have sent on a day (UTC, ISO 8601): messages accepted, and the recipients that their groups had",
)

due = Table(
    "due",
    metadata,
    _key("id", primary=True),
    _time("at"),
    _time("since"),
    Column("tries", Integer(), nullable=False),
    Column("puts", Integer(), nullable=False),
    _key("post_id"),
    _key("group_key"),
    _text("kind"),
    _text("detail"),
    Index("ix_due_at", "at"),
    comment="Reports that wait for something. at: when to look at it next; since: when it became due; detail: JSON",
)

bounces = Table(
    "bounces",
    metadata,
    _key("group_key", primary=True),
    _key("member_key", primary=True),
    _key("day", primary=True),
    _time("at"),
    _key("post_id"),
    _text("source"),
    _text("status"),
    _text("reply"),
    Index("ix_bounces_at", "at"),
    comment="Permanent failures of a member's address, one a day (UTC, ISO 8601) at most: what suspends a member",
)

probes = Table(
    "probes",
    metadata,
    _key("token", primary=True),
    _key("group_key"),
    _key("member_key"),
    _time("at"),
    Index("ix_probes_group_key_member_key", "group_key", "member_key"),
    comment="Messages that ask whether a member's address works, by the token of their bounce address",
)

suspensions = Table(
    "suspensions",
    metadata,
    _key("group_key", primary=True),
    _key("member_key", primary=True),
    _key("id"),
    _time("at"),
    _key("post_id"),
    _text("reason"),
    comment="Members whose suspension has been told. id: of the failures that led to it; the state itself is the directory's",
)
