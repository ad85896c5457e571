"""Who is told what: RFC 3461 NOTIFY x the group's envelope x `report_delivery` x the kind of target. Pure.

Nothing is ever sent to the null sender, nor for a post that is a child made inside (P5): lists do not write DSNs to each other.
The client controls NOTIFY and the sender's address; it cannot make more than one report of a kind per (post, group).

What an author is owed beyond `MATRIX`: under `envelope=alias` failures (RFC 3461 4.1: unless NOTIFY says otherwise) and, with NOTIFY=DELAY, one word
of a delay; under `envelope=list` neither, for the message was delivered to the list (5.2.7.1) and the group answers for its members.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal, NamedTuple

from shared.groups import NotifyOwners
from shared.ledger import PostRecord, TargetRecord, Totals
from shared.messages import TargetKind


class Action(StrEnum):
    """What a report says of a recipient, in the words of RFC 3464 2.3.3."""

    DELIVERED = "delivered"
    EXPANDED = "expanded"
    RELAYED = "relayed"
    FAILED = "failed"
    DELAYED = "delayed"


class Tell(StrEnum):
    """Who hears of a failure."""

    AUTHOR = "author"
    OWNERS = "owners"
    NOBODY = "nobody"


class When(StrEnum):
    """When a report is sent."""

    NOW = "now"  # when the fan-out is durable
    AT_END = "at_end"  # when every recipient has a final state


class Owed(NamedTuple):
    """A report that the author is owed."""

    action: Action
    when: When = When.NOW


Asked = Literal["success", "absent", "other"]
"""What NOTIFY says about success: that it is wanted; nothing, for there is no NOTIFY; or, by wanting other things or NEVER, that it is not."""

MATRIX: Mapping[tuple[str, Asked, bool], Owed | None] = {
    # envelope, NOTIFY, report_delivery
    # A list has delivered when it has taken the message, and MUST say so where asked (RFC 3461 5.2.7.1); with the switch off it does when it is done.
    ("list", "success", True): Owed(Action.DELIVERED),
    ("list", "success", False): Owed(Action.DELIVERED, When.AT_END),
    ("list", "absent", True): Owed(Action.DELIVERED),
    ("list", "absent", False): None,
    ("list", "other", True): None,
    ("list", "other", False): None,
    # An alias hands on. "expanded" and "relayed" are no last word (RFC 3464 2.3.3): failures may follow, as they could not after "delivered".
    ("alias", "success", True): Owed(Action.EXPANDED),  # 5.2.7.3 c: the other parameters are passed on
    ("alias", "success", False): Owed(Action.RELAYED),  # 5.2.7.3 a: none is
    ("alias", "absent", True): Owed(Action.EXPANDED),
    ("alias", "absent", False): None,
    ("alias", "other", True): None,
    ("alias", "other", False): None,
}
"""The report on a fan-out that is complete."""

# RFC 3834 section 2: addresses that answer for programs. They get the DSN that they ask for, never one that only the switch wants (P5).
_ROBOT = re.compile(
    r"^(?:mailer-daemon|postmaster|listserv|majordomo|smartlist|mailman|sympa|no-?reply)$|^owner-|-(?:request|owner|bounces?)$"
)
SILENT = ("repetition", "loop")  # the first copy of the message was reported, or will be


def wants(notify: Sequence[str] | None, keyword: str) -> bool:
    """Whether NOTIFY asks for `keyword`. Where it is absent, failures are told and nothing else (RFC 3461 4.1)."""
    return keyword == "FAILURE" if notify is None else keyword in notify


def reachable(record: PostRecord) -> bool:
    """Whether the envelope sender may be written to at all: not the null sender, not one of our own lists, and an address."""
    return bool(record.mail_from) and record.parent is None and usable(record.mail_from)


def usable(address: str) -> bool:
    """Whether an address can stand in an envelope and a header. Ingress has checked it; the broker's other writers have not."""
    local, at, domain = address.rpartition("@")
    return bool(local and at and domain) and not any(char in "<>" or not char.isprintable() for char in address)


def asked(notify: Sequence[str] | None) -> Asked:
    """What NOTIFY says about success."""
    if notify is None:
        return "absent"
    return "success" if "SUCCESS" in notify else "other"


def of_expansion(record: PostRecord, target: TargetRecord, verdict: str) -> Owed | None:
    """The report on a complete fan-out, or None. `verdict` is the ledger's: "open", "no_recipients", "gone", "loop", "repetition"."""
    if verdict in SILENT or not reachable(record):
        return None
    if verdict == "gone":
        return Owed(Action.FAILED) if wants(target.notify, "FAILURE") else None
    if target.kind is not TargetKind.GROUP:
        return Owed(_of_role(target.kind)) if wants(target.notify, "SUCCESS") else None
    if target.notify is None and _robot(record):
        return None
    owed = MATRIX[target.envelope, asked(target.notify), target.report]
    # Nothing was passed on, so nothing can follow: for the author it ended here (never a bounce for an empty result).
    return Owed(Action.DELIVERED) if owed is not None and verdict == "no_recipients" else owed


def _of_role(kind: TargetKind) -> Action:
    """A program reads the bounce address, so mail to it has arrived; owner and postmaster addresses hand on to people, without DSN."""
    return Action.DELIVERED if kind is TargetKind.BOUNCES else Action.RELAYED


def _robot(record: PostRecord) -> bool:
    return bool(_ROBOT.search(record.mail_from.rpartition("@")[0].lower().partition("+")[0]))


def of_failure(record: PostRecord, target: TargetRecord) -> Tell:
    """Who hears that a copy of a post could not be delivered.

    Under `envelope=list` the group answers for its members (threats: no backscatter to the author); so it does for a child post,
    whose sender is a group of ours. Under `envelope=alias` the author sent it to them, and may have said NOTIFY=NEVER.
    """
    if target.envelope == "list" or record.parent is not None:
        return Tell.OWNERS
    return Tell.AUTHOR if reachable(record) and wants(target.notify, "FAILURE") else Tell.NOBODY


def of_delay(record: PostRecord, target: TargetRecord) -> bool:
    """Whether the author is to hear of a delay: NOTIFY=DELAY, and an alias envelope.

    Under `envelope=list` our duty to the author ended with the group (RFC 3461 5.2.7.1).
    """
    return target.envelope == "alias" and reachable(record) and wants(target.notify, "DELAY")


def summed_up(mode: NotifyOwners, verdict: str) -> bool:
    """Whether the owners hear of this post even if nothing went wrong. A repetition is no post of its own."""
    return mode in ("posts", "daily") and verdict not in SILENT


def finished(totals: Totals) -> bool:
    """Whether every recipient has a final state, and nobody is still to be told of."""
    return totals.complete and not totals.deferred
