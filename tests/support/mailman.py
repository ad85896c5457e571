"""The REST API of a real Mailman 3 core, from its wheel, in an environment of its own: one process, no mail, SQLite."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.support import keeper
from tests.support.install import locked
from tests.support.ports import free_port, release_port
from tests.support.trees import kill_family
from tests.support.waiting import wait_until

PACKAGES = ("mailman==3.3.10", "sqlalchemy<2.1")  # with 2.1 this Mailman answers 500 to every question about a list
USER, PASSWORD = "restadmin", "secret-of-the-test"
CONFIG = """\
[mailman]
site_owner: postmaster@example.test
layout: test
[paths.test]
var_dir: {folder}/var
[mta]
incoming: mailman.mta.null.NullMTA
[webservice]
hostname: 127.0.0.1
port: {port}
workers: 1
admin_user: {user}
admin_pass: {password}
"""


class CannotRun(Exception):
    """Mailman cannot be installed here (no network, no uv)."""


class Rest:
    """A running API."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/3.1"
        self._client = httpx.Client(base_url=self.url + "/", auth=(USER, PASSWORD), timeout=30, trust_env=False)

    def post(self, path: str, **values: Any) -> None:
        """Make something."""
        self._client.post(path, data=values).raise_for_status()

    def patch(self, path: str, **values: Any) -> None:
        """Change something."""
        self._client.patch(path, data=values).raise_for_status()

    def get(self, path: str) -> Any:
        """Ask something."""
        return self._client.get(path).raise_for_status().json()

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            return self._client.get("system/versions").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running(folder: Path) -> Iterator[Rest]:
    """A Mailman with its files in `folder`. Raises `CannotRun`."""
    programs = environment() / "bin"
    port = free_port()
    config = folder / "mailman.cfg"
    config.write_text(CONFIG.format(folder=folder, port=port, user=USER, password=PASSWORD))
    with (folder / "start.log").open("wb") as log:
        command = [str(programs / "runner"), "-C", str(config), "-r", "rest:0:1"]
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    keeper.keep(process.pid)
    try:
        rest = Rest(port)
        wait_until(rest.answers, "Mailman's REST API to answer", 120)
        yield rest
    finally:
        if process.poll() is None:
            kill_family(psutil.Process(process.pid))  # type: ignore[no-untyped-call]
        process.wait()
        keeper.forget(process.pid)
        release_port(port)


def environment() -> Path:
    """Mailman's environment, made when it is first asked for and kept for the next run. Raises `CannotRun`."""
    folder = Path(tempfile.gettempdir()) / f"horo-test-mailman-3.3.10-{os.getuid()}"
    done = folder / ".installed"
    with locked("test-mailman"):
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _uv("venv", "--python", sys.executable, str(folder))
            _uv("pip", "install", "--python", str(folder / "bin" / "python"), *PACKAGES)
            done.touch()
    return folder


def _uv(*words: str) -> None:
    program = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        raise CannotRun("Mailman needs uv for an environment of its own")
    made = subprocess.run([program, "--quiet", *words], capture_output=True, text=True, timeout=300, check=False)
    if made.returncode:
        raise CannotRun(f"Mailman cannot be installed: {made.stderr.strip()[-400:]}")
