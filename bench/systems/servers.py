"""The servers of the cluster profile: RabbitMQ, PostgreSQL, Redis from Debian's packages, as a sensible installation has them.

Nothing that makes them durable is turned off.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TypeVar

from bench.systems import CannotRun
from tests.support import binaries
from tests.support.binaries import Binary
from tests.support.runner import CannotServe
from tests.support.servers import PostgreSQL, RabbitMQ, Redis, Server

S = TypeVar("S", bound=Server)

POSTGRESQL: Mapping[str, str] = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "max_connections": "200",
    "logging_collector": "off",
}
"""What differs from PostgreSQL's defaults is memory and the distance of checkpoints."""

RABBITMQ: Mapping[str, str] = {"raft.wal_max_size_bytes": "67108864", "disk_free_limit.absolute": "50MB"}
"""Write-ahead log files of 64 MiB, as the documentation of quorum queues has them for small machines; they are synced before every confirm."""


class Servers:
    """The three, running."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        try:
            self.rabbitmq: RabbitMQ = self._started(_rabbitmq())
            self.postgresql: PostgreSQL = self._started(_postgresql())
            self.redis: Redis = self._started(binaries.redis_server())
        except CannotServe as why:
            self.close()
            raise CannotRun(str(why)) from why
        except BaseException:
            self.close()
            raise

    def urls(self) -> dict[str, str]:
        """The cluster profile's settings."""
        return {
            "HORO_BROKER_URL": self.rabbitmq.fresh(),
            "HORO_DATABASE_URL": self.postgresql.fresh(),
            "HORO_CACHE_URL": self.redis.fresh(),
        }

    def roots(self) -> dict[str, list[int]]:
        """Server -> its process."""
        named: dict[str, Server] = {"rabbitmq": self.rabbitmq, "postgresql": self.postgresql, "redis": self.redis}
        return {name: [_binary(server).pid] for name, server in named.items()}

    def versions(self) -> dict[str, str]:
        """Server -> its version."""
        return {
            "RabbitMQ": self.rabbitmq.version,
            "PostgreSQL": self.postgresql.ctl("-c", "SHOW server_version").split()[0],
            "Redis": self.redis.version,
        }

    def received(self) -> dict[str, int]:
        """Octets that the broker has received, by connection."""
        return received(self.rabbitmq)

    def close(self) -> None:
        """End them and remove their data."""
        self._stack.close()

    def _started(self, server: S) -> S:
        self._stack.callback(server.close)
        server.start()
        return server


def received(rabbitmq: RabbitMQ) -> dict[str, int]:
    """The broker's connection -> octets that it has received on it, as its socket counts them."""
    lines = rabbitmq.ctl("list_connections", "--no-table-headers", "pid", "recv_oct").splitlines()
    rows = [line.split() for line in lines]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _rabbitmq() -> RabbitMQ:
    server = binaries.rabbitmq()
    configuration = _binary(server).folder / "rabbitmq.conf"
    lines = [line for line in configuration.read_text().splitlines() if line.partition(" =")[0] not in RABBITMQ]
    lines += [f"{key} = {value}" for key, value in RABBITMQ.items()]
    configuration.write_text("\n".join([*lines, ""]))
    return server


def _postgresql() -> PostgreSQL:
    return binaries.postgresql([word for key, value in POSTGRESQL.items() for word in ("-c", f"{key}={value}")])


def _binary(server: Server) -> Binary:
    assert isinstance(server.runner, Binary)
    return server.runner
