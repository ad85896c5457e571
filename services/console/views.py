"""What the API shows of a post, and to whom. Pure.

A token of one domain sees a post through its targets in that domain alone: what became of the same message elsewhere, who got it there, and
that it went there at all, are not its business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from shared.access import Token
from shared.ledger import PostSummary, Row, Totals
from shared.ledger.notes import Note
from shared.messages import Reason, State, TargetKind


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """How many people: expanded = delivered + deferred + failed + suppressed. `complete` is false while the groups are still being resolved."""

    expanded: int
    delivered: int
    deferred: int
    failed: int
    suppressed: int
    complete: bool


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One group of a post. `verdict` is "open", or why it ended without recipients: repetition, loop, no_recipients, gone."""

    group: str
    recipient: str
    kind: TargetKind
    verdict: str
    totals: Sums


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was accepted. `mail_from` is its envelope sender, `author` the one address of its From: field, `size` in octets."""

    id: str
    accepted_at: datetime
    message_id: str
    mail_from: str
    author: str
    subject: str
    size: int
    targets: Sequence[Target]
    totals: Sums


class NoteView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to a post beside its copies: a report that was sent, a bounce that came back."""

    kind: str
    group: str
    at: datetime
    detail: Mapping[str, str]


class PostDetail(Post, frozen=True, kw_only=True):
    """A post with its notes, oldest first."""

    notes: Sequence[NoteView]


class Posts(msgspec.Struct, frozen=True, kw_only=True):
    """Posts, newest first. `next` is the `after` of the next page, null for none."""

    posts: Sequence[Post]
    next: str | None


class Recipient(msgspec.Struct, frozen=True, kw_only=True):
    """One address of a post: its state, or the reason why it was left out. `via` is the path of groups; `code`, `status` and `text` are the
    last reply of the next hop `hop`."""

    address: str
    group: str
    via: Sequence[str]
    state: State | None
    reason: Reason | None
    attempts: int
    code: int
    status: str
    text: str
    hop: str
    at: datetime
    next_at: datetime | None


class Recipients(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of a post, those who get it first. `next` is the `after` of the next page, null for none."""

    recipients: Sequence[Recipient]
    next: str | None


# --- making them -------------------------------------------------------------------------------------------------------
def when(at: float) -> datetime:
    """A time of the ledger."""
    return datetime.fromtimestamp(at, UTC)


def visible_groups(summary: PostSummary, token: Token) -> frozenset[str]:
    """The groups of a post that a token sees; none: it does not see the post."""
    return frozenset(target.group for target, _, _ in summary.targets if token.reaches(target.group))


def post(summary: PostSummary, token: Token) -> Post | None:
    """A post as a token sees it; None where it does not."""
    fields = _fields(summary, token)
    return None if fields is None else Post(**fields)


def post_detail(summary: PostSummary, notes: Sequence[Note], token: Token) -> PostDetail | None:
    """A post with its notes as a token sees it; None where it does not."""
    fields = _fields(summary, token)
    if fields is None:
        return None
    seen = visible_groups(summary, token)
    shown = [note for note in notes if note.group in seen or (not note.group and not token.domain)]
    told = [NoteView(kind=note.kind, group=note.group, at=when(note.at), detail=note.detail) for note in shown]
    return PostDetail(**fields, notes=told)


def recipient(row: Row) -> Recipient:
    """A row of the trace."""
    return Recipient(
        address=row.address,
        group=row.group,
        via=row.via,
        state=row.state,
        reason=row.reason,
        attempts=row.attempts,
        code=row.code,
        status=row.status,
        text=row.text,
        hop=row.hop,
        at=when(row.at),
        next_at=None if row.next_at is None else when(row.next_at),
    )


def _fields(summary: PostSummary, token: Token) -> dict[str, Any] | None:
    seen = visible_groups(summary, token)
    if not seen and (summary.targets or token.domain):
        return None
    record = summary.record
    shown = [each for each in summary.targets if each[0].group in seen]
    return {
        "id": record.id,
        "accepted_at": when(record.accepted_at),
        "message_id": record.message_id,
        "mail_from": record.mail_from,
        "author": record.author,
        "subject": record.subject,
        "size": record.size,
        "targets": [
            Target(
                group=target.group,
                recipient=target.recipient,
                kind=target.kind,
                verdict=verdict,
                totals=_sums([totals]),
            )
            for target, verdict, totals in shown
        ],
        "totals": _sums([totals for _, _, totals in shown] if token.domain else [summary.totals]),
    }


def _sums(several: Sequence[Totals]) -> Sums:
    return Sums(
        expanded=sum(each.expanded for each in several),
        delivered=sum(each.delivered for each in several),
        deferred=sum(each.deferred for each in several),
        failed=sum(each.failed for each in several),
        suppressed=sum(each.suppressed for each in several),
        complete=all(each.complete for each in several),
    )
