"""For all tests of the reporter: whatever event comes out of it keeps its published schema."""

from __future__ import annotations

import pytest

from services.reporter import events
from tests.support.events import check


@pytest.fixture(autouse=True)
def every_event_keeps_its_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at every event in the moment that it is encoded to be emitted."""
    encode = events.encode

    def checked(event: events.Event) -> bytes:
        payload = encode(event)
        check(payload, events.routing_key(event))
        return payload

    monkeypatch.setattr(events, "encode", checked)
