"""What becomes of a message, one behaviour a test, on one running Horo: counts at the client, at the next hop, in mailboxes and in the trace."""

from __future__ import annotations

import email
import smtplib
from collections.abc import Iterator, Mapping
from email.message import Message as Parsed
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e import client
from tests.e2e.client import Session, compose
from tests.e2e.sinks import NextHop
from tests.e2e.system import CommandFailed, System, delivered, left_out, sums
from tests.support.processes import Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e


class Place(NamedTuple):
    """A running Horo whose mail for home.test goes to Maildirs, and for everybody else to a next hop."""

    system: System
    hop: NextHop
    home: Path

    def mailbox(self, person: str) -> list[bytes]:
        """The mail of name@home.test, in the order in which it came."""
        local = person.partition("@")[0]
        return [path.read_bytes() for path in sorted((self.home / "home.test" / local / "new").glob("*"))]

    def one(self, person: str, count: int = 1) -> Parsed:
        """The last mail of a mailbox, once it has `count`."""
        wait_until(lambda: len(self.mailbox(person)) >= count, f"mail {count} for {person}")
        found = self.mailbox(person)
        assert len(found) == count
        return email.message_from_bytes(found[-1])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("outcomes")
    processes, hop = Processes(folder), NextHop()
    home = folder / "home"
    try:
        system = System(processes, folder, {"HORO_NEXT_HOP": hop.url, "HORO_ROUTES": f"home.test=maildir:{home}"})
        yield Place(system, hop, home)
        assert system.terminate() == [0]
    finally:
        processes.close()
        hop.close()


def test_p4_each_recipient_has_a_fate_of_its_own_and_owners_hear_of_failures(place: Place) -> None:
    people = ("ok@mixed.test", "450-2_late@mixed.test", "550_gone@mixed.test", "552-dot_full@mixed.test")
    place.system.group("mixed@example.test", people[:3], "owners=owner1@home.test,owner2@home.test")
    post = place.system.accepted(compose("mixed@example.test", mail_from="writer1@home.test"))
    document = place.system.settled(post)
    assert sums(document) == (3, 2, 0, 1, 0)
    rows = {row["address"]: row for row in document["addresses"]}
    assert [(rows[person]["state"], rows[person]["attempts"], rows[person]["code"]) for person in people[:3]] == [
        ("delivered", 1, 250),
        ("delivered", 3, 250),
        ("failed", 1, 550),
    ]
    assert {person: place.hop.counts[person] for person in people} == dict(zip(people, (1, 1, 0, 0), strict=True))
    for owner in ("owner1@home.test", "owner2@home.test"):
        notice = place.one(owner)
        assert (notice["Return-Path"], notice["Auto-Submitted"]) == ("<>", "auto-generated")
        text = notice.get_payload()
        assert isinstance(text, str)
        assert "550_gone@mixed.test" in text
        assert "550 5.1.1 no such user" in text
        assert "ok@mixed.test" not in text
    assert place.mailbox("writer1@home.test") == []  # envelope=list: the group answers for its members


def test_p9_report_delivery_tells_the_author_once_and_names_the_group_alone(place: Place) -> None:
    place.system.group("told@example.test", ["ana@told.test", "boris@told.test"], "report_delivery=on")
    message = compose("told@example.test", mail_from="writer2@home.test")
    place.system.settled(place.system.accepted(message))
    report = place.one("writer2@home.test")
    assert (report.get_content_type(), report["Return-Path"], report["Auto-Submitted"]) == (
        "multipart/report",
        "<>",
        "auto-replied",
    )
    raw = place.mailbox("writer2@home.test")[0]
    assert b"\nFinal-Recipient: rfc822; told@example.test\n" in raw.replace(b"\r\n", b"\n")
    assert b"\nAction: delivered\n" in raw.replace(b"\r\n", b"\n")
    assert raw.lower().count(b"final-recipient") == 1
    assert b"@told.test" not in raw

    place.system.settled(place.system.accepted(message))  # the client lost our 250: the same octets again
    place.system.settled(
        place.system.accepted(compose("told@example.test", mail_from="writer2@home.test", notify="NEVER"))
    )
    place.system.settled(place.system.accepted(compose("told@example.test", mail_from="writer2@home.test")))
    assert place.one("writer2@home.test", 2)["In-Reply-To"] != f"<{message.id}>"
    assert place.hop.counts["ana@told.test"] == 3


def test_notify_success_is_answered_whatever_the_switch_says(place: Place) -> None:
    place.system.group("asked@example.test", ["ana@asked.test"])
    message = compose("asked@example.test", mail_from="writer3@home.test")
    with smtplib.SMTP("127.0.0.1", place.system.smtp, timeout=30) as smtp:
        smtp.sendmail(
            "writer3@home.test",
            ["asked@example.test"],
            message.content,
            mail_options=["RET=HDRS", "ENVID=job+2B7"],
            rcpt_options=["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;First+2BName@example.test"],
        )
    place.system.settled(message.id)
    report = place.one("writer3@home.test").as_bytes().replace(b"\r\n", b"\n")
    for line in (
        b"Original-Envelope-Id: job+7",
        b"Original-Recipient: rfc822; First+Name@example.test",
        b"Final-Recipient: rfc822; asked@example.test",
        b"Action: delivered",
    ):
        assert b"\n" + line + b"\n" in report
    assert b"ana@asked.test" not in report


def test_a_reply_to_the_group_reaches_who_started_the_thread_though_no_member(place: Place) -> None:
    place.system.group("support@example.test", ["agent@thread.test", "boss@thread.test"])
    question = compose("support@example.test", mail_from="customer@thread.test")
    place.system.settled(place.system.accepted(question))
    answer = compose(
        "support@example.test",
        mail_from="agent@thread.test",
        headers=[f"In-Reply-To: <{question.id}>", f"References: <{question.id}>"],
    )
    document = place.system.settled(place.system.accepted(answer))
    assert delivered(document) == ["boss@thread.test", "customer@thread.test"]
    assert left_out(document) == [("agent@thread.test", "author")]
    place.system.cli("group", "set", "support@example.test", "thread_author=off")
    again = compose("support@example.test", mail_from="boss@thread.test", headers=[f"In-Reply-To: <{question.id}>"])
    assert delivered(place.system.settled(place.system.accepted(again))) == ["agent@thread.test"]
    counts = {person: place.hop.counts[f"{person}@thread.test"] for person in ("agent", "boss", "customer")}
    assert counts == {"agent": 2, "boss": 2, "customer": 1}


REFUSALS: Mapping[str, tuple[str, dict[str, object], str]] = {
    "unknown group": ("nobody@example.test", {}, "550 5.1.1"),
    "foreign domain": ("office@elsewhere.test", {}, "550 5.7.1"),
    "disabled group": ("closed@example.test", {}, "550 5.2.1"),
    "null sender": ("strict@example.test", {"mail_from": "", "author": "mailer@example.net"}, "550 5.7.1"),
    "automatic": ("strict@example.test", {"headers": ["Auto-Submitted: auto-replied"]}, "550 5.7.1"),
    "vacation by Precedence": ("strict@example.test", {"headers": ["Precedence: bulk"]}, "550 5.7.1"),
    "not allowed to post": ("members@example.test", {}, "550 5.7.1"),
    "too large, announced": ("small@example.test", {"mail_parameters": " SIZE=9999"}, "552 5.3.4"),
    "too large, found": ("small@example.test", {"body": b"x" * 70 + b"\r\n" * 3000}, "552 5.3.4"),
    "too many hops": ("strict@example.test", {"headers": ["Received: from a by b; now"] * 101}, "554 5.4.6"),
    "bare line feed": ("strict@example.test", {"body": b"one\ntwo\r\n"}, "521 5.5.2"),
    "NUL": ("strict@example.test", {"body": b"one\0two\r\n"}, "521 5.5.2"),
    "malformed address": ("a@b@example.test", {}, "501 5.1.3"),
}


def test_p5_what_can_be_refused_is_refused_in_the_session_and_leaves_no_copy(place: Place) -> None:
    for name, *settings in (
        ("closed", "disabled=on"),
        ("strict",),
        ("members", "who_can_post=members"),
        ("small", "max_size=5000"),
    ):
        place.system.group(f"{name}@example.test", [f"ana@refused-{name}.test"], *settings)
    for case, (to, made, expected) in REFUSALS.items():
        message = compose(to, **made)  # type: ignore[arg-type]
        reply = place.system.send(message)
        assert (case, str(reply)[: len(expected)]) == (case, expected), reply
    last = place.system.settled(place.system.accepted(compose("strict@example.test")))
    assert delivered(last) == ["ana@refused-strict.test"]
    assert [post["post"]["id"] for post in place.system.traces("strict@example.test")] == [last["post"]["id"]]
    with pytest.raises(CommandFailed, match="no such post"):
        place.system.trace(message.id)
    assert sum(count for person, count in place.hop.counts.items() if "@refused-" in person) == 1
    assert place.system.run("send", "--to", "closed@example.test").returncode == 1


def test_p5_lmtp_answers_each_recipient_and_smtp_sends_the_odd_one_apart(place: Place) -> None:
    place.system.group("open1@example.test", ["ana@front.test", "boris@front.test"])
    place.system.group("open2@example.test", ["boris@front.test", "carla@front.test"])
    place.system.group("inner@example.test", ["dora@front.test"], "who_can_post=members")
    to = ("open1@example.test", "inner@example.test", "open2@example.test")
    message = compose(*to)
    with Session(place.system.lmtp, lmtp=True) as session:
        assert [reply.code for reply in session.envelope(message)] == [250] * 4
        session.content(message)
        replies = [session.reply() for _ in to]
        assert [reply.code for reply in replies] == [250, 550, 250]
        assert replies[1].text.startswith("5.7.1")
        assert session.command("NOOP").code == 250  # exactly one reply each: client and server agree on where they are
    document = place.system.settled(message.id)
    assert delivered(document) == ["ana@front.test", "boris@front.test", "carla@front.test"]
    assert left_out(document) == [("boris@front.test", "duplicate")]
    with Session(place.system.smtp) as session:
        codes = [(reply.code, reply.text[:5]) for reply in session.envelope(compose(*to))]
    assert codes[1:] == [(250, "2.1.5"), (452, "4.5.3"), (250, "2.1.5")]
    assert {person: place.hop.counts[f"{person}@front.test"] for person in ("ana", "boris", "carla", "dora")} == {
        "ana": 1,
        "boris": 1,
        "carla": 1,
        "dora": 0,
    }


def test_a_copy_that_comes_back_to_its_group_is_swallowed_and_traced(place: Place) -> None:
    place.system.group("round@example.test", ["ana@loop.test", "boris@loop.test"])
    place.system.settled(place.system.accepted(compose("round@example.test")))
    (copy,) = place.hop.of("ana@loop.test")
    identity = client.message_id(copy.content)
    returned = client.Message(identity, ("round@example.test",), "ana@loop.test", copy.content)
    document = place.system.settled(place.system.accepted(returned))
    assert document["targets"][0]["verdict"] == "loop"
    assert left_out(document) == [("round@example.test", "loop")]
    assert sums(document) == (1, 0, 0, 0, 1)
    stripped = copy.content.replace(
        b"X-Horo-Loop:", b"X-Other-Mark:"
    )  # without our mark it is a message like any other
    again = client.Message(identity, ("round@example.test",), "ana@loop.test", stripped)
    assert delivered(place.system.settled(place.system.accepted(again))) == ["ana@loop.test", "boris@loop.test"]
    assert place.hop.counts["ana@loop.test"] == 2


def test_p3_the_same_message_again_is_known_for_a_repetition(place: Place) -> None:
    place.system.group("twice@example.test", ["ana@twice.test"])
    message = compose("twice@example.test")
    first, second = place.system.accepted(message), place.system.accepted(message)
    assert first != second
    assert sums(place.system.settled(first)) == (1, 1, 0, 0, 0)
    repeated = place.system.settled(second)
    assert repeated["targets"][0]["verdict"] == "repetition"
    assert left_out(repeated) == [("twice@example.test", "repetition")]
    assert place.hop.counts["ana@twice.test"] == 1


def test_a_group_of_the_author_alone_takes_the_message_and_says_that_nobody_got_it(place: Place) -> None:
    place.system.group("alone@example.test", ["me@alone.test"])
    document = place.system.settled(place.system.accepted(compose("alone@example.test", mail_from="me@alone.test")))
    assert document["targets"][0]["verdict"] == "no_recipients"
    assert sums(document) == (1, 0, 0, 0, 1)
    assert place.hop.counts["me@alone.test"] == 0


def test_a_sub_group_that_is_not_expanded_in_place_gets_a_post_of_its_own(place: Place) -> None:
    place.system.group("inside@example.test", ["ana@nested.test", "boris@nested.test"], "subject_prefix=[inside]")
    place.system.group("outside@example.test", ["ana@nested.test", "inside@example.test"], "expand_groups=off")
    document = place.system.settled(place.system.accepted(compose("outside@example.test")))
    assert delivered(document) == ["ana@nested.test", "inside@example.test"]
    handed = next(row for row in document["addresses"] if row["address"] == "inside@example.test")
    child = place.system.settled(handed["text"].rpartition(" ")[2])
    assert child["post"]["parent"] == document["post"]["id"]
    assert delivered(child) == ["ana@nested.test", "boris@nested.test"]
    subjects = [client.header(copy.content, "Subject")[0] for copy in place.hop.of("boris@nested.test")]
    assert len(subjects) == 1
    assert subjects[0].startswith("[inside] ")


def test_a_bounce_goes_to_the_owners_and_is_never_expanded(place: Place) -> None:
    place.system.group("bounced@example.test", ["ana@bounced.test"], "owners=owner3@home.test")
    place.system.settled(place.system.accepted(compose("bounced@example.test")))
    (copy,) = place.hop.of("ana@bounced.test")
    assert copy.mail_from.startswith("bounced-bounces+")
    bounce = compose(copy.mail_from, mail_from="", author="mailer-daemon@bounced.test")
    place.system.accepted(bounce)
    forwarded = place.one("owner3@home.test")
    assert forwarded["Return-Path"] == "<>"
    assert forwarded["Message-ID"] == f"<{bounce.id}>"
    assert place.hop.counts["ana@bounced.test"] == 1


def test_mail_that_nobody_answers_for_is_parked_and_comes_back_when_that_is_mended(place: Place) -> None:
    place.system.group("lonely@example.test", ["ana@lonely.test"])
    message = compose("lonely-owner@example.test")
    place.system.accepted(message)
    wait_until(lambda: place.system.cli("parked", "list"), "the message to be parked", pause=0.3)
    (parked,) = place.system.cli("parked", "list")
    assert parked["queue"] == "posts"
    assert "nobody answers for lonely-owner@example.test" in parked["reason"]
    assert place.system.cli("parked", "show", str(parked["number"]))["message"]["mail_from"] == client.AUTHOR
    place.system.cli("group", "set", "lonely@example.test", "owners=owner4@home.test")
    assert place.system.cli("parked", "retry", str(parked["number"])) == {"retried": [parked["number"]]}
    assert place.one("owner4@home.test")["Message-ID"] == f"<{message.id}>"
    assert place.system.cli("parked", "list") == []
    assert place.hop.counts["ana@lonely.test"] == 0


def test_a_paused_member_and_own_copies_are_obeyed(place: Place) -> None:
    place.system.group("switches@example.test", ["paused@own.test", "writer@own.test", "boris@own.test"])
    place.system.cli("member", "pause", "switches@example.test", "paused@own.test")
    place.system.cli("member", "remove", "switches@example.test", "writer@own.test")
    place.system.cli("member", "add", "switches@example.test", "writer@own.test", "--own-copies")
    document = place.system.settled(
        place.system.accepted(compose("switches@example.test", mail_from="writer@own.test"))
    )
    assert delivered(document) == ["boris@own.test", "writer@own.test"]
    assert left_out(document) == [("paused@own.test", "paused")]
    trace = place.system.cli("trace", "--recipient", "paused@own.test")["posts"]
    assert [row["reason"] for post in trace for row in post["addresses"]] == ["paused"]
