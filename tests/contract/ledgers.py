"""What the ledger's tests are made of: posts, targets, shares, fates, claims."""

from __future__ import annotations

import time
from typing import Any

from shared.identity import new_id
from shared.ledger import Claim, PostRecord, Row, TargetRecord, Totals
from shared.ledger.store import SqlLedger
from shared.messages import Expanded, Fate, Queued, State, TargetKind

GROUP = "office@example.test"
DAY = 86400.0


def post(identifier: str = "", **changes: Any) -> PostRecord:
    now = changes.get("accepted_at", time.time())
    values: dict[str, Any] = {
        "id": identifier or new_id(now),
        "accepted_at": now,
        "mail_from": "ana@example.test",
        "author": "ana@example.test",
        "message_id": "<one@example.test>",
        "subject": "Здравейте",
        "size": 1234,
        "ip": "192.0.2.1",
        "cells": 7,
        "slices": 1,
    }
    return PostRecord(**{**values, **changes})


def target(group: str = GROUP, **changes: Any) -> TargetRecord:
    return TargetRecord(**{"group": group, "recipient": group, "kind": TargetKind.GROUP, **changes})


def share(
    post_id: str, queued: Any = (), suppressed: Any = (), *, group: str = GROUP, index: int = 0, of: int = 1
) -> Expanded:
    return Expanded(
        post_id=post_id,
        group=group,
        index=index,
        of=of,
        queued=tuple(Queued(addresses=(name,), via=(group,)) if isinstance(name, str) else name for name in queued),
        suppressed=tuple(suppressed),
        at=time.time(),
    )


def fate(address: str, state: State = State.DELIVERED, attempt: int = 0, **changes: Any) -> Fate:
    values: dict[str, Any] = {
        "code": {State.DELIVERED: 250, State.FAILED: 550}.get(state, 451),
        "status": "2.0.0",
        "text": "queued as 4F2",
        "hop": "mx.example.test",
        "at": time.time(),
        "next_at": time.time() + 60 if state is State.DEFERRED else None,
    }
    return Fate(address=address, state=state, attempt=attempt, **{**values, **changes})


async def rows_of(ledger: SqlLedger, post_id: str, recipient: str = "") -> list[Row]:
    return [row async for page in ledger.trace(post_id, recipient=recipient) for row in page]


def adds_up(totals: Totals) -> bool:
    return totals.expanded == totals.delivered + totals.deferred + totals.failed + totals.suppressed


def at(post_id: str, cell: int = 0) -> Claim:
    """A batch of a post."""
    return Claim(post_id=post_id, cell=cell, hop="smtp://192.0.2.1:25")


async def taken(ledger: SqlLedger, claim: Claim, owner: str, lease: float) -> float:
    """How long to wait for a claim."""
    return (await ledger.take(claim, owner, lease)).wait
