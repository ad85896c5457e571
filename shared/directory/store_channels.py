"""Channels in SQL. The label's slot stands beside it: a part of a large fan-out reads its own share of the channels alone (P10)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, and_, delete, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import read, transact
from shared.database.tables import channels, groups, members
from shared.directory import Conflict, DirectoryError, DirectoryUnavailable, NotFound, rules
from shared.directory.channels import MOST_OF_GROUP, MOST_OF_MEMBER, Channel, Reach, SealedChannel
from shared.groups import slot

TOGETHER = 500
"""Groups that one statement asks about."""
LIMIT = 30.0
"""Seconds for one change."""

_COLUMNS = (
    channels.c.id,
    groups.c.address.label("group"),
    channels.c.member_key.label("member"),
    channels.c.kind,
    channels.c.shown,
    channels.c.label,
    channels.c.at,
)


class StoredChannels:
    """The directory's channels in one database."""

    _engine: AsyncEngine

    # --- what the pipeline reads ---------------------------------------------------------------------------------------
    async def reached(self, keys: Sequence[str], *, low: int, high: int) -> Sequence[Reach]:
        """The channels of these groups, and of their members who are not paused, with slots in [low, high); by number."""
        found: list[Reach] = []
        async with read(self._engine, DirectoryUnavailable) as connection:
            for start in range(0, len(keys), TOGETHER):
                rows = await connection.execute(_reached(keys[start : start + TOGETHER], low, high))
                found += [Reach(id=row.id, group=row.address, label=row.label) for row in rows]
        return sorted(found, key=lambda reach: reach.id)

    async def sealed_channel(self, number: int) -> SealedChannel | None:
        """One channel, to be notified."""
        query = select(channels.c.kind, channels.c.shown, channels.c.label, channels.c.secret)
        async with read(self._engine, DirectoryUnavailable) as connection:
            row = (await connection.execute(query.where(channels.c.id == number))).first()
        return row and SealedChannel(kind=row.kind, shown=row.shown, label=row.label, secret=bytes(row.secret))

    # --- what people write ---------------------------------------------------------------------------------------------
    async def add_channel(self, group: str, channel: SealedChannel, *, member: str = "") -> Channel:
        """A new channel. Raises `NotFound`, `Conflict`, `DirectoryError`."""
        key = rules.group_key(group)
        who = rules.member_key(member, key.rpartition("@")[2]) if member else ""

        async def work(connection: AsyncConnection) -> Channel:
            group_id = await _group_id(
                connection, key, locked=True
            )  # two who add at once do not both take the last place
            if who:
                await _check_member(connection, group_id, who, f"{rules.shown(member)} is no member of {key}")
            await _check_room(connection, group_id, who, channel.label)
            at = time.time()
            values = {"group_id": group_id, "member_key": who, "slot": slot(channel.label), "at": at}
            values |= {"kind": channel.kind, "shown": channel.shown, "label": channel.label, "secret": channel.secret}
            number = (await connection.execute(insert(channels).values(**values).returning(channels.c.id))).scalar_one()
            return Channel(
                id=number, group=key, member=who, kind=channel.kind, shown=channel.shown, label=channel.label, at=at
            )

        return await transact(self._engine, DirectoryUnavailable, work, limit=LIMIT)

    async def channels(
        self, group: str, *, member: str | None = None, after: int = 0, limit: int = 100
    ) -> Sequence[Channel]:
        """A group's channels by number; of one member, or ("") the group's own. Raises `NotFound`."""
        key = rules.group_key(group)
        async with read(self._engine, DirectoryUnavailable) as connection:
            group_id = await _group_id(connection, key)
            query = select(*_COLUMNS).join(groups, groups.c.id == channels.c.group_id)
            query = query.where(channels.c.group_id == group_id, channels.c.id > after)
            if member is not None:
                who = rules.member_key(member, key.rpartition("@")[2]) if member else ""
                query = query.where(channels.c.member_key == who)
            rows = await connection.execute(query.order_by(channels.c.id).limit(limit))
            return [Channel(**row) for row in rows.mappings()]

    async def remove_channel(self, group: str, number: int) -> None:
        """Forget a channel. Raises `NotFound`."""
        key = rules.group_key(group)

        async def work(connection: AsyncConnection) -> None:
            group_id = await _group_id(connection, key)
            where = (channels.c.group_id == group_id, channels.c.id == number)
            if (await connection.execute(delete(channels).where(*where))).rowcount == 0:
                raise NotFound(f"{key} has no channel {number}; `horo channel list {key}` lists them")

        await transact(self._engine, DirectoryUnavailable, work, limit=LIMIT)


def _reached(keys: Sequence[str], low: int, high: int) -> Select[Any]:
    """By an outer join: a group's own channel has no member, and one whose member is gone or paused is not reached."""
    mine = and_(members.c.group_id == channels.c.group_id, members.c.key == channels.c.member_key)
    query = select(channels.c.id, channels.c.label, groups.c.address)
    query = query.select_from(
        channels.join(groups, groups.c.id == channels.c.group_id).join(members, mine, isouter=True)
    )
    # SLOTS itself is no int4
    within = (channels.c.slot >= low, channels.c.slot <= high - 1)
    return query.where(
        groups.c.address.in_(keys),
        *within,
        or_(channels.c.member_key == "", members.c.paused.is_(False)),
    )


async def _group_id(connection: AsyncConnection, key: str, *, locked: bool = False) -> int:
    query = select(groups.c.id).where(groups.c.address == key)
    found = await connection.scalar(query.with_for_update() if locked else query)
    if found is None:
        raise NotFound(f"there is no group {key}")
    return int(found)


async def _check_member(connection: AsyncConnection, group_id: int, who: str, otherwise: str) -> None:
    query = select(members.c.group_key).where(members.c.group_id == group_id, members.c.key == who)
    row = (await connection.execute(query)).first()
    if row is None:
        raise NotFound(otherwise)
    if row.group_key is not None:
        raise DirectoryError(f"{who} is a group: give the channel to that group itself")


async def _check_room(connection: AsyncConnection, group_id: int, who: str, label: str) -> None:
    mine = (channels.c.group_id == group_id, channels.c.member_key == who)
    if await connection.scalar(select(channels.c.id).where(*mine, channels.c.label == label)) is not None:
        raise Conflict("the same channel is there already")
    most = MOST_OF_MEMBER if who else MOST_OF_GROUP
    if int(await connection.scalar(select(func.count()).select_from(channels).where(*mine)) or 0) >= most:
        raise DirectoryError(f"no more than {most} channels: remove one first")
