"""Access: the tokens with which other systems use the API (`horo token`, services.console). `store.py` keeps this port on SQLite and PostgreSQL.

A token is shown once, when it is made; what is kept is its digest. It has scopes, which say what it is good for, and may be bound to one
domain, with which it goes. Everything that is asked of the API is somebody's who may be an attacker; what is here is asked by our own
people and programs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from shared.replies import TROUBLE, TransientError


class AccessUnavailable(TransientError):
    """SQL cannot say now who may do what: nobody is let in, and nobody is told that the token is wrong."""

    def __init__(self, why: str) -> None:
        super().__init__(TROUBLE, why=why)


class Scope(StrEnum):
    """What a token is good for: one word for each kind of thing that the API does."""

    SIGNAL_SEND = "signal:send"
    TRACE_READ = "trace:read"


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a token. `domain` is the only one it is good for, "" for all; times are seconds since the epoch, None for never."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    domain: str = ""
    created_at: float
    expires_at: float | None = None
    used_at: float | None = None

    def expired(self, now: float) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and now >= self.expires_at

    def reaches(self, group: str) -> bool:
        """Whether a group (its key, or a domain for that domain's postmaster) is in the token's domain."""
        return not self.domain or group.rpartition("@")[2] == self.domain


class Kept(msgspec.Struct, frozen=True):
    """A token as it is kept: with the digest that whoever shows it must match."""

    token: Token
    digest: bytes


class Tokens(Protocol):
    """The port. All methods raise `AccessUnavailable` when SQL does not answer in time."""

    async def create(
        self, name: str, scopes: Sequence[Scope], *, domain: str = "", lifetime: float | None = None
    ) -> tuple[Token, str]:
        """A new token, and its text, which is told this once. `lifetime` in seconds, None for no end.

        Raises `Conflict` for a name in use, `NotFound` for a domain that is none of ours, `DirectoryError` for a name or lifetime that cannot be.
        """

    async def list(self, *, after: str = "", limit: int = 100) -> Sequence[Token]:
        """Tokens by name, the page after `after`."""

    async def revoke(self, name: str) -> Token:
        """Forget the token of this name or id: whoever shows it is refused within a second. Raises `NotFound`."""

    async def find(self, token_id: str) -> Kept | None:
        """The token of this id."""

    async def used(self, token_id: str, at: float) -> None:
        """Note that it was used."""

    async def close(self) -> None:
        """Let go of everything."""
