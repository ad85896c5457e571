"""What a domain may have and may send in a day, whether it is suspended, and what it has sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

QUOTAS = ("max_groups", "max_members", "messages_per_day", "recipients_per_day")


def upgrade() -> None:
    """Add the columns, with defaults of the database's own: the Horo before this one still makes domains while it is replaced."""
    op.add_column("domains", sa.Column("suspended", sa.Boolean(), nullable=False, server_default=sa.false()))
    for name in QUOTAS:
        op.add_column("domains", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    octets = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
    op.create_table(
        "domain_days",
        sa.Column("domain", octets, nullable=False),
        sa.Column("day", octets, nullable=False),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("recipients", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain", "day", name="pk_domain_days"),
        comment="What domains with a quota have sent on a day (UTC, ISO 8601): messages accepted, and the recipients that their groups had",
    )
