"""Events are a contract: what is emitted keeps the published schemas, and the schemas refuse what is not an event."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.reporter import events, events_page
from services.reporter.events import Event
from services.reporter.events_schema import name_of
from shared.messages import Refused, Signal, SignalExpanded
from tests.reporter.world import GROUP, MEMBERS, NOW, World, attempted, expanded, fate, record, target
from tests.support.events import check, validator

NAMES = [
    "post.accepted", "post.refused", "post.expanded", "delivery.failed",
    "report.sent", "member.suspended", "signal.delivered", "signal.suppressed",
]  # fmt: skip


def test_the_public_names_are_all_there_and_no_other() -> None:
    assert [events.routing_key(kind) for kind in events.ALL] == NAMES


@pytest.mark.parametrize("example", events_page.examples(), ids=events.routing_key)
def test_every_event_keeps_its_schema_and_decodes_by_its_type(example: Event) -> None:
    payload = events.encode(example)
    plain = msgspec.json.decode(payload)
    check(plain, events.routing_key(example))
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
    for routing_key, payload in world.bus.events:
        check(payload, routing_key)
    assert {routing_key for routing_key, _ in world.bus.events} == set(NAMES) - {"member.suspended"}
    ids = [msgspec.json.decode(payload)["id"] for _, payload in world.bus.events]
    assert len(set(ids)) == len(ids), "two events are never the same one"


# --- what is not an event ----------------------------------------------------------------------------------------------
def spoiled(kind: type[Event]) -> list[tuple[str, dict[str, Any]]]:
    """Documents that are nearly the example of a kind: what was done to it, and what came of that."""
    (example,) = (one for one in events_page.examples() if type(one) is kind)
    plain = msgspec.json.decode(events.encode(example))
    without = [(f"no {name}", {key: plain[key] for key in plain if key != name}) for name in plain if name != "parent"]
    other = [(f"{name} of another type", {**plain, name: _other(value)}) for name, value in plain.items()]
    below = [
        (f"{name} below 0", {**plain, name: -1}) for name in ("size", "recipients", "suppressed", "spared", "attempts")
    ]
    return [
        *without,
        *other,
        *(one for one in below if one[0].partition(" ")[0] in plain),
        ("another type", {**plain, "type": "post.eaten"}),
        ("the next version", {**plain, "version": events.version(kind) + 1}),
        ("no time", {**plain, "at": "yesterday"}),
        ("a time of no zone", {**plain, "at": "2026-11-23T12:00:00"}),
        ("no id", {**plain, "id": ""}),
    ]


def _other(value: Any) -> Any:
    return 7.5 if isinstance(value, str | list | None) else "7"


@pytest.mark.parametrize("kind", events.ALL, ids=events.routing_key)
def test_the_schema_refuses_what_is_not_the_event(kind: type[Event]) -> None:
    schema = validator(name_of(kind))
    accepted = [what for what, document in spoiled(kind) if schema.is_valid(document)]
    assert accepted == []
