"""GET what became of posts. The ledger tells; here it is decided how much of it a token sees."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import get
from litestar.params import FromPath, QueryParameter
from msgspec import Meta

from services.console import problems, views
from services.console.asked import Asked
from services.console.finding import Search, find_posts, page_of
from services.console.gate import needs
from services.console.openapi import refusals, secured
from shared.access import Scope

StateWord = Literal["queued", "delivered", "deferred", "failed", "suppressed"]

_ADDRESS = 320
MessageId = Annotated[str, QueryParameter(description="Only posts with this Message-ID", max_length=1000)]
GroupAddress = Annotated[str, QueryParameter(description="Only posts to this group", max_length=_ADDRESS)]
RecipientAddress = Annotated[str, QueryParameter(description="Only what concerns this address", max_length=_ADDRESS)]
Moment = Annotated[datetime, Meta(tz=True)]
_TIME: dict[str, Any] = {"max_length": 40, "schema_extra": {"format": "date-time"}}
Since = Annotated[str | None, QueryParameter(description="Only posts accepted at this time or later", **_TIME)]
Until = Annotated[str | None, QueryParameter(description="Only posts accepted before this time", **_TIME)]
PostLimit = Annotated[int, QueryParameter(description="At most so many posts", ge=1, le=100)]
After = Annotated[str, QueryParameter(description="The `next` of the page before", max_length=400)]
WhichState = Annotated[StateWord | None, QueryParameter(name="state", description="Only addresses in this state")]
RowLimit = Annotated[int, QueryParameter(description="At most so many addresses", ge=1, le=1000)]


@get(
    "/posts",
    operation_id="findPosts",
    summary="Find posts",
    tags=["posts"],
    guards=[needs(Scope.TRACE_READ)],
    security=secured(Scope.TRACE_READ),
    responses=refusals(),
    response_description="Posts, newest first",
)
async def find(
    request: Asked,
    message_id: MessageId = "",
    group: GroupAddress = "",
    recipient: RecipientAddress = "",
    since: Since = None,
    until: Until = None,
    limit: PostLimit = 20,
    after: After = "",
) -> views.Posts:
    """Posts by Message-ID, group, recipient and time, newest first. A token of one domain names at least one of the first three."""
    if request.token.domain and not (message_id or group or recipient):
        raise problems.unfit(problems.Fault("a token of one domain names message_id, group or recipient"))
    wanted = Search(
        message_id=message_id,
        group=group,
        recipient=recipient,
        since=_seconds("since", since),
        until=_seconds("until", until),
        limit=limit,
        after=after,
    )
    return await find_posts(request.parts.ledger, wanted, request.token)


@get(
    "/posts/{post_id:str}",
    operation_id="getPost",
    summary="One post",
    tags=["posts"],
    guards=[needs(Scope.TRACE_READ)],
    security=secured(Scope.TRACE_READ),
    responses=refusals(404),
    response_description="The post",
)
async def read_post(request: Asked, post_id: FromPath[str]) -> views.PostDetail:
    """A post: its groups, how many people it reached, and what happened to it beside its copies (reports, bounces)."""
    ledger = request.parts.ledger
    summary = await ledger.post(post_id.lower())
    notes = await ledger.notes(post_id.lower()) if summary else ()
    shown = views.post_detail(summary, notes, request.token) if summary else None
    if shown is None:
        raise problems.not_here("post")
    return shown


@get(
    "/posts/{post_id:str}/recipients",
    operation_id="getRecipients",
    summary="Who got a post, and who did not",
    tags=["posts"],
    guards=[needs(Scope.TRACE_READ)],
    security=secured(Scope.TRACE_READ),
    responses=refusals(404),
    response_description="Addresses, in an order that stays",
)
async def read_recipients(
    request: Asked,
    post_id: FromPath[str],
    recipient: RecipientAddress = "",
    only: WhichState = None,
    limit: RowLimit = 100,
    after: After = "",
) -> views.Recipients:
    """Every address of a post: when it was delivered to, by which next hop, with what reply, or why it was left out."""
    ledger = request.parts.ledger
    summary = await ledger.post(post_id.lower())
    seen = views.visible_groups(summary, request.token) if summary else frozenset()
    if not seen:
        raise problems.not_here("post")
    return await page_of(ledger, post_id.lower(), seen, recipient=recipient, state=only, limit=limit, after=after)


def _seconds(name: str, text: str | None) -> float | None:
    """Seconds since the epoch of a time in RFC 3339, zone and all. Raises `Refusal`."""
    if text is None:
        return None
    try:
        return msgspec.convert(text, Moment).timestamp()
    except (msgspec.ValidationError, OverflowError) as error:
        raise problems.unfit(problems.Fault("Expected a time as in RFC 3339: 2026-11-23T10:00:00Z", name)) from error
