"""The text of a token: `horo_ID_SECRET`. Pure but for the random source.

The prefix tells people, and programs that look for leaked secrets, what it is; the id finds it; the secret has 256 bits, so that a plain
digest is enough to keep it: there is nothing to guess that a slow one would protect.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

PREFIX = "horo"
_ID = re.compile(r"[0-9a-f]{16}")
_TEXT = re.compile(rf"{PREFIX}_({_ID.pattern})_[0-9a-f]{{64}}")


class Shown(NamedTuple):
    """A token as somebody shows it: which one it claims to be, and its digest."""

    id: str
    digest: bytes


def mint() -> str:
    """The text of a new token."""
    return f"{PREFIX}_{secrets.token_hex(8)}_{secrets.token_hex(32)}"


def is_id(text: str) -> bool:
    """Whether a text looks like the id of a token."""
    return _ID.fullmatch(text) is not None


def shown(text: str) -> Shown | None:
    """What a text claims; None where it cannot be a token, so that nobody need be asked."""
    match = _TEXT.fullmatch(text)
    return None if match is None else Shown(match[1], hashlib.sha256(text.encode()).digest())


def matches(digest: bytes, kept: bytes | None) -> bool:
    """Whether the digests are the same, in a time that does not tell; of no token too."""
    return hmac.compare_digest(digest, kept or bytes(len(digest))) and kept is not None
