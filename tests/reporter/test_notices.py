"""Mail to owners: plain, readable, bounded, right in both languages, and safe against what servers say."""

from __future__ import annotations

import email
import email.policy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporter import notices
from services.reporter.letters import ROWS
from services.reporter.notices import About, Counts, Day, Ended, Head, Line, Notice
from shared.messages import Content, Reason
from tests.reporter.world import GROUP, NOW, fate, octets

POST = "01k4post"


def head(**changes: Any) -> Head:
    values: dict[str, Any] = {
        "id": "01k4notice",
        "hostname": "mx.example.test",
        "to": "office-owner@example.test",
        "group": GROUP,
        "at": NOW + 60,
        "language": "en",
    }
    return Head(**{**values, **changes})


def about(**changes: Any) -> About:
    values: dict[str, Any] = {
        "post_id": POST,
        "accepted_at": NOW,
        "mail_from": "ana@author.example",
        "subject": "Plan",
        "message_id": "<m1@author.example>",
    }
    return About(**{**values, **changes})


def notice(*failed: Any, of: Any = None, post: Any = None, **changes: Any) -> Content:
    failed = failed or (fate("vera@other.test", text="mailbox gone"), fate("boris@gmail.test", text="no such user"))
    values: dict[str, Any] = {"head": of or head(), "about": post or about(), "failures": len(failed), "failed": failed}
    return notices.notice(Notice(**{**values, **changes}))


def ended(**changes: Any) -> Content:
    values: dict[str, Any] = {
        "head": head(),
        "about": about(),
        "verdict": "open",
        "counts": Counts(delivered=12, failed=1, left_out=3),
        "reasons": {"author": 1, "paused": 2},
        "failed": (fate(),),
    }
    return notices.ended(Ended(**{**values, **changes}))


def day(**changes: Any) -> Content:
    values: dict[str, Any] = {
        "head": head(),
        "day": NOW - NOW % 86400,
        "count": 2,
        "counts": Counts(delivered=24, failed=1, left_out=3),
        "posts": [Line(about=about(subject=each), counts=Counts(delivered=12)) for each in ("Plan", "Другото")],
        "failures": 1,
        "failed": (fate(),),
        "suspended": 2,
        "suspended_named": ("gone@x.test",),
    }
    return notices.day(Day(**{**values, **changes}))


def read(built: Content) -> tuple[Any, str]:
    raw = octets(built)
    assert raw.replace(b"\r\n", b"").count(b"\n") == 0
    assert raw.isascii(), "7-bit, so that any server takes it"
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert not message.defects
    return message, message.get_content().replace("\r\n", "\n")


def shown(built: Content) -> tuple[str, str]:
    """Subject and text, as a person sees them, each paragraph in one line."""
    message, text = read(built)
    lines = [" ".join(block.split("\n")) if not block.startswith(" ") else block for block in text.split("\n\n")]
    return str(message["Subject"]), "\n\n".join(lines)


# --- a notice --------------------------------------------------------------------------------------------------------
def test_it_reads_like_a_letter_with_people_under_their_cause() -> None:
    message, text = read(
        notice(fate("vera@other.test"), fate("boris@gmail.test", text="no such user"), fate("i@x.test", status="5.2.2"))
    )
    assert message["Subject"] == "3 members of office@example.test did not get a message"
    assert (message["To"], message["Auto-Submitted"]) == ("office-owner@example.test", "auto-generated")
    assert (message["Message-ID"], message["Content-Language"]) == ("<01k4notice@mx.example.test>", "en")
    lines = text.splitlines()
    unknown, full = lines.index("There is no such mailbox"), lines.index("The mailbox is full")
    where = {name: lines.index(f"  {name}") for name in ("boris@gmail.test", "vera@other.test", "i@x.test")}
    assert unknown < where["boris@gmail.test"] < where["vera@other.test"] < full < where["i@x.test"]
    assert lines[where["boris@gmail.test"] + 1] == "      Its mail server answered: 550 5.1.1 no such user"
    assert f"  horo trace {POST}" in lines
    assert "  Subject:     Plan" in lines
    assert "  Received:    23 November 2026, 12:00 UTC" in lines


@pytest.mark.parametrize(
    ("language", "number", "subject", "waiting"),
    [
        ("en", 1, "1 member of office@example.test did not get a message", "For 1 more member delivery"),
        ("en", 2, "2 members of office@example.test did not get a message", "For 2 more members delivery"),
        ("en", 21, "21 members of office@example.test did not get a message", "For 21 more members"),
        ("bg", 1, "1 абонат на office@example.test не получи съобщение", "За още 1 абонат опитите"),
        ("bg", 2, "2 абонати на office@example.test не получиха съобщение", "За още 2 абонати опитите"),
        ("bg", 21, "21 абонати на office@example.test не получиха съобщение", "За още 21 абонати"),
    ],
)
def test_plurals_are_the_languages_own(language: str, number: int, subject: str, waiting: str) -> None:
    failed = [fate(f"m{n}@x.test") for n in range(number)]
    title, text = shown(notice(*failed, of=head(language=language), waiting=number, until=NOW + 432000))
    assert title == subject
    assert waiting in text


def test_what_no_server_said_is_not_called_its_answer() -> None:
    _, text = read(notice(fate(code=451, status="4.4.1", text="Cannot reach the next hop: refused")))
    assert "Technically: 451 4.4.1 Cannot reach the next hop: refused" in text
    assert "answered" not in text


def test_utf8_groups_and_members_reach_owners_without_smtputf8() -> None:
    built = notice(fate("вера@other.test"), of=head(to="офис-owner@example.test", group="офис@example.test"))
    message, text = read(built)
    assert "офис@example.test" in message["Subject"]
    assert "вера@other.test" in text


def test_p10_a_long_table_is_cut_and_the_rest_counted() -> None:
    failed = tuple(fate(f"m{number}@x.test") for number in range(ROWS + 5))
    _, text = read(notice(*failed, failures=1000))
    assert text.count("550 5.1.1") == ROWS
    assert "... and 800 more" in text


def test_mail_to_owners_that_failed_does_not_speak_of_members() -> None:
    title, text = shown(notice(fate(), of=head(group="office-owner@example.test"), forward=True))
    assert title == "Mail to office-owner@example.test did not reach 1 of its readers"
    assert "member" not in text
    assert "the mail of this domain" in text


# --- a post and a day ------------------------------------------------------------------------------------------------
def test_a_post_that_ended_is_counted_with_who_was_left_out() -> None:
    title, text = shown(ended())
    assert title == "office@example.test: 12 of 13 copies delivered"
    for line in (
        "  Delivered:      12",
        "  Not delivered:  1",
        "  Left out:       3",
        "    1  wrote the message",
        "    2  have paused delivery",
    ):
        assert line in text
    assert "boris@gmail.test" in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"counts": Counts(left_out=1), "verdict": "no_recipients"}, "had nobody to go to"),
        ({"counts": Counts(delivered=1, waiting=2)}, "is not dealt with yet"),
        ({"counts": Counts(delivered=1)}, "has come to its end"),
        ({"reasons": {"something_new": 4}}, "4  something_new"),
    ],
)
def test_how_a_post_ended_is_said(changes: dict[str, Any], expected: str) -> None:
    assert expected in shown(ended(failed=(), **changes))[1]


def test_every_reason_has_words_in_every_language() -> None:
    for language in ("en", "bg"):
        _, text = shown(ended(head=head(language=language), reasons={reason.value: 3 for reason in Reason}))
        assert not [reason for reason in Reason if f"  {reason.value}\n" in f"{text}\n"]


def test_a_day_has_its_posts_sums_failures_and_who_gets_no_mail() -> None:
    title, text = shown(day())
    assert title == "Daily summary of office@example.test: 23 November 2026"
    for expected in (
        "On 23 November 2026 (UTC) the group office@example.test got 2 messages.",
        "12:00 UTC  Plan",
        "12:00 UTC  Другото",
        "On this day 1 copy failed for good:",
        "2 members get no mail because their addresses do not work:",
        "gone@x.test",
        "... and 1 more",
        "horo member restore office@example.test gone@x.test",
    ):
        assert expected in text


def test_a_day_without_posts_tells_what_failed_of_older_ones() -> None:
    _, text = shown(day(count=0, posts=(), counts=Counts(), suspended=0, suspended_named=()))
    assert "got no message" in text
    assert "boris@gmail.test" in text
    assert "get no mail" not in text


@given(st.text(max_size=200), st.text(max_size=60), st.text(max_size=60))
def test_nothing_that_outsiders_wrote_breaks_a_mail(said: str, subject: str, address: str) -> None:
    post = about(subject=subject, mail_from=address, message_id=said)
    failed = fate(f"{address}x", text=said)
    for built in (
        notice(failed, post=post),
        ended(about=post, failed=(failed,), reasons={said: 1}),
        day(posts=[Line(about=post, counts=Counts())], failed=(failed,), suspended_named=(said,)),
    ):
        message, _ = read(built)
        assert "bcc" not in message
        assert len(message.keys()) <= 13
