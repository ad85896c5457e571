"""Routes: exact domain before suffix, longer suffix before shorter, the default last."""

from __future__ import annotations

import pytest

from shared.routes import NextHop, Routes, RoutesError


@pytest.mark.parametrize(
    ("domain", "hop"),
    [
        ("example.com", "smtp://10.0.0.5:25"),
        ("sub.example.com", "maildir:/tmp/m"),
        ("a.example.org", "lmtp://[::1]:2424"),
        ("b.a.example.org", "mx:b.a.example.org"),
        ("else.test", "maildir:/tmp/m"),
        ("relay.test", "mx:mail.relay.test"),
    ],
)
def test_the_route_of_a_domain(domain: str, hop: str) -> None:
    table = (
        "example.com=smtp://10.0.0.5, .example.org=lmtp://[::1]:2424\n.a.example.org=mx:,relay.test=mx:mail.relay.test"
    )
    routes = Routes.parse(table, default="maildir:/tmp/m")
    assert str(routes.hop(domain)) == hop


@pytest.mark.parametrize(
    "text",
    ["maildir:/var/mail/x", "smtp://mail.example.com:2525", "lmtp://127.0.0.1:24", "smtp://[::1]:25", "mx:example.org"],
)
def test_a_next_hop_reads_as_it_is_written(text: str) -> None:
    assert str(NextHop.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "maildir:",
        "smtp://",
        "smtp:host",
        "http://x",
        "smtp://u:p@host",
        "smtp://host:99999",
        "smtp://host/path",
        "smtp://[::1",
    ],
)
def test_a_next_hop_that_is_none(text: str) -> None:
    with pytest.raises(RoutesError):
        NextHop.parse(text)
