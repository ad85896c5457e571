"""The harness that end-to-end tests start processes with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.support.processes import ROOT, Ended, Processes
from tests.support.waiting import wait_until

SERVER = """
import http.server, os, subprocess, sys
helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("helper", helper.pid)
server = http.server.HTTPServer(("127.0.0.1", int(os.environ["HORO_PORT"])), http.server.SimpleHTTPRequestHandler)
print("listening")
server.serve_forever()
"""


def test_a_process_is_ready_frozen_killed_and_started_again(processes: Processes, free_port: Callable[[], int]) -> None:
    port = free_port()
    child = processes.start("server", ["python", "-c", SERVER], {"HORO_PORT": str(port)})
    child.wait_for_line("^listening$")
    child.wait_http(f"http://127.0.0.1:{port}/pyproject.toml")
    helper = int(child.wait_for_line(r"^helper (\d+)$")[1])
    child.pause()
    assert psutil.Process(child.pid).status() == psutil.STATUS_STOPPED
    child.resume()
    child.wait_http(f"http://127.0.0.1:{port}/nothing", status=404)
    child.kill()
    assert child.returncode == -signal.SIGKILL
    assert not child.running
    wait_until(lambda: _gone(helper), "the helper to be gone too")
    child.start()
    child.wait_http(f"http://127.0.0.1:{port}/pyproject.toml")
    assert child.terminate() == -signal.SIGTERM


def test_a_process_that_ends_early_fails_the_wait_with_its_output(processes: Processes) -> None:
    child = processes.start("short", ["python", "-c", "print('cannot go on'); raise SystemExit(3)"])
    with pytest.raises(Ended, match=r"ended with 3 .*\ncannot go on"):
        child.wait_for_line("ready")


def test_settings_of_the_caller_do_not_leak_into_a_process(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HORO_DATA", "/somewhere/else")
    child = processes.start(
        "env",
        ["python", "-c", "import os; print(sorted(k for k in os.environ if k.startswith('HORO_')))"],
        {"HORO_A": "1"},
    )
    assert child.wait() == 0
    assert child.output == "['HORO_A']\n"


def test_processes_die_with_a_run_that_is_killed(tmp_path: Path) -> None:
    """A test run that is killed cannot clean up; its keeper does."""
    script = (
        "import pathlib, signal, os\n"
        "from tests.support.processes import Processes\n"
        f"child = Processes(pathlib.Path({str(tmp_path)!r})).start('long', ['sleep', '600'])\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_until(lambda: _gone(int(done.stdout)), "the orphan to be gone")


def _gone(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
