"""What an invocation runs, in which order: every workload in turn against every system, the systems taking turns."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench import special
from bench.machine import description
from bench.results import Result
from bench.run import SYSTEMS, Options, direct, run
from bench.workloads import FAN_OUTS, LEFT_OUT, PEER_SCALE, ceiling

WORKLOADS = ("ceiling", *FAN_OUTS, "import", "idle")
QUICK = 0.1
ONCE = frozenset({"mailman"})
"""Systems that are so slow that one run has to do."""


@dataclass(frozen=True)
class Wish:
    """What is asked for. `runs` 0: as many as each workload says."""

    workloads: Sequence[str] = WORKLOADS
    systems: Sequence[str] = tuple(SYSTEMS)
    runs: int = 0
    quick: bool = False

    @property
    def scale(self) -> float:
        """1 for the full size."""
        return QUICK if self.quick else 1.0


def carry_out(wish: Wish, options: Options) -> Iterator[Result]:
    """Results as they come; what is going on is told on standard error."""
    for workload in wish.workloads:
        for result in _one(workload, wish, options):
            result.machine = description()
            _say(_line(result))
            yield result


def _one(workload: str, wish: Wish, options: Options) -> Iterator[Result]:
    if workload == "ceiling":
        yield from (direct(expected, options) for expected in ceiling(wish.scale))
    elif workload == "idle":
        yield from (special.idle(system, options) for system in wish.systems)
    elif workload == "import":
        yield from _imports(wish, options)
    else:
        yield from _fan_outs(workload, wish, options)


def _imports(wish: Wish, options: Options) -> Iterator[Result]:
    for name in special.IMPORT_SIZES:
        for system in wish.systems:
            if why := special.IMPORTS_LEFT_OUT.get((name, system)):
                yield Result(name, system, options.batch, left_out=why)
            else:
                yield special.import_members(name, system, options, wish.scale)


def _fan_outs(workload: str, wish: Wish, options: Options) -> Iterator[Result]:
    make = FAN_OUTS[workload]
    for number in range(wish.runs or make(QUICK / 10).runs):
        for system in wish.systems:  # in turn, so that a change of the machine's mood meets all of them
            if why := LEFT_OUT.get((workload, system)):
                if number == 0:
                    yield Result(workload, system, options.batch, left_out=why)
                continue
            if number > 0 and system in ONCE:
                continue
            _say(f"{workload}, run {number + 1}: {system} ...")
            yield run(make(wish.scale * PEER_SCALE.get((workload, system), 1.0)), system, options)


def _line(result: Result) -> str:
    what = result.left_out or result.failed[:1000] or f"{result.seconds:.2f} s, {result.cpu_seconds:.2f} s of CPU"
    return f"{result.workload}: {result.system}: {what}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
