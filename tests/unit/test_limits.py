"""HORO_HOP_LIMITS: which limits hold for which host."""

from __future__ import annotations

import pytest

from shared.limits import Limits, LimitsError, LimitTable
from shared.settings import SettingsError, load

DEFAULT = Limits(connections=20, transactions=1000)
TEXT = ".google.com connections=5 messages=20, .l.google.com connections=4,\n 10.0.0.5 recipients=100 transactions=3"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("mx.example.test", DEFAULT),
        ("google.com", DEFAULT),  # the suffix is what lies under it, as in HORO_ROUTES
        ("mx.google.com", Limits(connections=5, transactions=1000, messages=20)),
        ("ASPMX.L.Google.com", Limits(connections=4, transactions=1000)),
        ("10.0.0.5", Limits(connections=20, transactions=3, recipients=100)),
        ("10.0.0.50", DEFAULT),
        ("", DEFAULT),
    ],
)
def test_the_most_particular_entry_holds(host: str, expected: Limits) -> None:
    assert LimitTable.parse(TEXT, default=DEFAULT).of(host) == expected


@pytest.mark.parametrize("host", ["mx.google.com", "", "x"])
def test_nothing_set_is_the_default(host: str) -> None:
    assert LimitTable.parse(" ,\n", default=DEFAULT).of(host) == DEFAULT


@pytest.mark.parametrize(
    "text",
    [
        "google.com",
        "google.com connections",
        "google.com connections=0",
        "google.com transactions=0",
        "google.com connections=-1",
        "google.com connections=١",
        "google.com messages=1000001",
        "google.com hops=3",
        ". connections=1",
        "a connections=1, a connections=2",
    ],
)
def test_what_cannot_be_understood_stops_the_start_with_its_name(text: str) -> None:
    with pytest.raises(LimitsError):
        LimitTable.parse(text, default=DEFAULT)
    with pytest.raises(SettingsError, match="HORO_HOP_LIMITS"):
        load({"HORO_HOP_LIMITS": text})


def test_a_rate_of_nothing_is_no_limit_and_settings_are_the_default() -> None:
    settings = load({"HORO_HOP_MESSAGES": "7", "HORO_HOP_LIMITS": "a messages=0"})
    assert settings.limit_table.of("b") == Limits(connections=30, transactions=1000, messages=7)
    assert settings.limit_table.of("a").messages == 0
