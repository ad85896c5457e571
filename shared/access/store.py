"""Tokens in SQL: few rows, each read by its id."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.access import AccessUnavailable, Kept, Scope, Token, words
from shared.database.engine import read, transact
from shared.database.tables import domains, tokens
from shared.directory import Conflict, DirectoryError, NotFound
from shared.directory.rules import domain_name

NAME_LIMIT = 100
LONGEST = 100 * 366 * 86400.0
"""Seconds of the longest life that a token with an end may have."""


class SqlTokens:
    """The port `Tokens` in one database. `owned`: the engine is disposed of by `close`."""

    def __init__(self, engine: AsyncEngine, *, owned: bool = False) -> None:
        self._engine = engine
        self._owned = owned

    async def create(
        self, name: str, scopes: Sequence[Scope], *, domain: str = "", lifetime: float | None = None
    ) -> tuple[Token, str]:
        """A new token, and its text."""
        text = words.mint()
        made = _new(text, _name(name), scopes, domain_name(domain) if domain else "", lifetime)

        async def work(connection: AsyncConnection) -> None:
            if made.domain and not (await connection.execute(_domain(made.domain))).first():
                raise NotFound(f"there is no domain {made.domain}; `horo domain list` lists them")
            if await connection.scalar(select(tokens.c.id).where(tokens.c.name == made.name)) is not None:
                raise _taken(made.name)
            await connection.execute(insert(tokens).values(**_row(made, text)))

        try:
            await transact(self._engine, AccessUnavailable, work)
        except IntegrityError as error:  # somebody else made the name, or deleted the domain, in the same instant
            raise _taken(made.name) from error
        return made, text

    async def list(self, *, after: str = "", limit: int = 100) -> Sequence[Token]:
        """Tokens by name."""
        query = select(tokens).where(tokens.c.name > after).order_by(tokens.c.name).limit(limit)
        async with read(self._engine, AccessUnavailable) as connection:
            return [_token(row) for row in await connection.execute(query)]

    async def revoke(self, name: str) -> Token:
        """Forget a token, by its name or id. Raises `NotFound`."""
        named = or_(tokens.c.name == name, tokens.c.id == name)

        async def work(connection: AsyncConnection) -> Any:
            return (await connection.execute(delete(tokens).where(named).returning(*tokens.c))).one_or_none()

        row = await transact(self._engine, AccessUnavailable, work) if name.isprintable() else None
        if row is None:
            raise NotFound(f"there is no token {name!r}; `horo token list` lists them")
        return _token(row)

    async def find(self, token_id: str) -> Kept | None:
        """The token of this id."""
        async with read(self._engine, AccessUnavailable) as connection:
            row = (await connection.execute(select(tokens).where(tokens.c.id == token_id))).one_or_none()
        return None if row is None else Kept(_token(row), bytes(row.digest))

    async def used(self, token_id: str, at: float) -> None:
        """Note that it was used."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(update(tokens).where(tokens.c.id == token_id).values(used_at=at))

        await transact(self._engine, AccessUnavailable, work)

    async def close(self) -> None:
        """Let go of the engine, where it is this object's own."""
        if self._owned:
            await self._engine.dispose()


def _domain(name: str) -> Any:
    return select(domains.c.name).where(domains.c.name == name)


def _name(name: str) -> str:
    """A name that lists and logs can show, and that is no token's id. Raises `DirectoryError`."""
    name = name.strip()
    if not name or len(name) > NAME_LIMIT or not name.isprintable() or words.is_id(name):
        raise DirectoryError(f"a token's name has 1 to {NAME_LIMIT} printable characters, and does not look like an id")
    return name


def _new(text: str, name: str, scopes: Sequence[Scope], domain: str, lifetime: float | None) -> Token:
    if not scopes:
        raise DirectoryError(f"a token has at least one scope: {', '.join(Scope)}")
    if lifetime is not None and not 0 < lifetime <= LONGEST:
        raise DirectoryError("a token lives longer than no time, and at most a hundred years")
    shown, now = words.shown(text), time.time()
    assert shown is not None
    return Token(
        id=shown.id,
        name=name,
        scopes=tuple(scope for scope in Scope if scope in scopes),
        domain=domain,
        created_at=now,
        expires_at=None if lifetime is None else now + lifetime,
    )


def _row(token: Token, text: str) -> dict[str, Any]:
    shown = words.shown(text)
    assert shown is not None
    return {
        "id": token.id,
        "digest": shown.digest,
        "name": token.name,
        "scopes": msgspec.json.encode(token.scopes).decode(),
        "domain": token.domain or None,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "used_at": None,
    }


def _token(row: Any) -> Token:
    """The token that a row holds; a scope that a later version gave is none of ours to grant."""
    known = set(Scope)
    return Token(
        id=row.id,
        name=row.name,
        scopes=tuple(Scope(word) for word in msgspec.json.decode(row.scopes, type=list[str]) if word in known),
        domain=row.domain or "",
        created_at=row.created_at,
        expires_at=row.expires_at,
        used_at=row.used_at,
    )


def _taken(name: str) -> Conflict:
    return Conflict(f"there is a token {name!r} already; `horo token revoke` ends it")
