"""docs/events/asyncapi.yaml is an AsyncAPI 3.0 document by the official schema, and says what the code does."""

from __future__ import annotations

import copy
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from services.reporter import events
from shared.bus.rabbitmq_topology import exchange_types
from shared.signals import SignalError, read
from tests.support.events import FOLDER, FORMATS

FILE = FOLDER.parent / "asyncapi.yaml"
DOCUMENT: dict[str, Any] = msgspec.yaml.decode(FILE.read_bytes())
OFFICIAL = Draft7Validator(
    msgspec.json.decode(gzip.decompress(Path(__file__).with_name("asyncapi").joinpath("3.0.0.json.gz").read_bytes()))
)
MESSAGES = sorted(DOCUMENT["components"]["messages"])


def found(reference: str) -> Any:
    """What a reference inside the document points to."""
    place: Any = DOCUMENT
    for step in reference.removeprefix("#/").split("/"):
        place = place[step]
    return place


def references(place: Any) -> list[str]:
    if isinstance(place, dict):
        return [each for name, value in place.items() for each in ([value] if name == "$ref" else references(value))]
    return [each for value in place for each in references(value)] if isinstance(place, list) else []


def test_the_document_keeps_the_official_schema() -> None:
    assert [f"{error.json_path}: {error.message[:200]}" for error in OFFICIAL.iter_errors(DOCUMENT)] == []


SPOILED: list[tuple[str, Callable[[Any], Any]]] = [
    ("another version", lambda document: document.update(asyncapi="2.6.0")),
    ("no title", lambda document: document["info"].pop("title")),
    ("no such action", lambda document: document["operations"]["receiveSignal"].update(action="subscribe")),
    ("no such exchange type", lambda document: document["channels"]["signals"]["bindings"]["amqp"]["exchange"].update(type="x")),
    ("no such property", lambda document: document["channels"]["signals"].update(subscribe={})),
    ("a payload of no type", lambda document: document["components"]["schemas"]["post.accepted.v1"].update(type="text")),
]  # fmt: skip


@pytest.mark.parametrize("spoil", [row[1] for row in SPOILED], ids=[row[0] for row in SPOILED])
def test_the_official_schema_refuses_what_is_none(spoil: Callable[[Any], Any]) -> None:
    document = copy.deepcopy(DOCUMENT)
    spoil(document)
    assert not OFFICIAL.is_valid(document)


def test_every_reference_leads_somewhere() -> None:
    all_of = references(DOCUMENT)
    assert len(all_of) > 4 * len(events.ALL)
    assert all(found(each) for each in all_of)


def test_every_event_has_a_channel_on_the_exchange_of_events_and_horo_sends_it() -> None:
    sent = [operation for operation in DOCUMENT["operations"].values() if operation["action"] == "send"]
    channels = [found(operation["channel"]["$ref"]) for operation in sent]
    assert sorted(channel["address"] for channel in channels) == sorted(map(events.routing_key, events.ALL))
    for channel in channels:
        (message,) = (found(each["$ref"]) for each in channel["messages"].values())
        assert message["name"] == channel["address"]
        exchange = channel["bindings"]["amqp"]["exchange"]
        assert (exchange["name"], exchange["durable"]) == ("events", True)


def test_signals_go_to_an_exchange_of_their_own_and_horo_receives_them() -> None:
    (operation,) = (one for one in DOCUMENT["operations"].values() if one["action"] == "receive")
    channel = found(operation["channel"]["$ref"])
    assert channel["bindings"]["amqp"]["exchange"]["name"] == "signals"


def test_the_exchanges_are_those_that_horo_declares() -> None:
    declared = {name: kind.value for name, kind in exchange_types().items()}
    for channel in DOCUMENT["channels"].values():
        exchange = channel["bindings"]["amqp"]["exchange"]
        assert declared[exchange["name"]] == exchange["type"]


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_has_an_example_that_keeps_its_schema_and_the_schema_is_the_published_one(name: str) -> None:
    message = DOCUMENT["components"]["messages"][name]
    reference = message["payload"]["$ref"]
    published = msgspec.json.decode(FOLDER.joinpath(f"{reference.rpartition('/')[2]}.json").read_bytes())
    schema = found(reference)
    assert {word: value for word, value in published.items() if word not in ("$schema", "$id")} == schema
    for validator in (Draft202012Validator, Draft7Validator):  # AsyncAPI's own dialect is built on draft 7
        for example in message["examples"]:
            validator(schema, format_checker=FORMATS).validate(example["payload"])


REQUESTS: list[tuple[dict[str, Any], bool]] = [
    ({"group": "office@example.test", "text": "Привет"}, True),
    ({"group": "office@example.test", "text": "x", "title": "t", "link": "https://a.test/1", "origin": "o", "id": "7"}, True),
    ({"group": "office@example.test"}, False),
    ({"text": "x"}, False),
    ({"group": "office@example.test", "text": ""}, False),
    ({"group": "office@example.test", "text": "x" * 10_001}, False),
    ({"group": "office@example.test", "text": "x", "link": "javascript:alert(1)"}, False),
    ({"group": "office@example.test", "text": "x", "title": "two\nlines"}, False),
    ({"group": "office@example.test", "text": "x", "to": "somebody"}, False),
    ({"group": 7, "text": "x"}, False),
]  # fmt: skip


@pytest.mark.parametrize(("request_", "good"), REQUESTS)
def test_the_schema_of_a_signal_and_the_reader_of_signals_agree(request_: dict[str, Any], good: bool) -> None:
    schema = msgspec.json.decode(FOLDER.joinpath("signal.request.v1.json").read_bytes())
    assert Draft202012Validator(schema).is_valid(request_) is good
    if good:
        assert read(msgspec.json.encode(request_)).group == request_["group"]
    else:
        with pytest.raises(SignalError):
            read(msgspec.json.encode(request_))
