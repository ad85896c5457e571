"""Notices to owners: plain, readable, bounded, and safe against what servers say."""

from __future__ import annotations

import email
import email.policy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.reporter import notices
from services.reporter.notices import TABLE_LIMIT, Notice
from tests.reporter.world import GROUP, NOW, fate, octets


def notice(**changes: Any) -> Notice:
    values: dict[str, Any] = {
        "id": "01k4notice",
        "hostname": "mx.example.test",
        "to": "office-owner@example.test",
        "group": GROUP,
        "at": NOW + 60,
        "post_id": "01k4post",
        "accepted_at": NOW,
        "failed": (fate("vera@other.test", text="mailbox gone"), fate("boris@gmail.test", text="no such user")),
        "mail_from": "ana@author.example",
        "subject": "Plan",
        "message_id": "<m1@author.example>",
    }
    return Notice(**{**values, **changes})


def read(built: Any) -> tuple[Any, str]:
    raw = octets(built)
    assert raw.replace(b"\r\n", b"").count(b"\n") == 0
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert not message.defects
    return message, message.get_content()


def test_it_reads_like_a_letter_with_a_table() -> None:
    message, text = read(notices.build(notice()))
    assert message["Subject"] == "2 members of office@example.test did not get a message"
    assert (message["To"], message["Auto-Submitted"]) == ("office-owner@example.test", "auto-generated")
    assert message["Message-ID"] == "<01k4notice@mx.example.test>"
    rows = [line for line in text.splitlines() if "@" in line and "550" in line]
    assert rows == [
        "  boris@gmail.test  550 5.1.1 no such user",
        "  vera@other.test   550 5.1.1 mailbox gone",
    ]
    assert "horo trace 01k4post" in text
    assert "Plan" in text


def test_one_member_is_one() -> None:
    message, _ = read(notices.build(notice(failed=(fate(),))))
    assert message["Subject"] == "1 member of office@example.test did not get a message"


def test_utf8_groups_and_members_reach_owners_without_smtputf8() -> None:
    built = notices.build(
        notice(to="офис-owner@example.test", group="офис@example.test", failed=(fate("вера@other.test"),))
    )
    assert octets(built).isascii()
    message, text = read(built)
    assert "офис@example.test" in message["Subject"]
    assert "вера@other.test" in text


def test_p10_a_long_table_is_cut() -> None:
    _, text = read(notices.build(notice(failed=tuple(fate(f"m{number}@x.test") for number in range(TABLE_LIMIT + 5)))))
    assert text.count("550 5.1.1") == TABLE_LIMIT
    assert "... and 5 more" in text


@given(st.text(max_size=200), st.text(max_size=60), st.text(max_size=60))
def test_nothing_that_outsiders_wrote_breaks_a_notice(said: str, subject: str, address: str) -> None:
    built = notices.build(
        notice(subject=subject, mail_from=address, message_id=said, failed=(fate(f"{address}x", text=said),))
    )
    message, _ = read(built)
    assert "bcc" not in message
    assert len(message.keys()) <= 13
