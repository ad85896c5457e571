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
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

from shared import certificates, journal, metrics, tracing
from shared.health import Health
from shared.parts import Parts, open_parts
from shared.replies import TransientError
from shared.settings import Settings, SettingsError, load, seconds
from shared.starting import ServiceEnded, StartError

EXIT_FAILED = 1
EXIT_USAGE = 2
"""Exit status for a setting or a start that cannot be: restarting will not help until somebody changes something."""
CRASH_DRAIN = 30.0
"""Seconds that the other services get to finish their work when one has ended by itself; nobody is there to send a second signal."""

T = TypeVar("T")


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


@runtime_checkable
class Surveyed(Protocol):
    """A service that has to look when somebody asks for its gauges."""

    async def survey(self) -> None:
        """Set them."""


Build = Callable[[Parts], Service]


def main(name: str, build: Build) -> int:
    """Run one service by the process's environment until it is told to end; the exit status."""
    try:
        settings = load(os.environ)
        journal.configure(settings.log_level, settings.log_format)
        apart(settings)
        run_loop(serve(settings, {name: build}))
    except (SettingsError, StartError, ServiceEnded) as error:
        print(f"horo: {error}", file=sys.stderr)  # noqa: T201
        return EXIT_FAILED if isinstance(error, ServiceEnded) else EXIT_USAGE
    return 0


def apart(settings: Settings) -> None:
    """Whether one service may be a process of its own. Raises `StartError`."""
    if settings.broker_url.startswith("embedded:"):
        raise StartError(
            "the embedded bus works inside one process: run `horo up`, or set HORO_BROKER_URL to an amqp:// URL for separate services"
        )


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
    """Open the parts, run the services together, and drain when a signal comes, be it in the middle of the start.

    `ready` runs once everything listens; until then `/readyz` says no. Raises `StartError`; `ServiceEnded` when a service ends by itself, after the
    others have drained: then the process ends, and whoever watches over it (Kubernetes, systemd, a person) starts it again as a whole.
    """
    stopping = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_on_signals(stopping))
        parts = await _unless(stopping, stack.enter_async_context(open_parts(settings, consuming=True)))
        if parts is None:
            return
        stack.callback(tracing.stop)
        tracing.start(settings, f"horo-{next(iter(builds))}" if len(builds) == 1 else "horo")
        services = {name: build(parts) for name, build in builds.items()}
        surveys = [service.survey for service in services.values() if isinstance(service, Surveyed)]
        if settings.tls_cert and "ingress" in services:
            surveys.append(partial(_certificate, settings))
        health = Health(settings.health_listen, look=parts.check, surveys=surveys)
        with_addresses(settings.health_listen, "HORO_HEALTH_LISTEN", health.start)
        stack.callback(health.close)
        drain = seconds(settings.drain_timeout)
        await _run(services, stopping, health, _announce(services, health, ready, parts), drain=drain)


async def _certificate(settings: Settings) -> None:
    """When the certificate that clients are shown expires. Raises OSError, ValueError."""
    metrics.CERTIFICATE.set(await asyncio.to_thread(certificates.expiry, Path(settings.tls_cert)))


async def _unless(stopping: asyncio.Event, opening: Coroutine[Any, Any, T]) -> T | None:
    """What `opening` gives, or None when the stop comes first: servers that do not answer are not waited for any longer then."""
    task = asyncio.ensure_future(opening)
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((task, stop), return_when=asyncio.FIRST_COMPLETED)
        return None if stopping.is_set() else task.result()
    finally:
        stop.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait((task,))
        if stopping.is_set() and not task.cancelled():
            task.exception()  # a start that failed while it was given up is nobody's concern


async def _run(
    services: Mapping[str, Service],
    stopping: asyncio.Event,
    health: Health,
    ready: Coroutine[Any, Any, None],
    *,
    drain: float,
) -> None:
    """Run the services until a stop, or until one of them ends; then readiness goes first, and all drain together while the bus is still open.

    What has not ended `drain` seconds after a stop is cut off in order (claims are given back, connections closed), before somebody kills it.
    """
    running = [asyncio.create_task(service.run(), name=name) for name, service in services.items()]
    announcing = asyncio.create_task(ready, name="start")
    try:
        await _first_end([*running, announcing], stopping)
        asked = stopping.is_set()
        ended = [task for task in (*running, announcing) if task.done()]
        health.drain()
        announcing.cancel()
        for service in services.values():
            service.stop()
        patience = drain if asked else min(CRASH_DRAIN, drain)
        _, late = await asyncio.wait(running, timeout=patience)
        for task in late:
            journal.cut_off(task.get_name(), after=patience)
    finally:
        for task in (*running, announcing):
            task.cancel()
        await asyncio.wait((*running, announcing))
    _tell(running, announcing, [] if asked else ended)


async def _first_end(tasks: Sequence[asyncio.Task[None]], stopping: asyncio.Event) -> None:
    """Wait for a stop, for a service that ends, or for an announcement that fails (one that is made is no end)."""
    stop = asyncio.create_task(stopping.wait())
    waiting: set[asyncio.Task[Any]] = {*tasks, stop}
    try:
        while True:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if any(task is not tasks[-1] or task.cancelled() or task.exception() for task in done):
                return
    finally:
        stop.cancel()


def _tell(
    running: Sequence[asyncio.Task[None]], announcing: asyncio.Task[None], unasked: Sequence[asyncio.Task[None]]
) -> None:
    """Say how it ended. Raises `StartError`, or `ServiceEnded` when a service failed or ended by itself."""
    failed: dict[str, BaseException | None] = {}
    for task in (*running, announcing):
        if not task.cancelled() and (error := task.exception()) is not None:
            failed[task.get_name()] = cause(error)
        elif task in running and task in unasked:
            failed[task.get_name()] = None
        elif task in running and not task.cancelled():
            journal.stopped(task.get_name())
    for error in failed.values():
        if isinstance(error, StartError | SettingsError):
            raise error
    for name, error in failed.items():
        if error is None:
            raise ServiceEnded(f"{name} ended by itself; the rest has drained, start again")
        if not isinstance(error, TransientError):
            journal.crashed(name, error)
        why = error.why if isinstance(error, TransientError) and error.why else f"{type(error).__name__}: {error}"
        raise ServiceEnded(f"{name} ended: {why}; the rest has drained, start again") from error


def cause(error: BaseException) -> BaseException:
    """The first error of a group, at whatever depth, one that a person can do something about before others."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    known = error.subgroup((StartError, SettingsError))
    return cause((known or error).exceptions[0])


async def _announce(
    services: Mapping[str, Service],
    health: Health,
    ready: Callable[[Parts], Coroutine[Any, Any, None]] | None,
    parts: Parts,
) -> None:
    """Once everything listens, say so. A service that cannot listen dies, which cancels this."""
    for service in services.values():
        if isinstance(service, Listening):
            await service.listening()
    health.up()
    for name in services:
        journal.started(name, health=health.address)
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


@contextlib.contextmanager
def _on_signals(stopping: asyncio.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stopping`; the second one ends the process at once."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        if stopping.is_set():
            os._exit(EXIT_FAILED)
        stopping.set()

    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
