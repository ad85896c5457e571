"""The workloads that send nothing: adding members in bulk, and doing nothing."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.measure import Meter, held
from bench.results import Result
from bench.run import WARM, Options, running, strangers, told, warm
from bench.systems import CannotRun, Group, System
from bench.workloads import DOMAIN, flat, people

GROUP = f"imported@{DOMAIN}"
IDLE = 15.0
"""Seconds of rest that are measured."""
IMPORT_SIZES = {"import-10k": 10_000, "import-1m": 1_000_000}
TROUBLE = (CannotRun, RuntimeError, AssertionError, TimeoutError)
IMPORTS_LEFT_OUT = {("import-1m", "mailman"): "10,000 members take it minutes"}


def import_members(name: str, system_name: str, options: Options, scale: float) -> Result:
    """Time the system's own bulk way from a file to members who are there; they are counted when the clock has stopped."""
    count = int(IMPORT_SIZES[name] * scale)
    result = Result(name, system_name, options.batch)
    try:
        with running(system_name, options) as (system, _), tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
            system.load([Group(GROUP, [])])
            file.writelines(f"{address}\n" for address in ["address", *people(count)])
            file.flush()
            Path(file.name).chmod(0o644)
            result.versions = dict(system.versions())
            _time_import(system, Path(file.name), count, result)
    except TROUBLE as why:
        result.failed = told(why)
    return result


def _time_import(system: System, path: Path, count: int, result: Result) -> None:
    with Meter(system.roots) as meter:
        children, began = _children(), time.monotonic()
        system.bulk(GROUP, path)
        result.seconds = time.monotonic() - began
        spent = _children() - children  # the command's processes are children of ours that have ended
        meter.quiet(30)
        usages = meter.stop()
    result.cpu = {"command": round(spent, 2), **{role: round(usage.cpu, 2) for role, usage in usages.roles.items()}}
    result.memory = {role: usage.memory for role, usage in usages.roles.items()}
    result.strangers = strangers(usages, result)
    result.copies = system.count(GROUP)
    result.lost, result.unexpected = max(0, count - result.copies), max(0, result.copies - count)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def idle(system_name: str, options: Options) -> Result:
    """What each service holds at rest, after some mail, and the processor time of a quarter of a minute in which nothing happens."""
    result = Result("idle", system_name, options.batch)
    try:
        with running(system_name, options) as (system, sink):
            groups: Sequence[Group] = [WARM, *flat("team", [10] * 200)]
            system.load(groups)
            warm(system, sink, options)
            with Meter(system.roots) as meter:
                time.sleep(IDLE)
                usages = meter.stop()
            result.cpu = {role: round(usage.cpu, 2) for role, usage in usages.roles.items()}
            result.memory = held(system.roots())
            result.seconds = IDLE
            result.versions = dict(system.versions())
    except TROUBLE as why:
        result.failed = told(why)
    return result
