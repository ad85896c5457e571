"""Lists of Mailman 3 as groups: from a real Mailman by its REST API, and setting by setting from what such a Mailman said."""

from __future__ import annotations

import http.server
import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.migrate.mailman import MailmanList, Subscriber, groups
from tests.cli.conftest import Horo
from tests.support import mailman
from tests.support.ports import free_port, release_port

TEAM, NEWS = "team@lists.example.test", "news@lists.example.test"
PLAIN: dict[str, Any] = {
    "default_member_action": "defer",
    "default_nonmember_action": "accept",
    "reply_goes_to_list": "no_munging",
    "archive_policy": "never",
    "dmarc_mitigate_action": "no_mitigation",
}


def one(members: tuple[Subscriber, ...] = (), **config: Any) -> MailmanList:
    """A list as Mailman has it, with some of its settings."""
    return MailmanList(address=TEAM, config={**PLAIN, **config}, members=members)


def settings(members: tuple[Subscriber, ...] = (), **config: Any) -> dict[str, Any]:
    """What becomes of its settings."""
    [group] = groups([one(members, **config)]).groups
    return dict(group.settings)


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        ({"default_nonmember_action": "accept"}, "who_can_post", "anyone"),
        ({"default_nonmember_action": "defer"}, "who_can_post", "anyone"),
        ({"default_nonmember_action": "hold"}, "who_can_post", "members"),
        ({"default_nonmember_action": "discard"}, "who_can_post", "members"),
        ({"default_nonmember_action": "accept", "default_member_action": "reject"}, "who_can_post", "owners"),
        ({"reply_goes_to_list": "no_munging"}, "reply_to_group", False),
        ({"reply_goes_to_list": "point_to_list"}, "reply_to_group", True),
        ({"reply_goes_to_list": "explicit_header", "reply_to_address": "x@y.test"}, "reply_to_group", False),
        ({"reply_goes_to_list": "explicit_header_only", "reply_to_address": TEAM.upper()}, "reply_to_group", True),
        ({"max_message_size": 40}, "max_size", 40 * 1024),
        ({"max_message_size": 0}, "max_size", 0),
        ({"subject_prefix": "[Team] "}, "subject_prefix", "[Team] "),
        ({"display_name": "Кръг"}, "title", "Кръг"),
        ({"description": "short", "info": ""}, "description", "short"),
        ({"description": "short", "info": "long\nand longer"}, "description", "long\nand longer"),
        ({"preferred_language": "bg"}, "language", "bg"),
        ({"preferred_language": "tlh"}, "language", ""),
    ],
)
def test_a_setting_that_means_the_same_here_comes_along(config: dict[str, Any], name: str, value: object) -> None:
    assert settings(**config)[name] == value


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"config": {"default_nonmember_action": "hold"}}, "held for a moderator"),
        ({"config": {"default_member_action": "hold"}}, "only owners"),
        ({"config": {"emergency": True}}, "emergency"),
        ({"config": {"anonymous_list": True}}, "authors are hidden"),
        ({"config": {"dmarc_mitigate_action": "munge_from"}}, "DMARC"),
        ({"config": {"archive_policy": "public"}}, "the archive"),
        ({"config": {"filter_content": True}}, "filtered"),
        ({"config": {"autorespond_postings": "respond_and_continue"}}, "automatic answers (postings)"),
        ({"config": {"gateway_to_news": True}}, "newsgroup"),
        ({"config": {"acceptable_aliases": ["crew@example.test"]}}, "crew@example.test"),
        ({"config": {"accept_these_nonmembers": ["boss@example.test"]}}, "single strangers"),
        ({"config": {"reply_goes_to_list": "explicit_header", "reply_to_address": "x@y.test"}}, "x@y.test"),
        ({"members": (Subscriber(email="a@x.test", delivery_mode="mime_digests"),)}, "digests for 1 member"),
        ({"members": (Subscriber(email="a@x.test", delivery_status="by_bounces"),)}, "bounces for 1 member"),
        ({"members": (Subscriber(email="a@x.test", moderation_action="hold"),)}, "posts of 1 member"),
        ({"nonmembers": (Subscriber(email="a@x.test", moderation_action="accept"),)}, "single strangers"),
        ({"moderators": ("m@x.test",)}, "m@x.test"),
        ({"held": 3}, "3 held messages"),
        ({"requests": 2}, "2 requests"),
        ({"bans": 4}, "4 banned"),
        ({"header_matches": 5}, "5 header rules"),
        ({"footer": True}, "footer"),
    ],
)
def test_what_does_not_come_along_is_told_for_the_list_that_uses_it(changes: dict[str, Any], told: str) -> None:
    made = msgspec.structs.replace(one(), **{**changes, "config": {**PLAIN, **changes.get("config", {})}})
    [note] = groups([made]).notes
    assert note.where == TEAM
    assert told in f"{note.what} -> {note.why}"


def test_a_list_that_uses_nothing_of_it_has_no_note() -> None:
    found = groups([one((Subscriber(email="ana@x.test"),))])
    assert (found.notes, found.refused) == ([], [])


def test_who_wants_no_own_posts_gets_none_and_all_others_do() -> None:
    wants, not_ = Subscriber(email="a@x.test"), Subscriber(email="b@x.test", receive_own_postings=False)
    [group] = groups([one((wants, not_))]).groups
    assert group.settings["remove_author"] is True
    assert {member.address: member.own_copies for member in group.members} == {"a@x.test": True, "b@x.test": False}
    [group] = groups([one((wants,))]).groups
    assert (group.settings["remove_author"], group.members[0].own_copies) == (False, False)


def test_hostile_values_are_refused_and_hold_up_nothing() -> None:
    found = groups(
        [
            one(
                (Subscriber(email="a@x.test\r\nBcc: b@x.test"), Subscriber(email="ok@x.test")),
                display_name="a\r\nBcc: b",
            ),
            msgspec.structs.replace(one(), address="no address"),
        ]
    )
    [group] = found.groups
    assert [member.address for member in group.members] == ["ok@x.test"]
    assert "title" not in group.settings
    assert len(found.refused) == 3


# --- a real Mailman ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[mailman.Rest]:
    """A Mailman with two lists."""
    try:
        mailman.environment()
    except mailman.CannotRun as error:
        pytest.skip(str(error))
    with mailman.running(tmp_path_factory.mktemp("mailman")) as made:
        _lists(made)
        yield made


def _lists(rest: mailman.Rest) -> None:
    rest.post("domains", mail_host="lists.example.test")
    for address in (TEAM, NEWS):
        rest.post("lists", fqdn_listname=address)
    agreed = {"pre_verified": True, "pre_confirmed": True, "pre_approved": True, "list_id": "team.lists.example.test"}
    people = {
        "Ana@example.test": {"display_name": "Ana Petrova"},
        "boris@gmail.test": {"delivery_mode": "mime_digests"},
        "vera@gmail.test": {"display_name": "Вера Илиева", "delivery_status": "by_user"},
        "ivan@gmail.test": {"delivery_status": "by_bounces"},
    }
    for address, more in people.items():
        rest.post("members", subscriber=address, **agreed, **more)
    rest.post("members", subscriber="ana@example.test", role="owner", **agreed)
    vera = rest.get("lists/team.lists.example.test/roster/member?fields=member_id&fields=email")["entries"]
    [vera_id] = [entry["member_id"] for entry in vera if entry["email"] == "vera@gmail.test"]
    rest.patch(f"members/{vera_id}/preferences", receive_own_postings=False)
    rest.patch("lists/team.lists.example.test/config", reply_goes_to_list="point_to_list", max_message_size=500)
    rest.patch("lists/news.lists.example.test/config", default_member_action="hold", archive_policy="never")


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILMAN_REST_PASSWORD", mailman.PASSWORD)


def test_lists_of_a_real_mailman_become_groups(
    rest: mailman.Rest, horo: Horo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = horo("import", "mailman", rest.url)
    assert shown.status == 0, shown.err
    assert "digests for 1 member" in shown.out
    assert horo("group", "list", "--json").json == []

    made = horo("import", "mailman", rest.url, "--apply", "--json").json
    assert {one["address"]: one["action"] for one in made["groups"]} == {NEWS: "create", TEAM: "create"}
    team = horo("group", "show", TEAM, "--json").json["settings"]
    assert (team["who_can_post"], team["reply_to_group"], team["max_size"]) == ("members", True, 500 * 1024)
    assert (team["owners"], team["subject_prefix"], team["title"]) == (["ana@example.test"], "[Team] ", "Team")
    assert horo("group", "show", NEWS, "--json").json["settings"]["who_can_post"] == "owners"
    people = {one["address"]: one for one in horo("member", "list", TEAM, "--json").json}
    assert sorted(people) == ["ana@example.test", "boris@gmail.test", "ivan@gmail.test", "vera@gmail.test"]
    assert people["vera@gmail.test"]["name"] == "Вера Илиева"
    assert [address for address, one in sorted(people.items()) if one["paused"]] == [
        "ivan@gmail.test",
        "vera@gmail.test",
    ]
    assert [address for address, one in sorted(people.items()) if not one["own_copies"]] == ["vera@gmail.test"]

    saved = tmp_path / "lists.json"
    assert horo("import", "mailman", rest.url, "--save", str(saved)).status == 0
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    assert mailman.PASSWORD not in saved.read_text()
    again = horo("import", "mailman", str(saved), "--replace", "--json").json
    assert {one["action"] for one in again["groups"]} == {"keep"}
    part = horo("import", "mailman", rest.url, "--only", "news@*", "--json").json
    assert [one["address"] for one in part["groups"]] == [NEWS]

    monkeypatch.setenv("MAILMAN_REST_PASSWORD", "wrong")
    refused = horo("import", "mailman", rest.url)
    assert (refused.status, "admin_pass" in refused.err) == (75, True)


# --- what is no Mailman -----------------------------------------------------------------------------------------------
@pytest.fixture
def stranger() -> Iterator[str]:
    """A server that answers everything with JSON that is no collection, and what is below /redirect elsewhere."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = b'{"entries": [{"surprise": 1}]}' if "/3.1" in self.path else b'{"entries": ["word"]}'
            body = found if "/list" in self.path else b'{"mailman_version": 3}'
            self.send_response(302 if self.path.startswith("/redirect") else 200)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port := free_port()), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
    release_port(port)


@pytest.mark.parametrize("path", ["/3.1", "/3.2", "/redirect"])
def test_a_server_that_is_no_mailman_is_told_apart(stranger: str, path: str, horo: Horo) -> None:
    done = horo("import", "mailman", stranger + path)
    assert done.status == 75
    assert "is that Mailman's REST API?" in done.err


@pytest.mark.parametrize(
    ("source", "content", "status"),
    [
        ("http://127.0.0.1:9/3.1", None, 75),
        ("ftp://localhost/", None, 75),
        ("none.json", None, 2),
        ("bad.json", b"\xff\x00", 2),
        ("deep.json", b"[" * 100_000, 2),
        ("other.json", b'{"lists": 1}', 2),
    ],
)
def test_a_source_that_cannot_be_read_ends_it(
    source: str, content: bytes | None, status: int, horo: Horo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path(source).write_bytes(content)
    assert horo("import", "mailman", source).status == status


def test_without_a_password_nobody_is_asked_in_a_script(
    horo: Horo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MAILMAN_REST_PASSWORD")
    done = horo("import", "mailman", "http://127.0.0.1:9/3.1")
    assert done.status == 2
    assert "--password-file" in done.err
    (tmp_path / "password").write_text("word\n")
    assert (
        horo("import", "mailman", "http://127.0.0.1:9/3.1", "--password-file", str(tmp_path / "password")).status == 75
    )


def test_an_export_reads_what_an_older_horo_saved(horo: Horo, tmp_path: Path) -> None:
    """The file is a contract: its fields may grow, and what they leave out has a default."""
    document = {
        "mailman": "GNU Mailman 3.3.8",
        "lists": [{"address": TEAM, "config": PLAIN, "members": [{"email": "a@x.test"}]}],
    }
    (tmp_path / "lists.json").write_text(json.dumps(document))
    [group] = horo("import", "mailman", str(tmp_path / "lists.json"), "--json").json["groups"]
    assert (group["address"], group["add"]) == (TEAM, ["a@x.test"])
