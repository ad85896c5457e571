"""What a sender decides about a delivery before and after it sends. Pure: standings and settings in, work out.

The rules are those of docs/design/0001-pipeline.md, "Delivery": nobody whose fate is recorded for this attempt gets the message again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import msgspec

from services.sender.answers import UNKNOWN
from services.sender.outcome import retries
from shared.address import MAX_LOCAL, key, split_role
from shared.bus import Outgoing
from shared.identity import VERP_LENGTH, verp_token
from shared.ledger import Alike, Standing
from shared.ledger.rows import recipient_key
from shared.messages import Delivery, DeliveryKind, Fate, Lane, Recipient, State, encode
from shared.routes import NextHop, Routes
from shared.topology import Queue

QUEUES = {Lane.EXPRESS: Queue.DELIVERIES_EXPRESS, Lane.BULK: Queue.DELIVERIES_BULK}

_FINAL = (State.DELIVERED, State.FAILED)


class Work(msgspec.Struct):
    """What is to be done for a delivery: `send` these; `told` are the recorded fates of this attempt, which the reporter may not
    have heard of, and whose retries may be lost where they are deferred."""

    send: list[Recipient]
    told: list[Fate]


def sort_out(delivery: Delivery, standings: Mapping[str, Standing], now: float) -> Work:
    """Compare a delivery's recipients with what is recorded of them."""
    if not standings:  # the first to try, as nearly always
        return Work(list(delivery.recipients), [])
    work = Work([], [])
    for recipient in delivery.recipients:
        standing = standings.get(recipient_key(recipient.address))
        if standing is None or (standing.state not in _FINAL and standing.attempts <= delivery.attempt):
            work.send.append(recipient)
        elif standing.attempts == delivery.attempt + 1:
            work.told.append(_remembered(recipient, standing, delivery, now))
    return work


def stopped(work: Work) -> Work:
    """What is left of it where the post was stopped: failures are still told of. Nothing is recorded: that the others are left out is what the ledger
    makes of the stop by itself, so that nobody has to write it, nor could have written half of it when he died."""
    return Work([], [fate for fate in work.told if fate.state is State.FAILED])


def _remembered(recipient: Recipient, standing: Standing, delivery: Delivery, now: float) -> Fate:
    return Fate(
        address=recipient.address,
        state=standing.state,
        code=standing.code,
        status=standing.status,
        text=standing.text,
        hop=delivery.hop,
        attempt=delivery.attempt,
        at=now,
        next_at=(standing.next_at or now) if standing.state is State.DEFERRED else None,
    )


def rerouted(delivery: Delivery, routes: Routes) -> list[Delivery]:
    """The delivery by the routes of today: a retry may be hours old, and an operator may have mended a route since.

    A first attempt keeps the hop that the expander gave it, which is part of its claim.
    """
    if delivery.attempt == 0:
        return [delivery]
    by_hop: dict[str, list[Recipient]] = {}
    for recipient in delivery.recipients:
        by_hop.setdefault(_hop(recipient, routes), []).append(recipient)
    return [
        msgspec.structs.replace(delivery, hop=hop, recipients=tuple(recipients)) for hop, recipients in by_hop.items()
    ]


def _hop(recipient: Recipient, routes: Routes) -> str:
    return str(routes.hop(key(recipient.address).rpartition("@")[2]))  # as the expander asks: by the A-label


@lru_cache(maxsize=1024)
def next_hop(hop: str) -> NextHop:
    """Where a delivery goes. Raises `RoutesError` for what is no next hop."""
    return NextHop.parse(hop)


def senders(delivery: Delivery, recipients: Sequence[Recipient], secret: str) -> tuple[str, ...]:
    """The envelope sender for each recipient: the delivery's, or with `verp` the recipient's own (office-bounces+TOKEN-VERP@).

    Where the group's name is too long for that, the tokens travel to the domain's postmaster, as a long group's own bounce address does.
    """
    if not delivery.verp or not delivery.mail_from:
        return (delivery.mail_from,) * len(recipients)
    local, _, domain = delivery.mail_from.rpartition("@")
    if len(local) + 1 + VERP_LENGTH > MAX_LOCAL:
        local = f"postmaster+{local.rpartition('+')[2]}"
    return tuple(
        f"{local}-{verp_token(secret, delivery.post_id, key(recipient.address))}@{domain}" for recipient in recipients
    )


def to_tell(fates: Sequence[Alike]) -> list[Fate]:
    """The fates of those whom something follows for: another attempt, or word of a failure. A copy that has arrived is in the ledger, and no news."""
    return [
        msgspec.structs.replace(alike.fate, address=address)
        for alike in fates
        if alike.fate.state is not State.DELIVERED
        for address in alike.addresses
    ]


def comes_back(delivery: Delivery, fates: Sequence[Fate]) -> bool:
    """Whether the author may be sent back what failed: a post whose envelope sender is the author's, not a bounce address of ours."""
    if delivery.kind is not DeliveryKind.POST or not any(fate.state is State.FAILED for fate in fates):
        return False
    role, _, token = split_role(key(delivery.mail_from))
    ours = not delivery.mail_from or (role in ("bounces", "postmaster") and bool(token))
    return not ours


def follow_up(delivery: Delivery, fates: Sequence[Fate]) -> list[Outgoing]:
    """The next attempts that these fates of a delivery's recipients lead to: one message for those who are due at the same time."""
    if not fates:
        return []
    by_address = {recipient.address: recipient for recipient in delivery.recipients}
    return [
        retry(
            delivery,
            [by_address[fate.address] for fate in deferred],
            due - deferred[0].at,
            unknown=any(fate.text == UNKNOWN.text for fate in deferred),
        )
        for due, deferred in retries(fates).items()
    ]


def retry(delivery: Delivery, recipients: Sequence[Recipient], delay: float, *, unknown: bool) -> Outgoing:
    """The next attempt at these recipients, in the delivery's own lane. `delay` in seconds, rounded here so that a float's last
    bit does not push it into the next step of the topology; `unknown`: the reply to the final dot was lost for one at least."""
    following = msgspec.structs.replace(
        delivery,
        recipients=tuple(recipients),
        attempt=delivery.attempt + 1,
        unknowns=delivery.unknowns + unknown,
    )
    return Outgoing(queue=QUEUES[delivery.lane], payload=encode(following), delay=max(0.0, round(delay, 1)))
