"""Searching the ledger for one token: pages of posts, and of the addresses of a post. What the token does not see leaves no trace here, not
even in where a page ends."""

from __future__ import annotations

from collections.abc import Set

import msgspec

from services.console import problems, views
from shared.access import Token
from shared.address import key
from shared.ledger import Ledger, PostSummary

PAGE = 100
"""Posts that are asked for at a time where not all of them may be seen."""
MOST = 1000
"""Posts that one request looks through."""


class Search(msgspec.Struct, frozen=True, kw_only=True):
    """What posts are asked for; times in seconds since the epoch."""

    message_id: str
    group: str
    recipient: str
    since: float | None
    until: float | None
    limit: int
    after: str


async def find_posts(ledger: Ledger, wanted: Search, token: Token) -> views.Posts:
    """Posts that a token sees, newest first, a page of them. Raises `Refusal` where too much of what matches is not to be seen."""
    if wanted.group and not token.reaches(key(wanted.group)):
        return views.Posts(posts=[], next=None)  # a post that went to both groups must not tell of the other one
    shown: list[views.Post] = []
    looked, after = 0, wanted.after
    size = PAGE if token.domain else wanted.limit + 1
    while looked < MOST:
        found = await _some(ledger, wanted, after, size)
        for summary in found:
            if not (post := views.post(summary, token)) or not await _got(ledger, summary, wanted.recipient, token):
                continue
            if len(shown) == wanted.limit:
                return views.Posts(posts=shown, next=shown[-1].id)
            shown.append(post)
        if len(found) < size:
            return views.Posts(posts=shown, next=None)
        looked, after = looked + len(found), found[-1].record.id
    if not shown:
        raise problems.unfit(problems.Fault("too many posts match; name one group"))
    return views.Posts(posts=shown, next=shown[-1].id)


async def _some(ledger: Ledger, wanted: Search, after: str, limit: int) -> list[PostSummary]:
    found = await ledger.find(
        message_id=wanted.message_id,
        group=wanted.group,
        recipient=wanted.recipient,
        since=wanted.since,
        until=wanted.until,
        after=after,
        limit=limit,
    )
    return list(found)


async def _got(ledger: Ledger, summary: PostSummary, recipient: str, token: Token) -> bool:
    """Whether the recipient that was asked for is one in the groups that the token sees."""
    seen = views.visible_groups(summary, token)
    if not recipient or len(seen) == len(summary.targets):
        return True
    page = await ledger.trace_page(summary.record.id, recipient=recipient, groups=seen, limit=1)
    return bool(page.rows)


async def page_of(
    ledger: Ledger, post_id: str, seen: Set[str], *, recipient: str, state: str | None, limit: int, after: str
) -> views.Recipients:
    """Addresses of a post in the groups `seen`, a page of them. Raises `Refusal` for an `after` that no page has given."""
    states = (state,) if state else ()
    try:
        page = await ledger.trace_page(
            post_id, recipient=recipient, states=states, groups=seen, after=after, limit=limit
        )
    except ValueError as error:
        raise problems.unfit(problems.Fault("this is no `next` of a page", "after")) from error
    return views.Recipients(recipients=[views.recipient(row) for row in page.rows], next=page.after or None)
