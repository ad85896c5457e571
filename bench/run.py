"""One run of one workload on one system: start, load, warm up, send, wait, count, stop."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import Meter, Usages
from bench.profile import recording
from bench.programs import Load, Seen, Sent, Sink, Source
from bench.results import Result, percentiles
from bench.systems import CannotRun, Group, Setup, System
from bench.systems.horo import Horo
from bench.systems.mailman import Mailman
from bench.systems.postfix import Postfix
from bench.workloads import DOMAIN, Expected, Workload, expected_lines, people

SYSTEMS: Mapping[str, Callable[[], System]] = {
    "cluster": lambda: Horo("cluster"),
    "embedded": lambda: Horo("embedded"),
    "postfix": Postfix,
    "mailman": Mailman,
}
WARM = Group(f"warm@{DOMAIN}", people(10, label="warm"))
WARM_POSTS = 100
STALLED = 240.0
"""Seconds without a copy after which no more are waited for. Postfix expands a million addresses before its 250."""
SETTLE = 120.0
"""Longest wait, seconds, for a system to come to rest after the last copy: its accounting is part of what a post costs."""


@dataclass(frozen=True)
class Options:
    """What is the same for all runs of an invocation."""

    programs: Path
    batch: str
    processes: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    profile: Path | None = None
    """A folder for what py-spy records of every service while the load runs."""


@contextmanager
def running(name: str, options: Options, *, delay: float = 0.0, single: bool = False) -> Iterator[tuple[System, Sink]]:
    """A system and its sink; both end, and their files go, whatever happens."""
    folder = Path(tempfile.mkdtemp(prefix=f"horo-bench-{name}-"))
    system, sink = SYSTEMS[name](), Sink(options.programs, delay)
    try:
        system.start(Setup(sink.port, folder, single, options.processes, options.settings))
        yield system, sink
    finally:
        system.stop()
        sink.close()
        shutil.rmtree(folder, ignore_errors=True)


def run(workload: Workload, name: str, options: Options) -> Result:
    """Run it; what was found, or why nothing was."""
    result = Result(workload.name, name, options.batch)
    try:
        with running(name, options, delay=workload.delay, single=workload.single) as (system, sink):
            system.load([WARM, *workload.groups])
            result.versions = dict(system.versions())
            warm(system, sink, options)
            before = system.bus() if workload.bus else {}
            _measure(workload, system, sink, options, result)
            result.bus = received(before, system.bus()) if workload.bus else None
            if workload.single:
                _check_single(result)
    except (CannotRun, RuntimeError, AssertionError, TimeoutError) as why:
        result.failed = told(why)
    return result


def received(before: Mapping[str, int], after: Mapping[str, int]) -> int | None:
    """Octets on all connections between two looks; None where there are none, or where one has been closed: what it carried is not known."""
    if not before or before.keys() - after.keys():
        return None
    return sum(after.values()) - sum(before.values())


def _check_single(result: Result) -> None:
    """One recipient a transaction was asked for: anything else is another, cheaper workload."""
    if result.transactions != result.copies and not result.failed:
        result.failed = f"{result.copies:,} copies came in {result.transactions:,} transactions, not one in each"


def told(why: Exception) -> str:
    """What went wrong: its first line whole, and the end of what follows."""
    first, _, rest = (str(why) or type(why).__name__).partition("\n")
    return f"{first}\n{rest[-2000:]}".strip()


def warm(system: System, sink: Sink, options: Options) -> None:
    """Send a few posts, so that connections are open and caches are filled, as in a system that has run for a while."""
    load = Load([WARM.address], WARM_POSTS, connections=20, prefix="warm")
    with Meter(system.roots) as meter:
        source = Source(options.programs, system.port, system.protocol, load)
        sent = source.finish(120)
        codes = {one.code for one in sent}
        if codes != {250} or not sink.wait(WARM_POSTS * len(WARM.members), 120):
            raise RuntimeError(
                f"warming up failed: answers {codes}, {sink.counts()}; the system said:\n{system.said()}"
            )
        meter.quiet(SETTLE)
    sink.reset()


def _measure(workload: Workload, system: System, sink: Sink, options: Options, result: Result) -> None:
    with recording(system.roots(), options.profile):
        _measure_load(workload, system, sink, options, result)


def _measure_load(workload: Workload, system: System, sink: Sink, options: Options, result: Result) -> None:
    every = [workload.expected, *([workload.beside] if workload.beside else [])]
    with ExitStack() as stack:
        meter = stack.enter_context(Meter(system.roots))
        sink_meter = stack.enter_context(Meter(lambda: {"sink": [sink.pid]}))
        sources = [Source(options.programs, system.port, system.protocol, expected.load) for expected in every]
        for source in sources:
            stack.callback(source.close)
        source_meter = stack.enter_context(Meter(lambda: {"source": [source.pid for source in sources]}))
        arrived = _arrived(sink, sum(expected.copies for expected in every), workload.timeout)
        result.source_cpu = source_meter.stop().cpu
        sent = [source.finish(STALLED) for source in sources]
        at_rest = meter.quiet(SETTLE)
        _fill_usage(result, meter.stop(), sink_meter.stop())
    result.settled = max(0.0, at_rest - sink.counts()["last"])
    _fill_counts(result, sink, every)
    _fill_times(result, workload, sent, sink.messages())
    if not arrived:
        result.failed = f"{result.copies:,} copies came, and no more\n{system.said()}"


def _arrived(sink: Sink, pairs: int, timeout: float) -> bool:
    """Wait until so many copies have come; False when nothing more comes for `STALLED` seconds, or not all come in time."""
    deadline, came, since = time.monotonic() + timeout, -1, time.monotonic()
    while not sink.wait(pairs, 5.0):
        now, have = time.monotonic(), sink.counts()["pairs"]
        if have > came:
            came, since = have, now
        if now > deadline or now - since > STALLED:
            return False
    return True


def direct(expected: Expected, options: Options) -> Result:
    """The source and the sink with nothing between them: their own ceiling."""
    load = expected.load
    result = Result("ceiling", f"{load.recipients} a transaction", options.batch)
    sink = Sink(options.programs)
    try:
        with Meter(lambda: {"sink": [sink.pid]}) as meter:
            source = Source(options.programs, sink.port, "smtp", load)
            with Meter(lambda: {"source": [source.pid]}) as source_meter:
                arrived = sink.wait(load.messages * load.recipients, 120)
                result.source_cpu = source_meter.stop().cpu
            sent = source.finish(120)
            usages = meter.stop()
        result.sink_cpu = usages.cpu
        result.strangers = strangers(usages, result)
        counts = sink.counts()
        result.posts, result.copies, result.twice = len(sent), counts["pairs"], counts["twice"]
        result.seconds = counts["last"] - min(one.began for one in sent)
        result.refused = sum(one.code != 250 for one in sent)
        result.lost = 0 if arrived else load.messages * load.recipients - counts["pairs"]
    finally:
        sink.close()
    return result


def _fill_usage(result: Result, usages: Usages, sink: Usages) -> None:
    result.cpu = {role: round(usage.cpu, 2) for role, usage in usages.roles.items()}
    result.memory = {role: usage.memory for role, usage in usages.roles.items()}
    result.grown = {role: usage.grown for role, usage in usages.roles.items()}
    result.sink_cpu = sink.cpu
    result.strangers = strangers(usages, result)


def strangers(usages: Usages, result: Result) -> float:
    """Processor seconds of the machine that were neither the system's nor the bench's."""
    return round(max(0.0, usages.machine - result.cpu_seconds - result.sink_cpu - result.source_cpu), 2)


def _fill_counts(result: Result, sink: Sink, every: Sequence[Expected]) -> None:
    with tempfile.NamedTemporaryFile("w") as file:
        file.writelines(line for line in expected_lines(every))
        file.flush()
        verdict = sink.check(Path(file.name))
    counts = sink.counts()
    result.copies, result.twice, result.transactions = counts["pairs"], counts["twice"], counts["transactions"]
    result.lost, result.unexpected = verdict["lost"], verdict["unexpected"]


def _fill_times(result: Result, workload: Workload, sent: Sequence[Sequence[Sent]], seen: Mapping[int, Seen]) -> None:
    main, asked = sent[0], sent[-1]
    result.posts = len(main)
    result.refused = sum(one.code != 250 for rows in sent for one in rows)
    copies = [seen[one.id] for one in main if one.id in seen]
    if not copies:
        return
    began, ended = min(one.began for one in main), max(copy.last for copy in copies)
    first = main[0]
    result.seconds = ended - began
    result.timed = sum(copy.copies for copy in copies) if workload.beside else 0
    result.first_copy = seen[first.id].first - first.answered if first.id in seen else None
    meanwhile = [one for one in asked if one.id in seen and one.began < ended]
    result.latency = percentiles([seen[one.id].last - one.answered for one in meanwhile])
