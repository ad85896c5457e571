"""Every command: what it does, what it prints for people and for programs, and the exit status of each way it can end."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Done, Horo

GROUP = "office@example.test"
COMMANDS = (
    "up",
    "serve",
    "domain create",
    "domain list",
    "domain set",
    "domain delete",
    "group create",
    "group show",
    "group list",
    "group set",
    "group delete",
    "member add",
    "member remove",
    "member list",
    "member pause",
    "member restore",
    "member import",
    "member export",
    "import aliases",
    "import mailman",
    "send",
    "trace",
    "parked list",
    "parked show",
    "parked retry",
    "parked drop",
    "signal",
    "channel add",
    "channel list",
    "channel remove",
    "channel test",
    "token create",
    "token list",
    "token revoke",
    "check",
)


@pytest.fixture
def group(horo: Horo) -> str:
    """A group with two members."""
    assert horo("group", "create", GROUP, "--member", "ana@example.test", "--member", "boris@gmail.test").status == 0
    return GROUP


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, horo: Horo) -> None:
    done = horo(*command.split(), "--help")
    assert done.status == 0
    assert "Usage:" in done.out
    assert command in done.out


@pytest.mark.parametrize(
    "words",
    [
        ["nonsense"],
        ["group", "nonsense"],
        ["group", "create"],
        ["group", "list", "--limit", "0"],
        ["group", "list", "--limit", "-1"],
        ["group", "list", "--limit", "many"],
        ["group", "list", "--nonsense"],
        ["group", "create", "no address"],
        ["group", "create", "a@b.test", "--set", "nonsense=1"],
        ["group", "create", "a@b.test", "--set", "disabled"],
        ["group", "create", "a@b.test", "--set", "disabled=maybe"],
        ["group", "create", "a@b.test", "--set", "max_size=much"],
        ["group", "create", "a@b.test", "--set", "who_can_post=nobody"],
        ["group", "create", "a@b.test", "--set", "subject_prefix=a\nBcc: b"],
        ["group", "create", "a@b.test", "--member", "no address at all@"],
        ["group", "create", "a@b.test", "--member", "c\r\n@d.test"],
        ["group", "set", "a@b.test"],
        ["domain", "create", "foo..bar"],
        ["domain", "create", "exa\x1bmple.test"],
        ["member", "add", "a@b.test"],
        ["member", "import", "a@b.test", "/nowhere/at/all.csv"],
        ["trace"],
        ["parked", "show", "x"],
        ["parked", "retry"],
        ["parked", "drop"],
        ["serve", "nonsense"],
        ["serve", "sender"],
        ["signal", "a@b.test", "x" * 10_001],
        ["send"],
        ["send", "--to", "a@b.test", "--via", "nonsense"],
        ["send", "--to", "a@b.test", "--via", "host:99999"],
        ["send", "--to", "a@b.test\r\nRCPT TO:<c@d.test>"],
        ["send", "--to", "a@b.test", "--from", "a@b.test\nX: y"],
        ["send", "--to", "a@b.test", "--subject", "a\r\nBcc: b@c.test"],
        ["send", "--to", "a@b.test", "--notify", "sometimes"],
        ["send", "--to", "a@b.test", "--wait", "long"],
        ["send", "--to", "a@b.test", "--file", "/nowhere/at/all.eml"],
    ],
    ids=lambda words: " ".join(words)[:50].encode("unicode_escape").decode(),
)
def test_wrong_words_are_told_and_end_with_2(words: list[str], horo: Horo) -> None:
    done = horo(*words)
    assert done.status == 2, done
    assert done.err.strip()
    assert not any(char < " " and char != "\n" for char in done.err)


@pytest.mark.parametrize(
    "words",
    [
        ["group", "show", "nobody@example.test"],
        ["group", "set", "nobody@example.test", "disabled=on"],
        ["group", "delete", "nobody@example.test", "--yes"],
        ["domain", "set", "nowhere.test", "disabled=on"],
        ["domain", "delete", "nowhere.test"],
        ["member", "add", "nobody@example.test", "a@b.test"],
        ["member", "list", "nobody@example.test"],
        ["member", "remove", GROUP, "stranger@b.test"],
        ["member", "pause", GROUP, "stranger@b.test"],
        ["member", "restore", GROUP, "stranger@b.test"],
        ["member", "list", "nobody@example.test", "--suspended"],
        ["member", "export", "nobody@example.test"],
        ["signal", "nobody@example.test", "hello"],
        ["trace", "<nothing@example.test>"],
        ["trace", "--group", GROUP],
        ["trace", "--recipient", "ana@example.test"],
        ["parked", "show", "7"],
        ["parked", "retry", "7"],
        ["parked", "drop", "7", "--yes"],
    ],
    ids=" ".join,
)
def test_what_is_not_there_ends_with_3(words: list[str], horo: Horo, group: str) -> None:
    done = horo(*words)
    assert (done.status, done.err.startswith("horo: ")) == (3, True), done


def test_what_is_there_already_or_in_use_ends_with_4(horo: Horo, group: str) -> None:
    assert horo("group", "create", group).status == 4
    assert horo("domain", "create", "example.test").status == 4
    assert horo("domain", "delete", "example.test").status == 4


def test_domains(horo: Horo) -> None:
    assert horo("domain", "list").out.startswith("no domains")
    assert horo("domain", "create", "Пример.test", "--json").json["name"] == "xn--e1afmkfd.test"
    assert horo("domain", "set", "пример.test", "postmaster=ana@example.test", "--json").json["postmaster"]
    assert [one["name"] for one in horo("domain", "list", "--json").json] == ["xn--e1afmkfd.test"]
    assert horo("domain", "delete", "пример.test", "--json").status == 0
    assert horo("domain", "list", "--json").json == []


def test_groups(horo: Horo, group: str) -> None:
    shown = horo("group", "show", "OFFICE@Example.Test", "--json").json
    assert (shown["address"], shown["members"], shown["settings"]["reject_automatic"]) == (group, 2, True)
    assert shown["first_members"] == ["ana@example.test", "boris@gmail.test"]
    done = horo(
        "group", "set", group, "reject_automatic=off", "subject_prefix=[office] ", "owners=ana@example.test", "--json"
    )
    settings = done.json["settings"]
    assert (settings["reject_automatic"], settings["owners"]) == (False, ["ana@example.test"])
    text = horo("group", "show", group).out
    assert "reject_automatic" in text
    assert "2 members" in text
    assert [one["address"] for one in horo("group", "list", "--json").json] == [group]
    assert horo("group", "list", "--domain", "other.test", "--json").json == []
    assert horo("group", "delete", group, "--yes", "--json").json == {"deleted": group}
    assert horo("group", "list").out.startswith("no groups")


def test_members(horo: Horo, group: str) -> None:
    added = horo("member", "add", group, "vera", "ana@example.test", "--name", "Вера", "--own-copies", "--json").json
    assert (added["added"], added["present"]) == (1, 1)
    rows = {row["address"]: row for row in horo("member", "list", group, "--json").json}
    assert rows["vera@example.test"]["own_copies"] is True
    assert horo("member", "pause", group, "vera@example.test", "--json").json["paused"] is True
    assert "paused" in horo("member", "list", group).out
    assert horo("member", "pause", group, "vera@example.test", "--off", "--json").json["paused"] is False
    assert horo("member", "list", group, "--limit", "1", "--json").json[0]["address"] == "ana@example.test"
    assert "--after ana@example.test" in horo("member", "list", group, "--limit", "1").out
    assert horo("member", "remove", group, "vera@example.test", "--json").json == {"removed": 1}


def test_what_is_shown_cannot_draw_on_a_terminal(horo: Horo, group: str, tmp_path: Path) -> None:
    """Names pass through the console and imports, too: what is in the database is not believed."""
    with sqlite3.connect(tmp_path / "var" / "horo.db") as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE sql LIKE '%own_copies%'")]
        assert len(tables) == 1
        assert connection.execute(f"UPDATE {tables[0]} SET name = ?", ("\x1b[31mred\u202e\n",)).rowcount == 2
    shown = horo("member", "list", group).out
    assert "\x1b[31m" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[31mred" in shown
    assert horo("member", "list", group, "--json").json[0]["name"] == "\x1b[31mred\u202e\n"


def test_a_member_list_of_other_letters_is_json_all_the_same(horo: Horo) -> None:
    assert horo("group", "create", "офис@пример.test", "--member", "Мария@пример.test").status == 0
    (row,) = horo("member", "list", "офис@пример.test", "--json").json
    assert row["address"].startswith("Мария@")


def test_sending_without_a_server_says_so_and_ends_with_75(horo: Horo, group: str) -> None:
    done = horo("send", "--to", group)
    assert done.status == 75
    assert "is `horo up` running?" in done.err
    assert horo("send", "--to", group, "--via", "127.0.0.1:1", "--json").status == 75


def test_signals(horo: Horo, group: str) -> None:
    told = horo("signal", group, "Lunch at noon", "--title", "Lunch", "--json").json
    assert (told["group"], told["refused"]) == (group, False)
    horo("group", "set", group, "disable_signals=on")
    assert horo("signal", group, "Lunch", "--json").json["refused"] is True


def test_the_settings_are_listed_without_secrets(horo: Horo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HORO_SECRET", "wholly-confidential-words")
    monkeypatch.setenv("HORO_BROKER_URL", "amqp://horo:geheim@broker/")
    monkeypatch.setenv("HORO_DATABASE_URL", "postgresql://db/horo?password=geheim")
    done = horo("check", "--settings", "--json")
    rows = {row["key"]: row for row in done.json}
    assert rows["HORO_BROKER_URL"]["value"] == "amqp://***@broker/"
    assert rows["HORO_SECRET"]["value"] == "(set)"
    assert all(row["description"] for row in rows.values())
    for text in (done.out, horo("check", "--settings").out):
        assert "geheim" not in text
        assert "wholly" not in text


def test_a_check_that_succeeds(horo: Horo) -> None:
    done = horo("check", "--json")
    assert done.status == 0
    assert {row["ok"] for row in done.json} == {True}
    assert "ok" in horo("check").out


def test_a_check_names_each_part_that_fails(horo: Horo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HORO_NEXT_HOP", "maildir:/proc/nowhere")
    monkeypatch.setenv("HORO_ROUTES", "a.test=smtp://127.0.0.1:1")
    monkeypatch.setenv("HORO_BROKER_URL", "amqp://horo:geheim@127.0.0.1:1/")
    monkeypatch.setenv("HORO_CACHE_URL", "redis://:geheim@127.0.0.1:1/0")
    monkeypatch.setenv("HORO_TLS_CA", str(tmp_path / "none.pem"))
    (tmp_path / "var").mkdir()
    (tmp_path / "var" / "bodies").write_text("a file where a folder should be")
    done = horo("check", "--json")
    assert done.status == 1
    failed = [row["check"].split()[0] for row in done.json if not row["ok"]]
    assert failed == ["bus", "bodies", "cache", "next", "next", "HORO_TLS_CA"]
    assert "6 of 7 checks failed" in done.err
    assert "geheim" not in done.out + done.err


@pytest.mark.parametrize(
    ("key", "value", "status"),
    [
        ("HORO_DATABASE_URL", "sqlite:///", 2),
        ("HORO_DATABASE_URL", "sqlite:////proc/nowhere/x.db", 2),
        ("HORO_DATABASE_URL", "postgresql://horo:geheim@127.0.0.1:1/horo", 75),
        ("HORO_DATABASE_URL", "mysql://h/x", 2),
        ("HORO_DATA", "/proc/nowhere", 2),
        ("HORO_NONSENSE", "1", 2),
        ("HORO_WORKERS", "many", 2),
    ],
)
def test_a_database_that_cannot_be_used(
    key: str, value: str, status: int, horo: Horo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(key, value)
    done = horo("group", "list")
    assert (done.status, done.err.startswith("horo: ")) == (status, True), done
    assert "geheim" not in done.err


def test_a_broker_that_is_away_is_told_soon(horo: Horo, monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    monkeypatch.setenv("HORO_BROKER_URL", "amqp://horo:geheim@127.0.0.1:1/")
    monkeypatch.setenv("HORO_SECRET", "s" * 20)
    monkeypatch.setattr("cli.access.PATIENCE", 0.3)
    done = horo("signal", group, "hello")
    assert done.status == 75
    assert "HORO_BROKER_URL" in done.err
    assert "geheim" not in done.err


def test_a_database_of_a_newer_version_is_refused_in_a_sentence(horo: Horo, group: str, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "var" / "horo.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    for words in (["group", "list"], ["trace", "x"], ["signal", group, "hello"], ["parked", "list"]):
        done = horo(*words)
        assert done.status == 2, done
        assert "newer than this Horo knows" in done.err


def test_a_reader_that_has_had_enough_is_no_crash(process: Callable[..., Done], tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    horo = str(Path(sys.executable).parent / "horo")
    script = f"{horo} check --settings --json | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, env=dict(os.environ), timeout=60, check=False)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr


def test_many_commands_at_once_wait_for_each_other(process: Callable[..., Done]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    assert process("group", "create", GROUP).status == 0
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: process("member", "add", GROUP, f"m{n}@x.test", "--json"), range(16)))
    assert [one.status for one in done] == [0] * 16
    assert sum(json.loads(one.out)["added"] for one in done) == 16
    assert json.loads(process("group", "show", GROUP, "--json").out)["members"] == 16


def test_a_database_that_is_locked_is_told_with_75(
    horo: Horo, group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.database.engine.BUSY_LIMIT", 0.2)
    connection = sqlite3.connect(tmp_path / "var" / "horo.db", isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        assert horo("group", "list").status == 0  # who reads waits for nobody
        done = horo("member", "add", group, "c@x.test")
        assert done.status == 75
        assert "locked" in done.err
    finally:
        connection.close()
    assert horo("member", "add", group, "c@x.test").status == 0
