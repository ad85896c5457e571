"""The graph of groups that a signal reaches: all sub-groups in place, but those that take no signals or do not let themselves be nested."""

from __future__ import annotations

from services.expander.graph import Aside, Scope, Walk
from shared.directory import Directory
from shared.groups import Group, Member
from shared.messages import Reason


class SignalWalk(Walk):
    """Finds what one signal covers."""

    def __init__(self, directory: Directory) -> None:
        super().__init__(directory, targets=())

    async def _decide(self, scope: Scope, holder: Group, number: int, member: Member, seen: set[str]) -> Group | None:
        """The sub-group to expand in place, or None when the scope has the reason why not."""
        key = member.group or member.key
        reason = self._left_out(scope, number, member, key, seen)
        if reason is None or reason is Reason.SUSPENDED:  # mail to it bounced; this is none
            group = await self._group(holder, key)
            if group.settings.disable_signals:
                reason = Reason.SIGNALS_DISABLED
            elif group.domain != holder.domain and holder.domain not in group.settings.nest_from:
                reason = Reason.NOT_NESTED
            else:
                seen.add(key)
                return group
        scope.asides.append(Aside(member.address, key, number, reason))
        return None
