"""Horo: `horo serve` of every service on real servers (cluster), or `horo up` (embedded)."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.measure import Roots
from bench.systems import Group, Setup
from bench.systems.servers import Servers
from tests.support.ports import free_port, release_port
from tests.support.processes import ROOT, Child, Processes

SERVICES = ("ingress", "expander", "sender", "reporter")
SETTINGS: Mapping[str, str] = {
    "HORO_SECRET": "a secret of the bench, the same everywhere",
    "HORO_HOSTNAME": "mx.example.test",
    "HORO_CONSOLE_LISTEN": "",
    "HORO_MAX_CONNECTIONS_PER_IP": "200",
}
"""All else is as it comes."""


class Horo:
    """Either profile."""

    protocol = "smtp"

    def __init__(self, profile: str) -> None:
        self.name = profile
        self._servers: Servers | None = None
        self._processes: Processes | None = None
        self._children: dict[str, list[Child]] = {}
        self._ports: list[int] = []
        self._verp = False
        self.env: dict[str, str] = {}
        self.folder = Path()
        self.port = 0

    def start(self, setup: Setup) -> None:
        self._servers = Servers() if self.name == "cluster" else None
        self._processes = Processes(setup.folder)
        self._verp, self.folder = setup.single, setup.folder
        self.port = self._port()
        self.env = {
            **SETTINGS,
            "HORO_DATA": str(setup.folder / "var"),
            "HORO_SMTP_LISTEN": f"127.0.0.1:{self.port}",
            "HORO_LMTP_LISTEN": "",
            "HORO_NEXT_HOP": f"smtp://127.0.0.1:{setup.next_hop}",
            **(self._servers.urls() if self._servers else {}),
            **setup.settings,
        }
        roles = {role: setup.processes.get(role, 1) for role in SERVICES} if self._servers else {"up": 1}
        started = [self._start(role) for role, count in roles.items() for _ in range(count)]
        for child, health in started:
            child.wait_http(f"http://127.0.0.1:{health}/readyz")

    def _start(self, role: str) -> tuple[Child, int]:
        assert self._processes is not None
        health = self._port()
        env = {**self.env, "HORO_HEALTH_LISTEN": f"127.0.0.1:{health}", "PYTHONUNBUFFERED": ""}
        if len(self._children.get(role, [])) and role == "ingress":
            raise ValueError("one ingress: a second would need a port of its own")
        words = ["horo", "up"] if role == "up" else ["horo", "serve", role]
        child = self._processes.start(role, words, env, cwd=self.folder)
        self._children.setdefault(role, []).append(child)
        return child, health

    def load(self, groups: Sequence[Group]) -> None:
        path = self.folder / "groups.jsonl"
        settings = {"verp": True} if self._verp else {}
        with path.open("w") as file:
            for group in groups:
                row = {"address": group.address, "members": list(group.members), "settings": settings}
                file.write(json.dumps(row) + "\n")
        self.run([sys.executable, "-m", "bench.members", str(path)])

    def bulk(self, group: str, path: Path) -> None:
        self.run(["horo", "member", "import", group, str(path)])  # as a person would, standard error not a terminal

    def count(self, group: str) -> int:
        rows = csv.DictReader(self.run(["horo", "member", "export", group]).stdout.splitlines())
        return len({row["address"] for row in rows})

    def bus(self) -> dict[str, int]:
        return self._servers.received() if self._servers else {}

    def run(self, command: Sequence[str], timeout: float = 900.0) -> subprocess.CompletedProcess[str]:
        """A command with this system's settings, in the project's folder. Raises RuntimeError with what it printed."""
        if command[0] == "horo":
            command = [str(Path(sys.executable).with_name("horo")), *command[1:]]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("HORO_")}
        environment = {**inherited, **self.env}
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
        return done

    def roots(self) -> Roots:
        services = {role: [child.pid for child in children] for role, children in self._children.items()}
        return {**services, **(self._servers.roots() if self._servers else {})}

    def versions(self) -> Mapping[str, str]:
        python = ".".join(map(str, sys.version_info[:3]))
        return {"Python": python, **(self._servers.versions() if self._servers else {})}

    def said(self) -> str:
        return "\n".join(
            f"--- {child.name} ({child.returncode})\n{child.output[-1500:]}"
            for children in self._children.values()
            for child in children
        )

    def stop(self) -> None:
        if self._processes is not None:
            self._processes.close()
        if self._servers is not None:
            self._servers.close()
        for port in self._ports:
            release_port(port)
        self._children, self._ports, self._servers, self._processes = {}, [], None, None

    def _port(self) -> int:
        self._ports.append(free_port())
        return self._ports[-1]
