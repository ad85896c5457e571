"""What the pipeline asks of a group for the first time: answered over a line, with the questions of others in one trip.

A message to a group that this process has not seen lately waits for three answers (the domain, the group, its members); through a pool and an
engine each of them cost more CPU than the message itself. An answer comes with the change that it was read at: the counter is read before
the rest, so that a stamp is never newer than its value.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database.batch import Batcher, Entry
from shared.database.line import Rows, Step, open_line
from shared.directory import DirectoryUnavailable
from shared.directory.store_rows import DOMAIN_COLUMNS, MEMBER_COLUMNS, to_domain, to_group, to_member
from shared.groups import Domain, Group, Member
from shared.replies import TransientError

QUESTIONS = 100
"""Questions of one trip: a hundred lists of five hundred members are as much as is kept of one at a time (P10)."""

Answer = tuple[Any, int]


def _step(body: str, values: dict[str, Any]) -> Step:
    """A statement over the names in `values`, a table `r` in it."""
    rows = {
        "sqlite": "SELECT value AS name FROM json_each(:names)",
        "postgresql": "SELECT jsonb_array_elements_text(CAST(%(names)s AS jsonb)) AS name",
    }
    texts = {
        "sqlite": f"WITH r AS ({rows['sqlite']}) {body.format(most=':most')}",
        "postgresql": f"WITH r AS ({rows['postgresql']}) {body.format(most='%(most)s')}",
    }
    return Step(texts, values)


_COUNTER = Step(dict.fromkeys(("sqlite", "postgresql"), "SELECT seq FROM directory_state WHERE id = 1"), {})
_DOMAINS = f"SELECT {', '.join(f'd.{name}' for name in DOMAIN_COLUMNS)} FROM r JOIN domains d ON d.name = r.name"  # noqa: S608
_GROUPS = "SELECT g.id, g.address, g.settings, g.members FROM r JOIN groups g ON g.address = r.name"
# A list that is too long is told of, and not read; a line asks by index, so how long the others are is no matter (`store_read._of_group`).
_MEMBERS = (
    "SELECT g.address, g.members, "  # noqa: S608
    + ", ".join(f"m.{column.name}" for column in MEMBER_COLUMNS)
    + " FROM r JOIN groups g ON g.address = r.name LEFT JOIN members m ON m.group_id = g.id AND g.members <= {most}"
)


class _GroupRow(NamedTuple):
    id: int
    address: str
    settings: str
    members: int


class Asked:
    """Questions about domains, groups and short lists, many in one trip."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._line = open_line(engine, DirectoryUnavailable, writing=False)
        self._batch = Batcher(self._answer, _poisonous, DirectoryUnavailable, parallel=1, limit=QUESTIONS)

    async def domain(self, name: str) -> tuple[Domain | None, int]:
        """The domain, and the change it was read at."""
        return await self._batch.submit("domain", name)  # type: ignore[no-any-return]

    async def group(self, key: str) -> tuple[Group | None, int]:
        """The group, and the change it was read at."""
        return await self._batch.submit("group", key)  # type: ignore[no-any-return]

    async def few_members(self, key: str, most: int) -> tuple[Sequence[Member] | None, int]:
        """All members in key order, or None where there are more than `most`; and the change they were read at."""
        return await self._batch.submit("members", (key, most))  # type: ignore[no-any-return]

    async def close(self) -> None:
        """Answer what was asked, then let go of the connection."""
        await self._batch.close()
        await self._line.close()

    async def _answer(self, entries: Sequence[Entry]) -> list[Answer]:
        kinds = {kind: [entry.payload for entry in entries if entry.kind == kind] for kind in ("domain", "group")}
        lists = [entry.payload for entry in entries if entry.kind == "members"]
        most = max((limit for _, limit in lists), default=0)
        told = await self._line.run(
            [
                _COUNTER,
                *([_step(_DOMAINS, {"names": _names(kinds["domain"])})] if kinds["domain"] else []),
                *([_step(_GROUPS, {"names": _names(kinds["group"])})] if kinds["group"] else []),
                *([_step(_MEMBERS, {"names": _names([key for key, _ in lists]), "most": most})] if lists else []),
            ]
        )
        if not (counter := told.pop(0)):
            raise DirectoryUnavailable("the change counter is missing: the database is damaged")
        seq = counter[0][0]
        domains = {row[0]: to_domain(row) for row in (told.pop(0) if kinds["domain"] else ())}
        groups = {row[1]: to_group(_GroupRow(*row), seq) for row in (told.pop(0) if kinds["group"] else ())}
        members = _lists(told.pop(0)) if lists else {}
        return [(_found(entry, domains, groups, members), seq) for entry in entries]


def _found(
    entry: Entry, domains: dict[str, Domain], groups: dict[str, Group], members: dict[str, tuple[int, list[Member]]]
) -> Any:
    if entry.kind == "domain":
        return domains.get(entry.payload)
    if entry.kind == "group":
        return groups.get(entry.payload)
    key, most = entry.payload
    count, found = members.get(key, (0, []))
    return None if count > most or len(found) > most else found


def _lists(rows: Rows) -> dict[str, tuple[int, list[Member]]]:
    """By group: how many members it has, and those that were read, in key order."""
    found: dict[str, tuple[int, list[Member]]] = {}
    for address, count, *member in rows:
        its = found.setdefault(address, (count, []))[1]
        if member[0] is not None:
            its.append(to_member(member))
    for _, its in found.values():
        its.sort(key=lambda member: member.key)
    return found


def _names(names: Sequence[str]) -> str:
    return msgspec.json.encode(list(dict.fromkeys(names))).decode()


def _poisonous(error: Exception) -> bool:
    """Whether a trip failed for one of its questions: then they are asked one by one."""
    return not isinstance(error, TransientError)
