"""Domains on the command line: quotas and suspension are set, shown and held."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Horo


def test_a_domains_quotas_are_set_shown_and_held(horo: Horo) -> None:
    assert horo("domain", "create", "example.test", "--set", "max_groups=1", "--set", "messages_per_day=7").status == 0
    assert horo("group", "create", "a@example.test").status == 0
    refused = horo("group", "create", "b@example.test")
    assert (refused.status, "may have 1 groups" in refused.err) == (4, True)
    shown = horo("domain", "show", "EXAMPLE.test", "--json").json
    assert (shown["max_groups"], shown["messages_per_day"], shown["suspended"]) == (1, 7, False)
    assert shown["today"] == {"messages": 0, "recipients": 0}
    assert "0 messages, 0 recipients" in horo("domain", "show", "example.test").out
    assert "max_groups=1, messages_per_day=7" in horo("domain", "list").out
    changed = horo("domain", "set", "example.test", "suspended=on", "messages_per_day=0", "--json").json
    assert (changed["suspended"], changed["messages_per_day"]) == (True, 0)
    assert "suspended" in horo("domain", "list").out
    assert horo("domain", "show", "example.test", "--json").json["today"] is None


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("show", "nowhere.test"), 3, "there is no domain"),
        (("set", "example.test", "max_groups=-1"), 2, "max_groups"),
        (("set", "example.test", "quota=5"), 2, "no such setting"),
    ],
)
def test_what_is_wrong_is_told_in_a_sentence(horo: Horo, words: tuple[str, ...], status: int, said: str) -> None:
    horo("domain", "create", "example.test")
    done = horo("domain", *words)
    assert (done.status, said in done.err) == (status, True)
