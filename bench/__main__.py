"""`python -m bench`: run workloads, print one table, keep the results; `python -m bench report` makes the page from them.

The exit status is 1 when a copy was lost, came twice or was not expected, and when a workload could not be run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import programs, results
from bench.results import Result
from bench.run import SYSTEMS, Options, run
from bench.table import table
from bench.workloads import FAN_OUTS

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "var" / "bench" / "results.json"


def main(arguments: Sequence[str]) -> int:
    """The command; its exit status."""
    wish = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="horo-bench-programs-") as folder:
        programs.build(Path(folder))
        options = Options(
            programs=Path(folder),
            batch=datetime.now(UTC).isoformat(timespec="seconds"),
            processes={name: int(count) for name, _, count in (word.partition("=") for word in wish.processes)},
            settings=dict(_pair(word) for word in wish.set),
        )
        found = _run_all(wish, options)
    if not wish.quick:
        results.write(KEPT, results.merged(results.read(KEPT), found))
    print(table(found))
    return 0 if all(result.exact for result in found) else 1


def _run_all(wish: argparse.Namespace, options: Options) -> list[Result]:
    found = []
    for name in wish.only:
        workload = FAN_OUTS[name](0.1 if wish.quick else 1.0)
        for number in range(wish.runs or workload.runs):
            for system in wish.systems:  # in turn, so that a change of the machine's mood meets all of them
                _say(f"{name} {number + 1}/{wish.runs or workload.runs}: {system} ...")
                result = run(workload, system, options)
                _say(
                    f"{name}: {system}: {result.failed or f'{result.seconds:.2f} s, {result.cpu_seconds:.2f} s of CPU'}"
                )
                found.append(result)
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _pair(word: str) -> tuple[str, str]:
    key, _, value = word.partition("=")
    return key, value


def _names(known: Sequence[str]) -> type:
    class Names(list[str]):
        def __init__(self, text: str) -> None:
            super().__init__(text.split(","))
            if unknown := set(self) - set(known):
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")

    return Names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    workloads, systems = list(FAN_OUTS), list(SYSTEMS)
    parser.add_argument("--only", type=_names(workloads), default=workloads, help=f"of {','.join(workloads)}")
    parser.add_argument("--systems", type=_names(systems), default=systems, help=f"of {','.join(systems)}")
    parser.add_argument("--runs", type=int, default=0, help="runs of each workload; 0: as many as each one says")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size; the results are not kept")
    parser.add_argument(
        "--processes", nargs="*", default=[], metavar="SERVICE=N", help="processes of a service of the cluster"
    )
    parser.add_argument("--set", nargs="*", default=[], metavar="HORO_X=Y", help="settings for Horo")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
