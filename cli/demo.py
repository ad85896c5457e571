"""The demo domain: `office@example.test` with three members, one of them the group `board@example.test`. Made once, never changed again."""

from __future__ import annotations

from shared.directory import Conflict, NewMember, Registry

DOMAIN = "example.test"
OFFICE = f"office@{DOMAIN}"
BOARD = f"board@{DOMAIN}"


async def create(registry: Registry) -> None:
    """Make the demo groups where they are missing."""
    owners = (f"ana@{DOMAIN}",)
    for address, title, members in (
        (BOARD, "Board", (f"chair@{DOMAIN}", f"ana@{DOMAIN}")),
        (OFFICE, "Office", (f"ana@{DOMAIN}", f"boris@{DOMAIN}", BOARD)),
    ):
        try:
            await registry.create_group(
                address, members=[NewMember(address=one) for one in members], title=title, owners=owners
            )
        except Conflict:
            continue
