"""Announcements: a group with `announce_posts` makes a signal of every post: who wrote, and about what. A group without pays one look at a switch."""

from __future__ import annotations

from services.expander.graph import Aim
from shared import headers, policy, rfc2047
from shared.bus import Bus, Outgoing
from shared.directory import Directory
from shared.identity import derive
from shared.messages import Post, Signal, encode
from shared.topology import Queue

MOST_NAME = 80
"""Characters of a display name that are told."""


async def announce(bus: Bus, directory: Directory, post: Post, aim: Aim) -> None:
    """Make a signal of a post to a group that announces its posts; by an id that is the same however often the post is expanded.

    What no human wrote is not announced, whatever the group takes: a machine that answers what it reads in a chat would never end. Nor is
    a post that was made inside for a sub-group, where a group that holds it has announced the post: a signal reaches all sub-groups.
    """
    group = aim.group
    if not group.settings.announce_posts or policy.automatic(post.content.head, post.mail_from):
        return
    for holder in post.trail:
        above = await directory.group(holder)
        if above is not None and above.settings.announce_posts:
            return
    signal = Signal(
        id=derive(post.id, group.address, "announced"),
        group=group.address,
        title=f"{group.settings.title or group.address}: {writer(post.content.head)}"[:200],
        text=policy.subject_text(post.content.head) or "(no subject)",
        origin=f"post:{post.id}",
        sent_at=post.accepted_at,
    )
    await bus.publish(Outgoing(queue=Queue.SIGNALS, payload=encode(signal)))


def writer(head: bytes) -> str:
    """The author's name as the message gives it, else the address; printable, bounded."""
    value = headers.first(head, "from") or b""
    name, bracket, _ = value[:2000].rpartition(b"<")
    if bracket and (shown := rfc2047.decode(name.strip().strip(b'"'), limit=MOST_NAME).strip()):
        return shown
    return policy.author(head) or "somebody"
