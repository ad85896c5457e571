"""Horo as a user runs it: `horo up`, or a cluster of `horo serve` processes; its command line; what `horo trace` says of a message."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.client import Message, Reply, send
from tests.support.ports import free_port, release_port
from tests.support.processes import Child, Processes
from tests.support.waiting import wait_until

CLUSTER: Mapping[str, int] = {"ingress": 1, "expander": 2, "sender": 2, "reporter": 1}
QUICK = {
    "HORO_SECRET": "a secret for tests, the same everywhere",
    "HORO_HOSTNAME": "mx.example.test",
    "HORO_RETRY_SCHEDULE": "1s",  # a step of the bus's delays, so that a retry comes when it is due
    "HORO_RETRY_MAX_AGE": "2h",
    "HORO_CLAIM_LEASE": "3s",
    "HORO_ACCEPT_TIMEOUT": "5s",
    "HORO_MAX_CONNECTIONS_PER_IP": "200",
}
COMMAND_TIMEOUT = 90.0


class CommandFailed(AssertionError):
    """A command ended with another status than 0. `status` and `said` are what a script sees."""

    def __init__(self, words: Sequence[str], status: int, said: str) -> None:
        super().__init__(f"horo {' '.join(words)}: {status}: {said}")
        self.status = status
        self.said = said


class System:
    """A running Horo. `roles` says how many processes of each service ("expander sender": of both in one); empty for `horo up`."""

    def __init__(
        self,
        processes: Processes,
        folder: Path,
        settings: Mapping[str, str],
        *,
        roles: Mapping[str, int] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self._processes = processes
        self.folder = folder
        self._ports: list[int] = []
        self.smtp, self.lmtp, self.console = self._port(), self._port(), self._port()
        ports = {"SMTP": self.smtp, "LMTP": self.lmtp, "CONSOLE": self.console}
        listen = {f"HORO_{name}_LISTEN": f"127.0.0.1:{port}" for name, port in ports.items()}
        self.env = {**QUICK, "HORO_DATA": str(folder / "var"), **listen, **settings}
        self.children: dict[str, list[Child]] = {}
        self._health: dict[Child, int] = {}
        for role, count in (roles or {"up": 1}).items():
            words = ["horo", "up", *arguments] if role == "up" else ["horo", "serve", *role.split()]
            self.children[role] = [self._start(role, words) for _ in range(count)]
        self.wait_ready()

    def _port(self) -> int:
        self._ports.append(free_port())
        return self._ports[-1]

    def _start(self, role: str, words: Sequence[str]) -> Child:
        health = self._port()
        env = {**self.env, "HORO_HEALTH_LISTEN": f"127.0.0.1:{health}"}
        child = self._processes.start(role, words, env, cwd=self.folder)
        self._health[child] = health
        return child

    # --- processes ----------------------------------------------------------------------------------------------------
    def wait_ready(self, *roles: str, timeout: float = 60.0) -> None:
        """Wait until /readyz of every process of these roles (all where none is named) answers 200."""
        for role in roles or self.children:
            for child in self.children[role]:
                child.wait_http(f"http://127.0.0.1:{self._health[child]}/readyz", timeout=timeout)

    def kill(self, role: str) -> None:
        """kill -9 to every process of a role."""
        for child in self.children[role]:
            child.kill()

    def restart(self, role: str) -> None:
        """Start a role again after `kill`, and wait until it is ready."""
        for child in self.children[role]:
            child.start()
        self.wait_ready(role)

    def terminate(self) -> list[int]:
        """SIGTERM to all; their exit statuses."""
        return [child.terminate() for children in self.children.values() for child in children]

    def said(self, role: str) -> str:
        """What the processes of a role have printed."""
        return "".join(child.output for child in self.children[role])

    def roll(self, role: str) -> list[int]:
        """SIGTERM to one process of a role after the other, each started again before the next, as a deployment does; the exit statuses."""
        statuses = []
        for child in self.children[role]:
            statuses.append(child.terminate())
            child.start()
            self.wait_ready(role)
        return statuses

    def add(self, role: str, count: int = 1) -> None:
        """Start more processes of a role, and wait until they are ready."""
        self.children.setdefault(role, []).extend(self._start(role, ["horo", "serve", role]) for _ in range(count))
        self.wait_ready(role)

    def remove(self, role: str, number: int) -> int:
        """SIGTERM to one process of a role, for good; its exit status."""
        return self.children[role].pop(number).terminate()

    def close(self) -> None:
        """End what still runs, and give the ports back."""
        for children in self.children.values():
            for child in children:
                child.kill()
        for port in self._ports:
            release_port(port)

    # --- the command line ---------------------------------------------------------------------------------------------
    def run(self, *words: str, standard_input: str = "") -> subprocess.CompletedProcess[str]:
        """Run `horo WORDS` with this system's settings, as a person in another terminal would."""
        return run_horo(words, self.env, self.folder, standard_input)

    def cli(self, *words: str, standard_input: str = "") -> Any:
        """What `horo WORDS --json` prints, decoded. Raises `CommandFailed`."""
        done = self.run(*words, "--json", standard_input=standard_input)
        if done.returncode != 0:
            raise CommandFailed(words, done.returncode, done.stderr)
        return json.loads(done.stdout)

    def cli_failed(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`horo WORDS --json`, which is expected not to end with 0."""
        done = self.run(*words, "--json")
        assert done.returncode != 0, done.stdout
        return done

    def group(self, address: str, members: Iterable[str] = (), *settings: str) -> None:
        """Make a group."""
        words = [word for member in members for word in ("--member", member)]
        words += [word for setting in settings for word in ("--set", setting)]
        self.cli("group", "create", address, *words)

    def members(self, group: str, members: Iterable[str]) -> None:
        """Import members as CSV."""
        self.cli("member", "import", group, "-", standard_input="address\n" + "\n".join(members) + "\n")

    # --- mail and what became of it -------------------------------------------------------------------------------------
    def send(self, message: Message) -> Reply:
        """Send once over SMTP; the reply."""
        return send(self.smtp, message)

    def accepted(self, message: Message) -> str:
        """Send, and expect 250; the post's id."""
        reply = self.send(message)
        assert reply.code == 250, reply
        return reply.text.rpartition(" ")[2]

    def trace(self, what: str) -> dict[str, Any]:
        """The one post of a Message-ID or post id."""
        (found,) = self.cli("trace", what)["posts"]
        return dict(found)

    def traces(self, group: str) -> list[dict[str, Any]]:
        """All posts to a group; none where the ledger knows none."""
        try:
            return list(self.cli("trace", "--group", group, "--limit", "1000")["posts"])
        except CommandFailed as failed:
            if failed.status == 3:
                return []
            raise

    def settled(self, what: str, timeout: float = 60.0) -> dict[str, Any]:
        """The trace of a post once nothing of it is on its way."""
        return self.traced(what, is_settled, timeout)

    def traced(self, what: str, condition: Callable[[dict[str, Any]], bool], timeout: float = 60.0) -> dict[str, Any]:
        """The trace of a post once `condition` holds for it."""
        last: list[Any] = []

        def look() -> dict[str, Any] | None:
            done = self.run("trace", what, "--json")
            if done.returncode != 0:
                last[:] = [done.stderr]
                return None
            (document,) = last[:] = json.loads(done.stdout)["posts"]
            return dict(document) if condition(document) else None

        try:
            return wait_until(look, f"post {what} to settle", timeout, pause=0.2)
        except AssertionError as late:
            raise AssertionError(f"{late}; last seen: {json.dumps(last, indent=1)[:4000]}") from None


def run_horo(
    words: Sequence[str], env: Mapping[str, str], folder: Path, standard_input: str = ""
) -> subprocess.CompletedProcess[str]:
    """`horo WORDS` in a folder, with these settings and no others."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HORO_")}
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *words],
        cwd=folder,
        env={**inherited, "COLUMNS": "200", **env},  # a wide terminal: tables are not folded
        input=standard_input,
        capture_output=True,
        encoding="utf-8",
        errors="surrogateescape",
        timeout=COMMAND_TIMEOUT,
        check=False,
    )


def is_settled(document: Mapping[str, Any]) -> bool:
    """Whether all of a post is expanded and nothing of it is on its way."""
    totals = document["totals"]
    return bool(totals["complete"]) and totals["deferred"] == 0 and bool(document["targets"])


def delivered(document: Mapping[str, Any]) -> list[str]:
    """Who got a copy, sorted."""
    return sorted(row["address"] for row in document["addresses"] if row["state"] == "delivered")


def left_out(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Who was left out, and why, sorted."""
    return sorted((row["address"], row["reason"]) for row in document["addresses"] if row["reason"])


def sums(document: Mapping[str, Any]) -> tuple[int, int, int, int, int]:
    """expanded, delivered, deferred, failed, suppressed; checks that they add up (P4)."""
    totals = document["totals"]
    parts = [totals[name] for name in ("delivered", "deferred", "failed", "suppressed")]
    assert totals["expanded"] == sum(parts), totals
    return totals["expanded"], parts[0], parts[1], parts[2], parts[3]
