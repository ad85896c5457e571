"""Signals as other systems ask for them: one check, one schema, and ids that make a repetition the same signal."""

from __future__ import annotations

import json

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import signals
from shared.identity import new_id
from shared.messages import Undecodable, decode
from shared.signals import MOST_OCTETS, SAME, SignalError, SignalRequest
from shared.topology import Queue
from tests.support.doubles import MemoryBus

NOW = 1_795_435_200.0 + 3600
GROUP = "office@example.test"
VALID = [
    {"group": GROUP, "text": "x"},
    {
        "group": "Офис@пример.бг",
        "text": "здравей\nпак",
        "title": "Т",
        "link": "https://x.test/?a=1#b",
        "origin": "o",
        "id": "7",
    },
    {"group": GROUP, "text": "x" * 10_000, "title": "t" * 200, "link": "http://" + "x" * 1993, "id": "i" * 200},
]
INVALID = [
    {},
    {"group": GROUP},
    {"text": "x"},
    {"group": GROUP, "text": ""},
    {"group": GROUP, "text": "x" * 10_001},
    {"group": GROUP, "text": 7},
    {"group": "a@", "text": "x"},
    {"group": GROUP, "text": "x", "title": "t" * 201},
    {"group": GROUP, "text": "x", "title": "a\nb"},
    {"group": GROUP, "text": "x", "link": "ftp://x.test/"},
    {"group": GROUP, "text": "x", "link": "https://x.test/ y"},
    {"group": GROUP, "text": "x", "id": "i" * 201},
    {"group": GROUP, "text": "x", "priority": 1},
]


@pytest.mark.parametrize("document", VALID)
def test_what_is_valid_is_so_for_the_schema_too(document: dict[str, object]) -> None:
    jsonschema.Draft202012Validator(signals.schema()).validate(document)
    payload = json.dumps(document).encode()
    made = signals.decode_request(payload)
    assert (made.text, made.origin) == (document["text"], document.get("origin", "amqp"))
    assert len(payload) < MOST_OCTETS


@pytest.mark.parametrize("document", INVALID, ids=str)
def test_what_is_not_is_refused_by_both(document: dict[str, object]) -> None:
    validator = jsonschema.Draft202012Validator(signals.schema())
    assert not validator.is_valid(document)
    with pytest.raises(Undecodable):
        signals.decode_request(json.dumps(document).encode())


@pytest.mark.parametrize("group", ["nobody", "@x.test", "a b@x.test", "a@x..test", "a@b@c.test"])
def test_a_group_that_is_no_address_is_refused(group: str) -> None:
    with pytest.raises(SignalError, match="group"):
        signals.signal_of(signals.request(group=group, text="x"), origin="o")


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(payload: bytes) -> None:
    try:
        made = signals.decode_request(payload)
    except Undecodable as error:
        assert len(str(error)) < 400
    else:
        assert made.text


@given(st.text(max_size=50), st.text(max_size=50))
def test_no_text_crashes_the_reader_and_none_draws_on_a_terminal(text: str, title: str) -> None:
    payload = json.dumps({"group": GROUP, "text": text, "title": title}).encode()
    try:
        made = signals.decode_request(payload)
    except Undecodable:
        return
    assert not set("\x00\x07\x1b\x7f\x9b") & set(made.text + made.title)
    made.text.encode()


def request(**changes: str) -> SignalRequest:
    return signals.request(**{"group": GROUP, "text": "x", **changes})


def test_p3_with_an_id_of_its_own_a_request_is_the_same_signal_for_a_while() -> None:
    begun = NOW - NOW % SAME
    first = signals.signal_of(request(id="7"), origin="o", now=begun)
    soon = signals.signal_of(request(id="7", text="y"), origin="o", now=begun + SAME - 1)
    later = signals.signal_of(request(id="7"), origin="o", now=begun + SAME)
    assert first.id == soon.id != later.id
    assert first.once == later.once == "7"
    assert new_id(begun)[:10] == first.id[:10] < later.id[:10]  # found by time
    others = [request(id="8"), request(id="7", group="board@example.test"), request(id="7", origin="another")]
    assert len({first.id, *(signals.signal_of(one, origin="o", now=begun).id for one in others)}) == 4


def test_without_an_id_each_request_is_a_signal() -> None:
    made = {signals.signal_of(request(), origin="o", now=NOW).id for _ in range(3)}
    assert len(made) == 3


def test_an_address_with_a_tag_is_its_group() -> None:
    assert signals.signal_of(request(group="Office+now@Example.TEST"), origin="o").group == GROUP


async def test_what_is_accepted_is_on_the_bus() -> None:
    bus = MemoryBus()
    made = await signals.accept(bus, request(title="T"), origin="rest:token")  # type: ignore[arg-type]
    (out,) = bus.published
    assert (out.queue, decode(out.payload), made.origin) == (Queue.SIGNALS, made, "rest:token")


def test_the_schema_forbids_what_the_type_forbids() -> None:
    (definition,) = signals.schema()["$defs"].values()
    assert definition["additionalProperties"] is False
    assert sorted(definition["required"]) == ["group", "text"]
    assert set(definition["properties"]) == set(SignalRequest.__struct_fields__)
    assert msgspec.json.encode(signals.schema())
