"""The one table that is printed and that the page shows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.measure import MIB
from bench.results import Result, median

REFERENCE = "postfix"
EMPTY = ""


def table(found: Sequence[Result]) -> str:
    """Markdown: the medians, with the ratio of speeds to the reference in the same batch."""
    return markdown([COLUMNS, *(row(result, found) for result in medians(found))])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table of these cells, the first row its head."""
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def medians(found: Sequence[Result]) -> list[Result]:
    """One result for each workload and system, in the order of their first run."""
    keys = list(dict.fromkeys((result.workload, result.system) for result in found))
    return [median([one for one in found if (one.workload, one.system) == key]) for key in keys]


def row(result: Result, found: Sequence[Result]) -> list[str]:
    """The cells of one result."""
    names = [result.workload, result.system]
    if result.left_out or result.failed:
        why = f"not run: {result.left_out}" if result.left_out else f"FAILED: {result.failed.splitlines()[0][:100]}"
        return [*names, *[EMPTY] * (len(COLUMNS) - 3), why]
    return [*names, *(cell(result, found) for cell in CELLS.values())]


def counts(result: Result) -> str:
    """What the sink counted against what was to come."""
    if result.exact:
        return f"exact: {result.copies:,}" if result.copies else EMPTY
    return f"WRONG: lost {result.lost}, twice {result.twice}, unexpected {result.unexpected}, refused {result.refused}"


def reference(result: Result, found: Sequence[Result]) -> Result | None:
    """The reference's result in the same batch; None where there is none, or this is it."""
    peers = [
        one
        for one in found
        if (one.workload, one.batch, one.system) == (result.workload, result.batch, REFERENCE)
        and one.seconds
        and not one.failed
    ]
    return median(peers) if peers and result.system != REFERENCE else None


def ratio(result: Result, found: Sequence[Result]) -> str:
    """How many times as fast as the reference; of what sends mail alone (its aliases are a file, which is no import)."""
    peer = reference(result, found)
    return f"{result.rate / peer.rate:.2f} x" if peer and peer.rate and result.posts else EMPTY


def _cpu_ratio(result: Result, found: Sequence[Result]) -> str:
    peer = reference(result, found)
    if not peer or not peer.cpu_seconds or not result.copies or not result.posts:
        return EMPTY
    return f"{(result.cpu_seconds / result.copies) / (peer.cpu_seconds / peer.copies):.2f} x"


def _each(result: Result) -> str:
    """CPU a post where there are many, else a thousand copies."""
    if not result.copies or not result.cpu_seconds:
        return EMPTY
    if result.posts > 1:
        return f"{result.cpu_seconds / result.posts * 1e3:.2f} ms/post"
    return f"{result.cpu_seconds / result.copies * 1e6:.0f} us/copy"


def _milliseconds(result: Result, name: str) -> str:
    return f"{result.latency[name] * 1000:,.0f} ms" if name in result.latency and result.posts else EMPTY


def _first_copy(result: Result) -> str:
    if result.first_copy is None or not result.posts or not result.latency:
        return EMPTY
    return f"{result.first_copy * 1000:,.0f} ms"


def _broker(result: Result) -> str:
    share = result.cpu.get("rabbitmq")
    return f"{share / result.cpu_seconds:.0%}" if share and result.cpu_seconds else EMPTY


def _memory(result: Result) -> str:
    return ", ".join(f"{role} {octets / MIB:.0f}" for role, octets in result.memory.items())


CELLS: dict[str, Callable[[Result, Sequence[Result]], str]] = {
    "seconds": lambda result, _: f"{result.seconds:,.3f}",
    "posts/s": lambda result, _: f"{result.posts / result.seconds:,.0f}" if result.posts > 1 else EMPTY,
    "copies/s": lambda result, _: f"{result.rate:,.0f}" if result.copies else EMPTY,
    "speed": ratio,
    "CPU s": lambda result, _: f"{result.cpu_seconds:.2f}" if result.cpu else EMPTY,
    "CPU each": lambda result, _: _each(result),
    "CPU to Postfix": _cpu_ratio,
    "broker": lambda result, _: _broker(result),
    "first copy": lambda result, _: _first_copy(result),
    "p50": lambda result, _: _milliseconds(result, "p50"),
    "p95": lambda result, _: _milliseconds(result, "p95"),
    "p99": lambda result, _: _milliseconds(result, "p99"),
    "rest after": lambda result, _: f"{result.settled:.1f} s" if result.posts and result.cpu else EMPTY,
    "memory, MiB": lambda result, _: _memory(result),
    "sink CPU": lambda result, _: f"{result.sink_cpu:.2f}" if result.sink_cpu else EMPTY,
    "source CPU": lambda result, _: f"{result.source_cpu:.2f}" if result.source_cpu else EMPTY,
    "others' CPU": lambda result, _: f"{result.strangers:.1f}",
    "copies at the sink": lambda result, _: counts(result),
}
COLUMNS = ["workload", "system", *CELLS]
