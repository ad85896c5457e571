"""Keys of blobs, for both stores. A key that comes over the bus is an outsider's word until it was looked at here. Pure but for randomness."""

from __future__ import annotations

import re
import secrets

_KEY = re.compile(r"[0-9a-f]{32}\Z")

CHUNK = 256 * 1024
"""Octets of the chunks in which a blob is handed out, at most."""


def new_key() -> str:
    """A key that nobody can guess and no message can influence: 128 random bits in hexadecimal."""
    return secrets.token_hex(16)


def is_key(text: str) -> bool:
    """Whether this is a key of ours: no slash, no dot, nothing that is a path."""
    return _KEY.match(text) is not None
