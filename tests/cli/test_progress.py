"""How far an import has come: a bar on a terminal, lines in a log, nothing under --json."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.progress import Progress

from cli import progress
from cli.progress import meter
from tests.cli.conftest import ROOT, Horo

GROUP = "office@example.test"
ROWS = 3000


@pytest.fixture
def members(horo: Horo, tmp_path: Path) -> Path:
    assert horo("group", "create", GROUP).status == 0
    path = tmp_path / "members.csv"
    path.write_text("".join(f"u{number}@x.test\n" for number in range(ROWS)))
    return path


def on_a_terminal(*words: str) -> tuple[int, str]:
    """The status of a command, and what a terminal got that is its standard error."""
    controller, terminal = pty.openpty()
    command = [str(Path(sys.executable).parent / "horo"), *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=terminal, cwd=ROOT) as process:
        os.close(terminal)
        got = b""
        try:
            while data := os.read(controller, 65536):
                got += data
        except OSError:  # what a terminal says at its end
            pass
        finally:
            os.close(controller)
        status = process.wait(timeout=60)
    return status, got.decode()


def test_a_terminal_shows_rows_of_all_and_the_rate(members: Path) -> None:
    status, shown = on_a_terminal("member", "import", GROUP, str(members))
    assert status == 0, shown
    assert f"members of {GROUP}" in shown
    assert f"of {ROWS:,}" in shown
    assert "writing them" in shown


def test_programs_are_told_nothing_of_it(members: Path) -> None:
    assert on_a_terminal("member", "import", GROUP, str(members), "--json") == (0, "")


def test_a_short_import_says_nothing_in_a_log(horo: Horo, members: Path) -> None:
    done = horo("member", "import", GROUP, str(members))
    assert (done.status, done.err) == (0, "")


def test_a_long_one_says_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with meter("members of \x1b[2Jg", total=50_000, hidden=False) as told:
        for _ in range(50):
            now += 1.0
            told.advance(1000)
        told.finish("writing them")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        *(f"members of \\x1b[2Jg: {done:,} of 50,000, 1,000 a second" for done in range(10_000, 50_001, 10_000)),
        "members of \\x1b[2Jg: 50,000, writing them",
    ]
    with meter("g", total=None, hidden=False) as told:
        now += 30.0
        told.advance(30)
    assert capsys.readouterr().err == "g: 30, 1 a second\n"


def test_a_terminal_shows_the_rate_and_then_that_nobody_knows_how_long_the_rest_takes() -> None:
    now = 0.0
    column = progress._Rows()
    with Progress(column, get_time=lambda: now, auto_refresh=False, disable=True) as bar:
        told = progress._Bar(bar, "members of \x1b[2Jg", 4000)
        for _ in range(3):
            now += 1.0
            told.advance(1000)
        (task,) = bar.tasks
        assert column.render(task).plain == "3,000 of 4,000  1,000 a second"
        told.finish("writing them")
        (task,) = bar.tasks
        assert (task.description, task.total) == ("members of \\x1b[2Jg: writing them", None)
        assert column.render(task).plain == "3,000"
