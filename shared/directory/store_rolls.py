"""Members by the thousand, as a fan-out reads them: a line of text a member, the lines of a cell in one value.

A row a member costs the server, the driver and the process several times what the member itself does; here a row is a cell. Nobody's name is
read, and of those whose address is their key and who have no state, nothing but the key is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, Select, and_, case, cast, func, literal, literal_column, select
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database.engine import read
from shared.database.tables import groups, members
from shared.directory import MOST_IN_ROLLS, DirectoryUnavailable
from shared.groups import SLOTS, Member, Roll

GROUPS = 500
"""Groups that one statement reads."""

# No address has a control character in it (`shared.address`).
_END, _TAB = "\n", "\t"
_SLOT_BITS = SLOTS.bit_length() - 1  # a constant of the statement: the operator wants an int4
_PLAIN = and_(
    ~members.c.paused, ~members.c.own_copies, members.c.bounce == literal("ok"), members.c.group_key.is_(None)
)


def _line() -> Any:
    """One member: the key; the key and the address; or these, the state and the group that it stands for."""
    written = members.c.key.concat(_TAB).concat(members.c.address)
    state = (
        case((members.c.paused, "p"), else_="")
        .concat(case((members.c.own_copies, "o"), else_=""))
        .concat(case((members.c.bounce == literal("suspended"), "s"), else_=""))
    )
    whole = written.concat(_TAB).concat(state).concat(_TAB).concat(func.coalesce(members.c.group_key, ""))
    return case((and_(_PLAIN, members.c.address == members.c.key), members.c.key), (_PLAIN, written), else_=whole)


def _query(groups: Sequence[int], cells: int, low: int, high: int) -> Select[Any]:
    """By the groups' numbers, as elsewhere (`store_read`): a join hides from the planner how large each one is."""
    cell = (cast(members.c.slot, BigInteger) * cells).bitwise_rshift(literal_column(str(_SLOT_BITS)))
    found = (
        select(members.c.group_id, cell.label("cell"), _line().label("line"))
        .where(members.c.group_id.in_(groups))
        .limit(MOST_IN_ROLLS + 1)
    )
    if (low, high) != (0, SLOTS):
        found = found.where(members.c.slot >= low, members.c.slot <= high - 1)  # SLOTS itself is no int4
    lines = found.subquery()
    together = func.aggregate_strings(lines.c.line, _END)
    return select(lines.c.group_id, lines.c.cell, func.count(), together).group_by(lines.c.group_id, lines.c.cell)


async def read_rolls(
    engine: AsyncEngine, keys: Sequence[str], *, cells: int, low: int, high: int
) -> dict[str, dict[int, Roll]]:
    """The rolls of the groups, by cell, of members with slots in [low, high). Raises `DirectoryUnavailable`, for too many of them too."""
    low, high = max(low, 0), min(high, SLOTS)
    found: dict[str, dict[int, Roll]] = {}
    people = 0
    for start in range(0, len(keys) if low < high else 0, GROUPS):
        chosen = select(groups.c.id, groups.c.address).where(groups.c.address.in_(keys[start : start + GROUPS]))
        async with read(engine, DirectoryUnavailable) as connection:
            names = {row.id: row.address for row in await connection.execute(chosen)}
            rows = (await connection.execute(_query(list(names), cells, low, high))).all()
        people += sum(count for _, _, count, _ in rows)
        if people > MOST_IN_ROLLS:
            raise DirectoryUnavailable(f"more than {MOST_IN_ROLLS} members in one range of slots")
        for number, cell, _, text in rows:
            found.setdefault(names[number], {})[cell] = to_roll(text)
    return found


def to_roll(text: str) -> Roll:
    """The roll of a cell's lines, in whatever order they come."""
    lines = text.split(_END)
    lines.sort()  # by the key and then by what cannot be in one: in the order of keys
    if _TAB not in text:
        return Roll(lines)
    return _mixed(lines)


def _mixed(lines: Sequence[str]) -> Roll:
    keys: list[str] = []
    spelled: dict[str, str] = {}
    others: list[Member] = []
    for line in lines:
        key, _, rest = line.partition(_TAB)
        address, _, state = rest.partition(_TAB)
        if state:
            others.append(_member(key, address, state))
            continue
        keys.append(key)
        if address:
            spelled[key] = address
    return Roll(keys, spelled, tuple(others))


def _member(key: str, address: str, said: str) -> Member:
    state, _, group = said.partition(_TAB)
    return Member(
        address=address,
        key=key,
        paused="p" in state,
        own_copies="o" in state,
        bounce="suspended" if "s" in state else "ok",
        group=group or None,
    )
