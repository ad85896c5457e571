"""What the delivery engine has to reach, and whether it does. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.measure import MIB
from bench.results import Result
from bench.table import counts, medians, reference

SERVICES = ("ingress", "expander", "sender", "reporter")


BUS = 4 * MIB
"""What the broker may receive for a message that is many times as large: names of recipients, no body."""


@dataclass(frozen=True)
class Judged:
    """One target: what was asked, what was found. `met` is None where there is nothing to judge by."""

    workload: str
    asked: str
    found: str
    met: bool | None
    runs: Sequence[Result] = ()
    """What it was judged by: Horo's run, and the reference's where they are compared."""


Judge = Callable[[Result], tuple[str, bool] | None]
"""Horo's result -> what was found and whether it is enough; None where it is missing."""
Comparison = Callable[[Result, Result], tuple[str, bool]]
"""(Horo's result, the reference's in the same batch) -> the same."""


class Target(NamedTuple):
    """What is asked of a system in a workload: judged by its result alone, or beside the reference's."""

    workload: str
    system: str
    asked: str
    alone: Judge | None = None
    beside: Comparison | None = None


def judge(found: Sequence[Result]) -> list[Judged]:
    """Every target against the medians. A run that failed or was not exact meets none, however quick it was."""
    best = {(one.workload, one.system): one for one in medians(found) if not one.left_out}
    return [_judged(target, best.get((target.workload, target.system)), found) for target in TARGETS]


def _judged(target: Target, result: Result | None, found: Sequence[Result]) -> Judged:
    if result is None:
        return Judged(target.workload, target.asked, "not measured", None)
    if result.failed:
        why = f"FAILED: {result.failed.splitlines()[0][:100]}"
        return Judged(target.workload, target.asked, why, False, [result])
    runs, verdict = [result], None
    peer = reference(result, found) if target.beside else None
    if target.alone:
        verdict = target.alone(result)
    elif target.beside and peer and peer.exact and result.seconds:
        runs, verdict = [result, peer], target.beside(result, peer)
    text, met = verdict or ("not measured", None)
    if not result.exact:
        text, met = (text if target.alone is _exact else f"{text}; {counts(result)}"), False
    return Judged(target.workload, target.asked, text, met, runs)


def _speed(least: float) -> Comparison:
    def decide(result: Result, peer: Result) -> tuple[str, bool]:
        times = result.rate / peer.rate
        return f"{times:.2f} x ({result.seconds:.2f} s beside {peer.seconds:.2f} s)", times >= least

    return decide


def _cheaper(result: Result, peer: Result) -> tuple[str, bool]:
    ours, theirs = (one.cpu_seconds / one.posts * 1000 for one in (result, peer))
    return f"{ours:.2f} ms beside {theirs:.2f} ms", ours < theirs


def _rate(least: float) -> Judge:
    return lambda result: (f"{result.rate:,.0f} a second", result.rate >= least)


def _first_copy(result: Result) -> tuple[str, bool]:
    if result.first_copy is None:
        return "no copy of the first post was seen", False
    return f"{result.first_copy * 1000:,.0f} ms", result.first_copy <= 0.5


def _memory(result: Result) -> tuple[str, bool] | None:
    held = {role: result.memory[role] / MIB for role in SERVICES if role in result.memory}
    if not held:
        return None
    return ", ".join(f"{role} {size:.0f} MiB" for role, size in held.items()), max(held.values()) <= 256


def _growth(result: Result) -> tuple[str, bool] | None:
    grown = {role: result.grown[role] / MIB for role in SERVICES if role in result.grown}
    if not grown:
        return None
    return ", ".join(f"{role} {size:.0f} MiB" for role, size in grown.items()), max(grown.values()) <= 100


def _bus(result: Result) -> tuple[str, bool] | None:
    if result.bus is None:
        return None
    return f"{result.bus / MIB:.2f} MiB", result.bus <= BUS


def _exact(result: Result) -> tuple[str, bool]:
    if result.exact:
        return f"{result.copies:,} copies, none lost, none twice", True
    return counts(result), False


def _p99(result: Result) -> tuple[str, bool] | None:
    if "p99" not in result.latency:
        return None
    return f"{result.latency['p99'] * 1000:,.0f} ms", result.latency["p99"] < 0.3


def _within(most: float) -> Judge:
    return lambda result: (f"{result.seconds:.2f} s", result.seconds <= most)


TARGETS: Sequence[Target] = (
    Target("many", "cluster", "at least 1.5 x Postfix's posts a second", beside=_speed(1.5)),
    Target("many", "cluster", "CPU a post below Postfix's", beside=_cheaper),
    Target("many", "embedded", "embedded profile: at least 1 x Postfix's posts a second", beside=_speed(1.0)),
    Target("big", "cluster", "at most a tenth of Postfix's time", beside=_speed(10)),
    Target("verp", "cluster", "at most a fifth of Postfix's time", beside=_speed(5)),
    Target("huge", "cluster", "at least 60,000 recipients a second", _rate(60_000)),
    Target("huge", "cluster", "first copy within 0.5 s of the 250", _first_copy),
    Target("huge", "cluster", "no service over 256 MiB", _memory),
    Target("huge", "cluster", "exactly one copy for everybody", _exact),
    Target("mixed", "cluster", "p99 of a small post under 300 ms", _p99),
    Target("wan", "cluster", "at least 20,000 recipients a second from one sender process", _rate(20_000)),
    Target("large", "cluster", "no service grows by more than 100 MiB", _growth),
    Target("large", "cluster", "the body crosses the bus by reference: RabbitMQ receives at most 4 MiB", _bus),
    Target("import-10k", "cluster", "10,000 members in 2 s", _within(2)),
    Target("import-1m", "cluster", "1,000,000 members in 60 s", _within(60)),
)
