"""What a member's own state says. Pure."""

from __future__ import annotations

from shared.groups import Member
from shared.messages import Reason


def member_state(member: Member) -> Reason | None:
    """Why a member gets nothing for now: delivery paused, or suspended after bounces."""
    if member.paused:
        return Reason.PAUSED
    return Reason.SUSPENDED if member.bounce == "suspended" else None
