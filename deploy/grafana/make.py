"""Makes `horo.json`, the dashboard, from the few lines below: `python deploy/grafana/make.py`. A test holds the two together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLACE = Path(__file__).with_name("horo.json")
WIDTH = 24

FAILED_SHARE = (
    "sum(rate(horo_recipient_fates_total{state='failed'}[15m]))"
    " / sum(rate(horo_recipient_fates_total{state=~'failed|delivered'}[15m]))"
)
PROCESS = 'job=~"$job"'

Panel = tuple[str, str, str, tuple[tuple[str, str], ...], str]
"""Title, unit, kind, (expression, legend) each, and what to see in it."""


def _rate(metric: str, by: str, matchers: str = "") -> str:
    return f"sum by ({by}) (rate({metric}{matchers}[$__rate_interval]))"


def _quantile(quantile: float, metric: str, by: str = "", matchers: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({quantile}, sum by ({labels}) (rate({metric}_bucket{matchers}[$__rate_interval])))"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Does mail go through?",
        (
            (
                "Accepted",
                "short",
                "stat",
                (("sum(rate(horo_events_total{event='accepted'}[5m])) * 60", "posts a minute"),),
                "Posts that got our 250",
            ),
            (
                "Delivered",
                "short",
                "stat",
                (("sum(rate(horo_recipient_fates_total{state='delivered'}[5m])) * 60", "copies a minute"),),
                "Copies that a next hop took",
            ),
            (
                "Oldest waiting",
                "s",
                "stat",
                (("max(horo_oldest_waiting_seconds{queue=~'posts|deliveries.express'})", "age"),),
                "Of posts and the express lane, on the first attempt",
            ),
            (
                "Parked",
                "short",
                "stat",
                (("max(horo_parked_messages)", "messages"),),
                "Wait for a person: horo parked list",
            ),
            (
                "Not answering",
                "short",
                "stat",
                (("count(up{job=~'ingress|expander|sender|reporter|console'} == 0) or vector(0)", "processes"),),
                "Processes whose scrape fails",
            ),
            (
                "Failed",
                "percentunit",
                "stat",
                (
                    (
                        FAILED_SHARE,
                        "of copies",
                    ),
                ),
                "Share of copies that fail for good",
            ),
        ),
    ),
    (
        "The journey, leg by leg",
        (
            (
                "Whole journey",
                "s",
                "timeseries",
                tuple((_quantile(q, "horo_journey_seconds", "lane"), f"{{{{lane}}}} {q:.0%}") for q in (0.5, 0.95)),
                "From acceptance to delivery; retries count",
            ),
            (
                "Acceptance",
                "s",
                "timeseries",
                tuple((_quantile(q, "horo_accept_seconds"), f"{q:.0%}") for q in (0.5, 0.95, 0.99)),
                "From the final dot to 250",
            ),
            (
                "Wait in the queue",
                "s",
                "timeseries",
                ((_quantile(0.95, "horo_queue_wait_seconds", "queue"), "{{queue}}"),),
                "95 %, first attempts",
            ),
            (
                "Work",
                "s",
                "timeseries",
                ((_quantile(0.95, "horo_work_seconds", "queue"), "{{queue}}"),),
                "95 %: expansion, delivery, record",
            ),
            (
                "Until the fan-out is durable",
                "s",
                "timeseries",
                tuple((_quantile(q, "horo_expand_seconds"), f"{q:.0%}") for q in (0.5, 0.95)),
                "From acceptance",
            ),
            (
                "Mail in and out",
                "short",
                "timeseries",
                (
                    (_rate("horo_events_total", "event", "{event=~'accepted|refused|expanded'}"), "{{event}}"),
                    (_rate("horo_recipient_fates_total", "state"), "{{state}}"),
                ),
                "Events and fates a second",
            ),
        ),
    ),
    (
        "What waits",
        (
            (
                "Depth of the queues",
                "short",
                "timeseries",
                (("max by (queue) (horo_queue_depth)", "{{queue}}"),),
                "RabbitMQ counts all delayed messages under deliveries.express",
            ),
            (
                "Oldest in work",
                "s",
                "timeseries",
                (("max by (queue) (horo_oldest_waiting_seconds)", "{{queue}}"),),
                "Age since acceptance, first attempts",
            ),
            (
                "In hand",
                "short",
                "timeseries",
                (("sum by (queue) (horo_in_hand)", "{{queue}}"),),
                "At HORO_WORKERS a process all are busy",
            ),
            (
                "Reports due",
                "short",
                "timeseries",
                (("max(horo_reports_due)", "due"), ("max(horo_reports_late_seconds)", "late, seconds")),
                "Late: what should have been looked at",
            ),
        ),
    ),
    (
        "Next hops",
        (
            (
                "State",
                "short",
                "timeseries",
                (("sum by (state) (horo_hops)", "{{state}}"), ("sum(horo_hops_down)", "down, as last noticed")),
                "Servers that the senders know",
            ),
            (
                "Window and use",
                "short",
                "timeseries",
                (
                    ("sum by (hop) (horo_hop_window)", "{{hop}} may"),
                    ("sum by (hop, lane) (horo_hop_used)", "{{hop}} {{lane}}"),
                    ("sum(horo_hop_connections)", "open in all"),
                ),
                "Connections; hops that no setting names are other",
            ),
            (
                "Wait for a connection",
                "short",
                "timeseries",
                (("sum by (hop) (horo_hop_waiting)", "{{hop}}"),),
                "Deliveries",
            ),
            ("Reachable", "short", "timeseries", (("min by (hop) (horo_hop_up)", "{{hop}}"),), "1 is up"),
            (
                "Fates",
                "short",
                "timeseries",
                ((_rate("horo_recipient_fates_total", "hop, state"), "{{hop}} {{state}}"),),
                "Recipients a second, by kind of hop",
            ),
            (
                "Asked for less",
                "short",
                "timeseries",
                (("sum(rate(horo_hop_push_backs_total[$__rate_interval])) * 60", "push backs a minute"),),
                "421 and the like",
            ),
        ),
    ),
    (
        "At the door",
        (
            (
                "Refused, by code",
                "short",
                "timeseries",
                ((_rate("horo_refused_total", "code"), "{{code}}"),),
                "Recipients or messages a second",
            ),
            (
                "Open sessions",
                "short",
                "timeseries",
                (("sum by (protocol) (horo_smtp_sessions)", "{{protocol}}"),),
                "Clients",
            ),
            (
                "rspamd",
                "short",
                "timeseries",
                (
                    (_rate("horo_spam_checks_total", "action"), "{{action}}"),
                    (_quantile(0.95, "horo_spam_check_seconds"), "95 %, seconds"),
                ),
                "Verdicts a second",
            ),
            (
                "Questions of mail servers in front",
                "short",
                "timeseries",
                ((_rate("horo_socketmap_answers_total", "map, answer"), "{{map}} {{answer}}"),),
                "By socketmap, a second",
            ),
            (
                "Over their quota",
                "short",
                "timeseries",
                ((_rate("horo_over_quota_total", "quota"), "{{quota}}"),),
                "Posts a second",
            ),
            (
                "Console",
                "short",
                "timeseries",
                (
                    (_rate("horo_requests_total", "status"), "{{status}}"),
                    (_quantile(0.95, "horo_request_seconds"), "95 %, seconds"),
                ),
                "Requests a second",
            ),
        ),
    ),
    (
        "Trouble, and what was left out",
        (
            (
                "Trouble of our own",
                "short",
                "timeseries",
                (
                    (_rate("horo_trouble_total", "queue"), "{{queue}} put off"),
                    (_rate("horo_parked_total", "queue"), "{{queue}} parked"),
                ),
                "A second",
            ),
            (
                "Events to look at",
                "short",
                "timeseries",
                (
                    (
                        _rate(
                            "horo_events_total",
                            "event",
                            "{event=~'crashed|unavailable|session_trouble|suspended|held|survey_failed|cut_off'}",
                        ),
                        "{{event}}",
                    ),
                    ("sum(rate(horo_survey_failures_total[$__rate_interval]))", "gauges not found out"),
                    ("sum(rate(horo_log_lines_lost_total[$__rate_interval]))", "log lines lost"),
                    ("sum(rate(horo_refusals_dropped_total[$__rate_interval]))", "refusals not told"),
                ),
                "A second",
            ),
            (
                "Left out",
                "short",
                "timeseries",
                (
                    ("sum(rate(horo_suppressed_total[$__rate_interval]))", "left out"),
                    ("sum(rate(horo_copies_total[$__rate_interval]))", "copies"),
                    (_rate("horo_stopped_copies_total", "where"), "stopped by {{where}}"),
                ),
                "Addresses of expansions a second",
            ),
            (
                "Processes",
                "percentunit",
                "timeseries",
                ((f"rate(process_cpu_seconds_total{{{PROCESS}}}[$__rate_interval])", "{{job}} {{instance}} CPU"),),
                "1 is a whole core",
            ),
            (
                "Memory",
                "bytes",
                "timeseries",
                ((f"process_resident_memory_bytes{{{PROCESS}}}", "{{job}} {{instance}}"),),
                "Flat, whatever the size of a group",
            ),
            (
                "Certificate",
                "s",
                "stat",
                (("min(horo_certificate_expiry_timestamp_seconds) - time()", "left"),),
                "Until HORO_TLS_CERT expires",
            ),
        ),
    ),
)
SOURCE = {"type": "prometheus", "uid": "${source}"}


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    y = 0
    for title, row in ROWS:
        panels.append({"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": _at(0, y, WIDTH, 1)})
        y += 1
        stats = all(kind == "stat" for _, _, kind, _, _ in row)
        width, height = (WIDTH // len(row), 4) if stats else (8, 8)
        for number, panel in enumerate(row):
            place = _at(number * width % WIDTH, y + number * width // WIDTH * height, width, height)
            panels.append(_panel(panel, place))
        y += -(-len(row) * width // WIDTH) * height
    for number, made in enumerate(panels, 1):
        made["id"] = number
    return {
        "uid": "horo",
        "title": "Horo",
        "description": "The journey of posts, what waits, next hops and trouble. Made by deploy/grafana/make.py.",
        "tags": ["horo", "mail"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [_source(), _jobs()]},
        "panels": panels,
    }


def _at(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    title, unit, kind, asked, told = panel
    return {
        "type": kind,
        "title": title,
        "description": told,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "options": {"legend": {"showLegend": True, "placement": "bottom"}}
        if kind == "timeseries"
        else {"graphMode": "area"},
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": SOURCE, "expr": expression, "legendFormat": legend}
            for number, (expression, legend) in enumerate(asked)
        ],
    }


def _source() -> dict[str, Any]:
    return {
        "name": "source",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {},
        "hide": 0,
    }


def _jobs() -> dict[str, Any]:
    return {
        "name": "job",
        "label": "Role",
        "type": "query",
        "datasource": SOURCE,
        "query": "label_values(horo_events_total, job)",
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "current": {"text": "All", "value": "$__all"},
    }


def text() -> str:
    """The file."""
    return json.dumps(dashboard(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PLACE.write_text(text())
