"""Processor time and memory of process trees; the profile's tables."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import profile
from bench.measure import MIB, Meter, held, look, machine_cpu, trees

BURN = "import time\nwhile time.process_time() < {seconds}: pass\n"
PARENT = """
import subprocess, sys
for line in sys.stdin:
    subprocess.run([sys.executable, "-c", line.replace(";", chr(10))], check=True)
    print("done", flush=True)
"""


@pytest.fixture
def parent() -> Iterator[Callable[[str], int]]:
    """A process that runs children, one after the other; the function runs one and gives the parent's number."""
    process = subprocess.Popen([sys.executable, "-u", "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None

    def run(program: str) -> int:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(program.strip().replace("\n", ";").encode() + b"\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"done\n"
        return process.pid

    run("pass")
    yield run
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def test_the_time_of_children_that_have_ended_is_counted_once(parent: Callable[[str], int]) -> None:
    pid = parent("pass")
    meter = Meter(lambda: {"role": [pid]})
    parent("import time\nexec('while time.process_time() < 0.4: pass')")
    used = meter.stop().roles["role"].cpu
    assert 0.35 <= used < 0.7


def test_memory_is_the_most_that_was_held_since_the_meter_was_made(parent: Callable[[str], int]) -> None:
    assert look(parent("pass")) is not None
    child = subprocess.Popen(
        [sys.executable, "-u", "-c", "input(); x = bytearray(60 << 20); del x; print(); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    meter = Meter(lambda: {"role": [child.pid]})
    child.stdin.write(b"\n")
    child.stdin.flush()
    child.stdout.readline()
    usage = meter.stop().roles["role"]
    after = Meter(lambda: {"role": [child.pid]}).stop().roles["role"]
    child.communicate(b"\n", timeout=30)
    assert 55 * MIB <= usage.grown <= 80 * MIB
    assert usage.memory >= 60 * MIB
    assert after.memory < usage.memory
    assert after.grown < MIB


def test_a_process_that_is_gone_is_nobody() -> None:
    ended = subprocess.Popen([sys.executable, "-c", "pass"])
    ended.wait(30)
    assert look(ended.pid) is None
    assert trees({"role": [ended.pid]}) == {"role": {}}


def test_own_descendants_belong_to_the_role_and_hold_memory(parent: Callable[[str], int]) -> None:
    pid = parent("pass")
    found = trees({"all": [os.getpid()], "one": [pid]})
    assert pid in found["all"]
    assert set(found["one"]) == {pid}
    assert MIB < held({"one": [pid]})["one"] < held({"all": [os.getpid()]})["all"]


def test_the_machine_is_busy_at_least_as_long_as_a_process_of_it() -> None:
    before = machine_cpu()
    subprocess.run([sys.executable, "-c", BURN.format(seconds=0.3)], check=True)
    assert machine_cpu() - before >= 0.25


def test_a_profile_tells_functions_by_their_own_samples_without_lines(tmp_path: Path) -> None:
    (tmp_path / "sender-1.raw").write_text(
        "main (shared/main.py:1);send (/x/lib/python3.11/site-packages/lib/a.py:7) 6\n"
        "main (shared/main.py:2);send (/x/lib/python3.11/site-packages/lib/a.py:9) 2\n"
    )
    (tmp_path / "sender-2.raw").write_text("main (shared/main.py:2) 2\n")
    (tmp_path / "empty-3.raw").write_text("")
    found = profile.summary(profile.read(tmp_path)["sender"])
    assert found.samples == 10
    assert [(line.function, line.own, line.total) for line in found.own] == [
        ("send (lib/a.py)", 0.8, 0.8),
        ("main (shared/main.py)", 0.2, 1.0),
    ]
    assert [line.function for line in found.ours] == ["main (shared/main.py)"]
    assert "| 80.0% | 80.0% | `send (lib/a.py)` |" in profile.tables(tmp_path)
    assert "empty" not in profile.tables(tmp_path)


def test_waiting_for_rest_is_charged_to_nobody(parent: Callable[[str], int]) -> None:
    pid = parent("pass")
    with Meter(lambda: {"role": [pid]}) as meter:
        parent("import time\nexec('while time.process_time() < 0.3: pass')")
        ended = time.monotonic()
        assert meter.quiet(30, window=0.1) <= ended + 0.2
        parent("import time\nexec('while time.process_time() < 0.3: pass')")
        usages = meter.stop()
    assert 0.25 <= usages.cpu < 0.55
    assert usages.machine >= usages.cpu - 0.05
