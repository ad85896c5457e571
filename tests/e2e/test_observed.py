"""What an operator sees of a real post: every leg's metric moves, a next hop that is down shows, and one post is one trace through the broker."""

from __future__ import annotations

import threading
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from shared import tracing
from tests.e2e.client import compose
from tests.e2e.conftest import Starts
from tests.e2e.system import System
from tests.support.ports import free_port, release_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

TEAM = "team@example.test"
ROLES = {"ingress": 1, "expander": 1, "sender": 1, "reporter": 1}


class Collector:
    """A collector of OpenTelemetry's: spans by trace, each (service, name)."""

    def __init__(self) -> None:
        self.spans: dict[int, list[tuple[str, str]]] = defaultdict(list)
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.take(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True).start()

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            told = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    self.spans[int.from_bytes(span.trace_id)].append((told["service.name"], span.name))

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def scraped(system: System, role: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All samples of a role's process."""
    (child,) = system.children[role]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{system._health[child]}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_one_post_moves_every_legs_metric_and_is_one_trace_in_all_services(
    cluster: Starts, collector: Collector, tmp_path: Path
) -> None:
    closed = free_port()
    system = cluster(
        {
            "HORO_TRACE_ENDPOINT": collector.url,
            "HORO_NEXT_HOP": f"maildir:{tmp_path / 'mail'}",
            "HORO_ROUTES": f"down.test=smtp://127.0.0.1:{closed}",
            "HORO_RETRY_SCHEDULE": "1h",
        },
        roles=ROLES,
    )
    try:
        system.group(TEAM, ["ana@example.org", "boris@down.test"], "remove_author=off")
        post = system.accepted(compose(TEAM))

        def told(role: str, name: str, **labels: str) -> float:
            return scraped(system, role).get((name, tuple(sorted(labels.items()))), -1.0)

        express = {"queue": "deliveries.express"}
        hop = f"127.0.0.1:{closed}"
        wait_until(
            lambda: told("sender", "horo_recipient_fates_total", state="deferred", hop="smtp") == 1, "the deferral"
        )
        wait_until(lambda: told("sender", "horo_journey_seconds_count", lane="express") == 1, "the delivery")
        wait_until(lambda: told("sender", "horo_hop_up", hop=hop) == 0, "the next hop to be shown as down")
        assert told("sender", "horo_hops", state="up") == 0
        assert told("sender", "horo_hop_window", hop=hop) > 0
        assert told("ingress", "horo_accept_seconds_count") == 1
        assert told("expander", "horo_queue_wait_seconds_count", queue="posts") == 1
        assert told("expander", "horo_work_seconds_count", queue="posts") == 1
        assert told("expander", "horo_expand_seconds_count") == 1
        assert told("expander", "horo_copies_total") == 2
        assert told("sender", "horo_queue_wait_seconds_count", **express) == 2
        assert told("sender", "horo_work_seconds_count", **express) == 2
        wait_until(lambda: told("reporter", "horo_work_seconds_count", queue="outcomes") >= 2, "the record")
        wait_until(lambda: told("reporter", "horo_queue_depth", **express) == 1, "the retry to wait")
        assert ("horo_queue_depth", (("queue", "posts"),)) not in scraped(system, "sender")
        spans = collector.spans[tracing.trace_id(post)]
        wait_until(lambda: {service for service, _ in spans} == {f"horo-{role}" for role in ROLES}, "the trace", 30)
        assert spans.count(("horo-ingress", "accept")) == 1
        assert spans.count(("horo-sender", "process deliveries.express")) == 2
        assert ("horo-expander", "process posts") in spans
    finally:
        release_port(closed)
