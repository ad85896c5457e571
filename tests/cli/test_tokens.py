"""`horo token`: what a script and a person see."""

from __future__ import annotations

import time

import pytest

from tests.cli.conftest import Horo


def test_a_token_is_shown_once_and_listed_without_its_secret(horo: Horo) -> None:
    horo("domain", "create", "example.test")
    done = horo("token", "create", "ci", "--scope", "signal:send", "--scope", "trace:read", "--domain", "Example.test")
    assert done.status == 0
    text = done.out.split()[-1]
    assert text.startswith("horo_")
    assert "this once" in done.out
    listed = horo("token", "list")
    assert "ci" in listed.out
    assert "signal:send trace:read" in listed.out
    assert "example.test" in listed.out
    assert text.rpartition("_")[2] not in listed.out
    (row,) = horo("token", "list", "--json").json
    assert set(row) == {"id", "name", "scopes", "domain", "created_at", "expires_at", "used_at"}
    assert text.split("_")[1] == row["id"]


def test_programs_get_json(horo: Horo) -> None:
    made = horo("token", "create", "ci", "--scope", "signal:send", "--expires", "90d", "--json").json
    assert made["scopes"] == ["signal:send"]
    assert made["token"].startswith(f"horo_{made['id']}_")
    assert made["expires_at"] == pytest.approx(time.time() + 90 * 86400, abs=60)
    assert horo("token", "revoke", "ci", "--json").json == {"revoked": made["id"], "name": "ci"}
    assert horo("token", "list", "--json").json == []


def test_an_empty_list_says_how_to_begin(horo: Horo) -> None:
    assert "horo token create" in horo("token", "list").out


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["create", "ci"], 2, "--scope"),
        (["create", "ci", "--scope", "everything"], 2, "signal:send"),
        (["create", "ci", "--scope", "signal:send", "--expires", "soon"], 2, "--expires"),
        (["create", "ci", "--scope", "signal:send", "--expires", "0s"], 2, "lives"),
        (["create", "ci", "--scope", "signal:send", "--domain", "other.test"], 3, "no domain other.test"),
        (["create", "a\nb", "--scope", "signal:send"], 2, "name"),
        (["revoke", "nobody"], 3, "nobody"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], status: int, said: str, horo: Horo) -> None:
    done = horo("token", *words)
    assert (done.status, said in done.err + done.out) == (status, True), done


def test_a_name_is_given_once(horo: Horo) -> None:
    assert horo("token", "create", "ci", "--scope", "signal:send").status == 0
    assert horo("token", "create", "ci", "--scope", "trace:read").status == 4
