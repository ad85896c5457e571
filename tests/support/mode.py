"""Where this run gets its servers: from a Docker engine, or as binaries. TEST_SERVERS says which; unset, whatever can be had."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable
from types import ModuleType
from typing import Literal, TypeVar, cast

from tests.support import binaries, engine
from tests.support.install import tell
from tests.support.runner import CannotServe
from tests.support.servers import PostgreSQL, RabbitMQ, Redis, Server

Mode = Literal["containers", "binaries"]
S = TypeVar("S", bound=Server)
VARIABLE = "TEST_SERVERS"
FIXTURES = frozenset({"rabbitmq", "postgres", "redis_server"})
"""A test that uses one of these needs servers."""


def ready() -> Mode:
    """The mode of this run, with all that it needs in place: an engine and images, or packages. Takes minutes on a machine that has none of it.

    Raises `CannotServe`, at once if it has done so before.
    """
    outcome = _attempt()
    if isinstance(outcome, CannotServe):
        raise outcome
    return outcome


@functools.cache
def _attempt() -> Mode | CannotServe:
    try:
        return _prepare()
    except CannotServe as reason:
        return reason


def _prepare() -> Mode:
    wish = os.environ.get(VARIABLE, "")
    if wish not in ("", "containers", "binaries"):
        raise CannotServe(f"{VARIABLE} is {wish!r}: set it to containers or binaries, or leave it out")
    if wish != "binaries":
        try:
            _prepare_containers()
        except CannotServe as reason:
            if wish == "containers":
                raise
            tell(f"no containers: {reason} Trying the servers' own binaries.")
        else:
            return "containers"
    binaries.prepare()
    return "binaries"


def _prepare_containers() -> None:
    from tests.support import images

    client = engine.acquire()
    try:
        images.prepare(client)
    except CannotServe:
        engine.release()
        raise
    finally:
        client.close()


def rabbitmq_versions(mode: Mode) -> tuple[str, ...]:
    """The versions that tests are run against: both supported ones from images, else the one that is installed."""
    return ("3.10", "4") if mode == "containers" else ("installed",)


class Servers:
    """The servers of one test process, each made when it is first asked for and kept to the end."""

    def __init__(self) -> None:
        self._made: dict[str, Server] = {}

    def rabbitmq(self, version: str) -> RabbitMQ:
        """A running broker of that version. Raises `CannotServe`."""
        if ready() == "containers":
            return self._get(f"rabbitmq {version}", lambda: cast("RabbitMQ", _containers().rabbitmq(version)))
        return self._get(f"rabbitmq {version}", binaries.rabbitmq)

    def postgresql(self) -> PostgreSQL:
        """A running PostgreSQL. Raises `CannotServe`."""
        make = _containers().postgresql if ready() == "containers" else binaries.postgresql
        return cast("PostgreSQL", self._get("postgresql", make))

    def redis(self) -> Redis:
        """A running Redis. Raises `CannotServe`."""
        make = _containers().redis_server if ready() == "containers" else binaries.redis_server
        return cast("Redis", self._get("redis", make))

    def ensure_running(self) -> None:
        """Bring back all that tests have stopped, killed or frozen."""
        for server in self._made.values():
            server.ensure_running()

    def close(self) -> None:
        """End them all, and the need for an engine."""
        for server in self._made.values():
            server.close()
        self._made.clear()
        engine.release()

    def _get(self, name: str, make: Callable[[], S]) -> S:
        server = self._made.get(name)
        if server is None:
            server = make()
            try:
                server.start()
            except BaseException:
                server.close()
                raise
            self._made[name] = server
        return cast("S", server)


def _containers() -> ModuleType:
    """Imported late: testcontainers reads its settings when it is imported, and `engine.acquire` makes them."""
    return importlib.import_module("tests.support.containers")
