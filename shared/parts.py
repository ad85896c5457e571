"""The parts that services are made of, opened by URL alone: one process opens what it needs once, and closes it in the reverse order.

Waits a while for servers that are not up yet (everything starts at once in a cluster), says what it waits for, and then gives up with a sentence.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from shared import journal
from shared.bodies import Bodies
from shared.bodies.open import open_bodies
from shared.bus import Bus
from shared.bus.open import open_bus
from shared.database.migrate import SchemaError
from shared.directory import Directory
from shared.directory.open import open_directory
from shared.ledger import Ledger
from shared.ledger.open import open_ledger
from shared.replies import TransientError
from shared.settings import Settings
from shared.starting import StartError

START_PATIENCE = 60.0
"""Seconds that a starting service waits for each server it needs."""

T = TypeVar("T")


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a service gets. `secret` is the effective one, `hostname` the name of this mail host."""

    settings: Settings
    bus: Bus
    directory: Directory
    ledger: Ledger
    bodies: Bodies
    secret: str
    hostname: str

    async def check(self) -> None:
        """Whether everything a message needs answers now; raises a `TransientError` that says what does not."""
        await self.directory.check()
        await self.ledger.check()
        await self.bodies.check()
        await self.bus.check()


@asynccontextmanager
async def open_parts(settings: Settings) -> AsyncIterator[Parts]:
    """Open all ports. Raises `StartError` where one cannot be opened."""
    try:
        settings.data_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"HORO_DATA: cannot make {settings.data_path}: {error.strerror}") from error
    async with AsyncExitStack() as stack:
        secret = effective_secret(settings)
        bus = await _patiently("the bus (HORO_BROKER_URL)", lambda: open_bus(settings.broker_url, settings.data_path))
        stack.push_async_callback(bus.close)
        directory = await _patiently(
            "the database (HORO_DATABASE_URL)", lambda: open_directory(settings, secret=secret)
        )
        stack.push_async_callback(directory.close)
        ledger = open_ledger(settings)  # the directory has brought the schema up to date
        stack.push_async_callback(ledger.close)
        bodies = await _patiently("the body store (HORO_BODIES_URL)", lambda: _open_bodies(settings))
        stack.push_async_callback(bodies.close)
        yield Parts(
            settings=settings,
            bus=bus,
            directory=directory,
            ledger=ledger,
            bodies=bodies,
            secret=secret,
            hostname=effective_hostname(settings),
        )


async def _open_bodies(settings: Settings) -> Bodies:
    return open_bodies(settings.bodies_url, settings.data_path)


async def _patiently(what: str, build: Callable[[], Awaitable[T]]) -> T:
    loop = asyncio.get_running_loop()
    end = loop.time() + START_PATIENCE
    pause = 0.25
    while True:
        try:
            return await build()
        except (SchemaError, ValueError) as error:
            raise StartError(f"{what}: {error}") from error
        except TransientError as error:
            if loop.time() + pause > end:
                raise StartError(
                    f"{what} does not answer after {START_PATIENCE:.0f} s: {error.why or error}"
                ) from error
            journal.unavailable(what, error.why or str(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


def effective_hostname(settings: Settings) -> str:
    """HORO_HOSTNAME, or the machine's own name."""
    return settings.hostname or socket.getfqdn() or "localhost"


def effective_secret(settings: Settings) -> str:
    """HORO_SECRET, or the one in HORO_DATA, made at first use and readable by its owner alone."""
    return settings.secret or _kept_secret(settings.data_path / "secret")


def _kept_secret(path: Path) -> str:
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(secrets.token_urlsafe(32))
    except FileExistsError:
        pass
    except OSError as error:
        raise StartError(f"HORO_SECRET is not set, and none can be kept in {path}: {error.strerror}") from error
    try:
        kept = path.read_text().strip()
    except OSError as error:
        raise StartError(f"HORO_SECRET is not set, and {path} cannot be read: {error.strerror}") from error
    if len(kept) < 16:
        raise StartError(f"{path} holds no secret: delete it, and a new one is made")
    return kept
