"""The JSON Schemas (2020-12) of the events, made from their types, and what may become of one without a new version. Pure.

A schema that is published is a promise: other systems check by it what they read. `unkept` says what a change would break; the files under
docs/events/schemas are written by `python -m cli.reference`, which writes none over another one that it would break.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from services.reporter import events
from services.reporter.events import Event

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_WORDS = ("title", "description", "default", "examples")
"""What tells people something, and no machine."""


def schema_of(kind: type[Event]) -> dict[str, Any]:
    """The schema of one event, in one piece; of this version of it alone, and open to fields that are added."""
    (schema,), components = msgspec.json.schema_components([kind])
    whole: dict[str, Any] = components[schema["$ref"].rpartition("/")[2]]
    whole["properties"]["version"] = {"description": "Version of this event's schema", "const": events.version(kind)}
    whole["required"] = [*whole["required"], "version"]  # always encoded, default or not
    return {"$schema": DIALECT, "$id": f"urn:horo:event:{name_of(kind)}", **whole}


def name_of(kind: type[Event]) -> str:
    """An event with its version: `post.accepted.v1`."""
    return f"{events.routing_key(kind)}.v{events.version(kind)}"


def text_of(schema: Mapping[str, Any]) -> str:
    """A schema as it stands in its file."""
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"


def unkept(old: Mapping[str, Any], new: Mapping[str, Any], *, request: bool = False) -> list[str]:
    """What somebody who reads by `old` would miss in what is written by `new`, in words; nothing where the change needs no new version.

    A field may be added. None may go, be absent where it was not, or have another type or other bounds. Of a `request`, which others write by
    `old` and we read by `new`, none may be asked for that was not.
    """
    broken = []
    for name, field in old["properties"].items():
        if name not in new["properties"]:
            broken.append(f"`{name}` is gone")
        elif _meaning(field) != _meaning(new["properties"][name]):
            broken.append(f"`{name}` is not what it was")
        elif name in old["required"] and name not in new["required"]:
            broken.append(f"`{name}` may be absent now")
    if request:
        broken += [f"`{name}` must be there now" for name in new["required"] if name not in old["required"]]
    return broken


def _meaning(field: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in field.items() if name not in _WORDS}
