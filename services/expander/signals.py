"""Signals: a request to a group (chat, notification) becomes its members, or is suppressed where the group refuses signals.

All sub-groups are expanded in place, each once, but those that refuse signals themselves and those of another domain that do not allow it:
a signal has no policy of its own that would need a sub-group to judge it. The switches about mail (`disabled`, `expand_groups`, filters on
headers) say nothing here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from shared.bus import Bus, Incoming, Outgoing
from shared.directory import Directory
from shared.groups import SLOTS, Group
from shared.messages import Signal, SignalExpanded, Undecodable, Wire, encode
from shared.topology import Queue

MAX_GROUPS = 10_000
"""Groups that one signal may enter."""

PAGE = 1000
"""Members that one message to the reporter names."""

SPAN = 2_000
"""Memberships that one slot range holds, about: what de-duplication keeps in memory (P10)."""


class SignalStory:
    """Works the queue `signals`."""

    def __init__(self, *, bus: Bus, directory: Directory) -> None:
        self._bus = bus
        self._directory = directory

    async def handle(self, message: Wire, incoming: Incoming) -> None:
        """Resolve one signal and tell the reporter."""
        if not isinstance(message, Signal):
            raise Undecodable(f"a {type(message).__name__} is no signal")
        group = await self._directory.group(message.group)
        if group is None:
            await self._tell(SignalExpanded(signal=message, suppressed="unknown_group"))
            return
        groups = await self._groups(group)
        count = 0
        async for page in self._people(groups):
            count += len(page)
            if group.settings.disable_signals:
                continue
            for start in range(0, len(page), PAGE):
                await self._tell(SignalExpanded(signal=message, members=tuple(page[start : start + PAGE])))
        if group.settings.disable_signals:
            await self._tell(SignalExpanded(signal=message, suppressed="disabled", spared=count))
        elif not count:
            await self._tell(SignalExpanded(signal=message, suppressed="no_members"))

    async def _tell(self, message: SignalExpanded) -> None:
        await self._bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=encode(message)))

    async def _groups(self, target: Group) -> list[Group]:
        """The group and the sub-groups that a signal to it reaches, each once."""
        seen = {target.address}
        groups = [target]
        for holder in groups:  # grows as it goes
            for member in await self._directory.subgroups(holder.address):
                if member.paused or member.group is None or member.group in seen or len(groups) >= MAX_GROUPS:
                    continue
                seen.add(member.group)
                group = await self._directory.group(member.group)
                if group is not None and not group.settings.disable_signals and _allows(group, holder):
                    groups.append(group)
        return groups

    async def _people(self, groups: list[Group]) -> AsyncIterator[list[str]]:
        """The addresses that a signal reaches, each once; slot range by slot range. A paused member is left alone."""
        parts = -(-sum(group.members for group in groups) // SPAN) or 1
        for part in range(parts):
            low, high = part * SLOTS // parts, (part + 1) * SLOTS // parts
            people: dict[str, str] = {}
            for group in groups:
                async for page in self._directory.members(group.address, low=low, high=high):
                    for member in page:
                        if member.group is None and not member.paused:
                            people.setdefault(member.key, member.address)
            if people:
                yield list(people.values())


def _allows(group: Group, holder: Group) -> bool:
    return group.domain == holder.domain or holder.domain in group.settings.nest_from
