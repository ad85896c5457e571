"""docs/events/asyncapi.yaml: what other systems and Horo say to each other over RabbitMQ, as an AsyncAPI 3.0 document. Pure.

Made from the types of `events.py` and `shared.signals`, as the schemas are. Its operations are Horo's own: it sends events, and receives signals.
"""

from __future__ import annotations

from typing import Any

import msgspec

from services.reporter import events
from services.reporter.events import Event
from services.reporter.events_schema import DIALECT, name_of, schema_of
from shared import signals
from shared.topology import EVENTS_EXCHANGE, SIGNALS_EXCHANGE

VERSION = "1.0.0"
"""Of the document: the first number counts up when an event gets a new version, the second when there is a new event or field."""

BINDING = "0.3.0"
"""Version of AsyncAPI's AMQP bindings."""

SIGNAL = "signal.request.v1"

_DESCRIPTION = """Horo tells other systems what happens to mail and signals, and takes signals from them, over RabbitMQ.

Events are durable and come at least once: keep the first of each `id`. Order is not promised. Ignore fields that you do not know.
Bind a durable queue of your own to the exchange `events`, with the routing keys that you want (`*` is one word, `#` any number of them).
Events hold members' addresses: give access to the exchange only to systems that may see them."""

Json = dict[str, Any]


def document(examples: tuple[Event, ...]) -> Json:
    """The whole document, with an example of every event."""
    shown = {type(example): msgspec.json.decode(events.encode(example)) for example in examples}
    kinds = {_key(kind): kind for kind in events.ALL}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Horo: events and signals",
            "version": VERSION,
            "description": _DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
            "tags": [{"name": "events"}, {"name": "signals"}],
        },
        "defaultContentType": "application/json",
        "servers": _servers(),
        "channels": {**{key: _channel(key, kind) for key, kind in kinds.items()}, "signals": _intake()},
        "operations": {
            **{f"send{key[0].upper()}{key[1:]}": _sent(key, kind) for key, kind in kinds.items()},
            "receiveSignal": {
                "action": "receive",
                "channel": {"$ref": "#/channels/signals"},
                "summary": "Take a signal for a group, from any system",
                "messages": [{"$ref": "#/channels/signals/messages/signal"}],
                "bindings": {"amqp": {"ack": True, "bindingVersion": BINDING}},
            },
        },
        "components": {
            "schemas": {**{name_of(kind): _payload(schema_of(kind)) for kind in events.ALL}, SIGNAL: signal_payload()},
            "messages": {**{key: _message(kind, shown[kind]) for key, kind in kinds.items()}, "signal": _request()},
            "securitySchemes": {"user": {"type": "userPassword", "description": "A user of the broker"}},
        },
    }


def text(examples: tuple[Event, ...]) -> str:
    """The document as YAML."""
    head = "# Made by `python -m cli.reference` from services/reporter/events.py and shared/signals.py.\n"
    return head + msgspec.yaml.encode(document(examples)).decode()


def signal_schema() -> Json:
    """The JSON Schema (2020-12) of a signal as other systems send it, in one piece."""
    made = signals.schema()
    whole = made["$defs"][made["$ref"].rpartition("/")[2]]
    return {"$schema": DIALECT, "$id": f"urn:horo:event:{SIGNAL}", **whole}


def signal_payload() -> Json:
    """The same inside the document."""
    return _payload(signal_schema())


def _servers() -> Json:
    same = {
        "host": "{host}",
        "pathname": "/{vhost}",
        "protocolVersion": "0.9.1",
        "variables": {
            "host": {"default": "localhost", "description": "Host, and port where it is not the usual one"},
            "vhost": {"default": "", "description": "The virtual host in HORO_BROKER_URL"},
        },
        "security": [{"$ref": "#/components/securitySchemes/user"}],
    }
    return {
        "plain": {"protocol": "amqp", "description": "The broker in HORO_BROKER_URL", **same},
        "encrypted": {"protocol": "amqps", "description": "The same over TLS", **same},
    }


def _key(kind: type[Event]) -> str:
    """An event's name as a key: `postAccepted`."""
    first, *rest = events.routing_key(kind).split(".")
    return first + "".join(word.capitalize() for word in rest)


def _channel(key: str, kind: type[Event]) -> Json:
    return {
        "address": events.routing_key(kind),
        "title": f"Routing key {events.routing_key(kind)}",
        "tags": [{"name": "events"}],
        "messages": {key: {"$ref": f"#/components/messages/{key}"}},
        "bindings": {"amqp": _routed(EVENTS_EXCHANGE, "topic")},
    }


def _intake() -> Json:
    return {
        "address": SIGNALS_EXCHANGE,
        "title": "Signals from other systems",
        "description": "Publish with any routing key. What is not valid is parked with the reason (`horo parked list`), never dropped.",
        "tags": [{"name": "signals"}],
        "messages": {"signal": {"$ref": "#/components/messages/signal"}},
        "bindings": {"amqp": _routed(SIGNALS_EXCHANGE, "fanout")},
    }


def _routed(exchange: str, kind: str) -> Json:
    return {
        "is": "routingKey",
        "exchange": {"name": exchange, "type": kind, "durable": True, "autoDelete": False},
        "bindingVersion": BINDING,
    }


def _sent(key: str, kind: type[Event]) -> Json:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{key}"},
        "summary": _summary(kind),
        "messages": [{"$ref": f"#/channels/{key}/messages/{key}"}],
        "bindings": {"amqp": {"deliveryMode": 2, "mandatory": False, "bindingVersion": BINDING}},
    }


def _message(kind: type[Event], example: Json) -> Json:
    return {
        "name": events.routing_key(kind),
        "title": name_of(kind),
        "summary": _summary(kind),
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name_of(kind)}"},
        "examples": [{"name": "example", "payload": example}],
    }


def _request() -> Json:
    return {
        "name": "signal",
        "title": SIGNAL,
        "summary": "A signal for all members of a group.",
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{SIGNAL}"},
        "examples": [
            {
                "name": "example",
                "payload": {
                    "group": "office@example.test",
                    "title": "db1",
                    "text": "Backup failed",
                    "origin": "monitor",
                },
            }
        ],
    }


def _summary(kind: type[Event]) -> str:
    return str(schema_of(kind)["description"])


def _payload(schema: Json) -> Json:
    """A schema inside the document: of the document's own dialect, which has every word that ours use."""
    return {name: value for name, value in schema.items() if name not in ("$schema", "$id")}
