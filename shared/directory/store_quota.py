"""How many groups and memberships a domain may have: looked at in the transaction that adds some, so that two at once do not both fit."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database.tables import domains, groups
from shared.directory import Conflict


async def within_quota(sql: AsyncConnection, domain: str, *, more_groups: bool = False, more_members: int = 0) -> None:
    """Raise `Conflict` where what was just added is more than the domain may have; the transaction then changes nothing.

    A domain that has too many already (its quota was lowered) keeps them, and may take some away.
    """
    columns = domains.c
    query = select(columns.max_groups, columns.max_members).where(columns.name == domain)
    most = (await sql.execute(query)).one()
    if more_groups and most.max_groups:
        count = await sql.scalar(select(func.count()).where(groups.c.domain == domain)) or 0
        if count > most.max_groups:
            raise Conflict(f"the domain {domain} may have {most.max_groups:,} groups and has them all (max_groups)")
    if more_members > 0 and most.max_members:
        count = await sql.scalar(select(func.sum(groups.c.members)).where(groups.c.domain == domain)) or 0
        if count > most.max_members:
            had = f"has {count - more_members:,}, and {more_members:,} more are too many"
            raise Conflict(
                f"the groups of {domain} may have {most.max_members:,} members in all (max_members): it {had}"
            )
