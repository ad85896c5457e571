"""What waits, and when it is looked at and told. Pure: times are seconds since the epoch, `since` is when it became due."""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from shared.address import key
from shared.ledger import PostRecord, Row, TargetRecord, Totals
from shared.ledger.due import Due
from shared.messages import Content, Fate, State

FIRST = 3.0
"""Seconds until the first look: most posts are finished by then."""

LONGEST = 3600.0
"""Seconds between looks at most, and so how late a post's end may be told: of a post in which somebody is tried again every four hours, nobody
waits for the hour."""

QUIET = 15 * 60.0
"""Seconds after the first failure until owners hear of it though the post is not finished."""

GATHER = 60.0
"""Seconds after the first failure behind an alias until its author hears of it: the failures of the first attempts are one report."""

APART = 3600.0
"""Seconds between two reports of failures to one author while a post is not finished."""

MARGIN = 3600.0
"""Seconds beyond HORO_RETRY_MAX_AGE after which a post is told of as it stands: the last attempts are over by then."""

NEXT_DAY = 300.0
"""Seconds after midnight (UTC) until a day is summed up."""

DAY = 86400.0


def next_look(since: float, now: float, *, until: float = 0.0) -> float:
    """The next look: pauses grow with the age, and `until`, where it is still to come, is not slept through."""
    following = now + min(max(now - since, FIRST), LONGEST)
    return min(following, until) if until > now else following


def tell_owners(*, failures: int, told: int, notices: int, over: bool, age: float) -> bool:
    """Whether a notice is sent: of failures that were not told; the first after a while, the second and last when it is all over."""
    return failures > told and (over or (notices == 0 and age >= QUIET))


def tell_author(*, untold: int, last: float, now: float, over: bool, age: float) -> bool:
    """Whether a report of failures is sent: when it is all over, or of the first attempts together, and then seldom."""
    return untold > 0 and (over or (age >= GATHER and now - last >= APART))


def day_of(at: float) -> float:
    """When the day (UTC) of a time began."""
    return at - at % DAY


class Kind(StrEnum):
    """What is waited for."""

    DELIVERED = "delivered"  # the end of a list's post whose author asked for a report (NOTIFY=SUCCESS)
    DELAYED = "delayed"  # the age at which an author who asked hears of a delay
    FAILED = "failed"  # failures behind an alias, for the author
    OWNERS = "owners"  # failures, and the end of a post, for those who look after the group
    DAY = "day"  # the end of a day of a group


class Memory(msgspec.Struct, omit_defaults=True):
    """What is known of a row of `due` from look to look. A report's id is made of its `round`.

    `told`: how many failures owners have been told of. `marks`: the failures that an author was told of. `sending`: those in the report that is
    being sent (for owners: how many), so that after a crash it is the same report. `last`: when it was made. `content`: the message that failed.
    `forward`: it is mail to an owner or postmaster address. `summed`: the owners have had the post's summary.
    """

    round: int = 0
    told: int = 0
    marks: list[int] = []
    sending: list[int] = []
    last: float = 0.0
    forward: bool = False
    summed: bool = False
    content: bytes | None = None


class Case(msgspec.Struct):
    """A look: the row, its memory, and the post's target as the ledger knows it now. `over`: finished, or so old that it is told as it stands."""

    due: Due
    memory: Memory
    record: PostRecord
    target: TargetRecord
    verdict: str
    totals: Totals
    now: float
    over: bool

    @property
    def age(self) -> float:
        """Seconds since it became due."""
        return self.now - self.due.since


def encode(memory: Memory) -> str:
    """A memory as the ledger keeps it."""
    return msgspec.json.encode(memory).decode()


def decode(detail: str) -> Memory:
    """The memory that the ledger kept."""
    return msgspec.json.decode(detail, type=Memory)


def packed(content: Content | None) -> bytes | None:
    """A message for the memory."""
    return None if content is None else msgspec.msgpack.encode(content)


def unpacked(octets: bytes | None) -> Content | None:
    """The message in the memory."""
    return None if octets is None else msgspec.msgpack.decode(octets, type=Content)


def mark(address: str) -> int:
    """A recipient in the memory: 53 bits of the key, which any reader of JSON takes."""
    return int.from_bytes(hashlib.blake2b(key(address).encode("utf-8", "replace"), digest_size=8).digest()) >> 11


def fate_of(row: Row) -> Fate:
    """Where a recipient stands, as the fate that put it there."""
    return Fate(
        address=row.address,
        state=row.state or State.QUEUED,
        code=row.code,
        status=row.status,
        text=row.text,
        hop=row.hop,
        attempt=max(row.attempts - 1, 0),
        at=row.at,
        next_at=row.next_at,
    )
