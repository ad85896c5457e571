"""docs/benchmarks.md and its plots, made from results alone: the same results make the same page."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench import plots, results
from bench.machine import versions
from bench.measure import MIB
from bench.results import Result
from bench.special import IMPORT_SIZES
from bench.systems.horo import SETTINGS
from bench.systems.postfix import LIMITS
from bench.systems.servers import POSTGRESQL, RABBITMQ
from bench.table import markdown, medians, table
from bench.targets import Judged, judge
from bench.workloads import FAN_OUTS

ORDER = ("ceiling", *FAN_OUTS, *IMPORT_SIZES, "idle")
SYSTEMS = ("cluster", "embedded", "postfix", "mailman")
NOISE = 0.15
"""Share of the machine that strangers may take before a result is called disturbed."""
METHOD = Path(__file__).with_name("method.md")
WORDS = {True: "met", False: "**missed**", None: "not measured"}


def write(docs: Path, found: Sequence[Result], profiles: Mapping[str, str]) -> None:
    """Write the page, the plots, and the results that both were made from."""
    found = sorted(found, key=_place)
    folder = docs / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    results.write(folder / "results.json", found)
    (folder / "profiles.json").write_text(json.dumps(dict(profiles), indent=1) + "\n")
    drawn = draw(found)
    for name, svg in drawn.items():
        (folder / f"{name}.svg").write_text(svg)
    (docs / "benchmarks.md").write_text(page(found, profiles, sorted(drawn)))


def _place(one: Result) -> tuple[int, int]:
    """Workloads and systems in the order in which they are run, whenever that was."""
    return ORDER.index(one.workload), SYSTEMS.index(one.system) if one.system in SYSTEMS else 0


def page(found: Sequence[Result], profiles: Mapping[str, str], drawn: Sequence[str]) -> str:
    """The whole page."""
    sections = [
        '# Benchmarks\n\nMade by `make bench`; a part of it by `make bench ARGS="--only many --systems cluster,postfix"`. '
        "Numbers of different machines, or of different runs, cannot be compared: the ratios of one run can.",
        "## The machine\n\n" + _machine(found),
        "## Targets\n\n" + _targets(judge(found)),
        "## Results\n\n" + _workloads() + "\n\n" + table(found) + "\n\n" + _disturbed(found),
        "\n".join(f"![{name}](benchmarks/{name}.svg)\n" for name in drawn),
        METHOD.read_text()
        .strip()
        .format(
            postgresql=_pairs(POSTGRESQL), rabbitmq=_pairs(RABBITMQ), postfix=_pairs(LIMITS), horo=_pairs(SETTINGS)
        ),
    ]
    if profiles:
        sections.append("## Where the time goes\n\n" + _profiles(profiles))
    return "\n\n".join(section.rstrip() for section in sections if section) + "\n"


def _machine(found: Sequence[Result]) -> str:
    batches = sorted({result.batch for result in found})
    machine = next((result.machine for result in reversed(found) if result.machine), {})
    facts = {**machine, "Versions": ", ".join(f"{name} {version}" for name, version in versions(found).items())}
    facts["Run"] = " to ".join(dict.fromkeys([batches[0], batches[-1]])) if batches else "never"
    return markdown([["", ""], *([name, value] for name, value in facts.items())])


def _targets(judged: Sequence[Judged]) -> str:
    rows = [["workload", "target", "found", ""]]
    rows += [[one.workload, one.asked, one.found, _verdict(one)] for one in judged]
    missed = sum(one.met is False for one in judged)
    unknown = sum(one.met is None for one in judged)
    words = (
        f"{sum(one.met is True for one in judged)} of {len(judged)} are met, {missed} missed, {unknown} not measured."
    )
    if any(map(_doubtful, judged)):
        words += (
            f" Disturbed: other programs had more than {NOISE:.0%} of the machine during the run, or during Postfix's where it is beside it "
            "(others' CPU, below): what is said of time there says little."
        )
    return markdown(rows) + "\n\n" + words


def _verdict(one: Judged) -> str:
    return WORDS[one.met] + (", disturbed" if _doubtful(one) else "")


def _doubtful(one: Judged) -> bool:
    return one.met is not None and any(disturbed(run) for run in one.runs)


def disturbed(one: Result) -> bool:
    """Whether strangers had so much of the machine that times say little."""
    return bool(one.seconds) and one.strangers > NOISE * (one.seconds + one.settled) * (os.cpu_count() or 1)


def _workloads() -> str:
    rows = [f"- `{name}`: {make(0.001).title}" for name, make in FAN_OUTS.items()]
    rows += [
        "- `import-10k`, `import-1m`: so many members from a CSV file, by the system's own command (Postfix: writing the alias and `postmap`)",
        "- `idle`: what each service holds at rest (PSS: shared pages in parts), and its processor time in 15 s",
        "- `ceiling`: the source and the sink with nothing between them",
    ]
    return "\n".join(rows)


def _disturbed(found: Sequence[Result]) -> str:
    """Which rows to doubt, said in words."""
    rows = [f"{one.workload} on {one.system}" for one in medians(found) if disturbed(one)]
    if not rows:
        return ""
    return f"Other programs had more than {NOISE:.0%} of the machine during: {', '.join(rows)}. Trust their processor time more than their times."


def _pairs(settings: Mapping[str, str]) -> str:
    return ", ".join(f"`{name}={value}`" for name, value in settings.items())


def _profiles(profiles: Mapping[str, str]) -> str:
    parts = ["Samples of py-spy while a thread was on the processor, in a run of its own (cluster profile)."]
    parts += [f"### {workload}\n\n{text}" for workload, text in profiles.items()]
    return "\n\n".join(parts)


def draw(found: Sequence[Result]) -> dict[str, str]:
    """Name -> SVG, of what can be drawn from these results."""
    best = [one for one in medians(found) if one.seconds and not one.failed and not one.left_out]
    sent = [one for one in best if one.workload in FAN_OUTS]
    charts = {
        "throughput": plots.bars(
            "Copies delivered a second (the scale is logarithmic)",
            "/s",
            _by(sent, lambda one: one.rate),
            logarithmic=True,
        )
        if sent
        else "",
        "latency": _latency([one for one in sent if one.workload in ("many", "mixed") and one.latency]),
        "cpu": _cpu(
            [one for one in sent if one.copies and one.system != "mailman"]
        ),  # its bars would make dots of all others
        "memory": _memory(
            [one for one in best if one.workload in ("idle", "huge", "large") and one.system == "cluster"]
        ),
    }
    return {name: svg for name, svg in charts.items() if svg}


def _by(found: Sequence[Result], value: Callable[[Result], float]) -> dict[str, dict[str, float]]:
    groups: dict[str, dict[str, float]] = {}
    for one in found:
        groups.setdefault(one.workload, {})[one.system] = value(one)
    return groups


def _latency(found: Sequence[Result]) -> str:
    values = {
        f"{one.workload}, {one.system}": {name: one.latency[name] * 1000 for name in ("p50", "p95", "p99")}
        for one in found
    }
    return plots.bars("From the 250 to the last copy of a small post", "ms", values, logarithmic=True) if values else ""


def _cpu(found: Sequence[Result]) -> str:
    values = {
        f"{one.workload}, {one.system}": {role: spent / one.copies * 1e6 for role, spent in one.cpu.items()}
        for one in found
    }
    return (
        plots.stacks("Processor time a copy, by service (Mailman's is in the table)", "us", values, digits=0)
        if values
        else ""
    )


def _memory(found: Sequence[Result]) -> str:
    values = {one.workload: {role: octets / MIB for role, octets in one.memory.items()} for one in found}
    return plots.bars("Memory of each service, cluster profile", "MiB", values) if values else ""
