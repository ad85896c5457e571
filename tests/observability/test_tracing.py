"""Traces: one post is one trace in all services, chosen alike by all, with nothing of people in it, and nothing at all where they are off."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from shared import journal, tracing
from shared.hand import Hand
from shared.identity import new_id
from shared.messages import Content, Delivery, DeliveryKind, Expanded, Origin, Post, Queued, Recipient, Slice, Target
from shared.replies import TROUBLE, TransientError
from shared.settings import Settings
from shared.topology import Queue

ID = new_id()


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start(Settings(), "horo-test", processor=SimpleSpanProcessor(exporter))
    try:
        yield exporter
    finally:
        tracing.stop()


def post(name: str = ID, **changes: Any) -> Post:
    return Post(
        id=name,
        accepted_at=time.time() - 1,
        mail_from="secret.author@a.test",
        targets=(Target(group="office@a.test", recipient="office@a.test"),),
        content=Content(head=b"Subject: secret\r\n\r\n", tail=b"x"),
        digest=b"d",
        origin=Origin(ip="192.0.2.1", helo="h", protocol="ESMTP"),
        **changes,
    )


def delivery(**changes: Any) -> Delivery:
    made = Delivery(
        post_id=ID,
        group="office@a.test",
        cell=3,
        hop="smtp://h:25",
        mail_from="secret.author@a.test",
        recipients=(Recipient(address="secret.member@b.test"),),
        content=Content(head=b"\r\n"),
        accepted_at=time.time(),
    )
    return msgspec.structs.replace(made, **changes)


def work(queue: Queue, message: Any) -> None:
    with Hand(queue).take(message, tries=0):
        pass


def test_one_post_is_one_trace_from_its_acceptance_to_its_record(exported: InMemorySpanExporter) -> None:
    journal.accepted(ID, mail_from="a@a.test", groups=("office@a.test",), size=9, ip="192.0.2.1", took=0.5)
    work(Queue.POSTS, post())
    work(Queue.SLICES, Slice(post=post(), cells=8, index=1, of=2, low=0, high=9))
    work(Queue.DELIVERIES_EXPRESS, delivery())
    work(Queue.DELIVERIES_EXPRESS, delivery(attempt=1))
    share = Expanded(
        post_id=ID, group="g@a.test", index=0, of=1, queued=(Queued(addresses=("m@b.test",)),), suppressed=(), at=1.0
    )
    work(Queue.OUTCOMES, share)
    spans = exported.get_finished_spans()
    assert [span.name for span in spans] == [
        "accept",
        "process posts",
        "process slices",
        "process deliveries.express",
        "process deliveries.express",
        "process outcomes",
    ]
    root = spans[0]
    assert {span.context.trace_id for span in spans} == {tracing.trace_id(ID)}
    assert {span.parent.span_id for span in spans[1:] if span.parent} == {root.context.span_id}
    assert len({span.context.span_id for span in spans}) == len(spans)
    assert root.parent is None
    assert root.start_time and root.end_time
    assert 0.4e9 < root.end_time - root.start_time < 0.6e9
    assert [span.attributes["horo.attempt"] for span in spans if "express" in span.name and span.attributes] == [0, 1]


def test_the_ids_are_the_same_in_every_process() -> None:
    """Held to the numbers: another release, or another process, has to find the same trace."""
    assert tracing.trace_id("01jd8000000000000000000000") == int("bac697db2d39367c679c5595d8495d43", 16)
    assert tracing.root_id("01jd8000000000000000000000") == int("4e5466812f4071e4", 16)


def test_lines_of_the_log_are_events_of_the_span_without_addresses_or_replies(exported: InMemorySpanExporter) -> None:
    with Hand(Queue.DELIVERIES_EXPRESS).take(delivery(), tries=0):
        journal.fate(
            ID,
            recipients=["secret.member@b.test"],
            state="delivered",
            hop_kind="smtp",
            lane="express",
            host="h",
            reply="250 secret.member@b.test",
            attempt=0,
            age=0.5,
        )
        journal.ended("another post", group="g@a.test", verdict="gone")
    (span,) = exported.get_finished_spans()
    (event,) = span.events
    assert event.name == "delivered"
    assert dict(event.attributes or {}) == {"count": 1, "attempt": 0, "age": 0.5}
    assert "secret" not in span.to_json()


def test_p9_an_error_is_told_by_its_kind_alone(exported: InMemorySpanExporter) -> None:
    with pytest.raises(TransientError), Hand(Queue.POSTS).take(post(), tries=0):
        raise TransientError(TROUBLE, why="secret.member@b.test")
    (span,) = exported.get_finished_spans()
    assert span.status.description == "TransientError"
    assert "secret" not in span.to_json()


def test_a_post_made_inside_begins_a_trace_that_leads_back(exported: InMemorySpanExporter) -> None:
    child = new_id()
    journal.handed_on(ID, group="office@a.test", subgroup="sub@a.test", child=child)
    (span,) = exported.get_finished_spans()
    assert span.context.trace_id == tracing.trace_id(child)
    (link,) = span.links
    assert (link.context.trace_id, link.context.span_id) == (tracing.trace_id(ID), tracing.root_id(ID))


def test_a_report_hangs_under_no_span_that_nobody_made(exported: InMemorySpanExporter) -> None:
    work(Queue.DELIVERIES_EXPRESS, delivery(kind=DeliveryKind.REPORT))
    (span,) = exported.get_finished_spans()
    assert span.parent is None
    assert span.context.trace_id == tracing.trace_id(ID)


def test_every_service_chooses_the_same_posts() -> None:
    ids = [new_id() for _ in range(4000)]
    chosen = [one for one in ids if tracing.chosen(one, 0.25)]
    assert 850 < len(chosen) < 1150
    assert chosen == [one for one in ids if tracing.chosen(one, 0.25)]
    assert all(tracing.chosen(one, 0.5) for one in chosen), "a larger share has the smaller one in it"
    assert all(tracing.chosen(one, 1.0) for one in ids)
    assert not any(tracing.chosen(one, 0.0) for one in ids)


def test_what_is_not_chosen_leaves_no_span() -> None:
    exporter = InMemorySpanExporter()
    tracing.start(Settings(trace_sample=0.0), "horo-test", processor=SimpleSpanProcessor(exporter))
    try:
        work(Queue.POSTS, post())
        journal.accepted(ID, mail_from="", groups=(), size=1, ip="", took=0.1)
    finally:
        tracing.stop()
    assert exporter.get_finished_spans() == ()


def test_without_a_collector_nothing_of_opentelemetry_is_loaded() -> None:
    code = (
        "import sys; from shared import tracing; from shared.settings import Settings;"
        "tracing.start(Settings(), 'x'); import shared.journal, shared.worker;"
        "sys.exit(tracing.enabled or any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], env={"PATH": ""}, timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("setting", "environ", "wanted"),
    [
        ("", {}, False),
        ("http://c:4318", {}, True),
        ("", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, True),
        ("http://c:4318", {"OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_where_traces_go_is_said_by_the_setting_or_by_opentelemetrys_own(
    setting: str, environ: dict[str, str], wanted: bool
) -> None:
    assert tracing.wanted(Settings(trace_endpoint=setting), environ) is wanted
