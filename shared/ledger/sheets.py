"""Sheets: what is written of many recipients at once, as one row. A batch's fates are a sheet, and so is a share of a fan-out. Pure.

A sheet is written once and never changed; where a recipient stands is folded from its sheets when somebody asks (`fold.py`). Its content is JSON:
names (keys, or a key with the address where they differ) under what they have in common, for the recipients of one transaction mostly have
one answer. Beside the content stand counts and a digest of the keys, so that a sum seldom has to look inside.

Strangers write the addresses and the replies: `rows.clean` and `rows.bounded` are applied where something needs them, which one look at
the whole tells.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence

import msgspec

from shared.address import keys
from shared.ledger import Alike, Claim
from shared.ledger.rows import KEY_LIMIT, NUMBERS, TEXT_LIMIT, SqlRow, bounded, clean, small, via_text
from shared.messages import Expanded, Fate, State

BIG = 1000
"""Addresses of a share from which on it is found by its signature; a smaller one has a row of `people` for each."""

_SUM = (1 << 63) - 1

Name = str | tuple[str, str]
"""A key, or a key and the address where they differ."""


class FateGroup(msgspec.Struct, frozen=True, array_like=True):
    """Recipients who share one fate of one attempt. `state` is the number of `rows.STATES`."""

    state: int
    code: int
    status: str
    text: str
    hop: str
    at: float
    next_at: float | None
    names: list[Name]


class QueuedGroup(msgspec.Struct, frozen=True, array_like=True):
    """People who get a copy by one path of groups (as `rows.via_text`; None for no path at all)."""

    via: str | None
    names: list[Name]


class LeftOutGroup(msgspec.Struct, frozen=True, array_like=True):
    """Addresses left out for one reason on one path."""

    reason: str
    via: str | None
    names: list[Name]


class ShareContent(msgspec.Struct, frozen=True, array_like=True):
    """Who gets a copy, and who does not."""

    queued: list[QueuedGroup]
    suppressed: list[LeftOutGroup]


_encode = msgspec.json.Encoder().encode
_fates = msgspec.json.Decoder(list[FateGroup])
_share = msgspec.json.Decoder(ShareContent)


def fates_of(content: str) -> list[FateGroup]:
    """What the sheet of an attempt holds."""
    return _fates.decode(content)


def share_of(content: str) -> ShareContent:
    """What the sheet of a share holds."""
    return _share.decode(content)


def keys_of(names: Iterable[Name]) -> list[str]:
    """The keys of names."""
    return [name if type(name) is str else name[0] for name in names]


def share_keys(content: str) -> list[str]:
    """Everybody whom the sheet of a share names, by key."""
    share = share_of(content)
    groups = [group.names for group in share.queued] + [group.names for group in share.suppressed]
    return [key for names in groups for key in keys_of(names)]


# --- digests ---------------------------------------------------------------------------------------------------------
def hashes(names: Iterable[str]) -> list[int]:
    """63 bits of each key: of a sheet's digest, and what `people` is asked by."""
    digest, number = hashlib.blake2b, int.from_bytes
    return [number(digest(name.encode(), digest_size=8).digest()) >> 1 for name in names]


def summed(numbers: Iterable[int]) -> int:
    """The digest of a set of keys by their hashes: equal for equal sets, however they were cut into sheets (and added up again)."""
    return sum(numbers) & _SUM


def signed(numbers: Iterable[int]) -> str:
    """A share's signature: four characters for each of its keys, to be looked through for `mark_of` one."""
    return base64.b64encode(b"".join([(number >> 39).to_bytes(3) for number in numbers])).decode()


def mark_of(number: int) -> str:
    """What a signature has of the key with this hash."""
    return signed((number,))


def _content_mark(*parts: str) -> int:
    return int.from_bytes(hashlib.blake2b("\0".join(parts).encode(), digest_size=8).digest()) >> 1


# --- names -----------------------------------------------------------------------------------------------------------
def named(addresses: Sequence[str]) -> tuple[Sequence[str], Sequence[Name]]:
    """Keys and names of addresses, cleaned and bounded as they are stored."""
    found = keys(addresses)
    if found is addresses and "\0" not in "".join(addresses) and len(max(addresses, key=len, default="")) <= KEY_LIMIT:
        return addresses, addresses
    found = [bounded(name) for name in found]
    cleaned = map(clean, addresses)
    return found, [key if key == address else (key, address) for key, address in zip(found, cleaned, strict=True)]


# --- attempts --------------------------------------------------------------------------------------------------------
ATTEMPT_COLUMNS = {
    "post_id": "text",
    "cell": "int4",
    "mark": "int8",
    "seq": "int8",
    "at": "float8",
    "digest": "int8",
    "attempts": "int2",
    "delivered": "int4",
    "failed": "int4",
    "deferred": "int4",
    "group_key": "text",
    "content": "text",
}


def attempt_rows(claim: Claim, group: str, fates: Sequence[Fate | Alike], seq: int) -> list[SqlRow]:
    """The sheets of some fates, numbered from `seq`: one, as all of a batch are of one attempt and each recipient is in it once; else more,
    so that the fold takes them in the order in which they were told."""
    sheets: list[_Sheet] = []
    for alike in fates if all(isinstance(each, Alike) for each in fates) else _gathered(fates):
        assert isinstance(alike, Alike)
        found, names = named(alike.addresses)
        for start, end in _distinct(found):
            _room(sheets, alike.fate.attempt, found[start:end]).add(alike.fate, found[start:end], names[start:end])
    return [sheet.row(claim, bounded(group), seq + number) for number, sheet in enumerate(sheets)]


def _gathered(fates: Sequence[Fate | Alike]) -> list[Alike]:
    """Fates one by one as neighbours who are alike; the order stays."""
    gathered: list[tuple[Fate, list[str]]] = []
    for each in fates:
        fate, addresses = (each.fate, each.addresses) if isinstance(each, Alike) else (each, (each.address,))
        like = msgspec.structs.replace(fate, address="")
        if gathered and gathered[-1][0] == like:
            gathered[-1][1].extend(addresses)
        else:
            gathered.append((like, list(addresses)))
    return [Alike(fate=fate, addresses=addresses) for fate, addresses in gathered]


def _distinct(found: Sequence[str]) -> list[tuple[int, int]]:
    """Where to cut keys so that none is twice in a part: nowhere, but for a caller's slip."""
    if len(set(found)) == len(found):
        return [(0, len(found))]
    return [(number, number + 1) for number in range(len(found))]


class _Sheet:
    """One row of `attempts` in the making."""

    def __init__(self, attempt: int) -> None:
        self.attempt = attempt
        self.keys: set[str] = set()
        self._counts = [0] * len(NUMBERS)
        self._final: list[str] = []
        self._groups: list[FateGroup] = []
        self._at = 0.0

    def add(self, fate: Fate, found: Sequence[str], names: Sequence[Name]) -> None:
        state = NUMBERS[fate.state]
        self.keys.update(found)
        self._counts[state] += len(found)
        if fate.state in (State.DELIVERED, State.FAILED):
            self._final += found
        self._at = fate.at
        self._groups.append(
            FateGroup(
                state=state,
                code=small(fate.code),
                status=clean(fate.status)[:TEXT_LIMIT],
                text=clean(fate.text)[:TEXT_LIMIT],
                hop=clean(fate.hop)[:TEXT_LIMIT],
                at=fate.at,
                next_at=fate.next_at if fate.state is State.DEFERRED else None,
                names=names,  # type: ignore[arg-type]  # a sequence is enough to encode
            )
        )

    def row(self, claim: Claim, group: str, seq: int) -> SqlRow:
        content = _encode(self._groups).decode()
        return (
            bounded(claim.post_id),
            claim.cell,
            _content_mark(group, str(self.attempt), content),
            seq,
            self._at,
            summed(hashes(self._final)),
            small(self.attempt + 1),
            self._counts[NUMBERS[State.DELIVERED]],
            self._counts[NUMBERS[State.FAILED]],
            self._counts[NUMBERS[State.DEFERRED]],
            group,
            content,
        )


def _room(sheets: list[_Sheet], attempt: int, found: Sequence[str]) -> _Sheet:
    """The last sheet where it is of this attempt and has none of these keys; else a new one."""
    if not sheets or sheets[-1].attempt != attempt or not sheets[-1].keys.isdisjoint(found):
        sheets.append(_Sheet(attempt))
    return sheets[-1]


# --- shares ----------------------------------------------------------------------------------------------------------
SHARE_COLUMNS = {
    "post_id": "text",
    "number": "int4",
    "parts": "int4",
    "mark": "int8",
    "seq": "int8",
    "at": "float8",
    "digest": "int8",
    "announced": "int4",
    "queued": "int4",
    "suppressed": "int4",
    "group_key": "text",
    "signature": "text",
    "content": "text",
}


def share_rows(share: Expanded, seq: int) -> tuple[SqlRow, list[SqlRow]]:
    """The sheet of a share, and the rows of `people` by which a small one is found."""
    queued, found = _queued_groups(share)
    suppressed, left_out = _left_out_groups(share)
    content = _encode(ShareContent(queued=queued, suppressed=suppressed)).decode()
    numbers = hashes(found)
    post_id, group = bounded(share.post_id), bounded(share.group)
    everybody = numbers + hashes(left_out)
    big = len(everybody) > BIG
    row = (
        post_id,
        share.index,
        share.of,
        _content_mark(content),
        seq,
        share.at,
        summed(numbers),
        share.copies + share.left_out,
        len(found),
        sum(len(each.names) for each in suppressed),
        group,
        signed(everybody) if big else None,
        content,
    )
    return row, [] if big else [(number, post_id) for number in dict.fromkeys(everybody)]


def _queued_groups(share: Expanded) -> tuple[list[QueuedGroup], list[str]]:
    """Who gets a copy, by path, each key once; and the keys."""
    paths: dict[tuple[str, ...], list[str]] = {}
    for entry in share.queued:
        paths.setdefault(entry.via, []).extend(entry.addresses)
    groups, seen = [], dict[str, None]()
    for via, addresses in paths.items():
        once = {key: name for key, name in zip(*named(addresses), strict=True) if key not in seen}
        seen.update(dict.fromkeys(once))
        if once:
            groups.append(QueuedGroup(via_text(via, share.group), list(once.values())))
    return groups, list(seen)


def _left_out_groups(share: Expanded) -> tuple[list[LeftOutGroup], list[str]]:
    """Who gets none, by reason and path, each key once in each; and the keys."""
    paths: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for entry in share.suppressed:
        paths.setdefault((entry.reason.value, entry.via), []).extend(entry.addresses)
    groups, seen = [], dict[str, None]()
    for (reason, via), addresses in paths.items():
        once = dict(zip(*named(addresses), strict=True))
        seen.update(dict.fromkeys(once))
        groups.append(LeftOutGroup(reason, via_text(via, share.group), list(once.values())))
    return groups, list(seen)
