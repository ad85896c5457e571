"""Identifiers: post ids, ids derived from them, and keyed digests (loop marks, bounce tokens). Pure but for the clock and the random source."""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
import time
from functools import lru_cache

from shared.groups import SLOTS, slot

# Crockford's base 32 in lower case: no i, l, o, u to misread
_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = tuple(high + low for high in _DIGITS for low in _DIGITS)
_FROM_RFC_4648 = str.maketrans(_DIGITS, "abcdefghijklmnopqrstuvwxyz234567")
SLOT_DIGITS = 7
"""Digits of a slot in a VERP address: 35 bits hold its 31."""
VERP_LENGTH = SLOT_DIGITS + 8
"""Characters of the recipient's part of a VERP address."""


def _crockford(number: int, length: int) -> str:
    """The last `length` digits of a number; two at a time, for several are made for every post."""
    pairs = []
    for _ in range((length + 1) // 2):
        pairs.append(_PAIRS[number & 1023])
        number >>= 10
    pairs.reverse()
    return "".join(pairs)[-length:]


def new_id(now: float | None = None) -> str:
    """A new id: 26 characters, 48 bits of milliseconds then 80 random bits (ULID), so that ids sort by time."""
    milliseconds = int((time.time() if now is None else now) * 1000) & ((1 << 48) - 1)
    return _crockford(milliseconds << 80 | secrets.randbits(80), 26)


def derive(identifier: str, *parts: str) -> str:
    """An id that is the same for the same parts: the time of `identifier` (its first 10 characters), then 80 bits of their hash."""
    digest = hashlib.blake2b("\0".join((identifier, *parts)).encode("utf-8", "surrogatepass"), digest_size=10).digest()
    return identifier[:10] + _crockford(int.from_bytes(digest), 16)


def keyed(secret: str, *parts: str, octets: int) -> str:
    """A keyed digest of the parts, `octets` long, in lower case base 32 without padding: what outsiders cannot forge."""
    digest = hmac.digest(secret.encode(), "\0".join(parts).encode("utf-8", "surrogatepass"), "sha256")
    length = -(-octets * 8 // 5)  # the last digit's spare bits are zeros (RFC 4648 section 6)
    number = int.from_bytes(digest[:octets]) << (length * 5 - octets * 8)
    return _crockford(number, length).translate(_FROM_RFC_4648)


@lru_cache(maxsize=4096)  # asked for by every post of a group
def loop_mark(secret: str, group: str) -> str:
    """The digest in the loop mark of a group's copies."""
    return keyed(secret, "loop", group, octets=10)


def bounce_token(secret: str, post_id: str, group: str) -> str:
    """The token of a post's bounce address in a group: 12 characters."""
    return keyed(secret, "bounce", post_id, group, octets=7)[:12]


def verp_token(secret: str, post_id: str, key: str) -> str:
    """The recipient's part of a VERP bounce address: 15 characters, appended to the post's token after a hyphen.

    The first 7 are the recipient's slot, by which one is found among a million without reading them all; the other 8 (40 bits) cannot be forged.
    """
    return _crockford(slot(key), SLOT_DIGITS) + keyed(secret, "verp", post_id, key, octets=5)


def verp_slot(token: str) -> int | None:
    """The slot that a recipient's part of a VERP address names, as anybody may have written it; None where it is none."""
    digits = token[:SLOT_DIGITS]
    if len(token) != VERP_LENGTH or not all(digit in _DIGITS for digit in digits):
        return None
    number = functools.reduce(lambda sum_, digit: sum_ * 32 + _DIGITS.index(digit), digits, 0)
    return number if number < SLOTS else None


def same(left: str, right: str) -> bool:
    """Whether two digests are equal, in constant time."""
    return hmac.compare_digest(left.encode("utf-8", "replace"), right.encode("utf-8", "replace"))
