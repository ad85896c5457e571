"""`horo trace`: who got a message, who was left out, and why; what else happened to it, and what is still to come."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter, validators

from cli import access, trace_text
from cli.output import CommandError, Exit, Json, Limit, print_json, say
from cli.values import moment
from shared import signals
from shared.ledger import Ledger, PostSummary, Row
from shared.ledger.traces import LEFT_OUT, TracePage, Try
from shared.messages import Reason, State, TargetKind
from shared.retry import outlook
from shared.settings import Settings, seconds

WORDS = (*(state.value for state in State), LEFT_OUT, *(reason.value for reason in Reason))
"""What --state takes."""
LOOKED_THROUGH = 1000
"""Posts that are looked through for some that have addresses in the state that is asked for."""
NOTES = 200
"""Notes of a post that are shown at least: a large one may have as many bounces as addresses."""
_POST_ID = re.compile(r"[0-9a-z]{26}")

Addresses = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1_000_000))]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """What of each post is shown. `after` is where its addresses begin; `schedule` and `max_age` are in seconds."""

    recipient: str = ""
    states: tuple[str, ...] = ()
    after: str = ""
    addresses: int = 10_000
    attempts: bool = False
    schedule: tuple[float, ...] = (3600.0,)
    max_age: float = 0.0


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One post as it is shown: a page of its addresses, the attempts at some of them, what else happened, and the posts made from it."""

    post: PostSummary
    page: TracePage
    tries: dict[str, Sequence[Try]]
    notes: Sequence[Any]
    children: Sequence[tuple[str, str]]


async def trace(
    what: str = "",
    /,
    *,
    recipient: str = "",
    group: str = "",
    since: str = "",
    until: str = "",
    state: Annotated[list[str] | None, Parameter(negative="")] = None,
    attempts: Annotated[bool, Parameter(negative="")] = False,
    limit: Limit = 20,
    addresses: Addresses = 10_000,
    after: str = "",
    json: Json = False,
) -> None:
    """Tell what happened to a message: for each address when, by which next hop, with what reply, what is still to come, or why it was left out.

    Parameters
    ----------
    what
        A Message-ID, or a post's id (the server's reply to the message has it); empty to look by group, recipient or time.
    recipient
        Only this address, with every attempt at it.
    group
        Posts to this group; alone, also the last messages that were refused in the session.
    since
        Posts that came then or later: 2026-11-23T10:00:00+02:00, 2026-11-23 (its beginning), 2h or 3d ago.
    until
        Posts that came before then; a date is its end.
    state
        Only addresses in this state: delivered, deferred, failed, queued, or left out (suppressed, or one reason: author, to_cc, duplicate, paused).
        May be repeated.
    attempts
        Show every attempt at each address.
    limit
        At most so many posts, the newest first.
    addresses
        At most so many addresses of each post.
    after
        Go on where an earlier answer ended: what it named as next.
    """
    if not (what or recipient or group or since or until or state):
        raise CommandError("trace what? Name a Message-ID or post id, or --group, --recipient or --since", Exit.USAGE)
    if unknown := [word for word in state or () if word not in WORDS]:
        raise CommandError(f"--state: {unknown[0]!r} is not one of {', '.join(WORDS)}", Exit.USAGE)
    settings = access.settings()
    within = {"since": moment("--since", since), "until": moment("--until", until, end=True)}
    of_posts = bool(_POST_ID.fullmatch(after))
    view = view_of(
        settings,
        recipient=recipient,
        states=tuple(state or ()),
        after="" if of_posts else after,
        addresses=addresses,
        attempts=attempts or bool(recipient),
    )
    async with access.ledger() as ledger:
        posts, more = await _find(ledger, what, group, view, within, after if of_posts else "", limit)
        refusals = await ledger.refusals(group, limit=limit) if group and not (what or recipient or state) else ()
        if not posts and not refusals and not more:
            raise CommandError(
                "no such post in the ledger (a message that was refused in the session has none)", Exit.NOT_FOUND
            )
        if view.after and len(posts) != 1:
            raise CommandError("--after: that is a place in one post; name the post", Exit.USAGE)
        if json:
            told = await documents(ledger, posts, view)
            print_json({"posts": told, "next": more, "refusals": msgspec.to_builtins(list(refusals))})
        else:
            await show_posts(ledger, posts, view)
            if more and not posts:
                say(f"none of the last {LOOKED_THROUGH:,} posts has an address in that state")
            trace_text.show_refusals(refusals)
            trace_text.show_more(more)


def view_of(settings: Settings, **changes: Any) -> View:
    """A view with the settings of retries."""
    return View(schedule=settings.retry_delays, max_age=seconds(settings.retry_max_age), **changes)


async def _find(
    ledger: Ledger,
    what: str,
    group: str,
    view: View,
    within: dict[str, float | None],
    after: str,
    limit: int,
) -> tuple[Sequence[PostSummary], str | None]:
    """The posts, and where the next page of them begins. With states, posts without an address in one of them do not count."""
    if what and "@" not in what and (post := await ledger.post(what.strip().lower())) is not None:
        return [post], None
    found: list[PostSummary] = []
    looked = 0
    while True:
        page = await ledger.find(
            message_id=what, group=group, recipient=view.recipient, **within, after=after, limit=limit + 1
        )
        looked += len(page)
        for post in page:
            if len(found) == limit:
                return found, after
            after = post.record.id
            if not view.states or await _has(ledger, post, view):
                found.append(post)
        if len(page) <= limit or not view.states:
            return found, None
        if looked >= LOOKED_THROUGH:
            return found, after


async def _has(ledger: Ledger, post: PostSummary, view: View) -> bool:
    """Whether an address of the post is shown: by the sums, or where they do not tell, by a look."""
    totals = post.totals
    counts = {
        State.DELIVERED.value: totals.delivered,
        State.FAILED.value: totals.failed,
        State.DEFERRED.value: totals.deferred,
        State.QUEUED.value: totals.deferred,
    }
    if not any(counts.get(state, totals.suppressed) for state in view.states):
        return False
    page = await ledger.trace_page(post.record.id, recipient=view.recipient, states=view.states, limit=1)
    return bool(page.rows)


# --- what is told of each post ---------------------------------------------------------------------------------------
async def _told(ledger: Ledger, post: PostSummary, view: View) -> Told:
    post_id = post.record.id
    try:
        page, notes, children = await asyncio.gather(
            ledger.trace_page(
                post_id, recipient=view.recipient, states=view.states, after=view.after, limit=view.addresses
            ),
            ledger.notes(post_id, limit=max(view.addresses, NOTES)),
            ledger.children(post_id),
        )
    except ValueError as error:
        raise CommandError(f"--after: {error}", Exit.USAGE) from error
    tries: dict[str, Sequence[Try]] = {}
    for row in page.rows:
        if view.attempts and row.attempts > 1:
            tries[row.address] = await ledger.tries(post_id, row.address)
    return Told(post=post, page=page, tries=tries, notes=notes, children=children)


def to_come(post: PostSummary, row: Row, view: View) -> dict[str, Any] | None:
    """The tries that are still to come for an address: how many, and when the last one is, if nothing changes."""
    if row.state is not State.DEFERRED or row.next_at is None:
        return None
    kinds = {target.kind for target, _, _ in post.targets}
    max_age = min(view.max_age, signals.MAX_AGE) if TargetKind.SIGNAL in kinds else view.max_age
    ahead = outlook(row.attempts, row.next_at, post.record.accepted_at, view.schedule, max_age)
    return {"tries": ahead.tries, "last": ahead.last}


async def documents(ledger: Ledger, posts: Sequence[PostSummary], view: View) -> list[dict[str, Any]]:
    """The posts with their addresses, as JSON-able values."""
    return [_document(await _told(ledger, post, view), view) for post in posts]


def _document(told: Told, view: View) -> dict[str, Any]:
    post = told.post
    addresses = []
    for row in told.page.rows:
        shown = {**msgspec.to_builtins(row), "to_come": to_come(post, row, view)}
        if row.address in told.tries:
            shown["tries"] = msgspec.to_builtins(list(told.tries[row.address]))
        addresses.append(shown)
    return {
        "post": msgspec.to_builtins(post.record, builtin_types=(bytes,)),
        "targets": [
            {
                **msgspec.to_builtins(target, builtin_types=(bytes,)),
                "verdict": verdict,
                "totals": msgspec.to_builtins(totals),
            }
            for target, verdict, totals in post.targets
        ],
        "totals": msgspec.to_builtins(post.totals),
        "children": [{"id": child, "group": group} for child, group in told.children],
        "notes": [
            {"kind": note.kind, "group": note.group, "at": note.at, "detail": dict(note.detail)} for note in told.notes
        ],
        "addresses": addresses,
        "next": told.page.after or None,
    }


async def show_posts(ledger: Ledger, posts: Sequence[PostSummary], view: View) -> None:
    """The posts with their addresses, for people."""
    for post in posts:
        told = await _told(ledger, post, view)
        ahead = {row.address: to_come(post, row, view) for row in told.page.rows if row.state is State.DEFERRED}
        trace_text.show_post(post, told.page, ahead, told.tries, told.notes, told.children)
