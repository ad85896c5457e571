"""The alerts: each fires for what it is about and for nothing in a system that is well, names metrics that exist, and has its page."""

from __future__ import annotations

import re
import runpy
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from shared import metrics
from tests.support.promtool import promtool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/horo.rules.yml"
RUNBOOK = ROOT / "docs/runbook"
MINUTES = 90

CALM: Mapping[str, str] = {
    'up{job="ingress",instance="a"}': f"1x{MINUTES}",
    'horo_events_total{event="accepted"}': f"0+600x{MINUTES}",
    'horo_events_total{event="session_trouble"}': f"0x{MINUTES}",
    'horo_events_total{event="suspended"}': f"0+0x{MINUTES}",
    'horo_events_total{event="crashed"}': f"3x{MINUTES}",
    'horo_accept_seconds_bucket{le="1"}': f"0+600x{MINUTES}",
    'horo_accept_seconds_bucket{le="+Inf"}': f"0+600x{MINUTES}",
    'horo_oldest_waiting_seconds{queue="posts"}': f"0.2x{MINUTES}",
    'horo_oldest_waiting_seconds{queue="deliveries.bulk"}': f"900x{MINUTES}",
    'horo_queue_depth{queue="posts"}': f"40x{MINUTES}",
    'horo_queue_depth{queue="outcomes"}': f"0x{MINUTES}",
    'horo_queue_depth{queue="deliveries.express"}': f"500x{MINUTES}",
    'horo_work_seconds_count{queue="posts"}': f"0+600x{MINUTES}",
    "horo_copies_total": f"0+6000x{MINUTES}",
    'horo_recipient_fates_total{state="delivered",hop="smtp"}': f"0+5900x{MINUTES}",
    'horo_recipient_fates_total{state="failed",hop="smtp"}': f"0+20x{MINUTES}",
    'horo_recipient_fates_total{state="deferred",hop="smtp"}': f"0+80x{MINUTES}",
    'horo_journey_seconds_bucket{lane="express",le="1"}': f"0+600x{MINUTES}",
    'horo_journey_seconds_bucket{lane="express",le="+Inf"}': f"0+600x{MINUTES}",
    'horo_hop_up{hop="smarthost:25"}': f"1x{MINUTES}",
    'horo_hop_up{hop="other"}': f"0x{MINUTES}",
    'horo_hops{state="up"}': f"100x{MINUTES}",
    'horo_hops{state="down"}': f"6x{MINUTES}",
    'horo_trouble_total{queue="posts"}': f"0+1x{MINUTES}",
    "horo_parked_messages": f"0x{MINUTES}",
    "horo_reports_late_seconds": f"20x{MINUTES}",
    'horo_requests_total{route="/",status="200"}': f"0+60x{MINUTES}",
    'horo_requests_total{route="/",status="503"}': f"0+1x{MINUTES}",
    'horo_certificate_expiry_timestamp_seconds{instance="a"}': f"{30 * 86400}x{MINUTES}",
    'horo_survey_failures_total{instance="a"}': f"1x{MINUTES}",
    'horo_log_lines_lost_total{instance="a"}': f"7x{MINUTES}",
}
"""What a system that is well shows, minute by minute; promtool's clock starts at 0."""

TROUBLE: Mapping[str, Mapping[str, str]] = {
    "HoroDown": {'up{job="sender",instance="b"}': f"1x10 0x{MINUTES}"},
    "HoroGone": {'up{job="reporter",instance="b"}': "1x10"},
    "HoroTroubleAtTheDoor": {'horo_events_total{event="session_trouble"}': f"0+30x{MINUTES}"},
    "HoroSlowToAccept": {
        'horo_accept_seconds_bucket{le="1"}': f"0+1x{MINUTES}",
        'horo_accept_seconds_bucket{le="30"}': f"0+600x{MINUTES}",
    },
    "HoroPostsWait": {'horo_oldest_waiting_seconds{queue="posts"}': f"0+60x{MINUTES}"},
    "HoroQueueNotWorked": {'horo_queue_depth{queue="outcomes"}': f"12x{MINUTES}"},
    "HoroNothingSent": {
        f'horo_recipient_fates_total{{state="{state}",hop="smtp"}}': f"9x{MINUTES}"
        for state in ("delivered", "failed", "deferred")
    },
    "HoroBacklogGrows": {
        'horo_queue_depth{queue="deliveries.bulk"}': f"0+1000x{MINUTES}",
        'horo_work_seconds_count{queue="deliveries.bulk"}': f"0+600x{MINUTES}",
    },
    "HoroSlowJourney": {
        'horo_journey_seconds_bucket{lane="express",le="1"}': f"0+1x{MINUTES}",
        'horo_journey_seconds_bucket{lane="express",le="300"}': f"0+600x{MINUTES}",
    },
    "HoroNextHopDown": {'horo_hop_up{hop="smarthost:25"}': f"1x10 0x{MINUTES}"},
    "HoroManyNextHopsDown": {'horo_hops{state="down"}': f"60x{MINUTES}"},
    "HoroManyFailures": {'horo_recipient_fates_total{state="failed",hop="smtp"}': f"0+900x{MINUTES}"},
    "HoroManyDeferred": {'horo_recipient_fates_total{state="deferred",hop="smtp"}': f"0+4000x{MINUTES}"},
    "HoroWorkPutOff": {'horo_trouble_total{queue="posts"}': f"0+30x{MINUTES}"},
    "HoroParked": {"horo_parked_messages": f"2x{MINUTES}"},
    "HoroReportsLate": {"horo_reports_late_seconds": f"0+60x{MINUTES}"},
    "HoroMembersSuspended": {'horo_events_total{event="suspended"}': f"0+2x{MINUTES}"},
    "HoroCrashes": {'horo_events_total{event="crashed"}': f"3x84 4x{MINUTES}"},
    "HoroConsoleErrors": {'horo_requests_total{route="/",status="503"}': f"0+60x{MINUTES}"},
    "HoroCertificateExpires": {'horo_certificate_expiry_timestamp_seconds{instance="a"}': f"{7 * 86400}x{MINUTES}"},
    "HoroGaugesBlind": {'horo_survey_failures_total{instance="a"}': f"0+1x{MINUTES}"},
    "HoroLogLost": {'horo_log_lines_lost_total{instance="a"}': f"7x80 9x{MINUTES}"},
}


def _alerts() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}


def _case(name: str, changed: Mapping[str, str], expected: set[str]) -> dict[str, Any]:
    """After all the minutes these alerts fire, and no other."""
    series = {**CALM, **changed}
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": one, "values": values} for one, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"}) > bool 0',
                "eval_time": f"{MINUTES}m",
                "exp_samples": [{"labels": f'{{alertname="{one}"}}', "value": 1} for one in sorted(expected)],
            }
        ],
    }


def test_each_alert_fires_for_its_trouble_alone_and_none_in_a_calm_system(tmp_path: Path) -> None:
    cases = [_case("calm", {}, set()), *(_case(name, changed, {name}) for name, changed in TROUBLE.items())]
    tests = tmp_path / "tests.yml"
    tests.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}))
    done = subprocess.run(
        [promtool(), "test", "rules", str(tests)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_that_does_not_fire_is_seen(tmp_path: Path) -> None:
    """What holds the test above to its word: promtool fails where an alert is expected and none comes."""
    tests = tmp_path / "tests.yml"
    cases = [_case("calm", {}, {"HoroParked"})]
    tests.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": cases}))
    done = subprocess.run([promtool(), "test", "rules", str(tests)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "HoroParked" in done.stdout + done.stderr


def test_every_alert_has_a_trouble_that_fires_it_and_a_page() -> None:
    alerts = _alerts()
    assert set(TROUBLE) == set(alerts)
    assert {page.stem for page in RUNBOOK.glob("Horo*.md")} == set(alerts)
    index = (RUNBOOK / "index.md").read_text()
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook/{name}.md"
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert f"| [{name}]({name}.md) | {rule['labels']['severity']} |" in index
        page = (RUNBOOK / f"{name}.md").read_text()
        assert re.findall(r"(?m)^## (.+)$", page) == ["What it means", "How to look", "What to do"]


def test_kubernetes_is_given_the_same_alerts() -> None:
    made = runpy.run_path(str(RULES.with_name("make.py")))
    manifest = made["PLACE"].read_text()
    assert manifest == made["text"](), "run: python deploy/prometheus/make.py"
    assert yaml.safe_load(manifest)["spec"] == yaml.safe_load(RULES.read_text())


def samples() -> dict[str, frozenset[str]]:
    """Every name that `/metrics` has of Horo's own, with the labels that may be asked for."""
    found: dict[str, frozenset[str]] = {}
    for metric in (value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)):
        labels = frozenset(metric._labelnames)
        match metric._type:
            case "counter":
                found[f"{metric._name}_total"] = labels
            case "histogram":
                for suffix in ("bucket", "sum", "count"):
                    found[f"{metric._name}_{suffix}"] = labels | ({"le"} if suffix == "bucket" else frozenset())
            case _:
                found[metric._name] = labels
    return found


def unknown(expression: str, *, prose: bool = False) -> set[str]:
    """Metrics and labels of Horo's in an expression that do not exist. In `prose` a histogram may be called by its own name."""
    known = samples()
    if prose:
        known |= {name.removesuffix("_sum"): labels for name, labels in known.items() if name.endswith("_seconds_sum")}
    wrong = {name for name in re.findall(r"\bhoro_\w+", expression) if name not in known}
    for name, matchers in re.findall(r"\b(horo_\w+)\{([^}]*)\}", expression):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        wrong |= {f"{name}{{{label}}}" for label in labels - known.get(name, frozenset()) - {"instance", "job"}}
    return wrong


def test_what_the_alerts_and_their_pages_name_exists() -> None:
    for name, rule in _alerts().items():
        assert not unknown(rule["expr"]), name
    for page in RUNBOOK.glob("*.md"):
        assert not unknown(page.read_text(), prose=True), page.name


@pytest.mark.parametrize("wrong", ["horo_nothing_total", 'horo_hop_up{host="a"}', "horo_accept_seconds"])
def test_a_name_that_does_not_exist_is_seen(wrong: str) -> None:
    assert unknown(f"rate({wrong}[5m]) > 0")
