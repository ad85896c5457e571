"""What the pages for newcomers tell them to type, typed; and what they show, compared with what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.reading import DOCS, Step, shows, steps
from tests.e2e.system import System
from tests.support.processes import Processes

pytestmark = pytest.mark.e2e
PAGES = ("getting-started.md", "how-to/reports.md", "how-to/signals.md")


def typed(system: System, step: Step) -> str:
    """What a command prints in a terminal at the folder in which Horo runs."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("HORO_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", step.command],
        cwd=system.folder,
        env={**inherited, "COLUMNS": "200", **system.env, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"{step.command}: {done.stderr}"
    return done.stdout


def test_every_command_of_the_first_pages_does_what_they_show(processes: Processes, tmp_path: Path) -> None:
    system = System(processes, tmp_path, {"HORO_DATA": "./var", "HORO_SECRET": ""}, arguments=["--demo"])
    first, *others = [step for page in PAGES for step in steps(DOCS / page)]
    assert first.command == "make run"
    (up,) = system.children["up"]
    up.wait_for_line(r"^Ctrl-C stops it")
    assert shows(f"…\n{first.shown}", up.output), up.output
    assert len(others) > 12
    for step in others:
        output = typed(system, step)
        assert shows(step.shown, output), f"{step.command} printed\n{output}"
    assert system.terminate() == [0]
