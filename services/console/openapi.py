"""What the API says of itself: OpenAPI 3.1, made from the handlers. It is served as it is checked in (docs/reference/openapi.json)."""

from __future__ import annotations

from collections.abc import Collection
from importlib.metadata import version
from typing import Any

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme
from litestar.router import Router

from services.console import problems

DESCRIPTION = """Mail groups: send signals to them, and see what became of what was posted to them.

A program shows its token in every request, `Authorization: Bearer TOKEN`; `horo token create` makes one. A token has scopes, and may be
good for one domain alone: of other domains it sees nothing, and what it may not see is 404. Times are RFC 3339, in UTC.
Errors are problem details (RFC 9457). After 429 and 503 come again when `Retry-After` says.
"""
TOKEN = "token"  # noqa: S105 - the name of a scheme


def secured(scope: str) -> list[dict[str, list[str]]]:
    """The security requirement of an operation."""
    return [{TOKEN: [scope]}]


def refusals(*statuses: int) -> dict[int, ResponseSpec]:
    """The problems that an operation may answer with, beside those that each may."""
    told = {401: "No token, or none that is good", 403: "The token has not the scope", 429: "Too many requests"}
    told |= {404: "It is not there, or not for this token", 422: "The request cannot be used as it is"}
    told |= {413: "The body is larger than 64 KiB", 415: "The body is no JSON", 503: "Temporary failure"}
    return {
        status: ResponseSpec(
            data_container=problems.Problem,
            description=told[status],
            media_type=problems.MEDIA_TYPE,
            generate_examples=False,
        )
        for status in sorted({401, 403, 422, 429, 503, *statuses})
    }


def document(routes: Router, *, strict: Collection[str]) -> bytes:
    """The document of these routes, as JSON that people can read. `strict`: the schemas of what is refused with a field that is none of theirs."""
    scheme = SecurityScheme(type="http", scheme="bearer", description="A token of `horo token create`")
    config = OpenAPIConfig(
        title="Horo",
        version=version("horo"),
        description=DESCRIPTION,
        components=Components(security_schemes={TOKEN: scheme}),
        use_handler_docstrings=True,
    )
    schema: dict[str, Any] = Litestar([routes], openapi_config=config, logging_config=None).openapi_schema.to_schema()
    for name in strict:
        schema["components"]["schemas"][name]["additionalProperties"] = False
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("400", None)  # the framework's own word for what is 422 here
    return msgspec.json.format(msgspec.json.encode(schema, order="sorted"), indent=2) + b"\n"
