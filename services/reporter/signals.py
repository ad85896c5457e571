"""What the reporter does with a share of a signal: files it, tells each person by an event, records that they were told.

Filed first and recorded last, so that the sums hold at every read (P4): whoever is filed and not told yet is on the way. A crash in between
tells again, by events with the same ids. What becomes of the channels the sender records.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from services.reporter import events
from shared.ledger import Alike, Claim, Ledger
from shared.messages import Expanded, Fate, SignalExpanded, State

HOP = "events"
"""The hop of those who are told by an event: what becomes of it is the business of who consumes it."""

Emit = Callable[..., Awaitable[None]]


async def tell(message: SignalExpanded, *, ledger: Ledger, emit: Emit) -> None:
    """File, tell, record. `emit` makes events durable. Raises `LedgerUnavailable`, `BusUnavailable`; it may be repeated."""
    share = message.share
    members = list(message.members)
    if share is not None:
        members += [address for row in share.queued for address in row.addresses]
        await ledger.file(msgspec.structs.replace(share, queued=(*share.queued, *message.channels)))
    if message.suppressed is not None:
        await emit(events.signal_suppressed(message, message.suppressed))
    await emit(*(events.signal_delivered(message, member) for member in members))
    if share is not None and members:
        await _record(share, members, ledger)


async def _record(share: Expanded, members: list[str], ledger: Ledger) -> None:
    """Everybody has been told. A signal's slices are its cells; the time is the share's, so that a repetition records the same."""
    fate = Fate(
        address="",
        state=State.DELIVERED,
        code=250,
        status="2.0.0",
        text="told as signal.delivered",
        hop=HOP,
        attempt=0,
        at=share.at,
    )
    claim = Claim(post_id=share.post_id, cell=share.index, hop=HOP)
    await ledger.record(claim, share.group, (Alike(fate=fate, addresses=members),))
