"""What a domain may send in a day: asked at RCPT whether the day is spent, and counted after the final dot, before the publish.

Domains without such a quota cost nothing here: nobody is asked. Over it mail is put off (452): it waits with whoever sends it, and is in time again
after midnight UTC. Only a post that is larger than a whole day's quota is refused for good, for it would never be in time.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from shared import journal
from shared.directory import Directory
from shared.groups import Domain, Group
from shared.ledger.days import Days, Sent, day_of
from shared.membership import MAX_GROUPS, in_place
from shared.replies import OVER_QUOTA, OVER_QUOTA_EVER, Reply, TransientError

if TYPE_CHECKING:
    from services.ingress.recipients import Accepted, Verdicts

Identity = tuple[str, str, str]


class Spent(msgspec.Struct, frozen=True):
    """What was counted for one message: to be given back where it is not published."""

    domain: str
    day: str
    sent: Sent


class Quota:
    """Counts for domains that have a quota. Without a ledger (`days` None) no quota is known."""

    def __init__(self, directory: Directory, days: Days | None) -> None:
        self._directory = directory
        self._days = days

    async def refusal(self, domain: Domain) -> Reply | None:
        """Why the domain takes no post any more today. Raises `LedgerUnavailable`."""
        if self._days is None or not domain.metered:
            return None
        spent = await self._days.spent(domain.name, day_of(time.time()))
        for quota in ("messages", "recipients"):
            limit = getattr(domain, f"{quota}_per_day")
            if limit and getattr(spent, quota) >= limit:
                journal.over_quota(domain.name, quota=quota)
                return OVER_QUOTA
        return None

    @asynccontextmanager
    async def spending(self, targets: Mapping[Identity, Accepted], verdicts: Verdicts) -> AsyncIterator[list[Spent]]:
        """Count a post for those of its groups that pass; where it is too much, that becomes their verdict.

        What stands in the list at the end, or when it comes to nothing, is given back: who has published takes it out. Raises `LedgerUnavailable`,
        `DirectoryUnavailable`.
        """
        spent: list[Spent] = []
        try:
            for name in {each.metered for each in targets.values()} - {""}:
                await self._spend(name, targets, verdicts, spent)
            yield spent
        finally:
            for each in spent:
                await self._give_back(each)

    async def _spend(
        self, name: str, targets: Mapping[Identity, Accepted], verdicts: Verdicts, spent: list[Spent]
    ) -> None:
        domain = await self._directory.domain(name)
        passed = {
            identity: each.group
            for identity, each in targets.items()
            if each.metered == name and each.group is not None and verdicts[identity] is None
        }
        if self._days is None or domain is None or not domain.metered or not passed:
            return
        people = 0
        if domain.recipients_per_day:
            people = sum([await self._reach(group) for group in passed.values()])
        new = Spent(name, day_of(time.time()), Sent(1, people))
        most = Sent(domain.messages_per_day, domain.recipients_per_day)
        if await self._days.spend(name, new.day, new.sent, most):
            spent.append(new)
            return
        had = await self._days.spent(name, new.day)
        journal.over_quota(name, quota="messages" if 0 < most.messages <= had.messages else "recipients")
        ever = most.recipients and people > most.recipients
        verdicts.update(dict.fromkeys(passed, OVER_QUOTA_EVER if ever else OVER_QUOTA))

    async def _give_back(self, spent: Spent) -> None:
        """Best effort: of a ledger that is away the count is one post too high."""
        assert self._days is not None
        try:
            await self._days.give_back(spent.domain, spent.day, spent.sent)
        except TransientError as error:
            journal.unavailable("ledger", error.why)

    async def _reach(self, group: Group) -> int:
        """Members of a group and of the groups that are expanded in it, each as often as they are there: what is known without reading a member."""
        total, seen, waiting = 0, {group.address}, deque([group])
        while waiting and len(seen) <= MAX_GROUPS:
            holder = waiting.popleft()
            total += holder.members
            for row in await self._directory.subgroups(holder.address):
                if row.group is None or row.group in seen:
                    continue
                seen.add(row.group)
                inside = await self._directory.group(row.group)
                if inside is not None and in_place(holder, inside):
                    total -= 1  # the group itself is nobody
                    waiting.append(inside)
        return total
