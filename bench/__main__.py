"""Measure Horo beside its peers on this machine.

python -m bench             run workloads, print one table, keep the results; all of them also write docs/benchmarks.md
python -m bench report      write docs/benchmarks.md from the results that are kept
python -m bench profile     run workloads under py-spy and keep where the time goes

The exit status is 1 when a copy was lost, came twice or was not expected, and when a workload could not be run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench import profile, programs, report, results
from bench.plan import WORKLOADS, Wish, carry_out
from bench.results import Result
from bench.run import SYSTEMS, Options
from bench.table import table

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "var" / "bench" / "results.json"
PROFILES = ROOT / "var" / "bench" / "profiles.json"
PAGE = ROOT / "docs" / "benchmarks"
PROFILED = ("many", "huge")


def main(arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    given = _parser().parse_args(arguments)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # ends servers and removes folders on the way out
    if given.command == "report":
        return _report()
    with tempfile.TemporaryDirectory(prefix="horo-bench-programs-") as folder:
        programs.build(Path(folder))
        options = Options(
            programs=Path(folder),
            batch=datetime.now(UTC).isoformat(timespec="seconds"),
            processes={name: int(count) for name, _, count in (word.partition("=") for word in given.processes)},
            settings={name: value for name, _, value in (word.partition("=") for word in given.set)},
        )
        if given.command == "profile":
            return _profile(given, options)
        return _measure(given, options)


def _measure(given: argparse.Namespace, options: Options) -> int:
    before, found = _kept(), []
    keeping = not given.quick and _usual(options)
    for result in carry_out(Wish(given.only or WORKLOADS, given.systems, given.runs, given.quick), options):
        found.append(result)
        if keeping:  # kept one by one: an hour's work is not lost when the last run is ended by hand
            results.write(KEPT, results.merged(before, found))
    print(table(found))
    if keeping and not given.only:
        _profile(given, options)
        _report()
    return 0 if all(result.exact for result in found) else 1


def _usual(options: Options) -> bool:
    """Whether Horo runs as the page says it does; where not, that nothing is kept is told on standard error."""
    if options.processes or options.settings:
        print("--processes or --set: what is found is not kept for the page", file=sys.stderr)
        return False
    return True


def _profile(given: argparse.Namespace, options: Options) -> int:
    """Profile the cluster, and print and keep what was found."""
    kept = _profiles()
    found: list[Result] = []
    for workload in given.only or PROFILED:
        folder = Path(tempfile.mkdtemp(prefix="horo-bench-profile-"))
        wish = Wish([workload], ["cluster"], 1, given.quick)
        found += carry_out(wish, replace(options, profile=folder))
        kept[workload] = profile.tables(folder)
        shutil.rmtree(folder)
        print(kept[workload])
    if _usual(options):
        PROFILES.parent.mkdir(parents=True, exist_ok=True)
        PROFILES.write_text(json.dumps(kept, indent=1) + "\n")
    return 0 if all(result.exact for result in found) else 1


def _report() -> int:
    report.write(ROOT / "docs", _kept(), _profiles())
    return 0


def _kept() -> list[Result]:
    """The results of earlier runs: this machine's own, else those that the page in the repository was made from."""
    return results.read(KEPT) or results.read(PAGE / "results.json")


def _profiles() -> dict[str, str]:
    found = next((path for path in (PROFILES, PAGE / "profiles.json") if path.exists()), None)
    return dict(json.loads(found.read_text())) if found else {}


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := set(chosen) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
        return chosen

    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", nargs="?", choices=("run", "report", "profile"), default="run")
    parser.add_argument("--only", type=_names(WORKLOADS), default=[], help=f"of {','.join(WORKLOADS)}")
    parser.add_argument("--systems", type=_names(list(SYSTEMS)), default=list(SYSTEMS), help=f"of {','.join(SYSTEMS)}")
    parser.add_argument("--runs", type=int, default=0, help="runs of each workload; 0: as many as each one says")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size; the results are not kept")
    parser.add_argument(
        "--processes", nargs="*", default=[], metavar="SERVICE=N", help="processes of a service of the cluster"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="HORO_X=Y", help="settings for Horo")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
