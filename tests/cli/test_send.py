"""`horo send` after the server's 250: whatever happens then, nobody is told to send it again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from typing import Any

import pytest

from cli import access
from cli import send as module
from shared.ledger import LedgerUnavailable
from tests.cli.conftest import Horo


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Messages that a server has taken."""
    messages: list[bytes] = []

    def submit(host: str, port: int, sender: str, to: list[str], message: bytes, notify: list[str]) -> str:
        messages.append(message)
        return "250 2.0.0 OK queued as 01abc"

    monkeypatch.setattr(module, "_submit", submit)
    return messages


def test_p3_a_ledger_that_is_away_after_the_250_is_no_failure(
    horo: Horo, sent: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exit status of 75 would have a script send the message again."""

    @asynccontextmanager
    async def ledger() -> AsyncIterator[Any]:
        raise LedgerUnavailable("database is locked")
        yield

    monkeypatch.setattr(access, "ledger", ledger)
    done = horo("send", "--to", "office@example.test", "--json")
    assert (done.status, len(sent)) == (0, 1)
    assert done.json["accepted"].startswith("250 ")
    assert done.json["posts"] == []
    assert "database is locked" in done.err
    assert "accepted" in done.err


def test_a_message_that_is_not_expanded_yet_says_how_to_look_again(horo: Horo, sent: list[bytes]) -> None:
    done = horo("send", "--to", "office@example.test", "--wait", "0.1")
    assert done.status == 0
    assert "not expanded yet; `horo trace '<" in done.out
    (message,) = sent
    assert message.endswith(b"\r\n")
    assert b"\n" not in message.replace(b"\r\n", b"")
    assert message_from_bytes(message)["Message-ID"] in done.out


def test_addresses_of_other_letters_stand_in_the_header_as_they_are(horo: Horo, sent: list[bytes]) -> None:
    assert horo("send", "--to", "офис@пример.test", "--wait", "0").status == 0
    assert "To: офис@пример.test\r\n".encode() in sent[0]


def test_without_an_smtp_address_it_asks_for_a_server(horo: Horo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HORO_SMTP_LISTEN", "")
    done = horo("send", "--to", "office@example.test")
    assert (done.status, "--via host:port" in done.err) == (2, True)
