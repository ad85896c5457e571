"""The published schemas of the events, as a system that reads them would use them: from the files, with an independent validator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from jsonschema import Draft202012Validator, FormatChecker

FOLDER = Path(__file__).parents[2] / "docs" / "events" / "schemas"
FORMATS = FormatChecker(["date-time"])  # raises where the check of a format is not installed


@cache
def validator(name: str) -> Draft202012Validator:
    """The validator of one event and version, `post.accepted.v1`. Fails where there is no such file."""
    schema = msgspec.json.decode(FOLDER.joinpath(f"{name}.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=FORMATS)


def check(payload: bytes | Mapping[str, Any], routing_key: str | None = None) -> dict[str, Any]:
    """The event, once it has been found to keep its schema (and to come by its routing key, where that is told)."""
    event = msgspec.json.decode(payload) if isinstance(payload, bytes) else dict(payload)
    assert routing_key in (None, event["type"])
    validator(f"{event['type']}.v{event['version']}").validate(event)
    return dict(event)
