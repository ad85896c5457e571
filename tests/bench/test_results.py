"""Medians, percentiles, the file of results, the table, the targets, the page."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from bench import __main__ as command
from bench import plots, report, results, run, special
from bench.measure import MIB, Roots
from bench.results import Result, median, merged, percentiles
from bench.run import Options, received
from bench.systems.horo import SETTINGS
from bench.table import COLUMNS, row, table
from bench.targets import TARGETS, judge
from bench.workloads import FAN_OUTS


def result(workload: str, system: str, seconds: float = 1.0, **fields: object) -> Result:
    values = {"copies": 20_000, "posts": 2000, "cpu": {"all": 4.0}, **fields}
    return Result(workload, system, str(values.pop("batch", "now")), seconds=seconds, **values)  # type: ignore[arg-type]


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentiles([]) == {}
    assert percentiles([3.0]) == {"p50": 3.0, "p95": 3.0, "p99": 3.0, "max": 3.0}
    assert percentiles(list(range(101))) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}


def test_a_run_that_was_not_exact_is_never_hidden_by_the_median() -> None:
    runs = [result("many", "cluster", seconds) for seconds in (3.0, 1.0, 2.0)]
    assert median(runs).seconds == 2.0
    wrong = result("many", "cluster", 9.0, lost=1)
    assert median([*runs, wrong]) is wrong
    assert median([result("many", "cluster", 4.0), result("many", "cluster", 2.0)]).seconds == 2.0


@pytest.mark.parametrize("fault", ["lost", "twice", "unexpected", "refused"])
def test_one_copy_wrong_is_wrong(fault: str) -> None:
    wrong = result("many", "cluster", **{fault: 1})
    assert not wrong.exact
    assert "WRONG" in row(wrong, [wrong])[-1]


def test_results_are_read_as_they_were_written_and_new_ones_replace_old_ones(tmp_path: Path) -> None:
    old = [result("many", "cluster", 5.0), result("big", "cluster"), result("many", "postfix")]
    path = tmp_path / "deep" / "results.json"
    assert results.read(path) == []
    results.write(path, old)
    assert results.read(path) == old
    new = [result("many", "cluster", 1.0), result("many", "cluster", 2.0)]
    assert merged(old, new) == [*old[1:], *new]


def test_speed_and_processor_time_are_compared_with_postfix_of_the_same_batch_by_rates() -> None:
    ours = result("many", "cluster", 1.0, cpu={"sender": 3.0, "rabbitmq": 1.0}, memory={"sender": 90 * MIB})
    theirs = result("many", "postfix", 1.0, copies=10_000, posts=1000, cpu={"postfix": 4.0})
    cells = dict(zip(COLUMNS, row(ours, [ours, theirs]), strict=True))
    assert (cells["speed"], cells["CPU to Postfix"], cells["CPU each"]) == ("2.00 x", "0.50 x", "2.00 ms/post")
    assert (cells["broker"], cells["memory, MiB"], cells["copies at the sink"]) == ("25%", "sender 90", "exact: 20,000")
    other = result("many", "postfix", batch="yesterday")
    assert dict(zip(COLUMNS, row(ours, [ours, other]), strict=True))["speed"] == ""


def test_what_failed_and_what_was_left_out_stand_in_the_table_with_the_reason() -> None:
    shown = table(
        [result("huge", "mailman", 0, left_out="too slow"), result("big", "postfix", 0, failed="it broke\nhere")]
    )
    assert "not run: too slow" in shown
    assert "| FAILED: it broke " in shown
    assert len({len(line) for line in shown.splitlines()}) == 1


GOOD = [
    result("many", "cluster", 1.0, cpu={"all": 4.0}),
    result("many", "embedded", 1.9),
    result("many", "postfix", 2.0, cpu={"postfix": 5.0}),
    result("big", "cluster", 0.1, posts=1),
    result("big", "postfix", 1.0, posts=1),
    result("verp", "cluster", 0.2, posts=1),
    result("verp", "postfix", 1.0, posts=1),
    result(
        "huge",
        "cluster",
        15.0,
        copies=1_000_000,
        posts=1,
        first_copy=0.4,
        memory={"sender": 256 * MIB, "rabbitmq": 999 * MIB},
    ),
    result("mixed", "cluster", 15.0, latency={"p50": 0.01, "p95": 0.1, "p99": 0.29}),
    result("wan", "cluster", 1.0, posts=1),
    result("large", "cluster", 1.0, posts=1, grown={"ingress": 100 * MIB, "postgresql": 900 * MIB}, bus=4 * MIB),
    result("import-10k", "cluster", 2.0),
    result("import-1m", "cluster", 60.0),
]
BAD = [
    result("many", "cluster", 1.4, cpu={"all": 6.0}),
    result("many", "embedded", 2.1),
    result("many", "postfix", 2.0, cpu={"postfix": 5.0}),
    result("big", "cluster", 0.11, posts=1),
    result("big", "postfix", 1.0, posts=1),
    result("verp", "cluster", 0.21, posts=1),
    result("verp", "postfix", 1.0, posts=1),
    result("huge", "cluster", 17.0, copies=1_000_000, twice=1, first_copy=0.6, memory={"sender": 257 * MIB}),
    result("mixed", "cluster", 15.0, latency={"p50": 0.01, "p95": 0.1, "p99": 0.3}),
    result("wan", "cluster", 1.01, posts=1),
    result("large", "cluster", 1.0, posts=1, grown={"ingress": 101 * MIB}, bus=4 * MIB + 1),
    result("import-10k", "cluster", 2.1),
    result("import-1m", "cluster", 61.0),
]


def test_every_target_is_met_missed_or_not_measured() -> None:
    assert [one.met for one in judge(GOOD)] == [True] * len(TARGETS)
    assert [one.met for one in judge(BAD)] == [False] * len(TARGETS)
    assert [one.met for one in judge([])] == [None] * len(TARGETS)


def test_a_target_that_names_postfix_is_not_judged_without_it() -> None:
    alone = [one for one in GOOD if one.system != "postfix"]
    assert [one.met for one in judge(alone)].count(None) == 5


FAULTS = [{"lost": 1}, {"twice": 1}, {"unexpected": 1}, {"refused": 1}, {"failed": "it broke"}]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: next(iter(fault)))
def test_no_target_is_met_by_a_run_that_was_not_exact_however_quick(fault: dict[str, object]) -> None:
    wrong = [one if one.system == "postfix" else replace(one, **fault) for one in GOOD]  # type: ignore[arg-type]
    assert [one.met for one in judge(wrong)] == [False] * len(TARGETS)
    assert all("1" in one.found or "it broke" in one.found for one in judge(wrong))


def test_nothing_is_compared_with_a_postfix_that_was_not_exact() -> None:
    found = [replace(one, lost=1) if one.system == "postfix" else one for one in GOOD]
    assert [one.met for one in judge(found)].count(None) == 5


def test_a_first_copy_that_was_not_seen_is_not_a_quick_one() -> None:
    unseen = result("huge", "cluster", 15.0, copies=1_000_000, posts=1, latency={"p50": 1.0})
    [judged] = [one for one in judge([unseen]) if "first copy" in one.asked]
    assert (judged.met, judged.found) == (False, "no copy of the first post was seen")
    assert dict(zip(COLUMNS, row(unseen, [unseen]), strict=True))["first copy"] == ""


def test_small_posts_that_were_refused_or_lost_do_not_make_the_others_quick_enough() -> None:
    quick = result("mixed", "cluster", 15.0, latency={"p99": 0.01})
    assert [one.met for one in judge([quick]) if one.workload == "mixed"] == [True]
    for fault in ({"refused": 1}, {"lost": 10}):
        wrong = replace(quick, **fault)  # type: ignore[arg-type]
        assert [one.met for one in judge([wrong]) if one.workload == "mixed"] == [False]


def test_the_targets_tell_which_run_was_disturbed_and_postfix_beside_it() -> None:
    def verdicts(found: list[Result]) -> list[str]:
        lines = report.page(found, {}, []).partition("## Targets")[2].partition("## Results")[0].splitlines()
        return [line.split("|")[1].strip() for line in lines if line.rstrip(" |").endswith(", disturbed")]

    assert verdicts(GOOD) == []
    disturbed = {("wan", "cluster"), ("big", "postfix"), ("huge", "postfix")}
    found = [replace(one, strangers=9999.0) if (one.workload, one.system) in disturbed else one for one in GOOD]
    assert verdicts(found) == ["big", "wan"]
    assert "Disturbed: other programs" in report.page(found, {}, [])


def test_the_page_says_which_settings_are_always_set() -> None:
    page = report.page(GOOD, {}, [])
    assert all(f"`{key}={value}`" in page for key, value in SETTINGS.items())


def test_results_with_other_settings_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "results.json"
    monkeypatch.setattr(command, "KEPT", kept)
    monkeypatch.setattr(command, "PAGE", tmp_path / "page")
    monkeypatch.setattr("bench.programs.build", lambda _: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(command, "carry_out", lambda *_: iter([GOOD[0]]))
    for words in (["--set", "HORO_X=1"], ["--processes", "sender=2"], ["--quick"]):
        assert command.main(["--only", "many", *words]) == 0
        assert not kept.exists()
        assert ("not kept" in capsys.readouterr().err) == (words != ["--quick"])
    assert command.main(["--only", "many"]) == 0
    assert results.read(kept) == [GOOD[0]]


def test_what_the_broker_received_is_not_known_when_a_connection_has_gone() -> None:
    assert received({"a": 10, "b": 5}, {"a": 12, "b": 5, "c": 1}) == 3
    assert received({"a": 10, "b": 5}, {"a": 12}) is None
    assert received({}, {}) is None


@pytest.mark.parametrize(("transactions", "failed"), [(20_000, ""), (400, "20,000 copies came in 400 transactions")])
def test_one_recipient_a_transaction_is_checked(
    transactions: int, failed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*given: object) -> None:
        found = given[-1]
        assert isinstance(found, Result)
        found.copies, found.transactions = 20_000, transactions

    @contextmanager
    def running(*_: object, **__: object) -> Iterator[tuple[Mock, Mock]]:
        yield Mock(versions=dict), Mock()

    monkeypatch.setattr(run, "running", running)
    monkeypatch.setattr(run, "warm", lambda *_: None)
    monkeypatch.setattr(run, "_measure", measure)
    found = run.run(FAN_OUTS["verp"](0.01), "cluster", Options(Path(), "now"))
    assert found.failed.startswith(failed)
    assert bool(found.failed) == bool(failed)


class Clerk:
    """A system whose command adds `kept` members, and which is slow to count them."""

    def __init__(self, kept: int) -> None:
        self.kept = kept

    def roots(self) -> Roots:
        return {}

    def bulk(self, group: str, path: Path) -> None:
        del group, path

    def count(self, group: str) -> int:
        del group
        time.sleep(0.5)
        return self.kept


@pytest.mark.parametrize(("kept", "lost", "unexpected"), [(10, 0, 0), (9, 1, 0), (12, 0, 2)])
def test_members_are_counted_when_the_clock_has_stopped(kept: int, lost: int, unexpected: int) -> None:
    found = Result("import-10k", "cluster", "now")
    special._time_import(Clerk(kept), Path(), 10, found)  # type: ignore[arg-type]
    assert found.seconds < 0.4
    assert (found.copies, found.lost, found.unexpected) == (kept, lost, unexpected)


def test_the_page_tells_what_was_missed_and_is_the_same_for_the_same_results(tmp_path: Path) -> None:
    for docs in (tmp_path / "one", tmp_path / "two"):
        report.write(docs, BAD, {"many": "#### sender (10 samples)"})
    files = {path.relative_to(tmp_path / "one"): path.read_bytes() for path in (tmp_path / "one").rglob("*.*")}
    assert files == {path.relative_to(tmp_path / "two"): path.read_bytes() for path in (tmp_path / "two").rglob("*.*")}
    page = (tmp_path / "one" / "benchmarks.md").read_text()
    assert f"0 of {len(TARGETS)} are met, {len(TARGETS)} missed" in page
    assert "WRONG: lost 0, twice 1" in page
    assert "{" not in page
    for drawn in (tmp_path / "one" / "benchmarks").glob("*.svg"):
        assert f"benchmarks/{drawn.name}" in page
    assert results.read(tmp_path / "one" / "benchmarks" / "results.json") == BAD


def test_bars_are_as_long_as_their_values() -> None:
    drawn = ET.fromstring(plots.bars("Title & more", "s", {"a": {"x": 2.0, "y": 1.0}, "b": {"x": 0.5}}))
    widths = [float(bar.attrib["width"]) for bar in drawn.iter() if bar.attrib.get("height") == str(plots.BAR - 3)]
    assert widths[0] == pytest.approx(2 * widths[1], abs=0.2) == pytest.approx(4 * widths[2], abs=0.4)


def test_a_decade_is_always_the_same_length_on_a_logarithmic_scale() -> None:
    drawn = ET.fromstring(plots.bars("t", "s", {"a": {"x": 10.0, "y": 100.0, "z": 1000.0}}, logarithmic=True))
    widths = [float(bar.attrib["width"]) for bar in drawn.iter() if bar.attrib.get("height") == str(plots.BAR - 3)]
    assert widths[2] - widths[1] == pytest.approx(widths[1] - 0, abs=1)


def test_the_parts_of_a_stack_stand_one_after_the_other() -> None:
    drawn = ET.fromstring(plots.stacks("t", "ms", {"a": {"x": 1.0, "y": 3.0}}))
    parts = [bar.attrib for bar in drawn.iter() if bar.attrib.get("height") == str(plots.BAR - 3)]
    assert float(parts[1]["x"]) == pytest.approx(float(parts[0]["x"]) + float(parts[0]["width"]), abs=0.2)
