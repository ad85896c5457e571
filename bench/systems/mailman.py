"""Mailman 3 core from its wheel, in an environment of its own: LMTP in, the sink out, SQLite, one runner of each kind, as it comes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from bench.measure import Roots
from bench.systems import CannotRun, Group, Setup
from tests.support import keeper
from tests.support.install import locked
from tests.support.ports import free_port, release_port
from tests.support.trees import kill_family
from tests.support.waiting import wait_until

VERSION = "3.3.10"
START_TIMEOUT = 240.0
LOAD_TIMEOUT = 900.0
ROOT_TOO = ("--run-as-root",) if os.geteuid() == 0 else ()
CONFIG = """\
[mailman]
site_owner: postmaster@example.test
layout: bench
[paths.bench]
var_dir: {folder}/var
[mta]
incoming: mailman.mta.null.NullMTA
outgoing: mailman.mta.deliver.deliver
lmtp_host: 127.0.0.1
lmtp_port: {port}
smtp_host: 127.0.0.1
smtp_port: {next_hop}
verp_personalized_deliveries: {single}
[webservice]
hostname: 127.0.0.1
port: {rest_port}
"""


class Mailman:
    """One installation."""

    name = "mailman"
    protocol = "lmtp"

    def __init__(self) -> None:
        self.port = self._rest_port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()
        self._single = False

    def start(self, setup: Setup) -> None:
        environment()
        self._folder, self._single = setup.folder, setup.single
        self.port, self._rest_port = free_port(), free_port()
        values = {"port": self.port, "rest_port": self._rest_port, "next_hop": setup.next_hop}
        single = "yes" if setup.single else "no"
        self.config.write_text(CONFIG.format(folder=setup.folder, single=single, **values))
        self.tool("info")  # makes the folders and the database
        with (self._folder / "start.log").open("ab") as log:
            command = [str(environment() / "bin" / "master"), "-C", str(self.config)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )
        keeper.keep(self._process.pid)
        try:
            wait_until(self._answers, "Mailman to answer", START_TIMEOUT)
        except AssertionError as late:
            raise RuntimeError(f"{late}; it said:\n{self.said()}") from None

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self._folder / "mailman.cfg"

    def load(self, groups: Sequence[Group]) -> None:
        path = self._folder / "groups.jsonl"
        path.write_text(
            "".join(json.dumps({"address": one.address, "members": list(one.members)}) + "\n" for one in groups)
        )
        script = Path(__file__).with_name("mailman_lists.py")
        self._run(
            [
                str(environment() / "bin" / "python"),
                "-P",
                str(script),
                str(self.config),
                str(path),
                "single" if self._single else "many",
            ]
        )

    def bulk(self, group: str, path: Path) -> None:
        addresses = path.with_suffix(".txt")
        addresses.write_text("".join(f"{address}\n" for address in path.read_text().split()[1:]))
        try:
            self.tool("addmembers", "--no-welcome-msg", str(addresses), group)
        finally:
            addresses.unlink()

    def count(self, group: str) -> int:
        return int(self.tool("members", "--count-only", group).split()[-1])

    def bus(self) -> dict[str, int]:
        return {}

    def tool(self, *words: str) -> str:
        """What `mailman WORDS` prints. Raises RuntimeError with what it printed."""
        return self._run([str(environment() / "bin" / "mailman"), *ROOT_TOO, "-C", str(self.config), *words])

    def _run(self, command: Sequence[str]) -> str:
        done = subprocess.run(
            command, cwd=self._folder, capture_output=True, text=True, timeout=LOAD_TIMEOUT, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:] or done.stdout[-2000:]}")
        return done.stdout

    def roots(self) -> Roots:
        assert self._process is not None
        return {"mailman": [self._process.pid]}

    def versions(self) -> Mapping[str, str]:
        return {"Mailman": VERSION}

    def said(self) -> str:
        logs = [self._folder / "start.log", *sorted((self._folder / "var" / "logs").glob("*.log"))]
        return "\n".join(path.read_text(errors="replace")[-1500:] for path in logs if path.exists())

    def stop(self) -> None:
        if self._process is not None:
            if self._process.poll() is None:
                kill_family(psutil.Process(self._process.pid))  # type: ignore[no-untyped-call]
            self._process.wait()
            keeper.forget(self._process.pid)
            release_port(self.port)
            release_port(self._rest_port)
        self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                return probe.recv(3) == b"220"
        except OSError:
            return False


def environment() -> Path:
    """Mailman's own environment, made when it is first asked for and kept for the next run. Raises `CannotRun`."""
    folder = Path(tempfile.gettempdir()) / f"horo-bench-mailman-{VERSION}-{os.getuid()}"
    done = folder / ".installed"
    with locked("bench-mailman"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _uv("venv", "--python", sys.executable, str(folder))
            _uv("pip", "install", "--python", str(folder / "bin" / "python"), f"mailman=={VERSION}")
            done.touch()
    return folder


def _uv(*words: str) -> None:
    program = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        raise CannotRun("Mailman needs uv for an environment of its own")
    made = subprocess.run([program, "--quiet", *words], capture_output=True, text=True, timeout=600, check=False)
    if made.returncode:
        raise CannotRun(f"Mailman {VERSION} cannot be installed: {made.stderr.strip()[-400:]}")
