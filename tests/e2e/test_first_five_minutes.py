"""The main job as a newcomer does it: start, send, look; stop and start again. And what goes wrong first, with the sentence that helps."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.e2e import client
from tests.e2e.client import compose
from tests.e2e.conftest import Starts
from tests.e2e.sinks import NextHop
from tests.e2e.system import System, delivered, left_out, run_horo, sums
from tests.support.processes import Processes

pytestmark = pytest.mark.e2e

OFFICE = "office@example.test"
PEOPLE = ["ana@example.test", "boris@example.test", "chair@example.test"]


def mail(system: System) -> dict[str, list[bytes]]:
    """The Maildir: what each person has."""
    found: dict[str, list[bytes]] = {}
    for path in sorted((system.folder / "var" / "maildir").glob("*/*/new/*")):
        found.setdefault(f"{path.parts[-3]}@{path.parts[-4]}", []).append(path.read_bytes())
    return found


@pytest.fixture
def demo(processes: Processes, tmp_path: Path) -> System:
    """`horo up --demo` in an empty directory, as `make run` starts it."""
    return System(processes, tmp_path, {"HORO_DATA": "./var", "HORO_SECRET": ""}, arguments=["--demo"])


@pytest.mark.smoke
def test_first_message_reaches_everybody_once_and_stays_over_a_restart(demo: System) -> None:
    (up,) = demo.children["up"]
    up.wait_for_line(r"^Horo is up\.$")
    for line in (f"SMTP +127.0.0.1:{demo.smtp}", f"LMTP +127.0.0.1:{demo.lmtp}", "horo send --to office@example.test"):
        up.wait_for_line(line, timeout=1)
    assert [group["address"] for group in demo.cli("group", "list")] == ["board@example.test", OFFICE]

    sent = demo.cli("send", "--to", OFFICE, "--text", "Добър ден, хоро!")
    assert sent["accepted"].startswith("250 2.0.0 OK queued as ")
    (post,) = sent["posts"]
    assert sums(post) == (4, 3, 0, 0, 1)
    assert delivered(post) == PEOPLE
    assert left_out(post) == [("ana@example.test", "duplicate")]  # she is in the office, and on the board

    copies = mail(demo)
    assert {person: len(files) for person, files in copies.items()} == dict.fromkeys(PEOPLE, 1)
    bodies = {client.received_body(copy) for (copy,) in copies.values()}
    assert len(bodies) == 1
    for (copy,) in copies.values():
        assert client.header(copy, "Reply-To") == ["Office <office@example.test>"]
        assert client.header(copy, "List-Id") == ["Office <office.example.test>"]
        assert len(client.header(copy, "X-Horo-Loop")) == 1
        assert client.header(copy, "Precedence") == ["list"]
        assert client.message_id(copy) == sent["message_id"].strip("<>")
        assert not set(PEOPLE) & set(" ".join(client.header(copy, "Received")).split()), "P9"

    trace = demo.run("trace", sent["message_id"])
    assert trace.returncode == 0
    for words in ("delivered 3", "left out 1", "boris@example.test", "left out: has a copy already"):
        assert words in " ".join(trace.stdout.split())

    assert demo.terminate() == [0]
    assert mail(demo) == copies
    demo.restart("up")
    assert demo.trace(sent["message_id"]) == post
    assert mail(demo) == copies
    again = demo.cli("send", "--to", OFFICE, "--from", "boris@example.test")
    assert delivered(again["posts"][0]) == ["ana@example.test", "chair@example.test"]
    assert left_out(again["posts"][0]) == [("ana@example.test", "duplicate"), ("boris@example.test", "author")]
    assert {person: len(files) for person, files in mail(demo).items()} == dict(zip(PEOPLE, (2, 1, 2), strict=True))


def test_p8_any_client_gets_its_body_through_byte_for_byte(demo: System) -> None:
    body = (
        b"\xd0\x97\xd0\xb4\xd1\x80 \xff\xfe 8-bit\r\n.dot\r\n..dots\r\n\r\n \t trailing \r\n"
        + bytes(range(32, 256))
        + b"\r\n"
    )
    message = compose(OFFICE, body=body, headers=["Reply-To: me@example.net", "X-Folded: a\r\n\tb"])
    post = demo.settled(demo.accepted(message))
    assert delivered(post) == PEOPLE
    for (copy,) in mail(demo).values():
        assert client.received_body(copy) == body
        assert client.header(copy, "Reply-To") == ["Office <office@example.test>"]
        assert client.header(copy, "X-Original-Reply-To") == ["me@example.net"]
        assert b"\r\nX-Folded: a\r\n\tb\r\n" in copy


def test_a_next_hop_that_is_not_there_yet_gets_the_mail_when_it_comes(
    embedded: Starts, hops: Callable[..., NextHop]
) -> None:
    hop = hops(start=False)
    system = embedded({"HORO_NEXT_HOP": hop.url})
    system.group("team@example.test", ["ana@example.test", "boris@example.org"])
    check = system.cli_failed("check")
    assert check.returncode == 1
    assert f"next hop {hop.url}" in check.stdout

    post = system.accepted(compose("team@example.test"))
    waiting = system.traced(
        post, lambda found: found["totals"]["complete"] and any(row["next_at"] for row in found["addresses"])
    )
    assert sums(waiting)[:3] == (2, 0, 2)
    assert {row["state"] for row in waiting["addresses"]} == {"deferred"}
    assert all(row["code"] // 100 == 4 and "refused" in row["text"].lower() for row in waiting["addresses"])

    hop.start()
    settled = system.settled(post)
    assert sums(settled) == (2, 2, 0, 0, 0)
    assert all(row["attempts"] > 1 for row in settled["addresses"])
    assert hop.counts == {"ana@example.test": 1, "boris@example.org": 1}


LISTEN = [f"HORO_{name}_LISTEN" for name in ("SMTP", "LMTP", "CONSOLE", "HEALTH")]


@pytest.mark.parametrize("setting", LISTEN)
def test_a_port_in_use_is_named_with_its_setting(setting: str, free_port: Callable[[], int], tmp_path: Path) -> None:
    env = {name: f"127.0.0.1:{free_port()}" for name in LISTEN}
    with socket.create_server(("127.0.0.1", int(env[setting].rpartition(":")[2]))):
        done = run_horo(["up"], env, tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"horo: {env[setting]} is in use by another program: stop it, or set {setting} to another address"
    )
    assert "Traceback" not in done.stderr
    assert "Horo is up" not in done.stdout


BROKEN: Mapping[str, tuple[list[str], dict[str, str], str]] = {
    "unknown key": (["up"], {"HORO_SMTP_LISTNE": "127.0.0.1:25"}, "HORO_SMTP_LISTNE: no such setting"),
    "unknown scheme": (
        ["up"],
        {"HORO_BROKER_URL": "kafka://h"},
        "HORO_BROKER_URL: 'kafka://h' is not one of embedded:, amqp:",
    ),
    "not a number": (["up"], {"HORO_WORKERS": "many"}, "HORO_WORKERS: Expected `int`"),
    "bad next hop": (["up"], {"HORO_NEXT_HOP": "smtp:mail"}, "HORO_NEXT_HOP: 'smtp:mail' is no next hop"),
    "bad duration": (["up"], {"HORO_RETRY_SCHEDULE": "1m, soon"}, "HORO_RETRY_SCHEDULE: 'soon' is no duration"),
    "data is in a file": (
        ["up"],
        {"HORO_DATA": "/dev/null/var"},
        "HORO_DATA: cannot make /dev/null/var: Not a directory",
    ),
    "data cannot be written": (["up"], {"HORO_DATA": "/proc"}, "/proc"),
    "embedded bus in a cluster": (["serve", "sender"], {}, "the embedded bus works inside one process: run `horo up`"),
    "unknown service": (["serve", "postman"], {}, "postman"),
    "no configuration file": (["up"], {"HORO_CONFIG": "none.toml"}, "HORO_CONFIG: cannot read none.toml: No such file"),
    "TLS key is missing": (["up"], {"HORO_TLS_CERT": "cert.pem"}, "HORO_TLS_CERT and HORO_TLS_KEY: one is set without"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_start_that_cannot_be_says_why_and_ends_with_2(case: str, tmp_path: Path) -> None:
    words, env, sentence = BROKEN[case]
    done = run_horo(words, {"HORO_DATA": str(tmp_path / "var"), **env}, tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_of_a_newer_horo_is_left_alone(embedded: Starts) -> None:
    system = embedded()
    assert system.terminate() == [0]
    with sqlite3.connect(system.folder / "var" / "horo.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    for words in (["up"], ["group", "list"]):
        done = system.run(*words)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
        assert "newer" in done.stderr


COMMANDS: Mapping[str, tuple[list[str], int, str]] = {
    "no such group": (["group", "show", "nobody@example.test"], 3, "no group nobody@example.test"),
    "there already": (["group", "create", OFFICE], 4, OFFICE),
    "malformed address": (["member", "add", OFFICE, "a@b@c"], 2, "a@b@c"),
    "unknown switch": (["group", "set", OFFICE, "reply_to_grup=on"], 2, "reply_to_grup: no such setting"),
    "refused in the session": (["send", "--to", "nobody@example.test"], 1, "550 5.1.1"),
    "foreign domain": (["send", "--to", "x@example.org"], 1, "550 5.7.1"),
    "no such post": (["trace", "<none@example.test>"], 3, "no such post"),
    "nothing parked": (["parked", "retry", "7"], 3, "nothing is parked under 7"),
    "signal to nobody": (["signal", "nobody@example.test", "hello"], 3, "no group"),
    "nobody listens": (["send", "--to", OFFICE, "--via", "127.0.0.1:9"], 75, "no mail server answers on 127.0.0.1:9"),
    "CSV with bad lines": (["member", "import", OFFICE, "-"], 2, "line 3"),
}


def test_errors_of_the_command_line_say_what_is_wrong_and_change_nothing(demo: System) -> None:
    members = demo.cli("member", "list", OFFICE)
    csv = "address,name\nnew@example.test,New\nbad@@example.test,Bad\nother@example.test,\n"
    for case, (words, status, sentence) in COMMANDS.items():
        done = demo.run(*words, standard_input=csv)
        assert (case, done.returncode) == (case, status), done.stderr
        assert sentence in done.stderr, case
        assert "Traceback" not in done.stderr, case
    assert demo.cli("member", "list", OFFICE) == members
