"""From replies to fates: what a reply means for its recipient. Pure.

2xx delivered, 5xx failed, everything else deferred until the post is too old; whatever nobody foresaw is temporary (never dropped).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.sender.answers import GIVEN_UP, Answer, clean
from shared.messages import Fate, State
from shared.replies import Kind, Reply
from shared.retry import after_unknown, next_attempt
from shared.topology import delay_step

EXPIRED_CODE = 554
EXPIRED_DETAIL = "4.7"  # RFC 3463 X.4.7, delivery time expired

MOST_UNKNOWNS = 4
"""Attempts that may end without a reply to the final dot. Each may have delivered a copy: a next hop that always takes the message and hangs up
must not send it to somebody for days."""


class Policy(msgspec.Struct, frozen=True):
    """How long and how often: HORO_RETRY_SCHEDULE and HORO_RETRY_MAX_AGE in seconds."""

    schedule: tuple[float, ...]
    max_age: float


def too_many(reply: Reply, accepted: int) -> bool:
    """Whether a reply to RCPT only says that the transaction is full: the rest goes into another one at once, and has not failed.

    452 4.5.3, or 552 where an old server means it (RFC 5321 4.5.3.1.10). Only where the transaction has taken somebody: otherwise
    another transaction would be told the same.
    """
    if accepted == 0 or reply.code not in (452, 552):
        return False
    if reply.detail:
        return reply.detail == "5.3"
    return reply.code == 452 or "too many" in reply.text.lower()


def softened(reply: Reply) -> Reply:
    """A reply to RCPT as it is meant: "552 too many recipients" is temporary (RFC 5321 4.5.3.1.10), 552 5.2.2 (mailbox full) is not."""
    full = reply.code == 552 and (reply.detail == "5.3" or (not reply.detail and "too many" in reply.text.lower()))
    return Reply(452, "5.3", reply.text) if full else reply


def decide(
    address: str,
    answer: Answer,
    *,
    attempt: int,
    now: float,
    age: float,
    policy: Policy,
    unknowns: int = 0,
) -> Fate:
    """The fate of one recipient at attempt `attempt` (from 0) of a post `age` seconds old, at time `now`, after `unknowns` lost replies."""
    reply = answer.reply
    match reply.kind:
        case Kind.POSITIVE:
            return _fate(address, State.DELIVERED, reply, answer.host, attempt, now)
        case Kind.PERMANENT:
            failed = _fate(address, State.FAILED, reply, answer.host, attempt, now)
            return msgspec.structs.replace(failed, common=True) if answer.common else failed
        case _:
            delay = _delay(answer, attempt, age, policy)
    if answer.unknown and unknowns + 1 >= MOST_UNKNOWNS:
        return _fate(address, State.FAILED, GIVEN_UP, answer.host, attempt, now)
    if delay is None:
        expired = Reply(EXPIRED_CODE, EXPIRED_DETAIL, clean(f"Delivery time expired; the last answer was: {reply}"))
        return _fate(address, State.FAILED, expired, answer.host, attempt, now)
    deferred = _fate(address, State.DEFERRED, reply, answer.host, attempt, now)
    return msgspec.structs.replace(deferred, next_at=now + delay_step(delay))


def by_answer(addresses: Sequence[str], answers: Sequence[Answer | None]) -> list[tuple[Answer, list[str]]]:
    """Recipients by what they were answered: in a transaction most share one reply. Those without an answer (trouble of ours) are left out."""
    found: dict[tuple[int, str, bool, bool], tuple[Answer, list[str]]] = {}
    for address, answer in zip(addresses, answers, strict=True):
        if answer is not None:
            group = found.get(name := (id(answer.reply), answer.host, answer.unknown, answer.common))
            if group is None:
                group = found[name] = (answer, [])
            group[1].append(address)
    equal: dict[Answer, list[str]] = {}
    for answer, group_of in found.values():
        equal.setdefault(answer, []).extend(group_of)
    return list(equal.items())


def _delay(answer: Answer, attempt: int, age: float, policy: Policy) -> float | None:
    if answer.unknown:
        return after_unknown(attempt, age, policy.schedule, policy.max_age)
    return next_attempt(attempt, age, policy.schedule, policy.max_age)


def _fate(address: str, state: State, reply: Reply, host: str, attempt: int, now: float) -> Fate:
    return Fate(
        address=address,
        state=state,
        code=reply.code,
        status=_status(reply),
        text=reply.text,
        hop=host,
        attempt=attempt,
        at=now,
    )


def _status(reply: Reply) -> str:
    """The enhanced status; its class is the reply's meaning even where a server made up a code."""
    return reply.status if reply.code // 100 in (2, 4, 5) else f"4.{reply.detail or '0.0'}"


def retries(fates: Sequence[Fate]) -> dict[float, list[Fate]]:
    """Deferred fates by the time at which they are due: each is one delayed message of the bus."""
    due: dict[float, list[Fate]] = {}
    for fate in fates:
        if fate.state is State.DEFERRED and fate.next_at is not None:
            due.setdefault(fate.next_at, []).append(fate)
    return due
