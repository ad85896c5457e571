"""docs/events.md and the schemas beside it, made from the types of `events.py`; `python -m cli.reference` writes them. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from services.reporter import events, events_asyncapi
from services.reporter.events import Event
from services.reporter.events_schema import name_of, schema_of, text_of
from shared.identity import derive
from shared.ledger import PostRecord, PostSummary, Totals
from shared.messages import Fate, Refused, Signal, SignalExpanded, State

_AT = 1_795_435_200.0  # 2026-11-23 12:00 UTC
_POST = "01kaqj0f006q3v8xkr2m5d9t7w"
_GROUP = "office@example.test"

_INTRODUCTION = """# Events

Horo tells other systems what happens to mail and signals: as JSON, on the durable topic exchange `events` of RabbitMQ. Bind a queue of your
own to it, with the routing keys that you want (`signal.*`, `delivery.failed`, `#`), and consume it in any language. In the embedded profile
the same events can be followed inside the process.

- **At least once.** An event may come more than once, with the same `id`: keep the first.
- **Order is not promised.** `at` says when it happened, in UTC, as RFC 3339 text.
- **Versions.** `version` belongs to the event's type. New fields may appear at any time without a new version: ignore what you do not know.
  A field that changes its meaning or goes away makes a new version.
- **Trust.** Events hold members' addresses. Give access to the exchange only to systems that may see them.

Each event has a JSON Schema (2020-12) in [schemas](events/schemas), a file a version; the file of an old version stays.
[asyncapi.yaml](events/asyncapi.yaml) says the same as an AsyncAPI 3.0 document, with the exchange `signals` by which other systems talk to Horo.
[consumer.py](events/examples/consumer.py) is a consumer in sixty lines that loses nothing and prints nothing twice, over restarts of its own and of
the broker; [signal.sh](events/examples/signal.sh) sends a signal over the API.

This page, the schemas and the AsyncAPI document are made from `services/reporter/events.py` by `python -m cli.reference`.
"""

_RECORD = PostRecord(
    id=_POST,
    accepted_at=_AT,
    mail_from="ana@author.example",
    author="ana@author.example",
    message_id="<m1@author.example>",
    subject="Plan for Monday",
    size=2048,
    ip="192.0.2.1",
    cells=1,
    slices=1,
)
_TOTALS = Totals(expanded=3, delivered=0, deferred=2, failed=0, suppressed=1, announced=2, complete=True)
_SIGNAL = Signal(
    id="01kaqj0f00signal0000000001",
    group=_GROUP,
    text="Backup failed",
    origin="monitor",
    sent_at=_AT,
    title="db1",
    link="https://monitor.example/42",
)


def examples() -> tuple[Event, ...]:
    """One event of every kind, built the way the reporter builds them, in the order of `events.ALL`."""
    refused = Refused(
        group=_GROUP,
        mail_from="eve@x.example",
        code=550,
        status="5.7.1",
        text="You are not allowed to post",
        ip="192.0.2.7",
        at=_AT,
    )
    fate = Fate(
        address="boris@gmail.test",
        state=State.FAILED,
        code=550,
        status="5.1.1",
        text="No such user",
        hop="mx.gmail.test",
        attempt=0,
        at=_AT,
    )
    summary = PostSummary(record=_RECORD, targets=(), totals=_TOTALS)
    report = derive(_POST, _GROUP, "delivered")
    return (
        events.post_accepted(_RECORD.id, _RECORD, [_GROUP]),
        events.post_refused(refused),
        events.post_expanded(summary, _GROUP, "open", _TOTALS, _AT),
        events.delivery_failed(_POST, _GROUP, fate),
        events.report_sent(report, post_id=_POST, group=_GROUP, kind="delivered", to=["ana@author.example"], at=_AT),
        events.member_suspended(_GROUP, "boris@gmail.test", "its address has failed on three days", at=_AT),
        events.signal_delivered(SignalExpanded(signal=_SIGNAL), "vera@other.test"),
        events.signal_suppressed(SignalExpanded(signal=_SIGNAL, spared=12), "disabled"),
    )


def page() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *(_section(example) for example in examples())])


def _section(example: Event) -> str:
    kind = type(example)
    schema = schema_of(kind)
    rows = "\n".join(_row(name, field, schema) for name, field in schema["properties"].items())
    shown = msgspec.json.format(events.encode(example), indent=2).decode()
    return (
        f"## {events.routing_key(kind)}\n\n{schema['description']}\n\n"
        f"| field | type | |\n|---|---|---|\n{rows}\n\n"
        f"```json\n{shown}\n```\n\n"
        f"[JSON Schema](events/schemas/{name_of(kind)}.json)\n"
    )


def _row(name: str, field: dict[str, Any], schema: dict[str, Any]) -> str:
    optional = "" if name in schema["required"] else " (optional)"
    description = field.get("description", f"Always `{field['enum'][0]}`" if "enum" in field else "")
    if "const" in field:
        description += f": `{field['const']}`"
    return f"| `{name}`{optional} | {_type(field)} | {description.replace('|', chr(92) + '|')} |"


def _type(field: dict[str, Any]) -> str:
    """A field's type in words."""
    if "const" in field:
        return "integer"
    if "anyOf" in field:
        return " or ".join(_type(each) for each in field["anyOf"])
    if "enum" in field:
        return "string"
    if field["type"] == "array":
        return f"array of {_type(field['items'])}"
    return str(field.get("format") or field["type"])


def pages() -> dict[str, str]:
    """What stands under docs/, by path: the page, the AsyncAPI document, and a schema for each event and for a signal from outside."""
    schemas = {name_of(kind): schema_of(kind) for kind in events.ALL}
    schemas[events_asyncapi.SIGNAL] = events_asyncapi.signal_schema()
    return {
        "events.md": page(),
        "events/asyncapi.yaml": events_asyncapi.text(examples()),
        **{f"events/schemas/{name}.json": text_of(schema) for name, schema in schemas.items()},
    }
