"""Changing the directory. Every change is one transaction that first bumps the change counter: that serialises writers, so changes are
totally ordered as they are committed, and then logs the keys it touched for the caches to see (P6).
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.database.engine import transact
from shared.database.tables import changes, channels, directory_state, domains, groups, members
from shared.directory import Added, Conflict, DirectoryUnavailable, NewMember, NotFound, rules
from shared.directory.rules import Prepared
from shared.directory.store_channels import StoredChannels
from shared.directory.store_import import GROWN, import_members, note_statistics
from shared.directory.store_quota import within_quota
from shared.directory.store_read import SqlReader
from shared.directory.store_rows import (
    MEMBER_COLUMNS,
    escaped,
    from_prepared,
    from_settings,
    searched,
    to_domain,
    to_member,
    to_settings,
)
from shared.groups import Domain, Group, Member, Settings

LIMIT = 30.0
"""Seconds for one statement of a change: it may wait for another's."""
LONG_LIMIT = 300.0
"""Seconds for one that touches every member of a group."""
CHUNK = 500
"""Members in one statement: SQLite takes 32,766 parameters."""
KEEP_SECONDS = 3600.0
KEEP_CHANGES = 10_000
PRUNE_EVERY = 256

T = TypeVar("T")
Listener = Callable[[int, Sequence[str]], None]


class Change:
    """A change in the making: its number, and the keys that it has touched so far."""

    def __init__(self, connection: AsyncConnection, seq: int) -> None:
        self.sql = connection
        self.seq = seq
        self.keys: dict[str, None] = {}

    def touched(self, kind: str, name: str) -> None:
        """Note that what caches know of this key holds no longer."""
        self.keys[f"{kind}:{name}"] = None


async def begin(connection: AsyncConnection) -> Change:
    """Take the counter, before anything else of the transaction: whoever comes second waits here."""
    bump = update(directory_state).values(seq=directory_state.c.seq + 1).returning(directory_state.c.seq)
    seq = (await connection.execute(bump)).scalar_one_or_none()
    if seq is None:
        raise DirectoryUnavailable("the change counter is missing: the database is damaged")
    return Change(connection, seq)


async def finish(change: Change) -> None:
    """Log what was touched, and now and then forget what no cache asks for any more."""
    if change.keys:
        now = time.time()
        await change.sql.execute(insert(changes), [{"seq": change.seq, "key": key, "at": now} for key in change.keys])
    if change.seq % PRUNE_EVERY == 0:
        await _prune(change, time.time() - KEEP_SECONDS)


async def _prune(change: Change, before: float) -> None:
    newest = select(changes.c.seq).where(changes.c.at < before, changes.c.seq <= change.seq - KEEP_CHANGES)
    floor = await change.sql.scalar(newest.order_by(changes.c.seq.desc()).limit(1))
    if floor is not None:
        await change.sql.execute(delete(changes).where(changes.c.seq <= floor))
        await change.sql.execute(update(directory_state).values(floor=floor))


class SqlDirectory(StoredChannels, SqlReader):
    """The port `Registry` on SQL. `listener`, where set, is told of this process's own changes when they are committed."""

    listener: Listener | None = None

    async def _change(self, work: Callable[[Change], Awaitable[T]], *, limit: float = LIMIT) -> T:
        done: list[Change] = []

        async def attempt(connection: AsyncConnection) -> T:
            change = await begin(connection)
            result = await work(change)
            await finish(change)
            done[:] = [change]
            return result

        result = await transact(self._engine, DirectoryUnavailable, attempt, limit=limit)
        self._tell(done[0])
        return result

    def _tell(self, change: Change) -> None:
        if self.listener is not None and change.keys:
            self.listener(change.seq, tuple(change.keys))

    # --- domains -----------------------------------------------------------------------------------------------------
    async def create_domain(self, name: str, **changes: Any) -> Domain:
        """A new domain. Raises `Conflict`, `DirectoryError`."""
        made = rules.domain(Domain(name=rules.domain_name(name)), changes)

        async def work(change: Change) -> Domain:
            if await _domain(change.sql, made.name) is not None:
                raise Conflict(f"the domain {made.name} is there already")
            await _add_domain(change, made)
            return made

        return await self._change(work)

    async def set_domain(self, name: str, **changes: Any) -> Domain:
        """Change a domain's settings. Raises `NotFound`, `DirectoryError`."""
        key = rules.domain_name(name)

        async def work(change: Change) -> Domain:
            found = await _domain(change.sql, key)
            if found is None:
                raise NotFound(f"there is no domain {key}")
            made = rules.domain(found, changes)
            await change.sql.execute(
                update(domains).where(domains.c.name == key).values(**msgspec.structs.asdict(made))
            )
            change.touched("domain", key)
            return made

        return await self._change(work)

    async def delete_domain(self, name: str) -> None:
        """Delete a domain. Raises `Conflict` while it has groups, `NotFound`."""
        key = rules.domain_name(name)

        async def work(change: Change) -> None:
            first = await change.sql.scalar(select(groups.c.address).where(groups.c.domain == key).limit(1))
            if first is not None:
                raise Conflict(f"the domain {key} still has groups, {first} among them: delete them first")
            if (await change.sql.execute(delete(domains).where(domains.c.name == key))).rowcount == 0:
                raise NotFound(f"there is no domain {key}")
            change.touched("domain", key)

        await self._change(work)

    # --- groups ------------------------------------------------------------------------------------------------------
    async def create_group(self, address: str, *, members: Iterable[NewMember] = (), **settings: Any) -> Group:
        """A new group; adds a missing domain. Raises `Conflict` for a name taken or reserved, `DirectoryError`."""
        key = rules.new_group_key(address)
        name = key.rpartition("@")[2]
        made = rules.settings(Settings(), settings, name)
        rows = rules.members(members, name)

        async def work(change: Change) -> Group:
            if await change.sql.scalar(select(groups.c.id).where(groups.c.address == key)) is not None:
                raise Conflict(f"the group {key} is there already")
            if await _domain(change.sql, name) is None:
                await _add_domain(change, Domain(name=name))
            values = {"address": key, "domain": name, "settings": from_settings(made), "members": 0}
            query = insert(groups).values(**values, search=searched(key, made)).returning(groups.c.id)
            group_id = (await change.sql.execute(query)).scalar_one()
            added = await _add(change, group_id, rows)
            await within_quota(change.sql, name, more_groups=True, more_members=added)
            await _appeared(change, key)
            change.touched("group", key)
            return Group(id=group_id, address=key, settings=made, members=added, seq=change.seq)

        return await self._change(work)

    async def set_group(self, address: str, **settings: Any) -> Group:
        """Change a group's settings. Raises `NotFound`, `DirectoryError`."""
        key = rules.group_key(address)

        async def work(change: Change) -> Group:
            row = await _group_row(change.sql, key)
            made = rules.settings(to_settings(row.settings, key), settings, row.domain)
            values = {"settings": from_settings(made), "search": searched(key, made)}
            await change.sql.execute(update(groups).where(groups.c.id == row.id).values(**values))
            change.touched("group", key)
            return Group(id=row.id, address=key, settings=made, members=row.members, seq=change.seq)

        return await self._change(work)

    async def delete_group(self, address: str) -> None:
        """Delete a group and its members. Raises `NotFound`."""
        key = rules.group_key(address)

        async def work(change: Change) -> None:
            row = await _group_row(change.sql, key)
            await change.sql.execute(delete(channels).where(channels.c.group_id == row.id))
            await change.sql.execute(delete(members).where(members.c.group_id == row.id))
            await change.sql.execute(delete(groups).where(groups.c.id == row.id))
            await _mark(change, members.c.group_key == key, None)
            change.touched("group", key)

        await self._change(work, limit=LONG_LIMIT)

    # --- members -----------------------------------------------------------------------------------------------------
    async def add_members(self, address: str, members: Iterable[NewMember]) -> Added:
        """Add members; who is there already stays as they are. Raises `NotFound`, `DirectoryError`."""
        key = rules.group_key(address)
        rows = rules.members(members, key.rpartition("@")[2])

        async def work(change: Change) -> Added:
            row = await _group_row(change.sql, key)
            added = await _add(change, row.id, rows)
            if added:
                await within_quota(change.sql, row.domain, more_members=added)
                change.touched("group", key)
            return Added(added=added, present=len(rows) - added)

        return await self._change(work, limit=LONG_LIMIT)

    async def remove_members(self, address: str, members: Iterable[str]) -> int:
        """Remove members, by address or bare name; how many were there. Raises `NotFound`."""
        key = rules.group_key(address)
        keys = list(dict.fromkeys(rules.member_key(text, key.rpartition("@")[2]) for text in members))

        async def work(change: Change) -> int:
            row = await _group_row(change.sql, key)
            removed = await _remove(change, row.id, keys)
            if removed:
                change.touched("group", key)
            return removed

        return await self._change(work, limit=LONG_LIMIT)

    async def set_member(self, address: str, member: str, **changes: Any) -> Member:
        """Change `name`, `paused`, `own_copies` or `bounce`. Raises `NotFound`, `DirectoryError`."""
        key = rules.group_key(address)
        who = rules.member_key(member, key.rpartition("@")[2])
        columns = rules.member_changes(changes)

        async def work(change: Change) -> Member:
            row = await _group_row(change.sql, key)
            where = (members.c.group_id == row.id, members.c.key == who)
            if columns:
                await change.sql.execute(update(members).where(*where).values(**columns))
            found = (await change.sql.execute(select(*MEMBER_COLUMNS).where(*where))).first()
            if found is None:
                raise NotFound(f"{rules.shown(member)} is no member of {key}")
            change.touched("group", key)
            return to_member(found)

        return await self._change(work)

    async def import_members(
        self, address: str, members: AsyncIterator[Sequence[NewMember]], *, replace: bool = False
    ) -> Added:
        """All or nothing, in one transaction, page by page; `replace` removes members that are not in the import."""
        key = rules.group_key(address)
        async with import_members(self._engine, key, members, replace=replace) as merge:
            change = await begin(merge.sql)
            added = await merge.run(change.touched)
            await within_quota(merge.sql, key.rpartition("@")[2], more_members=added.added - added.removed)
            await finish(change)
        self._tell(change)
        if added.added >= GROWN:
            await note_statistics(self._engine)
        return added


# --- steps of a change -----------------------------------------------------------------------------------------------
async def _domain(sql: AsyncConnection, name: str) -> Domain | None:
    row = (await sql.execute(select(domains).where(domains.c.name == name))).first()
    return None if row is None else to_domain(row)


async def _add_domain(change: Change, domain: Domain) -> None:
    await change.sql.execute(insert(domains).values(**msgspec.structs.asdict(domain)))
    change.touched("domain", domain.name)


async def _group_row(sql: AsyncConnection, key: str) -> Any:
    row = (await sql.execute(select(groups).where(groups.c.address == key))).first()
    if row is None:
        raise NotFound(f"there is no group {key}")
    return row


async def _appeared(change: Change, key: str) -> None:
    """A group is there now: memberships of its address, with or without +tag, are memberships of a group."""
    local, _, domain = key.rpartition("@")
    like = members.c.key.like(f"{escaped(local)}+%@{escaped(domain)}", escape="\\")
    tagged = (members.c.key >= f"{local}+") & (members.c.key < f"{local},") & like  # the range is for the index
    await _mark(change, (members.c.key == key) | tagged, key)


async def _mark(change: Change, condition: Any, group_key: str | None) -> None:
    """Say of memberships which group they are of, and tell those who know the groups that hold them."""
    marked = update(members).where(condition).values(group_key=group_key).returning(members.c.group_id)
    holders = sorted({row.group_id for row in await change.sql.execute(marked)})
    for start in range(0, len(holders), CHUNK):
        query = select(groups.c.address).where(groups.c.id.in_(holders[start : start + CHUNK]))
        for row in await change.sql.execute(query):
            change.touched("group", row.address)


async def _add(change: Change, group_id: int, rows: Sequence[Prepared]) -> int:
    """Insert those who are not there yet, and keep the group's count."""
    added = 0
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        query = select(members.c.key).where(
            members.c.group_id == group_id, members.c.key.in_([row.key for row in chunk])
        )
        there = set((await change.sql.execute(query)).scalars())
        known = await _known_groups(change.sql, {row.base for row in chunk})
        values = [from_prepared(row, group_id, known.get(row.base)) for row in chunk if row.key not in there]
        if values:
            await change.sql.execute(insert(members), values)
            added += len(values)
    await _count(change, group_id, added)
    return added


async def _known_groups(sql: AsyncConnection, bases: set[str]) -> Mapping[str, str]:
    query = select(groups.c.address).where(groups.c.address.in_(sorted(bases)))
    return {address: address for address in (await sql.execute(query)).scalars()}


async def _remove(change: Change, group_id: int, keys: Sequence[str]) -> int:
    removed = 0
    for start in range(0, len(keys), CHUNK):
        chunk = keys[start : start + CHUNK]
        query = delete(members).where(members.c.group_id == group_id, members.c.key.in_(chunk))
        removed += (await change.sql.execute(query)).rowcount
        await change.sql.execute(
            delete(channels).where(channels.c.group_id == group_id, channels.c.member_key.in_(chunk))
        )
    await _count(change, group_id, -removed)
    return removed


async def _count(change: Change, group_id: int, difference: int) -> None:
    if difference:
        await change.sql.execute(
            update(groups).where(groups.c.id == group_id).values(members=groups.c.members + difference)
        )
