"""Where this run gets its servers: from a Docker engine, or as binaries. Decided once a run, by the process that the user started."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, TypeVar, cast

from tests.support import binaries
from tests.support.runner import CannotServe
from tests.support.servers import PostgreSQL, RabbitMQ, Redis, Server

Mode = Literal["containers", "binaries"]
S = TypeVar("S", bound=Server)
VARIABLE = "HORO_TEST_SERVERS"


def chosen() -> Mode:
    """What HORO_TEST_SERVERS says; unset, whatever can be had."""
    value = os.environ.get(VARIABLE, "")
    if value in ("containers", "binaries"):
        return cast("Mode", value)
    if value:
        raise CannotServe(f"{VARIABLE} is {value!r}: set it to containers or binaries, or leave it out")
    return "binaries"


def rabbitmq_versions(mode: Mode) -> tuple[str, ...]:
    """The versions that tests are run against: both supported ones from images, else the one that is installed."""
    return ("3.10", "4") if mode == "containers" else ("installed",)


class Servers:
    """The servers of one test process, each made when it is first asked for and kept to the end."""

    def __init__(self, mode: Mode) -> None:
        self._mode = mode
        self._made: dict[str, Server] = {}

    def rabbitmq(self, version: str) -> RabbitMQ:
        """A running broker of that version. Raises `CannotServe`."""
        return self._get(f"rabbitmq {version}", binaries.rabbitmq)

    def postgresql(self) -> PostgreSQL:
        """A running PostgreSQL. Raises `CannotServe`."""
        return self._get("postgresql", binaries.postgresql)

    def redis(self) -> Redis:
        """A running Redis. Raises `CannotServe`."""
        return self._get("redis", binaries.redis_server)

    def ensure_running(self) -> None:
        """Bring back all that tests have stopped, killed or frozen."""
        for server in self._made.values():
            server.ensure_running()

    def close(self) -> None:
        """End them all."""
        for server in self._made.values():
            server.close()
        self._made.clear()

    def _get(self, name: str, make: Callable[[], S]) -> S:
        server = self._made.get(name)
        if server is None:
            server = self._made[name] = make()
            server.start()
        return cast("S", server)
