"""`horo post`: what can still be done about a post that was accepted: stop it."""

from __future__ import annotations

import re
import time
from typing import Annotated, Any

from cyclopts import App, Parameter

from cli import access
from cli.output import CommandError, Exit, Json, clean, print_json, say
from shared.ledger import Ledger, PostSummary
from shared.ledger.notes import STOPPED, stop_note
from shared.messages import TargetKind

_POST_ID = re.compile(r"[0-9a-z]{26}")
MOST = 1000
"""Posts that are stopped together: a post, and those made from it for groups that are members of its group."""

app = App(name="post", help="Posts that are under way: stop.")


@app.command
async def stop(
    post: str, /, *, why: str = "", unseen: Annotated[bool, Parameter(negative="")] = False, json: Json = False
) -> None:
    """Stop a fan-out that is under way: who has no copy yet gets none, of this post and of those made from it.

    Batches that are being sent in this moment still arrive. A stop is for good: to send the rest, send the message again with another Message-ID.

    Parameters
    ----------
    post
        The post's id: the server's reply to the message has it, and so has `horo trace`.
    why
        What `horo trace` shall say about it.
    unseen
        Stop it though no expander has seen it yet: it waits on the bus, and the ledger does not know it.
    """
    post_id = post.strip().lower()
    if not _POST_ID.fullmatch(post_id):
        raise CommandError(f"{clean(post)[:100]} is no post's id: it has 26 letters and digits; `horo trace` finds it")
    async with access.ledger() as ledger:
        found = await ledger.post(post_id)
        if found is None and not unseen:
            raise CommandError(
                f"no post {post_id} in the ledger; where it is accepted and not expanded yet, say --unseen",
                Exit.NOT_FOUND,
            )
        if found is not None and any(target.kind is TargetKind.SIGNAL for target, _, _ in found.targets):
            raise CommandError(f"{post_id} is a signal, which is told at once: there is nothing to stop")
        posts = await _family(ledger, post_id)
        already = await _is_stopped(ledger, post_id)
        for each in posts:
            await ledger.note(stop_note(each, at=time.time(), why=why if each == post_id else f"with post {post_id}"))
        after = [await ledger.post(each) for each in posts]
    document = _document(post_id, posts, already, after)
    print_json(document) if json else _say(document)


async def _family(ledger: Ledger, post_id: str) -> list[str]:
    """The post, and all that were made from it so far; those that come later are stopped by the expander, which sees that their parent is."""
    found = [post_id]
    for each in found:
        found += [child for child, _ in await ledger.children(each) if child not in found]
        if len(found) > MOST:
            raise CommandError(f"over {MOST} posts were made from {post_id}: stop them one by one")
    return found


async def _is_stopped(ledger: Ledger, post_id: str) -> bool:
    return any(note.kind == STOPPED for note in await ledger.notes(post_id))


def _document(post_id: str, posts: list[str], already: bool, after: list[PostSummary | None]) -> dict[str, Any]:
    totals = [summary.totals for summary in after if summary is not None]
    return {
        "post": post_id,
        "already": already,
        "with": posts[1:],
        "delivered": sum(each.delivered for each in totals),
        "failed": sum(each.failed for each in totals),
        "left_out": sum(each.suppressed for each in totals),
        "complete": bool(totals) and all(each.complete for each in totals),
    }


def _say(document: dict[str, Any]) -> None:
    say(f"{'was stopped before: ' if document['already'] else 'stopped '}{document['post']}", "green")
    if document["with"]:
        say(f"  and with it {', '.join(document['with'])}")
    sums = f"delivered {document['delivered']}, failed {document['failed']}, left out {document['left_out']}"
    say(f"  so far: {sums}{'' if document['complete'] else '; who else was to get it is still being found out'}")
