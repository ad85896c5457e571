"""Events are a contract: their schemas, their ids, and the page that documents them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.reporter import events, events_page
from services.reporter.events import Event
from shared.messages import Refused, Signal, SignalExpanded
from tests.reporter.world import GROUP, MEMBERS, NOW, World, attempted, expanded, fate, record, target

NAMES = [
    "post.accepted", "post.refused", "post.expanded", "delivery.failed",
    "report.sent", "member.suspended", "signal.delivered", "signal.suppressed",
]  # fmt: skip


def check(value: Any, schema: dict[str, Any]) -> None:
    """A small JSON Schema reader: the words that the page uses, and no other."""
    known = {
        "$schema",
        "title",
        "description",
        "type",
        "properties",
        "required",
        "enum",
        "items",
        "anyOf",
        "format",
        "default",
    }
    assert set(schema) <= known
    if "anyOf" in schema:
        types = {each["type"] for each in schema["anyOf"]}
        assert ("null" in types and value is None) or any(
            each["type"] != "null" and _is(value, each["type"]) for each in schema["anyOf"]
        )
        return
    if "enum" in schema:
        assert value in schema["enum"]
        return
    assert _is(value, schema["type"])
    if schema.get("format") == "date-time":
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value)
    if schema["type"] == "array":
        for each in value:
            check(each, schema["items"])
    if schema["type"] == "object":
        assert set(schema["required"]) <= set(value)
        for name, each in value.items():
            check(each, schema["properties"][name])


def _is(value: Any, kind: str) -> bool:
    types = {"string": str, "integer": int, "array": list, "object": dict, "null": type(None)}
    return isinstance(value, types[kind])


def test_the_public_names_are_all_there_and_no_other() -> None:
    assert [events.routing_key(kind) for kind in events.ALL] == NAMES


@pytest.mark.parametrize("example", events_page.examples(), ids=events.routing_key)
def test_every_event_keeps_its_schema_and_decodes_by_its_type(example: Event) -> None:
    payload = events.encode(example)
    plain = msgspec.json.decode(payload)
    check(plain, events_page.schema_of(type(example)))
    assert plain["type"] == events.routing_key(example)
    assert plain["version"] == 1
    assert len(plain["id"]) == 26
    assert msgspec.json.decode(payload, type=type(example)) == example
    union = msgspec.json.decode(payload, type=_union())
    assert type(union) is type(example)


def _union() -> Any:
    from functools import reduce
    from operator import or_

    return reduce(or_, events.ALL)


def test_a_consumer_of_today_reads_an_event_with_fields_of_tomorrow() -> None:
    payload = events.encode(events_page.examples()[0])
    more = msgspec.json.encode({**msgspec.json.decode(payload), "shade": "blue"})
    assert msgspec.json.decode(more, type=events.PostAccepted) == events_page.examples()[0]


def test_examples_cover_every_event_in_order() -> None:
    assert tuple(type(example) for example in events_page.examples()) == events.ALL


def test_the_page_is_what_the_types_say() -> None:
    """After a change: python -m services.reporter.events_page > docs/events.md"""
    written = Path(__file__).parents[2].joinpath("docs", "events.md").read_text(encoding="utf-8")
    assert written == events_page.page()
    for name in NAMES:
        assert f"\n## {name}\n" in written


async def test_what_the_reporter_emits_keeps_the_schemas() -> None:
    world, post = World(), record()
    world.ledger.open(post, target(report=True))
    signal = Signal(id="s", group=GROUP, text="t", origin="o", sent_at=NOW + 0.25)
    for message in (
        expanded(post),
        attempted(post, fate()),
        Refused(group=GROUP, mail_from="", code=550, status="5.7.1", text="no", ip="::1", at=NOW),
        SignalExpanded(signal=signal, members=MEMBERS),
        SignalExpanded(signal=signal, suppressed="disabled", spared=2),
    ):
        await world.handle(message)
    schemas = {events.routing_key(kind): events_page.schema_of(kind) for kind in events.ALL}
    for routing_key, payload in world.bus.events:
        plain = msgspec.json.decode(payload)
        assert plain["type"] == routing_key
        check(plain, schemas[routing_key])
    assert {routing_key for routing_key, _ in world.bus.events} == set(NAMES) - {"member.suspended"}
    ids = [msgspec.json.decode(payload)["id"] for _, payload in world.bus.events]
    assert len(set(ids)) == len(ids), "two events are never the same one"
