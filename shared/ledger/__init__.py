"""The ledger: what happened to every post and every recipient, durable in SQL (P3, P4). `store.py` keeps this port on SQLite and PostgreSQL.

Who writes what: the expander opens a post (insert-if-absent, before its first batch); the sender claims batches and records fates before
its ack, in group commits; the reporter writes everything else. What is written are facts that never change: sheets, one for each recorded batch and
one for each filed share. Where a recipient stands is folded from them. P4 holds at every read because a sum counts each recipient of the sheets
once: expanded = delivered + deferred + failed + suppressed, where deferred is everybody who is queued or deferred; a fan-out is
`complete` when all its shares are filed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Literal, Protocol

import msgspec

from shared.ledger.bounces import Bounces
from shared.ledger.days import Days
from shared.ledger.due import Dues
from shared.ledger.notes import Notes
from shared.ledger.traces import Traces
from shared.messages import BodyRef, Expanded, Fate, Reason, Refused, State, TargetKind
from shared.replies import TROUBLE, TransientError


class LedgerUnavailable(TransientError):
    """SQL cannot answer now: the work waits, nothing is sent that could not be recorded."""

    def __init__(self, why: str) -> None:
        super().__init__(TROUBLE, why=why)


class PostRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a post. `subject` is decoded and cut to 200 characters; `cells` and `slices` are the plan of the first expansion.

    `graph` is the expander's: which groups the first expansion entered, octets that only the expander reads.
    """

    id: str
    accepted_at: float
    mail_from: str
    author: str  # the one From: address as it is spelled, "" where there is none or more than one
    message_id: str
    subject: str
    size: int
    ip: str
    cells: int
    slices: int
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None
    body: BodyRef | None = None
    parent: str | None = None
    graph: bytes = b""


class TargetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One target of a post. `fingerprint` says what the post is (sender, group, digest): None where it is never taken for a repetition.

    `token` is what its bounce address carries; `references` are the Message-IDs that the post answers, nearest last; `report` is
    what the group's `report_delivery` said when the post was expanded. `automatic`: no human wrote it, so a thread that it starts has no author.
    """

    group: str
    recipient: str
    kind: TargetKind
    token: str = ""
    fingerprint: bytes | None = None
    references: tuple[str, ...] = ()
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None
    report: bool = False
    envelope: Literal["list", "alias"] = "list"
    owners: tuple[str, ...] = ()
    automatic: bool = False


class Verdict(StrEnum):
    """What opening a target found."""

    NEW = "new"
    AGAIN = "again"  # this very post, opened before: a redelivery; repeat the expansion
    REPETITION = "repetition"  # another post that is the same message: suppress it


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `open_post`: the recorded plan, graph and body, which win over those proposed, and for each group its verdict.

    `thread_authors` gives for a group the address that started the thread the post answers, where it is a post of that group.
    `stopped`: the post, or the one that it was made from, has been stopped.
    """

    cells: int
    slices: int
    verdicts: Mapping[str, Verdict]
    thread_authors: Mapping[str, str] = msgspec.field(default_factory=dict)
    graph: bytes = b""
    body: BodyRef | None = None
    stopped: bool = False


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a sender claims before its transaction: recipients of one post in one cell behind one next hop."""

    post_id: str
    cell: int
    hop: str


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a recipient stands: its state, how many attempts are recorded, and when the next is due."""

    state: State
    attempts: int
    next_at: float | None = None
    code: int = 0
    status: str = ""
    text: str = ""


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `take`. `wait` is 0.0 when the claim is ours now, else the seconds until the other's lease ends; `standings` is where
    the recipients of the claim's cell stand who were tried before (all of the cell, by whichever hop), by key: nobody, as a rule. `stopped`: the post
    was stopped before the claim was taken, and nothing of it is to be sent."""

    wait: float
    standings: Mapping[str, Standing]
    stopped: bool = False


class Alike(msgspec.Struct, frozen=True, kw_only=True):
    """Recipients of one attempt who share a fate: `fate` is everybody's but for its address, which does not count."""

    fate: Fate
    addresses: Sequence[str]


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """The sums of a post, or of one of its groups (P4). `announced` is what the expander said, `complete` whether all of it is filed."""

    expanded: int
    delivered: int
    deferred: int
    failed: int
    suppressed: int
    announced: int
    complete: bool


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One address of a trace: its state, or the reason it was left out (`reason` set). `via` is the path of groups.

    `instead` is the path by which a duplicate's copy came; none where that was another sub-group, or left out as well.
    """

    post_id: str
    group: str
    address: str
    via: tuple[str, ...]
    state: State | None
    reason: Reason | None
    attempts: int
    code: int
    status: str
    text: str
    hop: str
    at: float
    next_at: float | None
    instead: tuple[str, ...] = ()


class PostSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A post as a trace shows it: the record, its targets with their verdicts and sums."""

    record: PostRecord
    targets: Sequence[
        tuple[TargetRecord, str, Totals]
    ]  # the str: "open", "repetition", "loop", "no_recipients", "gone"
    totals: Totals


class ParkedRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A message the pipeline could not process, kept for a person."""

    id: int
    queue: str
    reason: str
    payload: bytes
    tries: int
    at: float


class Ledger(Bounces, Days, Dues, Notes, Traces, Protocol):
    """The port. All methods raise `LedgerUnavailable` when SQL does not answer in time; every method is idempotent."""

    # the expander's
    async def open_post(self, post: PostRecord, targets: Sequence[TargetRecord]) -> Opened:
        """Record a post and its targets, insert-if-absent, in one transaction; fingerprints are known for a week."""

    async def set_body(self, post_id: str, body: BodyRef) -> BodyRef:
        """Name the blob that holds a post's body, insert-if-absent; the one that is recorded, which a collector then leaves alone."""

    async def set_target(self, post_id: str, group: str, verdict: str) -> None:
        """Why a target ended without recipients: "loop", "no_recipients", "gone"."""

    # the sender's
    async def take(self, claim: Claim, owner: str, lease: float) -> Taken:
        """Take a claim for `lease` seconds, and read where the recipients of its cell stand, after whoever held it before (group commit)."""

    async def renew(self, owner: str, lease: float) -> None:
        """Renew all claims of `owner`."""

    async def release(self, claim: Claim, owner: str) -> None:
        """Let go of a claim."""

    async def record(self, claim: Claim, group: str, fates: Sequence[Fate | Alike], *, owner: str = "") -> None:
        """Record an attempt's fates (group commit), and with an `owner` let go of its claim in the same transaction.

        Never turns a final state back; an attempt lower than the recorded is ignored, unless it delivered. The claim's cell is the one that
        the recorded plan puts the recipients into.
        """

    async def standings(self, post_id: str, keys: Sequence[str]) -> Mapping[str, Standing]:
        """The standing of the recipients that have one; queued, where they were filed and not tried."""

    # the reporter's
    async def file(self, share: Expanded) -> bool:
        """File a share of a fan-out: who is queued, and who is left out. True when the group's fan-out is now complete.

        Share `index` of `of` tells of the people in its equal part of the post's cells. Told again with other people, it tells of both.
        """

    async def refused(self, message: Refused) -> None:
        """Count a refusal in the session by group and day, once however often it is told, and keep the group's last ones."""

    async def park(self, queue: str, reason: str, payload: bytes, tries: int, *, unique: str) -> int:
        """Keep a parked message; `unique` makes a repeated filing one row."""

    # everybody's
    async def parked(self, *, after: int = 0, limit: int = 100) -> Sequence[ParkedRecord]: ...

    async def parked_one(self, number: int) -> ParkedRecord | None: ...

    async def unpark(self, number: int) -> bool:
        """Forget a parked message (it was retried or dropped)."""

    async def post(self, post_id: str) -> PostSummary | None: ...

    async def target_of_token(self, token: str) -> tuple[str, str] | None:
        """(post id, group) of a bounce address's token."""

    async def totals(self, post_id: str, group: str = "") -> Totals: ...

    async def refusals(self, group: str, *, limit: int = 100) -> Sequence[Refused]:
        """The last refusals of a group in the session, newest first."""

    async def refusals_by_day(self, group: str) -> Mapping[str, int]:
        """How many recipients of a group were refused in the session, by day (UTC, "2026-11-23")."""

    async def body_in_use(self, key: str) -> bool:
        """Whether a post that is not finished, or a parked message, still needs this blob."""

    async def sweep(self, *, posts_before: float) -> int:
        """Drop posts older than that which are finished, and fingerprints and claims that have run out; how many posts went."""

    async def check(self) -> None:
        """Whether SQL answers and its schema is ours."""

    async def close(self) -> None:
        """Let go of everything."""
