"""What the delivery engine has to reach, and whether it does. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.measure import MIB
from bench.results import Result
from bench.table import medians, reference

SERVICES = ("ingress", "expander", "sender", "reporter")


@dataclass(frozen=True)
class Judged:
    """One target: what was asked, what was found. `met` is None where there is nothing to judge by."""

    workload: str
    asked: str
    found: str
    met: bool | None


Judge = Callable[[Result, Result | None], tuple[str, bool] | None]
"""(Horo's result, the reference's in the same batch) -> what was found and whether it is enough; None where a part of it is missing."""


def judge(found: Sequence[Result]) -> list[Judged]:
    """Every target against the medians."""
    best = {(one.workload, one.system): one for one in medians(found) if one.seconds and not one.failed}
    judged = []
    for workload, system, asked, decide in TARGETS:
        result = best.get((workload, system))
        verdict = decide(result, reference(result, found)) if result else None
        judged.append(Judged(workload, asked, *(verdict or ("not measured", None))))
    return judged


def _speed(least: float) -> Judge:
    def decide(result: Result, peer: Result | None) -> tuple[str, bool] | None:
        if peer is None:
            return None
        times = result.rate / peer.rate
        return f"{times:.2f} x ({result.seconds:.2f} s beside {peer.seconds:.2f} s)", times >= least

    return decide


def _cheaper(result: Result, peer: Result | None) -> tuple[str, bool] | None:
    if peer is None:
        return None
    ours, theirs = (one.cpu_seconds / one.posts * 1000 for one in (result, peer))
    return f"{ours:.2f} ms beside {theirs:.2f} ms", ours < theirs


def _rate(least: float) -> Judge:
    return lambda result, _: (f"{result.rate:,.0f} a second", result.rate >= least)


def _first_copy(result: Result, _: Result | None) -> tuple[str, bool]:
    return f"{result.first_copy * 1000:,.0f} ms", result.first_copy <= 0.5


def _memory(result: Result, _: Result | None) -> tuple[str, bool] | None:
    held = {role: result.memory[role] / MIB for role in SERVICES if role in result.memory}
    if not held:
        return None
    return ", ".join(f"{role} {size:.0f} MiB" for role, size in held.items()), max(held.values()) <= 256


def _growth(result: Result, _: Result | None) -> tuple[str, bool] | None:
    grown = {role: result.grown[role] / MIB for role in SERVICES if role in result.grown}
    if not grown:
        return None
    return ", ".join(f"{role} {size:.0f} MiB" for role, size in grown.items()), max(grown.values()) <= 100


def _exact(result: Result, _: Result | None) -> tuple[str, bool]:
    if result.exact:
        return f"{result.copies:,} copies, none lost, none twice", True
    return f"lost {result.lost}, twice {result.twice}, unexpected {result.unexpected}", False


def _p99(result: Result, _: Result | None) -> tuple[str, bool] | None:
    if "p99" not in result.latency:
        return None
    return f"{result.latency['p99'] * 1000:,.0f} ms", result.latency["p99"] < 0.3


def _within(most: float) -> Judge:
    return lambda result, _: (f"{result.seconds:.2f} s", result.seconds <= most)


TARGETS: Sequence[tuple[str, str, str, Judge]] = (
    ("many", "cluster", "at least 1.5 x Postfix's posts a second", _speed(1.5)),
    ("many", "cluster", "CPU a post below Postfix's", _cheaper),
    ("many", "embedded", "embedded profile: at least 1 x Postfix's posts a second", _speed(1.0)),
    ("big", "cluster", "at most a tenth of Postfix's time", _speed(10)),
    ("verp", "cluster", "at most a fifth of Postfix's time", _speed(5)),
    ("huge", "cluster", "at least 60,000 recipients a second", _rate(60_000)),
    ("huge", "cluster", "first copy within 0.5 s of the 250", _first_copy),
    ("huge", "cluster", "no service over 256 MiB", _memory),
    ("huge", "cluster", "exactly one copy for everybody", _exact),
    ("mixed", "cluster", "p99 of a small post under 300 ms", _p99),
    ("wan", "cluster", "at least 20,000 recipients a second from one sender process", _rate(20_000)),
    ("large", "cluster", "no service grows by more than 100 MiB", _growth),
    ("import-10k", "cluster", "10,000 members in 2 s", _within(2)),
    ("import-1m", "cluster", "1,000,000 members in 60 s", _within(60)),
)
