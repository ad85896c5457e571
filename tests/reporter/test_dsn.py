"""The bytes of a report, read by three independent readers: the RFC's grammar (rfc3464.py), the stdlib, and flufl.bounce."""

from __future__ import annotations

import email
import email.policy
from email.header import decode_header, make_header
from typing import Any

import pytest
from flufl.bounce import all_failures
from hypothesis import given
from hypothesis import strategies as st

from services.reporter import dsn, mime
from services.reporter.decide import Action
from services.reporter.dsn import Block, Dsn, Returned
from tests.reporter.rfc3464 import Status
from tests.reporter.world import AUTHOR, NOW, fate, octets

POSITIVE = Block(final="Office@example.test", action=Action.DELIVERED, status="2.1.5")


def report(*blocks: Block, **changes: Any) -> Dsn:
    values: dict[str, Any] = {
        "id": "01k4report",
        "hostname": "mx.example.test",
        "to": AUTHOR,
        "address": "Office@example.test",
        "action": (blocks or (POSITIVE,))[0].action,
        "at": NOW + 1,
        "arrived_at": NOW,
        "blocks": blocks or (POSITIVE,),
        "message_id": "<m1@author.example>",
        "subject": "Plan for Monday",
    }
    return Dsn(**{**values, **changes})


def built(*blocks: Block, **changes: Any) -> Status:
    return Status(octets(dsn.build(report(*blocks, **changes))))


def test_a_delivered_report_says_what_the_rfcs_ask() -> None:
    status = built(envid="QQ+2B314", returned=Returned(head=b"From: a@b\r\nSubject: x\r\n"))
    assert status.message["From"] == "Mail Delivery System <MAILER-DAEMON@mx.example.test>"
    assert status.message["To"] == f"<{AUTHOR}>"
    assert status.message["Auto-Submitted"] == "auto-replied"
    assert status.message["In-Reply-To"] == "<m1@author.example>"
    assert status.message["Message-ID"] == "<01k4report@mx.example.test>"
    assert status.per_message == {
        "original-envelope-id": "QQ+314",
        "reporting-mta": "dns; mx.example.test",
        "arrival-date": "Mon, 23 Nov 2026 12:00:00 +0000",
    }
    assert status.recipients == [
        {"final-recipient": "rfc822; Office@example.test", "action": "delivered", "status": "2.1.5"}
    ]
    assert status.kind == "message/delivery-status"
    assert (status.original_kind, status.original) == ("text/rfc822-headers", b"From: a@b\r\nSubject: x\r\n")
    assert "Office@example.test" in status.text
    assert "Plan for Monday" in status.text


def test_the_stdlib_reads_the_status_groups_too() -> None:
    message = email.message_from_bytes(octets(dsn.build(report())), policy=email.policy.default)
    assert not message.defects
    groups = message.get_payload()[1].get_payload()
    assert [group["Action"] for group in groups] == [None, "delivered"]
    assert groups[1]["Final-Recipient"] == "rfc822; Office@example.test"


@pytest.mark.parametrize("action", list(Action))
def test_every_action_makes_a_valid_report(action: Action) -> None:
    status = {Action.FAILED: "5.1.1", Action.DELAYED: "4.2.1"}.get(action, "2.1.5")
    read = built(Block(final="Office@example.test", action=action, status=status))
    assert read.recipients[0]["action"] == action.value
    assert "Office@example.test" in read.text


def test_no_original_envelope_id_and_no_original_recipient_where_none_was_given() -> None:
    status = built()
    assert "original-envelope-id" not in status.per_message
    assert "original-recipient" not in status.recipients[0]
    assert status.original_kind == ""


@pytest.mark.parametrize(
    ("envid", "expected"),
    [
        ("CaseKept", "CaseKept"),
        ("a+3Db", "a=b"),
        ("+0D+0AX-Evil:+20yes", "+0D+0AX-Evil:+20yes"),
        ("a\r\nB: c", "a B: c"),
        ("+E9", "+E9"),
    ],
)
def test_envelope_id_is_decoded_but_never_writes_a_header(envid: str, expected: str) -> None:
    assert built(envid=envid).per_message["original-envelope-id"] == expected


@pytest.mark.parametrize(
    ("orcpt", "expected"),
    [
        ("rfc822;Office+2Bx@example.test", "rfc822; Office+x@example.test"),
        ("RFC822;a@b", "RFC822; a@b"),
        ("x400;/C=bg/", "x400; /C=bg/"),
        ("utf-8;\\x{43E}\\x{444}@example.test", "utf-8; оф@example.test"),
        ("utf-8;оф@example.test", "utf-8; оф@example.test"),
        ("utf-8;a\\x{0D}\\x{0A}b@x", ""),
        ("utf-8;a\\x{D800}@x", ""),
        ("utf-8;a\\x{FFFFFF}@x", ""),
        ("rfc822;a+0D+0AX: y@b", "rfc822; a+0D+0AX: y@b"),
        ("rfc822;", ""),
        ("no type", ""),
        ("bad type;a@b", ""),
        (";a@b", ""),
        (None, ""),
    ],
)
def test_original_recipient_comes_from_orcpt_alone(orcpt: str | None, expected: str) -> None:
    assert dsn.original_recipient(orcpt) == expected
    block = Block(final="o@example.test", action=Action.DELIVERED, status="2.1.5", orcpt=orcpt)
    assert built(block).recipients[0].get("original-recipient", "") == expected


def test_a_utf8_group_makes_global_types_that_reach_an_ascii_author_without_smtputf8() -> None:
    block = Block(final="офис@example.test", action=Action.DELIVERED, status="2.1.5")
    content = dsn.build(report(block, address="офис@example.test"))
    assert octets(content).isascii(), "7-bit, so that any server takes it"
    status = Status(octets(content))
    assert status.kind == "message/global-delivery-status"
    assert status.recipients[0]["final-recipient"] == "utf-8; офис@example.test"
    assert "офис@example.test" in status.text
    assert "офис@example.test" in str(make_header(decode_header(status.message["Subject"])))


def test_a_utf8_author_gets_8bit_parts_and_global_headers() -> None:
    block = Block(final="офис@example.test", action=Action.DELIVERED, status="2.1.5")
    head = "From: ана@author.example\r\nSubject: Здравей\r\n".encode()
    content = dsn.build(
        report(block, to="ана@author.example", address="офис@example.test", returned=Returned(head=head))
    )
    assert "To: <ана@author.example>".encode() in content.head
    status = Status(octets(content))
    assert (status.original_kind, status.original) == ("message/global-headers", head)


def test_old_8bit_headers_come_back_as_they_were() -> None:
    head = b"Subject: \xe7\xe4\xf0\xe0\xe2\xe5\xe9\r\n"
    status = built(returned=Returned(head=head))
    assert (status.original_kind, status.original) == ("text/rfc822-headers", head)


def test_long_lines_and_bare_newlines_of_an_original_are_wrapped_in_an_encoding() -> None:
    for head in (b"X: " + b"a" * 5000 + b"\r\n", b"X: a\nb\r\n", b"X: \0\r\n"):
        assert built(returned=Returned(head=head)).original.replace(b"\n", b"").replace(b"\r", b"") == head.replace(
            b"\n", b""
        ).replace(b"\r", b"")


@pytest.mark.parametrize("body", [b"hello\r\n", b"\xff\xfe 8-bit\r\n", b"--=_x\r\n"])
def test_ret_full_returns_the_whole_message(body: bytes) -> None:
    whole = b"From: a@b\r\n\r\n" + body
    failed = dsn.block_of_fate(fate(), action=Action.FAILED, orcpt=None)
    status = built(failed, returned=Returned(head=b"From: a@b\r\n", whole=whole))
    assert (status.original_kind, status.original.rstrip()) == ("message/rfc822", whole.rstrip())


def test_a_whole_message_that_cannot_travel_unencoded_comes_back_as_its_header() -> None:
    whole = b"From: a@b\r\n\r\n" + b"x" * 2000
    assert built(returned=Returned(head=b"From: a@b\r\n", whole=whole)).original_kind == "text/rfc822-headers"
    utf8 = "From: ана@b\r\n\r\nx\r\n".encode()
    assert (
        built(returned=Returned(head=utf8.partition(b"\r\n\r\n")[0] + b"\r\n", whole=utf8)).original_kind
        == "message/global-headers"
    )


def test_failures_behind_an_alias_are_read_by_flufl_as_permanent() -> None:
    fates = [
        fate("vera@other.test", code=0, status="", text="cannot connect", hop="10.0.0.1"),
        fate("boris@gmail.test"),
    ]
    blocks = dsn.blocks_of_fates(fates, action=Action.FAILED, orcpt="rfc822;Office@example.test")
    content = octets(dsn.build(report(*blocks)))
    status = Status(content)
    assert [fields["final-recipient"] for fields in status.recipients] == [
        "rfc822; boris@gmail.test",
        "rfc822; vera@other.test",
    ]
    assert status.recipients[0]["original-recipient"] == "rfc822; Office@example.test"
    assert status.recipients[0]["diagnostic-code"] == "smtp; 550 5.1.1 <boris@gmail.test>: what the server said"
    assert status.recipients[0]["remote-mta"] == "dns; mx.gmail.test"
    assert status.recipients[1]["status"] == "5.0.0"
    assert status.recipients[1]["diagnostic-code"] == "x-horo; cannot connect", "no server said anything"
    assert "remote-mta" not in status.recipients[1]
    temporary, permanent = all_failures(email.message_from_bytes(content))
    assert (set(temporary), set(permanent)) == (set(), {b"Office@example.test"}), "by ORCPT, as the author wrote it"
    without = dsn.blocks_of_fates(fates, action=Action.FAILED, orcpt=None)
    temporary, permanent = all_failures(email.message_from_bytes(octets(dsn.build(report(*without)))))
    assert (set(temporary), set(permanent)) == (set(), {b"boris@gmail.test", b"vera@other.test"})


@pytest.mark.parametrize(
    ("hop", "remote"),
    [
        ("mx1.gmail.test[192.0.2.1]:25", "dns; mx1.gmail.test"),  # as the sender writes a mail exchanger
        ("mx1.gmail.test[2001:db8::1]:25", "dns; mx1.gmail.test"),
        ("relay.example.test:587", "dns; relay.example.test"),
        ("mx.gmail.test", "dns; mx.gmail.test"),
        ("127.0.0.1:2525", None),
        ("10.0.0.1", None),
        ("relay:25", None),
        ("maildir", None),
        ("smtp://127.0.0.1:25", None),
        ("mx.gmail.test\r\nX: y", None),
        ("", None),
    ],
)
def test_remote_mta_is_the_name_of_the_server_that_answered(hop: str, remote: str | None) -> None:
    block = dsn.block_of_fate(fate("boris@gmail.test", hop=hop), action=Action.FAILED, orcpt=None)
    assert Status(octets(dsn.build(report(block)))).recipients[0].get("remote-mta") == remote


def test_a_delay_is_read_by_flufl_as_temporary_and_says_until_when() -> None:
    late = dsn.block_of_fate(
        fate(code=451, status="4.2.1"), action=Action.DELAYED, orcpt=None, retry_until=NOW + 432000
    )
    content = octets(dsn.build(report(late)))
    assert Status(content).recipients[0]["will-retry-until"] == "Sat, 28 Nov 2026 12:00:00 +0000"
    assert "until 28 November 2026, 12:00 UTC" in Status(content).text.replace("\r\n", " ")
    temporary, permanent = all_failures(email.message_from_bytes(content))
    assert (set(temporary), set(permanent)) == ({b"boris@gmail.test"}, set())


def test_a_success_is_no_failure_for_flufl() -> None:
    for action in (Action.DELIVERED, Action.EXPANDED, Action.RELAYED):
        content = octets(dsn.build(report(Block(final="o@example.test", action=action, status="2.1.5"))))
        assert all(not found for found in all_failures(email.message_from_bytes(content)))


def test_the_same_facts_give_the_same_octets() -> None:
    assert dsn.build(report()) == dsn.build(report())
    assert dsn.build(report()) != dsn.build(report(subject="other"))


hostile = st.one_of(
    st.text(max_size=80),
    st.sampled_from(["a\r\nBcc: x@y", "=?utf-8?q?=0ABcc:x?=", "\u2028", "\u202egpj", "\x00", "\x85X: y"]),
)


@given(
    subject=hostile,
    message_id=hostile,
    envid=hostile,
    orcpt=hostile,
    text=hostile,
    hop=hostile,
    status=hostile,
    final=hostile,
)
def test_nothing_that_outsiders_wrote_breaks_the_report(
    subject: str, message_id: str, envid: str, orcpt: str, text: str, hop: str, status: str, final: str
) -> None:
    failed = dsn.block_of_fate(
        fate(f"{final}x", text=text, hop=hop, status=status, code=550), action=Action.FAILED, orcpt=f"rfc822;{orcpt}"
    )
    head = dsn.head_from_fields(message_id=message_id, subject=subject, author=final)
    read = built(failed, subject=subject, message_id=message_id, envid=envid, returned=Returned(head=head))
    assert len(read.recipients) == 1
    allowed = {
        "from",
        "to",
        "subject",
        "date",
        "message-id",
        "auto-submitted",
        "in-reply-to",
        "references",
        "mime-version",
        "content-type",
    }
    assert {name.lower() for name in read.message} <= allowed


@given(st.text(), st.integers(min_value=4, max_value=100))
def test_clean_makes_one_bounded_line(text: str, limit: int) -> None:
    cleaned = mime.clean(text, limit)
    assert len(cleaned) <= limit
    assert len(cleaned.splitlines()) <= 1
    assert all(char.isprintable() or char == " " or char.isspace() for char in cleaned)
