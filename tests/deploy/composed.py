"""compose.yaml, read as a file, and run by Docker Compose itself: in a container that speaks to the engine, so that nothing need be installed.

Where no registry answers, four of its servers stand in (tests/deploy/stand_ins.py) and Mailpit is a receiver that files what it gets; Grafana has no
stand-in: of it, only what it is given is checked.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import docker
import yaml

from tests.deploy import built, stand_ins
from tests.support import images
from tests.support.engine import LABEL, owner
from tests.support.ports import free_port

FILE = built.ROOT / "compose.yaml"
ROLES = {"ingress": 1, "expander": 2, "sender": 3, "reporter": 1, "console": 1}
WAITED_FOR = (*ROLES, "rabbitmq", "postgres", "valkey")
PORTS = ("SMTP_PORT", "LMTP_PORT", "SOCKETMAP_PORT", "CONSOLE_PORT", "MAIL_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")
LIMIT = 240
"""Seconds for one command of Compose."""
BOX = "/tmp/mail"
STAND_INS: Mapping[str, Any] = {
    "rabbitmq": {"image": stand_ins.RABBITMQ.tag},
    # The official image has the folder of its data, owned by its user; this one makes it.
    "postgres": {"image": stand_ins.POSTGRES.tag, "environment": {"PGDATA": "/var/lib/postgresql/cluster"}},
    "valkey": {"image": stand_ins.VALKEY.tag},
    "prometheus": {"image": stand_ins.PROMETHEUS.tag},
    "mail": {
        "image": built.TAG,
        "entrypoint": ["aiosmtpd", "-n", "-l", "0.0.0.0:1025", "-c", "aiosmtpd.handlers.Mailbox", BOX],
        "healthcheck": {
            "test": ["CMD", "python", "-c", "import smtplib; smtplib.SMTP('127.0.0.1', 1025)"],
            "interval": "1s",
        },
    },
}
QUICK: Mapping[str, Any] = {"interval": "2s"}
"""For the health checks of all that others wait for."""


def declared(environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The file with ${NAME:-default} replaced, as Compose does it, and its anchors resolved."""
    given = environment or {}
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: given.get(found[1], found[2]), FILE.read_text("utf-8"))
    assert "${" not in text
    return cast("dict[str, Any]", yaml.safe_load(text))


class Failed(AssertionError):
    """A command of Compose ended with another status than 0."""


class Project:
    """The file as a project of its own: its containers, networks and volumes bear its name."""

    def __init__(self, client: docker.DockerClient, folder: Path) -> None:
        self._client = client
        self.name = f"horo-test-{os.getpid()}-{secrets.token_hex(3)}"
        self.ports = {name: free_port() for name in PORTS}
        self._folder = folder
        self._override = folder / "stand-ins.json"  # JSON is YAML
        labelled = {
            name: {"labels": {LABEL: owner()}, **({"healthcheck": QUICK} if name in WAITED_FOR else {})}
            for name in declared()["services"]
        }
        self._override.write_text(
            json.dumps({"services": {name: {**one, **STAND_INS.get(name, {})} for name, one in labelled.items()}})
        )

    def prepare(self) -> None:
        """What it is made of, as far as the engine does not have it."""
        made = (stand_ins.COMPOSE, stand_ins.VALKEY, stand_ins.PROMETHEUS, stand_ins.RABBITMQ, stand_ins.POSTGRES)
        images.prepare(self._client, made)

    def run(self, *words: str) -> str:
        """What a command of Compose prints. Raises `Failed`."""
        socket = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
        places = {
            socket: (socket, "rw"),
            str(built.ROOT): (str(built.ROOT), "ro"),
            str(self._folder): (str(self._folder), "ro"),
        }
        ports = {name: str(port) for name, port in self.ports.items()}
        container = self._client.containers.run(
            stand_ins.COMPOSE.tag,
            ["-p", self.name, "-f", str(FILE), "-f", str(self._override), *words],
            entrypoint=["docker-compose"],
            environment={"DOCKER_HOST": f"unix://{socket}", "IMAGE": built.TAG, **ports},
            volumes={host: {"bind": inside, "mode": mode} for host, (inside, mode) in places.items()},
            working_dir=str(built.ROOT),
            network_mode="none",
            labels={LABEL: owner()},
            detach=True,
        )
        try:
            status = container.wait(timeout=LIMIT)["StatusCode"]
            said = container.logs(stderr=False).decode()
            if status:
                raise Failed(f"docker compose {' '.join(words)}: {status}: {container.logs(tail=60).decode()}")
        finally:
            container.remove(force=True)
        return str(said)

    def inside(self, service: str, *command: str) -> str:
        """What a command prints in the first container of a service. Raises `Failed`."""
        (container, *_) = self.containers(service)
        done = container.exec_run(list(command))
        if done.exit_code:
            raise Failed(f"{service}: {' '.join(command)}: {done.output.decode(errors='replace')}")
        return str(done.output.decode())

    def containers(self, service: str = "") -> Sequence[Any]:
        """Its containers, those that ended among them."""
        labels = [f"com.docker.compose.project={self.name}"]
        labels += [f"com.docker.compose.service={service}"] if service else []
        return cast("Sequence[Any]", self._client.containers.list(all=True, filters={"label": labels}))

    def logs(self) -> str:
        """The end of what each container printed."""
        return "\n".join(
            f"--- {one.name} ({one.status})\n{one.logs(tail=15).decode(errors='replace')}" for one in self.containers()
        )
