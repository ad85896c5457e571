"""The application: every route of the console, and what holds for all of them."""

from __future__ import annotations

import asyncio

from litestar import Litestar, Response, Router, get
from litestar.datastructures import State

from services.console import openapi, problems, reading, sending
from services.console.asked import Asked
from services.console.gate import Gate
from shared.parts import Parts

BODY_LIMIT = 64 * 1024
"""Octets of a request's body."""


def api() -> Router:
    """The endpoints of version 1 that its document describes."""
    return Router(
        "/api/v1",
        route_handlers=[sending.send_signal, reading.find, reading.read_post, reading.read_recipients],
    )


def document() -> bytes:
    """What the API says of itself (docs/reference/openapi.json)."""
    return openapi.document(api(), strict=[sending.SignalBody.__name__])


def application(parts: Parts, gate: Gate) -> Litestar:
    """The console's application over the parts of its process."""
    return Litestar(
        [api(), served_document],
        state=State({"parts": parts, "gate": gate, "document": None}),
        request_class=Asked,
        exception_handlers=problems.HANDLERS,
        request_max_body_size=BODY_LIMIT,
        openapi_config=None,
        logging_config=None,
    )


@get("/api/v1/openapi.json", include_in_schema=False)
async def served_document(request: Asked) -> Response[bytes]:
    """The document; it is public, as what it describes is."""
    state = request.app.state
    if state.document is None:
        state.document = await asyncio.to_thread(document)
    return Response(state.document, media_type="application/vnd.oai.openapi+json; version=3.1")
