"""Where servers come from: what is wished for, else what can be had, else a sentence; never a silent skip."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import binaries, engine, install, mode
from tests.support.processes import ROOT
from tests.support.runner import CannotServe


@pytest.fixture(autouse=True)
def _undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test here decides anew, and leaves the run's own decision as it was."""
    monkeypatch.setattr(mode, "_attempt", lambda: _outcome(mode._prepare))


def _outcome(prepare: Callable[[], mode.Mode]) -> mode.Mode | CannotServe:
    try:
        return prepare()
    except CannotServe as reason:
        return reason


def _refuse(text: str) -> Callable[[], None]:
    def refuse() -> None:
        raise CannotServe(text)

    return refuse


@pytest.mark.parametrize(
    ("wish", "containers", "packages", "expected"),
    [
        ("", True, True, "containers"),
        ("", False, True, "binaries"),
        ("containers", True, True, "containers"),
        ("binaries", True, True, "binaries"),
        ("binaries", False, True, "binaries"),
        ("containers", False, True, CannotServe("start Docker")),
        ("binaries", True, False, CannotServe("install packages")),
        ("", False, False, CannotServe("install packages")),
        ("magic", True, True, CannotServe("set it to containers or binaries")),
    ],
)
def test_servers_come_from_where_they_can_be_had(
    wish: str, containers: bool, packages: bool, expected: mode.Mode | CannotServe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mode.VARIABLE, wish)
    monkeypatch.setattr(mode, "_prepare_containers", (lambda: None) if containers else _refuse("start Docker"))
    monkeypatch.setattr(binaries, "prepare", (lambda: None) if packages else _refuse("install packages"))
    if isinstance(expected, str):
        assert mode.ready() == expected
    else:
        with pytest.raises(CannotServe, match=str(expected)):
            mode.ready()


def test_without_root_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert not install.can_install()
    monkeypatch.setattr(binaries, "PROGRAMS", {"redis-server": str(tmp_path.relative_to("/") / "nothing")})
    with pytest.raises(CannotServe, match="apt-get install redis-server"):
        binaries.prepare()
    monkeypatch.setattr(engine, "_answering", lambda url: None)
    with pytest.raises(CannotServe, match="start Docker"):
        engine.acquire()


def test_a_run_that_can_have_no_servers_fails_and_says_why(tmp_path: Path) -> None:
    """The whole way, in a pytest of its own: failed, not skipped, and the sentence is in its output."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/integration/test_servers.py",
        "-k",
        "redis_holds or version",
    ]
    environment = {"PATH": "/usr/bin:/bin", mode.VARIABLE: "neither", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, done.stdout
    assert "set it to containers or binaries" in done.stdout
    assert "skipped" not in done.stdout
