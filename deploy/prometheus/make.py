"""Makes the alerts of Kubernetes, a PrometheusRule, out of `horo.rules.yml`: `python deploy/prometheus/make.py`. A test holds the two together."""

from __future__ import annotations

from pathlib import Path

RULES = Path(__file__).with_name("horo.rules.yml")
PLACE = Path(__file__).parents[1] / "k8s" / "base" / "alerts.yaml"

HEAD = """\
# Made by deploy/prometheus/make.py out of horo.rules.yml: change that one.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: horo
  labels:
    app.kubernetes.io/name: horo
spec:
"""


def text() -> str:
    """The manifest: the rules as they are written, two columns further in."""
    _, groups, rules = RULES.read_text(encoding="utf-8").partition("groups:\n")
    return HEAD + "".join(f"  {line}" if line.strip() else line for line in (groups + rules).splitlines(keepends=True))


if __name__ == "__main__":
    PLACE.write_text(text(), encoding="utf-8")
