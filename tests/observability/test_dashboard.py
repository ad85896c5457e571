"""The dashboard: made from its source, it names metrics that exist, asks for all of them, and its expressions are Prometheus'."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import yaml

from tests.observability.test_alerts import samples, unknown
from tests.support.promtool import promtool

FOLDER = Path(__file__).parents[2] / "deploy/grafana"


def _made() -> str:
    spec = importlib.util.spec_from_file_location("dashboard", FOLDER / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return str(module.text())


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads((FOLDER / "horo.json").read_text())["panels"]
    return panels


def _expressions() -> list[str]:
    return [target["expr"] for panel in _panels() for target in panel.get("targets", ())]


def test_the_dashboard_is_what_its_source_makes() -> None:
    assert (FOLDER / "horo.json").read_text() == _made(), "run: python deploy/grafana/make.py"


def test_every_metric_that_it_names_exists_and_every_metric_is_shown() -> None:
    told = "\n".join(_expressions())
    for expression in _expressions():
        assert not unknown(expression), expression
    shown = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"\bhoro_\w+", told)}
    declared = {re.sub(r"_(bucket|sum|count)$", "", name) for name in samples()}
    assert shown == declared


def test_every_expression_is_one(tmp_path: Path) -> None:
    """promtool reads them as rules; Grafana's variables are put in first."""
    rules = [
        {
            "record": f"horo:dashboard:{number}",
            "expr": expression.replace("$__rate_interval", "1m").replace("$job", ".*"),
        }
        for number, expression in enumerate(_expressions())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([promtool(), "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_panels_have_ids_of_their_own_and_do_not_cover_each_other() -> None:
    panels = _panels()
    assert len({panel["id"] for panel in panels}) == len(panels)
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)
        assert one["x"] + one["w"] <= 24
