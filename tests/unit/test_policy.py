"""Whether a human wrote it (semantics.md 1.4), what the trace keeps of it, and who may post: tables."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from shared import policy
from shared.groups import Group, Settings
from shared.policy import automatic, data_policy, may_post
from shared.replies import AMBIGUOUS_AUTHOR, AUTHOR_UNSURE, NOT_ALLOWED, Reply


def head(*lines: bytes | str) -> bytes:
    return b"".join((line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in lines) + b"\r\n"


def group(address: str = "office@example.com", **settings: Any) -> Group:
    return Group(id=1, address=address, settings=Settings(**settings))


# --- automatic mail (semantics.md 1.4) ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Auto-Submitted: auto-replied", "Auto-Submitted"),
        ("auto-submitted: AUTO-GENERATED; owner=x", "Auto-Submitted"),
        ("Auto-Submitted: auto-notified (why)", "Auto-Submitted"),
        ("Auto-Submitted: (no) auto-generated", "Auto-Submitted"),
        ("Auto-Submitted:", "Auto-Submitted"),
        ("Auto-Submitted: nobody", "Auto-Submitted"),
        ("Auto-Submitted: no\r\nAuto-Submitted: auto-generated", "Auto-Submitted"),
        ("Auto-Submitted: no", None),
        ("Auto-Submitted: NO; x=y", None),
        ("Auto-Submitted: no (a person)", None),
        ("Auto-Submitted: (a person) no", None),
        ("Content-Identifier: Auto-replied", "Content-Identifier"),
        ("Content-Identifier: something", None),
        ("X400-Content-Identifier: Auto Reply to: x", "X400-Content-Identifier"),
        ("X400-Content-Identifier: X", None),
        ("Precedence: bulk", "Precedence"),
        ("Precedence: JUNK", "Precedence"),
        ("Precedence: auto_reply", "Precedence"),
        ("Precedence: list", None),
        ("Precedence: first-class", None),
        ("X-Mailing-List: <x@example.org>", "X-Mailing-List"),
        ("X-Autoreply: yes", "X-Autoreply"),
        ("X-Autorespond: hello", "X-Autorespond"),
        ('Content-Type: multipart/report; report-type="delivery-status"; boundary=x', "multipart/report"),
        ("Content-Type: Multipart/Report;boundary=x", "multipart/report"),
        ("Content-Type: (c) multipart/report", "multipart/report"),
        ("Content-Type: multipart/mixed; x=multipart/report", None),
        ("Content-Type: multipart/reported", None),
        ("X-Auto-Response-Suppress: All", None),
        ("List-Unsubscribe: <https://example.org/u>", None),
        ("List-Id: <x.example.org>", None),
        ("List-Post: <mailto:x@example.org>", None),
        ("X-Auto: yes", None),
        ("Subject: Auto-Submitted: auto-generated", None),
        ("From: MAILER-DAEMON@example.org", "sender is a mail robot"),
        ("From: Mail Delivery System <mailer-daemon@example.org>", "sender is a mail robot"),
        ("From: mailman-fan@example.org", None),
    ],
)
def test_automatic_mail_by_its_headers(line: str, reason: str | None) -> None:
    assert automatic(head("To: office@example.com", line), "ana@example.org") == reason


@pytest.mark.parametrize(
    "local", ["mailer-daemon", "MAILER-DAEMON", "sympa", "listserv", "Majordomo", "smartlist", "mailman"]
)
def test_robots_by_the_envelope(local: str) -> None:
    assert automatic(b"\r\n", f"{local}@example.org") == "sender is a mail robot"
    assert automatic(b"\r\n", f"x{local}@example.org") is None


def test_the_null_sender_is_automatic() -> None:
    assert automatic(head("From: ana@example.org"), "") == "null sender"


# --- what the trace keeps ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Message-ID: <a@b>", "<a@b>"),
        ("Message-ID:\r\n <a@b> (x)", "<a@b>"),
        ("message-id: a@b", "a@b"),
        ("Message-ID:", ""),
        ("Message-ID: <a b@c>", "<a b@c>"),
        ("Message-ID: <1@x>\r\nMessage-ID: <2@x>", "<1@x>"),
        ("Subject: x", ""),
    ],
)
def test_message_id(line: str, expected: str) -> None:
    assert policy.message_id(head(line)) == expected


def test_references_nearest_last() -> None:
    top = head("References: <1@x> <2@x>\r\n <3@x>", "In-Reply-To: <2@x> (Ana's message of Monday)")
    assert policy.references(top) == ("<1@x>", "<3@x>", "<2@x>")
    assert policy.references(head("In-Reply-To: <1@x>")) == ("<1@x>",)
    assert policy.references(head("References: nothing <>")) == ()
    many = " ".join(f"<{number}@x>" for number in range(500))
    assert policy.references(head(f"References: {many}")) == tuple(f"<{number}@x>" for number in range(400, 500))


def test_subject_text() -> None:
    assert policy.subject_text(head("Subject: =?utf-8?q?=D0=90?=\r\n =?utf-8?q?=D0=91?=")) == "АБ"
    assert policy.subject_text(head("Subject: " + "long " * 100)) == ("long " * 40)
    assert policy.subject_text(b"\r\n") == ""


def test_received_count() -> None:
    assert policy.received_count(head(*["Received: from x by y"] * 101, "X-Received: no")) == 101


# --- who may post -----------------------------------------------------------------------------------------------------------------
def ask(who: str, *, author: str | None = "ana@example.org", **facts: Any) -> Reply | None:
    owners = ("Owner@example.net",)
    known: dict[str, Any] = {
        "mail_from": "ana@example.org",
        "authenticated": None,
        "verdict": None,
        "is_member": False,
        **facts,
    }
    return may_post(group(who_can_post=who, owners=owners), author=author, **known)


@pytest.mark.parametrize(
    ("who", "facts", "expected"),
    [
        ("anyone", {}, None),
        ("anyone", {"author": None}, None),
        ("anyone", {"verdict": "fail", "mail_from": ""}, None),
        ("domain", {"author": "boris@example.com"}, None),
        ("domain", {"author": "boris@sub.example.com"}, NOT_ALLOWED),
        ("domain", {"author": "boris@notexample.com"}, NOT_ALLOWED),
        ("domain", {"author": "ana@example.org"}, NOT_ALLOWED),
        ("domain", {"author": "ana@example.org", "is_member": True}, NOT_ALLOWED),
        ("domain", {"author": "owner@example.net"}, None),
        ("domain", {"author": None}, AMBIGUOUS_AUTHOR),
        ("members", {}, NOT_ALLOWED),
        ("members", {"is_member": True}, None),
        ("members", {"author": "owner@example.net"}, None),
        ("members", {"author": None, "is_member": True}, AMBIGUOUS_AUTHOR),
        ("members", {"is_member": True, "verdict": "fail"}, NOT_ALLOWED),
        ("members", {"is_member": True, "verdict": "pass"}, None),
        ("members", {"is_member": True, "verdict": "unsure"}, AUTHOR_UNSURE),
        ("anyone", {"verdict": "unsure"}, None),
        ("members", {"is_member": True, "mail_from": ""}, NOT_ALLOWED),
        ("members", {"is_member": True, "authenticated": "Ana@Example.org"}, None),
        ("members", {"is_member": True, "authenticated": "ana+tag@example.org"}, None),
        ("members", {"is_member": True, "authenticated": "boris@example.org"}, NOT_ALLOWED),
        ("members", {"is_member": True, "authenticated": "ana@example.org", "verdict": "fail"}, None),
        ("owners", {"is_member": True}, NOT_ALLOWED),
        ("owners", {"author": "boris@example.com"}, NOT_ALLOWED),
        ("owners", {"author": "owner@example.net"}, None),
        ("owners", {"author": "owner+x@example.net"}, NOT_ALLOWED),
        ("owners", {"author": "owner@example.net", "verdict": "fail"}, NOT_ALLOWED),
        ("owners", {"author": None}, AMBIGUOUS_AUTHOR),
    ],
)
def test_who_can_post(who: str, facts: dict[str, Any], expected: Reply | None) -> None:
    assert ask(who, **facts) is expected


def test_p5_groups_of_equal_data_policy_answer_alike() -> None:
    """All pairs of groups over the settings that matter, against all facts that two groups share: equal policy, equal answer."""
    settings = product(
        ("example.com", "example.net"),
        ("anyone", "domain", "members", "owners"),
        ((), ("ana@example.org",), ("Ana@Example.org",)),
        (True, False),
        (0, 1000),
    )
    groups = [
        group(f"g{number}@{domain}", who_can_post=who, owners=owners, reject_automatic=reject, max_size=size)
        for number, (domain, who, owners, reject, size) in enumerate(settings)
    ]
    facts = list(
        product(
            (None, "ana@example.org", "b@example.com", "c@example.net"),
            (None, "ana@example.org"),
            (None, "fail", "unsure"),
        )
    )

    def answers(one: Group) -> tuple[object, ...]:
        replies = tuple(
            may_post(
                one,
                author=a,
                mail_from="m@example.org",
                authenticated=b,
                verdict=c,
                is_member=int(one.local[1:]) % 2 == 0,
            )
            for a, b, c in facts
        )
        return (*replies, one.settings.reject_automatic, one.settings.max_size)

    seen: dict[object, tuple[object, ...]] = {}
    for one in groups:
        assert seen.setdefault(data_policy(one), answers(one)) == answers(one)
    assert data_policy(groups[0]) == data_policy(group("other@example.org", title="T", reject_automatic=True))
    assert 4 < len(seen) < len(groups)
