"""What a run found, and the file that keeps it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Result:
    """One run of one workload on one system. Times in seconds, memory in octets."""

    workload: str
    system: str
    batch: str
    """The invocation it belongs to (a time): only results of one batch are compared."""
    seconds: float = 0.0
    """First octet sent to last copy at the sink."""
    posts: int = 0
    copies: int = 0
    """Different copies that arrived."""
    timed: int = 0
    """Those of them that `seconds` is about, where a second load ran beside; 0: all."""
    lost: int = 0
    twice: int = 0
    unexpected: int = 0
    refused: int = 0
    """Posts that did not get a 250."""
    first_copy: float | None = None
    """From the first post's 250 to its first copy; negative when the copy was quicker than the reply. None: no copy of it was seen."""
    settled: float = 0.0
    """From the last copy until the system was at rest."""
    transactions: int = 0
    bus: int | None = None
    """Octets that the broker received, of the workloads that ask for it; None where that is not known."""
    latency: dict[str, float] = field(default_factory=dict)
    """p50, p95, p99, max: 250 to last copy of the posts that are asked for."""
    cpu: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    grown: dict[str, int] = field(default_factory=dict)
    """By role; sink and source are not among them."""
    sink_cpu: float = 0.0
    source_cpu: float = 0.0
    strangers: float = 0.0
    """Processor seconds that anything else on the machine took meanwhile: where this is not small, times say little."""
    left_out: str = ""
    """Why it was not run at all."""
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)
    """What it was measured on."""
    failed: str = ""
    """Why there are no numbers."""

    @property
    def cpu_seconds(self) -> float:
        """Of all the system's processes."""
        return sum(self.cpu.values())

    @property
    def exact(self) -> bool:
        """Whether exactly the expected copies arrived, none twice."""
        return not (self.lost or self.twice or self.unexpected or self.refused or self.failed)

    @property
    def rate(self) -> float:
        """Copies a second; 0 where nothing was measured."""
        return (self.timed or self.copies) / self.seconds if self.seconds else 0.0


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max; empty for no values."""
    if not values:
        return {}
    ordered = sorted(values)
    chosen = {
        f"p{part}": ordered[min(len(ordered) - 1, round(part / 100 * (len(ordered) - 1)))] for part in (50, 95, 99)
    }
    return {**chosen, "max": ordered[-1]}


def median(runs: Sequence[Result]) -> Result:
    """The run with the median time (the lower one of two); an inexact or failed one before all others, so that it is seen."""
    wrong = [run for run in runs if not run.exact]
    if wrong:
        return wrong[0]
    middle = statistics.median_low([run.seconds for run in runs])
    return next(run for run in runs if run.seconds == middle)


def read(path: Path) -> list[Result]:
    """The results in a file; none where there is no file."""
    if not path.exists():
        return []
    return [Result(**row) for row in json.loads(path.read_text())]


def write(path: Path, results: Iterable[Result]) -> None:
    """Write a file that `read` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(result) for result in results]
    path.write_text(json.dumps(rows, indent=1) + "\n")


def merged(old: Iterable[Result], new: Sequence[Result]) -> list[Result]:
    """The old results, without what the new ones replace, and the new ones."""
    replaced = {(result.workload, result.system) for result in new}
    return [*(result for result in old if (result.workload, result.system) not in replaced), *new]
