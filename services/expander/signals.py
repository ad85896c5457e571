"""Signals: a request to a group (chat, notification) becomes its members, or is suppressed where the group refuses signals.

The same graph and the same de-duplication as for mail; the filters that read a message's header have nothing to read here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.expander.graph import Scope, find_scope
from shared.bus import Bus, Incoming, Outgoing
from shared.directory import Directory
from shared.groups import SLOTS
from shared.messages import Signal, SignalExpanded, Target, Undecodable, Wire, encode
from shared.topology import Queue

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
        scope = await find_scope(self._directory, Target(group=group.address, recipient=group.address), group)
        if group.settings.disable_signals:
            spared = 0
            async for page in self._members(scope):
                spared += len(page)
            await self._tell(SignalExpanded(signal=message, suppressed="disabled", spared=spared))
            return
        async for page in self._members(scope):
            for start in range(0, len(page), PAGE):
                await self._tell(SignalExpanded(signal=message, members=tuple(page[start : start + PAGE])))

    async def _tell(self, message: SignalExpanded) -> None:
        await self._bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=encode(message)))

    async def _members(self, scope: Scope) -> AsyncIterator[list[str]]:
        """The addresses that the signal reaches, each once; slot range by slot range. A paused member is left alone."""
        parts = -(-scope.people // SPAN) or 1
        for part in range(parts):
            low, high = part * SLOTS // parts, (part + 1) * SLOTS // parts
            people: dict[str, str] = {}
            for node in scope.nodes:
                async for page in self._directory.members(node.group, low=low, high=high):
                    for member in page:
                        if member.group is None and not member.paused:
                            people.setdefault(member.key, member.address)
            if people:
                yield list(people.values())
