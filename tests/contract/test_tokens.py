"""The tokens' contract, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.access import AccessUnavailable, Scope, words
from shared.access.store import SqlTokens
from shared.database.engine import open_engine, write
from shared.directory import Conflict, DirectoryError, DirectoryUnavailable, NotFound
from shared.directory.store_write import SqlDirectory

BOTH = (Scope.SIGNAL_SEND, Scope.TRACE_READ)


@pytest.fixture
def tokens(engine: AsyncEngine) -> SqlTokens:
    return SqlTokens(engine)


@pytest.fixture
async def directory(engine: AsyncEngine) -> AsyncIterator[SqlDirectory]:
    made = SqlDirectory(engine, own_engine=False)
    await made.create_domain("example.test")
    yield made
    await made.close()


async def test_a_token_is_found_by_its_text_alone_and_only_its_digest_is_kept(
    tokens: SqlTokens, engine: AsyncEngine
) -> None:
    token, shown_text = await tokens.create(" ci ", [Scope.TRACE_READ, Scope.SIGNAL_SEND, Scope.TRACE_READ])
    assert (token.name, token.scopes, token.domain) == ("ci", BOTH, "")
    assert (token.expires_at, token.used_at) == (None, None)
    claim = words.shown(shown_text)
    assert claim is not None
    kept = await tokens.find(claim.id)
    assert kept is not None
    assert kept.token == token
    assert kept.digest == claim.digest == hashlib.sha256(shown_text.encode()).digest()
    secret = shown_text.rpartition("_")[2]
    async with engine.connect() as connection:
        (row,) = (await connection.execute(text("SELECT * FROM tokens"))).all()
    assert secret not in repr(row)
    assert bytes.fromhex(secret) not in bytes(row.digest)
    assert await tokens.find("0" * 16) is None


async def test_a_lifetime_becomes_an_end(tokens: SqlTokens) -> None:
    token, _ = await tokens.create("short", BOTH, lifetime=60)
    assert token.expires_at == token.created_at + 60
    assert not token.expired(token.created_at + 59)
    assert token.expired(token.created_at + 60)


async def test_names_are_told_apart(tokens: SqlTokens) -> None:
    await tokens.create("ci", BOTH)
    with pytest.raises(Conflict, match="'ci' already"):
        await tokens.create("ci", BOTH)
    made = await asyncio.gather(*(tokens.create("one", BOTH) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(each, tuple) for each in made) == 1
    assert sum(isinstance(each, Conflict) for each in made) == 7


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\nb", "a\0b", "\u202eabc", "0123456789abcdef"])
async def test_a_name_is_one_that_a_list_can_show(name: str, tokens: SqlTokens) -> None:
    with pytest.raises(DirectoryError, match="token's name"):
        await tokens.create(name, BOTH)


@pytest.mark.parametrize("lifetime", [0, -1, float("nan"), float("inf"), 1e12])
async def test_a_lifetime_is_one_that_a_clock_can_show(lifetime: float, tokens: SqlTokens) -> None:
    with pytest.raises(DirectoryError, match="lives"):
        await tokens.create("ci", BOTH, lifetime=lifetime)


async def test_a_token_for_nothing_is_none(tokens: SqlTokens) -> None:
    with pytest.raises(DirectoryError, match="at least one scope"):
        await tokens.create("ci", [])


async def test_tokens_are_listed_in_pages_by_name(tokens: SqlTokens) -> None:
    for name in ("b", "c", "a"):
        await tokens.create(name, [Scope.SIGNAL_SEND])
    assert [token.name for token in await tokens.list(limit=2)] == ["a", "b"]
    assert [token.name for token in await tokens.list(after="b")] == ["c"]


async def test_a_token_is_revoked_by_name_or_id(tokens: SqlTokens) -> None:
    one, _ = await tokens.create("one", BOTH)
    two, _ = await tokens.create("two", BOTH)
    assert await tokens.revoke("one") == one
    assert await tokens.revoke(two.id) == two
    assert await tokens.find(one.id) is None
    for name in ("one", two.id, "", "a\0b", "\udcff"):
        with pytest.raises(NotFound):
            await tokens.revoke(name)


async def test_a_token_of_a_domain_goes_with_it(tokens: SqlTokens, directory: SqlDirectory) -> None:
    bound, _ = await tokens.create("bound", BOTH, domain="Example.TEST")
    free, _ = await tokens.create("free", BOTH)
    assert bound.domain == "example.test"
    assert bound.reaches("office@example.test")
    assert bound.reaches("example.test")  # its postmaster's mail has the domain for a group
    assert not bound.reaches("office@sub.example.test")
    assert not bound.reaches("office@example.test.evil.test")
    assert free.reaches("office@anything.test")
    await directory.delete_domain("example.test")
    await directory.create_domain("example.test")  # somebody else's, perhaps
    assert await tokens.find(bound.id) is None
    assert await tokens.find(free.id) is not None


async def test_a_token_of_a_domain_that_is_none_of_ours_is_not_made(tokens: SqlTokens) -> None:
    with pytest.raises(NotFound, match=r"no domain other\.test"):
        await tokens.create("ci", BOTH, domain="other.test")
    with pytest.raises(DirectoryError, match="is no domain"):
        await tokens.create("ci", BOTH, domain="foo..bar")
    assert await tokens.list() == []


async def test_use_is_noted(tokens: SqlTokens) -> None:
    token, _ = await tokens.create("ci", BOTH)
    await tokens.used(token.id, 1234.5)
    await tokens.used("0" * 16, 1234.5)  # revoked meanwhile
    (found,) = await tokens.list()
    assert found.used_at == 1234.5


async def test_a_scope_of_a_later_version_is_not_ours_to_grant(tokens: SqlTokens, engine: AsyncEngine) -> None:
    token, _ = await tokens.create("ci", BOTH)
    async with write(engine, DirectoryUnavailable) as connection:
        await connection.execute(text("""UPDATE tokens SET scopes = '["mail:read", "trace:read"]'"""))
    kept = await tokens.find(token.id)
    assert kept is not None
    assert kept.token.scopes == (Scope.TRACE_READ,)


async def test_a_database_that_is_away_is_unavailable(url: str, tmp_path: object) -> None:
    if url.startswith("sqlite"):
        engine = open_engine(f"sqlite:///{tmp_path}/empty.db")  # without tables: as good as none
    else:
        engine = open_engine("postgresql://nobody:secret-word@127.0.0.1:1/none")
    away = SqlTokens(engine, owned=True)
    for ask in (away.find("0" * 16), away.list(), away.used("0" * 16, 1.0), away.revoke("x"), away.create("x", BOTH)):
        with pytest.raises(AccessUnavailable) as caught:
            await ask
        assert "secret-word" not in str(caught.value)
    await away.close()


# --- words -----------------------------------------------------------------------------------------------------------
def test_texts_are_never_the_same() -> None:
    texts = {words.mint() for _ in range(1000)}
    assert len(texts) == len({words.shown(each) for each in texts}) == 1000


@pytest.mark.parametrize("wrong", ["", "horo_", "HORO_", "bearer", "horo__", "horo_x_y"])
def test_what_cannot_be_a_token_is_none(wrong: str) -> None:
    good = words.mint()
    for each in (wrong, wrong + good, good + "0", good[:-1], good.upper(), good + "\n", " " + good):
        assert words.shown(each) is None or (not wrong and each == good)


def test_digests_match_when_they_are_the_same() -> None:
    digest = hashlib.sha256(b"a").digest()
    assert words.matches(digest, bytes(digest))
    assert not words.matches(digest, hashlib.sha256(b"b").digest())
    assert not words.matches(digest, None)
    assert not words.matches(bytes(32), None)  # what stands in for no digest is none
