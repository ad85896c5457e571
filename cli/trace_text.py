"""What `horo trace` says to people: one post, its addresses line by line, and what else happened. It decides nothing and asks nobody."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from cli.output import clean, print_table, say, when
from shared.ledger import PostSummary, Row
from shared.ledger.notes import Note
from shared.ledger.traces import TracePage, Try
from shared.messages import Reason, Refused, State, TargetKind

REASONS = {
    Reason.AUTHOR: "left out: wrote it",
    Reason.TO_CC: "left out: is in To or Cc already",
    Reason.DUPLICATE: "left out: has a copy already",
    Reason.PAUSED: "left out: delivery is paused",
    Reason.SUSPENDED: "left out: suspended after bounces",
    Reason.SUBGROUP_DISABLED: "left out: the group is disabled",
    Reason.CYCLE: "left out: the message has been through this group",
    Reason.LOOP: "left out: its own copy came back",
    Reason.REPETITION: "left out: the same message came before",
    Reason.STOPPED: "left out: the post was stopped",
}
STATES = {
    State.QUEUED: "on its way",
    State.DELIVERED: "delivered",
    State.DEFERRED: "deferred, will be tried again",
    State.FAILED: "failed",
}
NOTES = {
    "report": "report",
    "bounce": "bounce",
    "auto_reply": "automatic answer",
    "probe": "asked whether the address works",
    "suspended": "member suspended",
    "signal": "signal",
    "stopped": "stopped",
    "checked": "checked for spam",
}
"""Notes of a kind that is known; any other is named by its kind."""
FIRST = ("kind", "member", "recipient", "to", "reason", "status")
"""Details of a note in the order in which they are read; the others follow."""
COLUMNS = ("address", "what happened", "when", "next hop and reply, or path")
TABLE_ROWS = 1000

Ahead = Mapping[str, Mapping[str, Any] | None]


def show_post(
    post: PostSummary,
    page: TracePage,
    ahead: Ahead,
    tries: Mapping[str, Sequence[Try]],
    notes: Sequence[Note],
    children: Sequence[tuple[str, str]],
) -> None:
    """One post: its head, a page of its addresses, the attempts at some of them, and what else happened."""
    _head(post, children)
    bulk = post.record.slices > 1
    for start in range(0, len(page.rows), TABLE_ROWS):  # a table is laid out as a whole: many rows go out in pieces
        rows = page.rows[start : start + TABLE_ROWS]
        print_table("", COLUMNS, [_cells(row, ahead.get(row.address), bulk=bulk) for row in rows])
    for address, each in tries.items():
        say(f"  every attempt at {clean(address)}:", "bold")
        print_table("", ("attempt", "what happened", "when", "next hop and reply"), [_try_cells(one) for one in each])
    for note in notes:
        say(f"  {when(note.at)}  {_note(note)}")
    if page.after:
        say(f"  there are more addresses: horo trace {post.record.id} --after {page.after}", "yellow")
    say("")


def _head(post: PostSummary, children: Sequence[tuple[str, str]]) -> None:
    record, totals = post.record, post.totals
    signal = any(target.kind is TargetKind.SIGNAL for target, _, _ in post.targets)
    say(f"{'signal' if signal else 'post'} {record.id}  {when(record.accepted_at)}", "bold")
    if signal:
        say(f"  from {clean(record.mail_from) or '-'}  text {clean(record.subject) or '-'}")
    else:
        told = f"message-id {clean(record.message_id) or '-'}  from <{clean(record.mail_from)}>"
        say(f"  {told}  subject {clean(record.subject) or '-'}")
    for target, verdict, _ in post.targets:
        say(f"  to {clean(target.recipient)}{'' if verdict == 'open' else f' ({verdict})'}")
    if record.parent:
        say(f"  made from post {clean(record.parent)}, which was for a group that has this one as a member")
    for child, group in children:
        say(f"  handed on to {clean(group)} as post {child}")
    sums = f"expanded {totals.expanded} = delivered {totals.delivered} + deferred {totals.deferred} + failed {totals.failed}"
    say(f"  {sums} + left out {totals.suppressed}{'' if totals.complete else '; still being expanded'}")


def _cells(row: Row, ahead: Mapping[str, Any] | None, *, bulk: bool) -> tuple[str, str, str, str]:
    path = f"in {' > '.join(row.via)}"
    if row.reason is not None or row.state is None:
        what = REASONS[row.reason] if row.reason is not None else "left out"
        return row.address, what, when(row.at), f"{path}{_instead(row)}"
    if row.state is State.QUEUED:
        return (
            row.address,
            STATES[row.state],
            when(row.at),
            f"{path}; waits in the {'bulk' if bulk else 'express'} lane",
        )
    reply = _reply(row.hop, row.code, row.status, row.text) if row.code else path
    return row.address, STATES[row.state], when(row.at), reply + _to_come(row, ahead)


def _instead(row: Row) -> str:
    if row.reason is not Reason.DUPLICATE:
        return ""
    return f"; the copy came in {' > '.join(row.instead)}" if row.instead else "; found before in another way"


def _to_come(row: Row, ahead: Mapping[str, Any] | None) -> str:
    """Which tries are still to come."""
    if row.state is not State.DEFERRED or not row.next_at:
        return ""
    tried = f"; tried {row.attempts} times" if row.attempts > 1 else ""
    again = f"again at {when(row.next_at)}" if row.next_at > time.time() else f"due again since {when(row.next_at)}"
    if ahead is None:
        return f"{tried}; {again}"
    if ahead["tries"] == 1:
        return f"{tried}; {again}, for the last time"
    return f"{tried}; {again}, then up to {ahead['tries'] - 1} more times until {when(ahead['last'])}"


def _reply(hop: str, code: int, status: str, text: str) -> str:
    return f"{hop}: {code} {status} {text}"


def _try_cells(one: Try) -> tuple[str, str, str, str]:
    return str(one.attempt + 1), one.state.value, when(one.at), _reply(one.hop, one.code, one.status, one.text)


def _note(note: Note) -> str:
    detail = note.detail
    if note.kind == "report" and {"kind", "to"} <= detail.keys():
        return f"report sent ({clean(detail['kind'])}, {clean(note.group)}) to {clean(detail['to']) or 'nobody'}"
    names = [name for name in FIRST if name in detail] + sorted(detail.keys() - set(FIRST))
    said = ", ".join(f"{name} {clean(detail[name])}" for name in names if detail[name])
    group = f" ({clean(note.group)})" if note.group else ""
    return f"{NOTES.get(note.kind, clean(note.kind))}{group}{': ' if said else ''}{said}"


# --- beside the posts ------------------------------------------------------------------------------------------------
def show_refusals(refusals: Sequence[Refused]) -> None:
    """The last messages that a group refused in the session: those have no post."""
    if refusals:
        say("refused in the session, the last of them:", "bold")
        rows = [(when(one.at), f"<{one.mail_from}>", one.ip, f"{one.code} {one.status} {one.text}") for one in refusals]
        print_table("", ("when", "from", "client", "reply"), rows)


def show_more(after: str | None) -> None:
    """That there are more posts, and how to see them."""
    if after:
        say(f"there are more posts: repeat the command with --after {after}", "yellow")
