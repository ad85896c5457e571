"""A console over real parts, on a real socket, and somebody who asks it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from services.console.server import Console
from shared.access import Scope
from shared.access.open import open_tokens
from shared.access.store import SqlTokens
from shared.directory import NewMember
from shared.directory.open import open_registry
from shared.directory.store_write import SqlDirectory
from shared.messages import Signal, decode
from shared.parts import Parts, open_parts
from shared.settings import Settings
from shared.topology import Queue

OFFICE = "office@example.test"
QUIET = "quiet@example.test"
OTHER = "team@other.test"
ALL = tuple(Scope)


class Place(NamedTuple):
    """A running console, its parts, and what is written beside it as the command line does."""

    console: Console
    parts: Parts
    registry: SqlDirectory
    tokens: SqlTokens
    client: httpx.AsyncClient

    async def token(self, name: str = "ci", *scopes: Scope, **more: Any) -> dict[str, str]:
        """The headers of a request with a new token, good for everything where no scope is named."""
        _, text = await self.tokens.create(name, scopes or ALL, **more)
        return {"Authorization": f"Bearer {text}"}

    async def signals(self) -> list[Signal]:
        """What is on its way to be expanded, taken off the bus."""
        found = []
        async with self.parts.bus.consume(Queue.SIGNALS, prefetch=100) as consumer:
            for _ in range(await self.parts.bus.depth(Queue.SIGNALS)):
                incoming = await consumer.get()
                message = decode(incoming.payload)
                assert isinstance(message, Signal)
                found.append(message)
                await incoming.ack()
        return found


@asynccontextmanager
async def running(parts: Parts, **stand_ins: Any) -> AsyncIterator[Console]:
    """A console that listens."""
    console = Console(parts, **stand_ins)
    async with serving(console.run(), console.listening()):
        try:
            yield console
        finally:
            console.stop()


@asynccontextmanager
async def serving(run: Coroutine[Any, Any, None], up: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run until told to stop inside, and see that it ends."""
    task = asyncio.create_task(run)
    waiting = asyncio.create_task(up)
    await asyncio.wait((task, waiting), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task
    yield
    async with asyncio.timeout(30):
        await task


def settings(tmp_path: Path, url: str = "", **changes: Any) -> Settings:
    values = {"data": str(tmp_path / "var"), "database_url": url, "console_listen": "127.0.0.1:0", **changes}
    return Settings(**values)


def client_of(console: Console, **more: Any) -> httpx.AsyncClient:
    host, port = console.address
    return httpx.AsyncClient(base_url=f"http://{host}:{port}", timeout=30, trust_env=False, **more)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """The database: a file in the data folder, and PostgreSQL for a test that is `on_both`."""
    return "" if getattr(request, "param", "sqlite") == "sqlite" else str(request.getfixturevalue("postgres_url"))


on_both = pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def changes() -> dict[str, Any]:
    """Settings of the test's own: a test module overrides it."""
    return {}


@pytest.fixture
async def place(url: str, tmp_path: Path, changes: dict[str, Any]) -> AsyncIterator[Place]:
    """A console with groups in two domains."""
    chosen = settings(tmp_path, url, **changes)
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(open_parts(chosen, consuming=True))
        registry = await open_registry(chosen)
        stack.push_async_callback(registry.close)
        ana = [NewMember(address="ana@example.test")]
        await registry.create_group(OFFICE, members=ana)
        await registry.create_group(QUIET, members=ana, disable_signals=True)
        await registry.create_group(OTHER, members=ana)
        tokens = open_tokens(chosen)
        stack.push_async_callback(tokens.close)
        console = await stack.enter_async_context(running(parts))
        client = await stack.enter_async_context(client_of(console))
        yield Place(console, parts, registry, tokens, client)


def problem(answer: httpx.Response) -> dict[str, Any]:
    """The problem details of an answer, checked for what all of them have (RFC 9457)."""
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = msgspec.json.decode(answer.content)
    assert told["status"] == answer.status_code
    assert told["title"]
    assert set(told) <= {"title", "status", "detail", "errors"}
    return told
