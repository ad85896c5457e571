"""Who is told what: RFC 3461 NOTIFY x the group's envelope x `report_delivery` x the kind of target. Pure.

Nothing is ever sent to the null sender, nor for a post that is a child made inside (P5): lists do not write DSNs to each other.
The client controls NOTIFY and the sender's address; it cannot make more than one report of a kind per (post, group).

| envelope | NOTIFY has SUCCESS | NOTIFY absent, switch on | otherwise |
|---|---|---|---|
| list | `delivered` (RFC 3461 5.2.7.1), whatever the switch | `delivered` | none |
| alias | switch on: `expanded` (5.2.7.3 c), off: `relayed` (5.2.7.3 a) | `expanded` | none |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from shared.ledger import PostRecord, TargetRecord
from shared.messages import Fate, State, TargetKind


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


# RFC 3834 section 2: addresses that answer for programs. They get the DSN that they ask for, never one that only the switch wants (P5).
_ROBOT = re.compile(
    r"^(?:mailer-daemon|postmaster|listserv|majordomo|smartlist|mailman|sympa|no-?reply)$|^owner-|-(?:request|owner|bounces?)$"
)
_SILENT = ("repetition", "loop")  # the first copy of the message was reported, or will be


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


def of_expansion(record: PostRecord, target: TargetRecord, verdict: str) -> Action | None:
    """The report on a complete fan-out, or None. `verdict` is the ledger's: "open", "no_recipients", "gone", "loop", "repetition"."""
    if verdict in _SILENT or not reachable(record):
        return None
    if verdict == "gone":
        return Action.FAILED if wants(target.notify, "FAILURE") else None
    asked = wants(target.notify, "SUCCESS")
    if target.kind is not TargetKind.GROUP:
        return _of_role(target.kind) if asked else None
    if not asked and not _volunteered(record, target):
        return None
    # Nothing was passed on, so nothing can follow: for the author it ended here (never a bounce for an empty result).
    if target.envelope == "list" or verdict == "no_recipients":
        return Action.DELIVERED
    return Action.RELAYED if asked and not target.report else Action.EXPANDED


def _of_role(kind: TargetKind) -> Action:
    """A program reads the bounce address, so mail to it has arrived; owner and postmaster addresses hand on to people, without DSN."""
    return Action.DELIVERED if kind is TargetKind.BOUNCES else Action.RELAYED


def _volunteered(record: PostRecord, target: TargetRecord) -> bool:
    """Whether the group's switch alone sends a report: an explicit NOTIFY of any kind says otherwise."""
    local = record.mail_from.rpartition("@")[0].lower().partition("+")[0]
    return target.report and target.notify is None and not _ROBOT.search(local)


def of_failure(record: PostRecord, target: TargetRecord) -> Tell:
    """Who hears that a copy of a post could not be delivered.

    Under `envelope=list` the group answers for its members (threats: no backscatter to the author); so it does for a child post,
    whose sender is a group of ours. Under `envelope=alias` the author sent it to them, and may have said NOTIFY=NEVER.
    """
    if target.envelope == "list" or record.parent is not None:
        return Tell.OWNERS
    return Tell.AUTHOR if reachable(record) and wants(target.notify, "FAILURE") else Tell.NOBODY


def late(record: PostRecord, target: TargetRecord, fates: Sequence[Fate], warning: float) -> tuple[Fate, ...]:
    """The deferred recipients that a `delayed` report names: NOTIFY=DELAY, an alias envelope, and the post older than `warning` seconds.

    Under `envelope=list` our duty to the author ended with the group (RFC 3461 5.2.7.1).
    """
    if target.envelope == "list" or not reachable(record) or not wants(target.notify, "DELAY"):
        return ()
    return tuple(fate for fate in fates if fate.state is State.DEFERRED and fate.at - record.accepted_at >= warning)
