"""The one table that is printed and that the page shows. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.measure import MIB
from bench.results import Result, median

REFERENCE = "postfix"
COLUMNS = (
    "workload",
    "system",
    "seconds",
    "posts/s",
    "copies/s",
    "ratio",
    "CPU s",
    "CPU ms/post",
    "broker CPU",
    "first copy",
    "p50",
    "p99",
    "rest",
    "peak MiB",
    "sink+source CPU",
    "counts",
)


def table(found: Sequence[Result]) -> str:
    """Rows of the medians, with the ratio of speeds to the reference in the same batch."""
    rows = [COLUMNS, *(row(result, found) for result in medians(found))]
    widths = [max(len(line[column]) for line in rows) for column in range(len(COLUMNS))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def medians(found: Sequence[Result]) -> list[Result]:
    """One result for each workload and system, in the order of their first run."""
    keys = list(dict.fromkeys((result.workload, result.system) for result in found))
    return [median([one for one in found if (one.workload, one.system) == key]) for key in keys]


def row(result: Result, found: Sequence[Result]) -> tuple[str, ...]:
    """The cells of one result."""
    if result.failed:
        return (result.workload, result.system, *["-"] * 13, "FAILED: " + result.failed.splitlines()[0][:80])
    cpu = result.cpu_seconds
    return (
        result.workload,
        result.system,
        f"{result.seconds:.3f}",
        f"{result.posts / result.seconds:.0f}" if result.posts > 1 else "",
        f"{result.copies / result.seconds:,.0f}",
        ratio(result, found),
        f"{cpu:.2f}",
        f"{cpu / result.posts * 1000:.2f}" if result.posts > 1 else "",
        f"{result.cpu['rabbitmq'] / cpu:.0%}" if result.cpu.get("rabbitmq") and cpu else "",
        f"{result.first_copy:.3f}",
        f"{result.latency.get('p50', 0) * 1000:.0f} ms",
        f"{result.latency.get('p99', 0) * 1000:.0f} ms",
        f"{result.settled:.1f}",
        ", ".join(f"{role} {octets / MIB:.0f}" for role, octets in result.memory.items()),
        f"{result.sink_cpu:.2f}+{result.source_cpu:.2f}",
        counts(result),
    )


def counts(result: Result) -> str:
    """What the sink counted against what was to come."""
    if result.exact:
        return f"exact: {result.copies:,}"
    return f"WRONG: lost {result.lost}, twice {result.twice}, unexpected {result.unexpected}, refused {result.refused}"


def ratio(result: Result, found: Sequence[Result]) -> str:
    """How many times as fast as the reference in the same batch."""
    peers = [
        one
        for one in found
        if (one.workload, one.batch, one.system) == (result.workload, result.batch, REFERENCE) and not one.failed
    ]
    if not peers or result.system == REFERENCE:
        return ""
    return f"{median(peers).seconds / result.seconds:.2f} x"
