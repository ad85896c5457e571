"""The parts that services are made of, opened by URL alone: one process opens what it needs once, and closes it in the reverse order.

Waits a while for servers that are not up yet (everything starts at once in a cluster), says what it waits for, and then gives up with a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
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
from shared.bus import Bus, BusUnusable, Exclusive
from shared.bus.open import open_bus
from shared.database.engine import open_engine
from shared.database.installation import DIFFERS, hold_secret
from shared.database.migrate import SchemaError
from shared.directory import Directory, Registry
from shared.directory.open import open_directory, open_registry
from shared.ledger import Ledger
from shared.ledger.open import open_ledger
from shared.replies import TransientError
from shared.settings import Settings
from shared.starting import StartError

START_PATIENCE = 60.0
"""Seconds that a starting service waits for each server it needs."""
LOCAL_PATIENCE = 2.0
"""Seconds that it waits for a database in a file: nobody is going to start that. (Each try waits for its lock besides.)"""

T = TypeVar("T")


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What a service gets. `secret` is the effective one, `hostname` the name of this mail host.

    `registry` is what `directory` reads, straight on SQL and to be written; a change made through it is seen by this `directory` at once.
    """

    settings: Settings
    bus: Bus
    directory: Directory
    registry: Registry
    ledger: Ledger
    bodies: Bodies
    secret: str
    hostname: str

    async def check(self) -> dict[str, str]:
        """What a message needs and what does not answer now, each with its cause; empty when all is well."""
        checks = {
            "bodies": self.bodies.check(),
            "bus": self.bus.check(),
            "directory": self.directory.check(),
            "ledger": self.ledger.check(),
        }
        found = await asyncio.gather(*checks.values(), return_exceptions=True)
        return {name: _why(error) for name, error in zip(checks, found, strict=True) if error is not None}


@asynccontextmanager
async def open_parts(
    settings: Settings, *, consuming: bool = False, patience: float | None = None
) -> AsyncIterator[Parts]:
    """Open all ports. Raises `StartError` where one cannot be opened.

    `consuming`: as the process that works the queues, not one beside it. `patience`: seconds to wait for each server, START_PATIENCE by default.
    """
    patience = START_PATIENCE if patience is None else patience
    try:
        settings.data_path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StartError(f"HORO_DATA: cannot make {settings.data_path}: {error.strerror}") from error
    async with AsyncExitStack() as stack:
        secret = effective_secret(settings)
        bus = await _patiently(
            "the bus (HORO_BROKER_URL)", lambda: open_bus(settings.broker_url, settings.data_path), patience=patience
        )
        stack.push_async_callback(bus.close)
        if consuming and isinstance(bus, Exclusive):
            await _patiently("the bus (HORO_BROKER_URL)", bus.own, patience=patience)
        local = settings.effective_database_url.startswith("sqlite:")
        registry, directory = await _patiently(
            "the database (HORO_DATABASE_URL)",
            lambda: _open_directory(settings, secret),
            patience=min(patience, LOCAL_PATIENCE) if local else patience,
        )
        stack.push_async_callback(directory.close)
        if consuming:
            await _patiently(
                "the database (HORO_DATABASE_URL)", lambda: _same_secret(settings, secret), patience=patience
            )
        ledger = open_ledger(settings)  # the directory has brought the schema up to date
        stack.push_async_callback(ledger.close)
        bodies = await _patiently("the body store (HORO_BODIES_URL)", lambda: _open_bodies(settings), patience=patience)
        stack.push_async_callback(bodies.close)
        yield Parts(
            settings=settings,
            bus=bus,
            directory=directory,
            registry=registry,
            ledger=ledger,
            bodies=bodies,
            secret=secret,
            hostname=effective_hostname(settings),
        )


async def _open_directory(settings: Settings, secret: str) -> tuple[Registry, Directory]:
    """What is written, and what is read over it; closing the second closes both."""
    registry = await open_registry(settings)
    try:
        return registry, await open_directory(settings, secret=secret, registry=registry)
    except BaseException:
        await registry.close()
        raise


async def _same_secret(settings: Settings, secret: str) -> None:
    """Raises `StartError` where other processes of this installation have another secret."""
    engine = open_engine(settings.effective_database_url)
    try:
        if not await hold_secret(engine, secret):
            raise StartError(DIFFERS)
    finally:
        await engine.dispose()


async def _open_bodies(settings: Settings) -> Bodies:
    return open_bodies(settings.bodies_url, settings.data_path)


def _why(error: BaseException) -> str:
    """The private cause, for the journal and for whoever starts us."""
    return (error.why if isinstance(error, TransientError) else "") or f"{type(error).__name__}: {error}"


async def _patiently(what: str, build: Callable[[], Awaitable[T]], *, patience: float) -> T:
    """What `build` makes, tried again while a server does not answer, for `patience` seconds. Raises `StartError`."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    pause = 0.25
    while True:
        try:
            return await build()
        except (SchemaError, ValueError, BusUnusable) as error:
            raise StartError(f"{what}: {_why(error) if isinstance(error, TransientError) else error}") from error
        except OSError as error:
            raise StartError(f"{what}: {error.filename or ''}: {error.strerror or error}") from error
        except TransientError as error:
            if loop.time() + pause > end:
                raise StartError(f"{what} does not answer after {patience:.0f} s: {_why(error)}") from error
            journal.unavailable(what, _why(error))
            await asyncio.sleep(pause)
            pause = min(pause * 2, 5.0)


def effective_hostname(settings: Settings) -> str:
    """HORO_HOSTNAME, or the machine's own name."""
    return settings.hostname or socket.getfqdn() or "localhost"


def effective_secret(settings: Settings) -> str:
    """HORO_SECRET, or the one in HORO_DATA, made at first use and readable by its owner alone. Raises `StartError`."""
    if settings.secret:
        return settings.secret
    if not settings.broker_url.startswith("embedded:"):
        # Each process would make one of its own, and take the others' loop marks and bounce addresses for forgeries.
        raise StartError(
            "HORO_SECRET is not set: with a broker, every process needs the same one, at least 16 characters that nobody can guess"
        )
    return _kept_secret(settings.data_path / "secret")


def _kept_secret(path: Path) -> str:
    try:
        if not path.exists():
            _keep_secret(path)
        kept = path.read_text().strip()
    except OSError as error:
        raise StartError(f"HORO_SECRET is not set, and none can be kept in {path}: {error.strerror}") from error
    if len(kept) < 16:
        raise StartError(f"{path} holds no secret: delete it, and a new one is made")
    return kept


def _keep_secret(path: Path) -> None:
    """Make a secret; whole or not at all, and of two processes that start at once the first one's."""
    draft = path.with_name(f".secret-{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
