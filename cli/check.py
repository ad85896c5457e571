"""`horo check`: whether this installation can work, part by part, and what to mend."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
from cyclopts import Parameter
from rich.text import Text

from cli import access
from cli.output import CommandError, Exit, Json, print_json, print_table
from shared.routes import NextHop
from shared.settings import PREFIX, Settings, endpoint, shown_url

PATIENCE = 10.0
"""Seconds that one check may take."""


async def check(
    *, settings: Annotated[bool, Parameter(name="--settings", negative="")] = False, json: Json = False
) -> None:
    """Check the settings, and that the database, the bus, the cache, the body store and the next hops answer.

    Parameters
    ----------
    settings
        List every setting with its value and what it means, and check nothing else.
    """
    loaded = access.settings()
    if settings:
        _list_settings(loaded, json)
        return
    results = [(what, await tried(probe)) for what, probe in probes(loaded)]
    if json:
        print_json([{"check": what, "ok": not problem, "problem": problem} for what, problem in results])
    else:
        rows = [(what, Text(problem or "ok", style="red" if problem else "green")) for what, problem in results]
        print_table("", ("check", "result"), rows)
    if any(problem for _, problem in results):
        raise CommandError(
            f"{sum(bool(problem) for _, problem in results)} of {len(results)} checks failed", Exit.FAILED
        )


def _list_settings(loaded: Settings, json: bool) -> None:
    rows = [(f"{PREFIX}{name.upper()}", _value(loaded, name), description(name)) for name in Settings.__struct_fields__]
    if json:
        print_json([{"key": key, "value": value, "description": text} for key, value, text in rows])
    else:
        print_table("", ("setting", "value", "meaning"), rows)


def description(name: str) -> str:
    """What a setting means, from its declaration."""
    hint: Any = get_type_hints(Settings, include_extras=True)[name]
    return next(
        (meta.description for meta in hint.__metadata__ if isinstance(meta, msgspec.Meta) and meta.description), ""
    )


def _value(loaded: Settings, name: str) -> str:
    value = str(getattr(loaded, name))
    if name == "secret":
        return "(set)" if value else ""
    return shown_url(value)


def probes(loaded: Settings) -> list[tuple[str, Callable[[], Awaitable[object]]]]:
    probes: list[tuple[str, Callable[[], Awaitable[object]]]] = [
        (f"database {_value(loaded, 'database_url') or loaded.effective_database_url}", lambda: _database(loaded)),
        (f"bus {_value(loaded, 'broker_url')}", lambda: _bus(loaded)),
        (f"bodies {loaded.bodies_url}", lambda: _bodies(loaded)),
    ]
    if not loaded.cache_url.startswith("memory:"):
        probes.append((f"cache {_value(loaded, 'cache_url')} (works without, slower)", lambda: _cache(loaded)))
    routes = loaded.route_table
    hops = dict.fromkeys([routes.default, *routes.exact.values(), *routes.suffix.values()])
    probes += [(f"next hop {hop}", partial(_next_hop, hop)) for hop in hops]
    files = [(name, getattr(loaded, name)) for name in ("tls_cert", "tls_key", "tls_ca")]
    probes += [(f"{PREFIX}{name.upper()} {path}", partial(_readable, path)) for name, path in files if path]
    return probes


async def _readable(path: str) -> None:
    await asyncio.to_thread(Path(path).read_bytes)


async def tried(probe: Callable[[], Awaitable[object]]) -> str:
    """An empty string, or what is wrong."""
    try:
        async with asyncio.timeout(PATIENCE):
            await probe()
    except TimeoutError:
        return f"no answer within {PATIENCE:.0f} s"
    except Exception as error:
        return str(getattr(error, "why", "") or error) or type(error).__name__
    return ""


async def _database(loaded: Settings) -> None:
    from shared.directory.open import open_registry

    async with _closing(await open_registry(loaded)) as opened:
        await opened.check()


async def _bus(loaded: Settings) -> None:
    from shared.bus.open import open_bus

    async with _closing(await open_bus(loaded.broker_url, loaded.data_path)) as opened:
        await opened.check()


async def _bodies(loaded: Settings) -> None:
    from shared.bodies.open import open_bodies

    async with _closing(open_bodies(loaded.bodies_url, loaded.data_path)) as opened:
        await opened.check()


async def _cache(loaded: Settings) -> None:
    from shared.directory.cache_ping import ping

    await ping(loaded.cache_url)


async def _next_hop(hop: NextHop) -> None:
    """An SMTP or LMTP hop greets; a Maildir can be written to; MX depends on each domain."""
    if hop.kind in ("smtp", "lmtp"):
        reader, writer = await asyncio.open_connection(hop.host, hop.port)
        try:
            greeting = (await reader.readline()).decode("utf-8", "replace").strip()
        finally:
            writer.close()
        if not greeting.startswith("220"):
            raise CommandError(f"greets with {greeting[:100]!r}")
    elif hop.kind == "maildir":
        await asyncio.to_thread(_writable, Path(hop.path))


def _writable(folder: Path) -> None:
    """Make the folder and a file in it, and take the file away again."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".check-"):
        pass


@contextlib.asynccontextmanager
async def _closing(opened: Any) -> AsyncIterator[Any]:
    try:
        yield opened
    finally:
        await opened.close()


def listens(loaded: Settings) -> list[tuple[str, str]]:
    """What listens where, for people: (name, host:port)."""
    names = (
        ("SMTP", loaded.smtp_listen),
        ("LMTP", loaded.lmtp_listen),
        ("console", loaded.console_listen),
        ("health", loaded.health_listen),
    )
    return [(name, "{}:{}".format(*endpoint(listen))) for name, listen in names if listen]
