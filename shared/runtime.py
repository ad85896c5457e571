"""How a service lives: settings, logging, the event loop, its parts, health, and an orderly end on SIGTERM or SIGINT (drain, lose nothing).

A second signal ends the process at once; what it had in hand comes again, as after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol, runtime_checkable

from shared import journal
from shared.health import Health
from shared.parts import Parts, open_parts
from shared.settings import Settings, SettingsError, load
from shared.starting import StartError

EXIT_USAGE = 2
"""Exit status for a setting or a start that cannot be: restarting will not help until somebody changes something."""


class Service(Protocol):
    """A running service."""

    async def run(self) -> None:
        """Serve until `stop`; returns when the work in hand is done."""

    def stop(self) -> None:
        """Take no more work."""


@runtime_checkable
class Listening(Protocol):
    """A service that has an address of its own: before it listens, the process is not ready."""

    async def listening(self) -> None:
        """Returns once it listens."""


Build = Callable[[Parts], Service]


def main(name: str, build: Build) -> int:
    """Run one service by the process's environment until it is told to end; the exit status."""
    try:
        settings = load(os.environ)
        journal.configure(settings.log_level, settings.log_format)
        run_loop(serve(settings, {name: build}))
    except (SettingsError, StartError) as error:
        print(f"horo: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    except BaseExceptionGroup as group:
        known = group.subgroup(StartError)
        if known is None:
            raise
        print(f"horo: {known.exceptions[0]}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    return 0


def run_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where there is one."""
    new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        from uvloop import new_event_loop as new_loop  # noqa: PLC0415
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(coroutine)


async def serve(
    settings: Settings,
    builds: Mapping[str, Build],
    *,
    ready: Callable[[Parts], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Open the parts, run the services together, and drain when a signal comes.

    `ready` runs once everything listens; until then `/readyz` says no. Raises `StartError`, and whatever a service died of: the process is then restarted from outside.
    """
    stopping = asyncio.Event()
    _on_signals(stopping)
    up = asyncio.Event()
    async with open_parts(settings) as parts:

        async def check() -> None:
            if not up.is_set():
                raise RuntimeError("not listening yet")
            await parts.check()

        health = Health(settings.health_listen, ready=check)
        with_addresses(settings.health_listen, "HORO_HEALTH_LISTEN", health.start)
        try:
            services = {name: build(parts) for name, build in builds.items()}
            await _run(services, stopping, health, _announce(services, up, ready, parts))
        finally:
            health.close()


async def _run(
    services: Mapping[str, Service], stopping: asyncio.Event, health: Health, ready: Coroutine[Any, Any, None]
) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(service.run(), name=name) for name, service in services.items()]
        announcing = tasks.create_task(ready)
        for name in services:
            journal.started(name, health=health.address)
        ended = asyncio.ensure_future(stopping.wait())
        await asyncio.wait([*running, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        announcing.cancel()
        health.drain()
        for service in services.values():
            service.stop()
    for name in services:
        journal.stopped(name)


async def _announce(
    services: Mapping[str, Service],
    up: asyncio.Event,
    ready: Callable[[Parts], Coroutine[Any, Any, None]] | None,
    parts: Parts,
) -> None:
    """Once everything listens, say so. A service that cannot listen dies, which cancels this."""
    for service in services.values():
        if isinstance(service, Listening):
            await service.listening()
    up.set()
    if ready is not None:
        await ready(parts)


def with_addresses(listen: str, setting: str, start: Callable[[], None]) -> None:
    """Start something that listens; an address in use becomes a `StartError` that says which setting to change."""
    try:
        start()
    except OSError as error:
        raise address_error(listen, setting, error) from error


def address_error(listen: str, setting: str, error: OSError) -> StartError:
    """What to tell a person whose address cannot be listened on."""
    if error.errno == errno.EADDRINUSE:
        return StartError(f"{listen} is in use by another program: stop it, or set {setting} to another address")
    return StartError(f"{setting}: cannot listen on {listen}: {error.strerror or error}")


def _on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if stopping.is_set():
            os._exit(1)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
