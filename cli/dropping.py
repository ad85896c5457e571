"""What the ledger is told when a person drops a parked message: whoever was to get something through it gets nothing, and the sums say so (P4).

Without it a dropped delivery would stand as deferred, and a dropped share as still being expanded, for ever: the sweep takes no post that is
unfinished. Told before the message is forgotten; all of it may be said again.
"""

from __future__ import annotations

import time

from services.expander.records import target_name
from shared.identity import derive
from shared.ledger import Alike, Claim, Ledger, PostSummary
from shared.ledger.notes import Note, stop_note
from shared.messages import (
    Delivery,
    DeliveryKind,
    Expanded,
    Fate,
    Post,
    Slice,
    State,
    Undecodable,
    decode,
)

WHY = "dropped by an administrator from the parked messages"


async def account(ledger: Ledger, payload: bytes) -> None:
    """Tell the ledger what is dropped with a message; nothing for what is none of ours, and for what nobody counts (reports, outcomes)."""
    try:
        message = decode(payload)
    except Undecodable:
        return
    match message:
        case Delivery() if message.kind is not DeliveryKind.REPORT:
            await _delivery(ledger, message)
        case Post():
            await _post(ledger, message)
        case Slice():
            if (known := await ledger.post(message.post.id)) is not None:
                await _shares(ledger, known, message.index, message.of)
            await _note(ledger, message.post.id, f"part {message.index + 1} of {message.of}")
        case _:
            pass


async def _delivery(ledger: Ledger, delivery: Delivery) -> None:
    """Its recipients have failed for good. 5.3.0: of our own doing, not of their addresses, so it counts against nobody."""
    fate = Fate(
        address="",
        state=State.FAILED,
        code=554,
        status="5.3.0",
        text=WHY,
        hop=delivery.hop,
        attempt=delivery.attempt,
        at=time.time(),
    )
    claim = Claim(post_id=delivery.post_id, cell=delivery.cell, hop=delivery.hop)
    addresses = [recipient.address for recipient in delivery.recipients]
    await ledger.record(claim, delivery.group, [Alike(fate=fate, addresses=addresses)])
    await _note(ledger, delivery.post_id, f"{len(addresses)} copies")


async def _post(ledger: Ledger, post: Post) -> None:
    """What is not expanded of it never will be. A fan-out that is over stays as it is: a post is parked, too, when its groups have theirs and
    nobody answers for an owner's address beside them, which stands in the ledger by itself."""
    for name in {"", *(target_name(target) for target in post.targets)}:
        known = await ledger.post(derive(post.id, name) if name else post.id)
        if known is None or known.totals.complete:
            continue
        await ledger.note(stop_note(known.record.id, at=time.time(), why=WHY))
        for index in range(known.record.slices):
            await _shares(ledger, known, index, known.record.slices)


async def _shares(ledger: Ledger, post: PostSummary, index: int, of: int) -> None:
    """This share of every target's fan-out has nobody: what others have told of it stays."""
    for target, _, _ in post.targets:
        share = Expanded(
            post_id=post.record.id, group=target.group, index=index, of=of, queued=(), suppressed=(), at=time.time()
        )
        await ledger.file(share)


async def _note(ledger: Ledger, post_id: str, what: str) -> None:
    await ledger.note(
        Note(post_id=post_id, kind="dropped", group="", at=time.time(), unique=what, detail={"what": what, "why": WHY})
    )
