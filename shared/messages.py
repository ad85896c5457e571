"""The wire: what the services say to each other through the bus, `Post` -> `Slice` -> `Delivery` -> outcome.

Frozen, tagged and versioned; MessagePack on the wire. A new field gets a default, and a reader takes the version before
and after its own (unknown fields are ignored). An attacker with access to the broker controls every byte that `decode`
sees: it fails with `Undecodable`, whatever the bytes, and the caller parks the message.

Addresses are text, `local@domain`, with the local part as written and the domain as lower case A-label; the form in which two
addresses are compared is `shared.address.key`. Times are seconds since the epoch (float, UTC).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec


class Undecodable(Exception):
    """Bytes from the bus that are no message of ours: to be parked, with this text as the reason."""


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every wire message has in common: frozen, keyword-only, defaults left out of the encoding.

    Those that come by the thousand and hold text alone can be in no cycle: `gc=False` keeps the garbage collector from looking at each of them.
    """


# --- content ---------------------------------------------------------------------------------------------------------
class BodyRef(Message, frozen=True):
    """A body kept in the body store: its key there, its size in octets, and the SHA-256 of all its octets."""

    key: str
    size: int
    sha256: bytes


class Content(Message, frozen=True):
    """A message: `head` (header section with the blank line that ends it), then `tail`, or the blob `ref` from `offset` on.

    The head is always inline and bounded (settings.max_header_size); the body crosses the bus by reference when large.
    """

    head: bytes
    tail: bytes = b""
    ref: BodyRef | None = None
    offset: int = 0

    @property
    def size(self) -> int:
        """Octets of the whole message as it will be sent, before dot-stuffing."""
        return len(self.head) + (len(self.tail) if self.ref is None else self.ref.size - self.offset)


# --- ingress -> expander ---------------------------------------------------------------------------------------------
class TargetKind(StrEnum):
    """What the recipient address of a post stands for."""

    GROUP = "group"
    OWNER = "owner"  # office-owner@: reaches the owners
    BOUNCES = "bounces"  # office-bounces@, with or without +TOKEN
    POSTMASTER = "postmaster"  # postmaster@ of a domain of ours
    SIGNAL = "signal"  # no recipient at all: what the ledger says of a signal's group


class Target(Message, frozen=True):
    """One accepted RCPT. `group` is the key of the group (of its domain's name for postmaster); `recipient` is the address as received.

    `notify` is None where NOTIFY was absent, else its keywords in upper case, "NEVER" alone or any of SUCCESS, FAILURE, DELAY
    (RFC 3461 4.1). `orcpt` is the value as received: "rfc822;xtext" (RFC 3461 4.2), never decoded.
    """

    group: str
    recipient: str
    kind: TargetKind = TargetKind.GROUP
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None


class Origin(Message, frozen=True):
    """Where a post came from, for `Received:` and the trace. All of it but `ip` and `protocol` is the client's word."""

    ip: str
    helo: str
    protocol: str  # "ESMTP", "ESMTPS", "LMTP", "UTF8SMTP", ... (RFC 3848), "local" for a post made inside


class Checked(Message, frozen=True):
    """What a spam check said of a message: rspamd's action, or "unchecked" where it gave no verdict, "too large" where it was not asked.

    `symbols` are the rules that weighed most, heaviest first.
    """

    action: str
    score: float = 0.0
    required: float = 0.0
    symbols: tuple[str, ...] = ()


class Post(Message, frozen=True, tag="post.v1"):
    """One accepted message, for one or more groups; durable on the bus before the client saw 250 (P1).

    `mail_from` is empty for the null sender. `digest` is the SHA-256 of every octet as received. `authenticated` is the address
    that SMTP AUTH or a trusted relay vouches for, `verdict` what a trusted relay says of the author, where one says anything.
    `parent`, `root` and `trail` are set on a post that is published inside for a sub-group that is not expanded in place: the parent post's
    id, the id of the post that came from outside, and the keys of the groups it has been through. `checked` is what a spam check said, where one was
    asked for.
    """

    id: str
    accepted_at: float
    mail_from: str
    targets: tuple[Target, ...]
    content: Content
    digest: bytes
    origin: Origin
    smtputf8: bool = False
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None
    authenticated: str | None = None
    verdict: Literal["pass", "fail", "unsure"] | None = None
    parent: str | None = None
    root: str | None = None
    trail: tuple[str, ...] = ()
    checked: Checked | None = None


class Slice(Message, frozen=True, tag="slice.v1"):
    """A share of a large fan-out: the recipients whose slot lies in [`low`, `high`), see `shared.groups.slot`.

    `cells` is the number of cells that was recorded at the first expansion; `index` and `of` number the slices.
    """

    post: Post
    cells: int
    index: int
    of: int
    low: int
    high: int


class Signal(Message, frozen=True, tag="signal.v1"):
    """A real-time request (chat, notification) addressed to a group. `origin` names the system or person who sent it.

    `once` is the id that the origin itself gave it, empty for none: of two signals of a group and an origin with one such id the first counts.
    """

    id: str
    group: str
    text: str
    origin: str
    sent_at: float
    title: str = ""
    link: str = ""
    once: str = ""


# --- expander -> sender ----------------------------------------------------------------------------------------------
class Lane(StrEnum):
    """Two lanes, so that a small post never waits for a big one (P7)."""

    EXPRESS = "express"
    BULK = "bulk"


class DeliveryKind(StrEnum):
    """Why a delivery exists; only a `POST` has rows that count for P4."""

    POST = "post"
    REPORT = "report"  # a DSN of ours: null sender; its failure is told to nobody
    FORWARD = "forward"  # mail to owner, bounce and postmaster addresses


class Recipient(Message, frozen=True, gc=False):
    """One address of a delivery. `notify` and `orcpt` are what may be passed on under RFC 3461 5.2.7 (alias envelopes only)."""

    address: str
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None


class Delivery(Message, frozen=True, tag="delivery.v1"):
    """One rendered copy for up to N recipients behind one next hop.

    (`post_id`, `cell`, `hop`) is what a sender claims (P3): it is the same for a recipient however often, and over whatever edits, an
    expansion is repeated. `attempt` counts from 0. `hop` is a next hop in the syntax of HORO_NEXT_HOP, with "mx:DOMAIN" for a domain's MX.
    `verp` asks for one transaction a recipient, with the recipient's own token in the envelope sender. `unknowns` counts the attempts
    whose reply to the final dot was lost. `queued_at` is when the first attempt was put on the bus, 0.0 where that is not told.
    """

    post_id: str
    group: str
    cell: int
    hop: str
    mail_from: str
    recipients: tuple[Recipient, ...]
    content: Content
    accepted_at: float
    kind: DeliveryKind = DeliveryKind.POST
    lane: Lane = Lane.EXPRESS
    attempt: int = 0
    smtputf8: bool = False
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None
    verp: bool = False
    unknowns: int = 0
    queued_at: float = 0.0


class Notification(Message, frozen=True, tag="notification.v1"):
    """A signal for one channel, by its number in the directory: where it leads to is a secret, and no message of the bus holds one.

    `label` is the channel's name in the ledger, `cell` the cell of the signal's plan that the label falls into. `attempt` counts from 0.
    """

    signal: Signal
    channel: int
    label: str
    cell: int
    attempt: int = 0


# --- anyone -> reporter ----------------------------------------------------------------------------------------------
class State(StrEnum):
    """The fate of one recipient (RFC 3464 2.3.3 words where it has one)."""

    QUEUED = "queued"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    FAILED = "failed"


class Reason(StrEnum):
    """Why an address of an expansion gets no copy. Told by `horo trace`, counted as suppressed."""

    AUTHOR = "author"
    TO_CC = "to_cc"
    DUPLICATE = "duplicate"
    PAUSED = "paused"
    SUSPENDED = "suspended"
    SUBGROUP_DISABLED = "subgroup_disabled"
    SIGNALS_DISABLED = "signals_disabled"  # a sub-group that takes no signals
    NOT_NESTED = "not_nested"  # a group of another domain that does not let this one reach into it
    CYCLE = "cycle"  # a group that this expansion has been through already
    LOOP = "loop"  # a copy that came back, by our own mark
    REPETITION = "repetition"  # the same message again: the client lost our 250
    STOPPED = "stopped"  # `horo post stop` came before their copy was sent; the ledger finds it out, no message says it


class Queued(Message, frozen=True, gc=False):
    """Addresses that an expansion gives a copy. `via` is the path of group keys from the target to the one that holds them, told once for all."""

    addresses: tuple[str, ...]
    via: tuple[str, ...] = ()


class Suppressed(Message, frozen=True, gc=False):
    """Addresses that an expansion leaves out, and why."""

    addresses: tuple[str, ...]
    reason: Reason
    via: tuple[str, ...] = ()


class Brief(Message, frozen=True):
    """What the events say of a post, so that nobody asks the ledger for it.

    `groups` are all its targets' groups, those that stand for an address like office-owner@ last; `verdict` is the target's: "open",
    "no_recipients", "loop" or "repetition".
    """

    accepted_at: float
    mail_from: str
    message_id: str
    subject: str
    size: int
    groups: tuple[str, ...]
    verdict: str = "open"
    parent: str | None = None


class Expanded(Message, frozen=True, tag="expanded.v1"):
    """A share of a fan-out is durable on the bus: who gets a copy, who does not. One of these a (post, group, slice).

    `brief` stands on a fan-out of one share of which no report is due: most posts are such, and cost the reporter no look into the ledger.
    """

    post_id: str
    group: str
    index: int
    of: int
    queued: tuple[Queued, ...]
    suppressed: tuple[Suppressed, ...]
    at: float
    brief: Brief | None = None

    @property
    def copies(self) -> int:
        """How many addresses get a copy."""
        return sum([len(entry.addresses) for entry in self.queued])

    @property
    def left_out(self) -> int:
        """How many get none."""
        return sum([len(entry.addresses) for entry in self.suppressed])


class Fate(Message, frozen=True):
    """What became of one recipient at one attempt. `hop` names the host that answered; `next_at` is set where it is tried again.

    `common`: the refusal was of the whole transaction (its sender, its message, several recipients at once), so it says nothing of this address.
    """

    address: str
    state: State
    code: int
    status: str
    text: str
    hop: str
    attempt: int
    at: float
    next_at: float | None = None
    common: bool = False


class Attempted(Message, frozen=True, tag="attempted.v1"):
    """A sender's attempt at a delivery, after its fates are recorded in the ledger: what the reporter tells the world of it.

    `content` is the message that failed, where the author may get it back (an envelope that is the author's own): RFC 3461 4.3.
    """

    post_id: str
    group: str
    kind: DeliveryKind
    fates: tuple[Fate, ...]
    content: Content | None = None


class Refused(Message, frozen=True, tag="refused.v1"):
    """A recipient that was refused in the session; counted apart from the ledger's sums."""

    group: str
    mail_from: str
    code: int
    status: str
    text: str
    ip: str
    at: float


class Comeback(Message, frozen=True, gc=False):
    """What a bounce says of one member. `action` is RFC 3464's word ("failed", "delayed", "relayed", ...), or "auto_reply" for an automatic answer,
    where `address` may be empty. `status` is the enhanced status or empty, `text` the diagnosis.

    `sure`: it came to the member's own bounce address, which nobody else knows; else it is hearsay, for every member knows the shared one.
    """

    address: str
    action: str
    status: str = ""
    text: str = ""
    sure: bool = False


class Bounced(Message, frozen=True, tag="bounced.v1"):
    """Mail to the bounce address of a post's copies was recognised. `id` is its own, `group` the one whose copies they are; `probe` is the token
    of the bounce address where that was a probe's, and then there is no post."""

    id: str
    post_id: str
    group: str
    recipients: tuple[Comeback, ...]
    at: float
    probe: str = ""


class SignalExpanded(Message, frozen=True, tag="signal-expanded.v1"):
    """A share of a signal's fan-out, or word that it was refused: `suppressed` is the reason then, `spared` the number of members spared.

    `share` is what the ledger is told: in it `queued` are the people, each of whom gets an event. `channels` are the labels of the channels
    that were notified, by the path of groups that led to them. `members` is what the version before `share` told of people.
    """

    signal: Signal
    members: tuple[str, ...] = ()
    suppressed: str | None = None
    spared: int = 0
    share: Expanded | None = None
    channels: tuple[Queued, ...] = ()


Outcome = Expanded | Attempted | Refused | Bounced | SignalExpanded
Wire = Post | Slice | Signal | Delivery | Notification | Expanded | Attempted | Refused | SignalExpanded | Bounced


def post_of(message: Wire) -> str:
    """The id of the post or signal that a message is about; empty for a refusal, which is about none."""
    match message:
        case Post() | Signal():
            return message.id
        case Slice():
            return message.post.id
        case Notification() | SignalExpanded():
            return message.signal.id
        case Refused():
            return ""
        case _:
            return message.post_id


_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Wire] = msgspec.msgpack.Decoder(Wire)


def encode(message: Wire) -> bytes:
    """The message as MessagePack, with its tag and version inside."""
    return _encoder.encode(message)


def decode(payload: bytes) -> Wire:
    """The message that `payload` holds.

    Raises `Undecodable` for whatever bytes are none: msgspec raises DecodeError, but also RecursionError for deep nesting and
    UnicodeDecodeError for bad text, and neither of the two is a DecodeError.
    """
    try:
        return _decoder.decode(payload)
    except (msgspec.MsgspecError, RecursionError, UnicodeError, MemoryError, OverflowError, ValueError) as error:
        raise Undecodable(f"{type(error).__name__}: {error}") from error
