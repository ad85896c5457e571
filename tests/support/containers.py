"""Servers as containers, through testcontainers, each on a loopback port of its own that it keeps over stop and start."""

from __future__ import annotations

from typing import Any

import docker
from testcontainers.community.postgres import PostgresContainer
from testcontainers.community.redis import RedisContainer
from testcontainers.core.container import DockerContainer

from tests.support.binaries import ERLANG_ARGUMENTS, POSTGRESQL_ARGUMENTS, REDIS_ARGUMENTS, rabbitmq_conf
from tests.support.engine import LABEL, owner
from tests.support.images import IMAGES
from tests.support.ports import free_port, release_port
from tests.support.runner import Runner
from tests.support.servers import PASSWORD, USER, PostgreSQL, RabbitMQ, Redis

_STOP_TIMEOUT = 30


class Container(Runner):
    """A server in a container."""

    def __init__(self, container: DockerContainer, ports: dict[int, int], **options: Any) -> None:
        self._container = container.with_kwargs(labels={LABEL: owner()}, **options)
        self._ports = list(ports.values())
        for inside, outside in ports.items():
            # with_bind_ports would publish it on every address of the machine.
            container.ports[str(inside)] = ("127.0.0.1", outside)  # type: ignore[assignment]
        self._started = False

    def start(self) -> None:
        if not self._started:
            self._started = True
            self._container.start()
        else:
            self._wrapped().start()

    def stop(self) -> None:
        self._wrapped().stop(timeout=_STOP_TIMEOUT)

    def kill(self) -> None:
        if self.running():
            self._wrapped().kill()
            self._wrapped().wait()

    def pause(self) -> None:
        self._wrapped().pause()

    def resume(self) -> None:
        self._wrapped().unpause()

    def running(self) -> bool:
        if not self._started:
            return False
        wrapped = self._wrapped()
        wrapped.reload()
        return wrapped.status in ("running", "paused")

    def execute(self, *command: str) -> str:
        result = self._wrapped().exec_run(list(command))
        text = str(result.output.decode(errors="replace"))
        if result.exit_code:
            raise RuntimeError(f"{' '.join(command)}: {text}")
        return text

    def logs(self) -> str:
        return str(self._wrapped().logs(tail=60).decode(errors="replace"))

    def close(self) -> None:
        if self._started:
            self._container.stop()
        for port in self._ports:
            release_port(port)

    def _wrapped(self) -> docker.models.containers.Container:
        return self._container.get_wrapped_container()


def rabbitmq(version: str) -> RabbitMQ:
    """A broker of that version ("3.10" or "4"), not started.

    testcontainers' RabbitMqContainer needs one more AMQP client to see that the broker is ready; `RabbitMQ.answers` sees it too.
    """
    port, api_port = free_port(), free_port()
    container = DockerContainer(IMAGES[f"rabbitmq:{version}"].tag)
    container.with_env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG_ARGUMENTS)
    container.with_copy_into_container(
        rabbitmq_conf(5672, 15672, "0.0.0.0").encode(), "/etc/rabbitmq/conf.d/90-tests.conf"
    )
    # The node's data is named after the host: a name of its own each time would be an empty broker each time.
    runner = Container(container, {5672: port, 15672: api_port}, hostname="rabbitmq")
    return RabbitMQ(runner, port, version, api_port)


def postgresql() -> PostgreSQL:
    """A PostgreSQL, not started."""
    port = free_port()
    container = PostgresContainer(
        IMAGES["postgres:15"].tag, username=USER, password=PASSWORD, dbname="postgres", driver=None
    )
    container.with_envs(PGUSER=USER, PGDATABASE="postgres", PGPASSWORD=PASSWORD, PGHOST="127.0.0.1")
    container.with_command(["postgres", *POSTGRESQL_ARGUMENTS])
    return PostgreSQL(Container(container, {5432: port}), port, "15")


def redis_server() -> Redis:
    """A Redis, not started."""
    port = free_port()
    container = RedisContainer(IMAGES["redis:7"].tag)
    container.with_command(["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", *REDIS_ARGUMENTS])
    return Redis(Container(container, {6379: port}), port, "7")
