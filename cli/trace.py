"""`horo trace`: who got a message, who was left out, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from cli import access
from cli.output import CommandError, Exit, Json, Limit, clean, print_json, print_table, say, when
from shared.ledger import Ledger, PostSummary, Row
from shared.messages import Reason, State

REASONS = {
    Reason.AUTHOR: "left out: wrote it",
    Reason.TO_CC: "left out: is in To or Cc already",
    Reason.DUPLICATE: "left out: has a copy already",
    Reason.PAUSED: "left out: delivery is paused",
    Reason.SUSPENDED: "left out: suspended after bounces",
    Reason.SUBGROUP_DISABLED: "left out: the group is disabled",
    Reason.SIGNALS_DISABLED: "left out: the group takes no signals",
    Reason.NOT_NESTED: "left out: the group lets no group of another domain reach into it",
    Reason.CYCLE: "left out: the message has been through this group",
    Reason.LOOP: "left out: its own copy came back",
    Reason.REPETITION: "left out: the same message came before",
}
STATES = {
    State.QUEUED: "on its way",
    State.DELIVERED: "delivered",
    State.DEFERRED: "deferred, will be tried again",
    State.FAILED: "failed",
}


COLUMNS = ("address", "what happened", "when", "reply or path")
TABLE_ROWS = 1000


async def trace(
    what: str = "",
    /,
    *,
    recipient: str = "",
    group: str = "",
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """Tell what happened to a message: for each address when, by which next hop, with what reply, or why it was left out.

    Parameters
    ----------
    what
        A Message-ID, or a post's id (the server's reply to the message has it); empty to look by group or recipient.
    recipient
        Only this address.
    group
        Posts to this group.
    limit
        At most so many posts, the newest first.
    """
    if not (what or recipient or group):
        raise CommandError("trace what? Name a Message-ID or post id, or --group or --recipient", Exit.USAGE)
    async with access.ledger() as ledger:
        posts = await _find(ledger, what, recipient, group, limit)
        if not posts:
            raise CommandError(
                "no such post in the ledger (a message that was refused in the session has none)", Exit.NOT_FOUND
            )
        if json:
            print_json(await documents(ledger, posts, recipient))
        else:
            await show_posts(ledger, posts, recipient)


async def _find(ledger: Ledger, what: str, recipient: str, group: str, limit: int) -> Sequence[PostSummary]:
    if what and "@" not in what and (post := await ledger.post(what.strip().lower())) is not None:
        return [post]
    return await ledger.find(message_id=what, group=group, recipient=recipient, limit=limit)


async def documents(ledger: Ledger, posts: Sequence[PostSummary], recipient: str = "") -> list[dict[str, Any]]:
    """The posts with every address, as JSON-able values."""
    found = []
    for post in posts:
        rows = [
            msgspec.to_builtins(row) async for page in ledger.trace(post.record.id, recipient=recipient) for row in page
        ]
        targets = [
            {
                **msgspec.to_builtins(target, builtin_types=(bytes,)),
                "verdict": verdict,
                "totals": msgspec.to_builtins(totals),
            }
            for target, verdict, totals in post.targets
        ]
        record = msgspec.to_builtins(post.record, builtin_types=(bytes,))
        found.append(
            {"post": record, "targets": targets, "totals": msgspec.to_builtins(post.totals), "addresses": rows}
        )
    return found


async def show_posts(ledger: Ledger, posts: Sequence[PostSummary], recipient: str = "") -> None:
    """The posts with every address, for people."""
    for post in posts:
        _head(post)
        cells: list[Sequence[str]] = []
        async for page in ledger.trace(post.record.id, recipient=recipient):
            cells.extend(_cells(row) for row in page)
            if len(cells) >= TABLE_ROWS:  # a table is laid out as a whole: a million rows go out in pieces
                print_table("", COLUMNS, cells)
                cells.clear()
        if cells:
            print_table("", COLUMNS, cells)
        say("")


def _head(post: PostSummary) -> None:
    record, totals = post.record, post.totals
    say(f"post {record.id}  {when(record.accepted_at)}", "bold")
    say(
        f"  message-id {clean(record.message_id) or '-'}  from <{clean(record.mail_from)}>  subject {clean(record.subject) or '-'}"
    )
    for target, verdict, _ in post.targets:
        say(f"  to {clean(target.recipient)}{'' if verdict == 'open' else f' ({verdict})'}")
    sums = f"expanded {totals.expanded} = delivered {totals.delivered} + deferred {totals.deferred} + failed {totals.failed}"
    say(f"  {sums} + left out {totals.suppressed}{'' if totals.complete else '; still being expanded'}")


def _cells(row: Row) -> tuple[str, str, str, str]:
    path = " > ".join(row.via)
    if row.reason is not None:
        return row.address, REASONS[row.reason], when(row.at), f"in {path}"
    what = STATES[row.state or State.QUEUED]
    reply = f"{row.hop}: {row.code} {row.status} {row.text}" if row.code else f"in {path}"
    later = f"; again at {when(row.next_at)}" if row.next_at else ""
    return row.address, what, when(row.at), reply + later
