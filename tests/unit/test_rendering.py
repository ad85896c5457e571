"""The head that leaves: only the headers that DESIGN.md names are added or replaced, over real messages and ugly ones (P8)."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import headers
from shared.groups import Group, Settings
from shared.messages import Content, Origin, Post
from shared.rendering import date, list_id, loops, render, render_forward

MESSAGES = sorted((Path(__file__).parent.parent / "messages").glob("*.eml"))
SECRET = "a secret of the tests"
HOST = "mail.example.com"
AT = 1795428842.0
ORIGIN = Origin(ip="192.0.2.1", helo="client.example.org", protocol="ESMTPS")
POST = Post(
    id="01kc0000000000000000000000",
    accepted_at=AT,
    mail_from="ana@example.org",
    targets=(),
    content=Content(head=b""),
    digest=b"",
    origin=ORIGIN,
)
OFF: dict[str, Any] = {"reply_to_group": False, "title": "", "subject_prefix": ""}
REMOVED = {b"bcc", b"resent-bcc", b"return-path", b"precedence", b"list-id", b"list-post", b"list-owner"}
ALWAYS = [b"Received", b"X-Horo-Loop", b"List-Id", b"List-Post", b"List-Owner", b"Precedence"]


def group(address: str = "office@example.com", **settings: Any) -> Group:
    return Group(id=1, address=address, settings=Settings(**{"reply_to_group": False, **settings}))


def rendered(
    head: bytes,
    *,
    parent: str | None = None,
    origin: Origin = ORIGIN,
    address: str = "office@example.com",
    **settings: Any,
) -> bytes:
    post = msgspec.structs.replace(POST, parent=parent, origin=origin)
    return render(head, post=post, group=group(address, **settings), hostname=HOST, secret=SECRET)


def values(head: bytes, name: str) -> list[bytes]:
    return headers.values(head, name)


# --- P8 over messages -------------------------------------------------------------------------------------------------------
def naive(raw: bytes) -> tuple[bytes, list[bytes], bytes]:
    """A slow second opinion, line by line: (leading mbox line, fields, the rest: blank line and body)."""
    lines = [line + b"\n" for line in raw.split(b"\n")]
    lines = lines[:-1] if lines[-1] == b"\n" else [*lines[:-1], lines[-1][:-1]]
    mbox = lines.pop(0) if lines and lines[0].startswith(b"From ") else b""
    fields: list[bytes] = []
    while lines:
        name, colon, _ = lines[0].partition(b":")
        if fields and lines[0][:1] in (b" ", b"\t"):
            fields[-1] += lines.pop(0)
        elif colon and name.strip() and b" " not in name.rstrip(b" \t") and lines[0][:1] not in (b" ", b"\t"):
            fields.append(lines.pop(0))
        else:
            break
    taken = len(mbox) + sum(map(len, fields))
    return mbox, fields, raw[taken:]


def name_of(field: bytes) -> bytes:
    return field.partition(b":")[0].rstrip(b" \t").lower()


def is_ours(field: bytes) -> bool:
    return name_of(field) == b"x-horo-loop"


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_p8_nothing_but_the_named_headers_changes(path: Path) -> None:
    raw = path.read_bytes()
    mbox, fields, rest = naive(raw)
    head, body = headers.split(raw)
    out = rendered(head, **OFF) + body

    known = {name_of(field) for field in fields}
    names = ALWAYS + [name for name in (b"Message-ID", b"Date") if name.lower() not in known]
    assert out.startswith(mbox)
    after = naive(out)[1]
    assert [field.partition(b":")[0] for field in after[: len(names)]] == names

    kept = b"".join(field for field in fields if name_of(field) not in REMOVED and not is_ours(field))
    ending = b"" if kept.endswith(b"\r\n") or not kept else b"\r\n"
    blank = b"" if rest.startswith(b"\r\n") else b"\r\n"
    assert out == mbox + b"".join(after[: len(names)]) + kept + ending + blank + rest
    assert out.endswith(body)


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_p8_with_all_options_on_the_rest_is_untouched(path: Path) -> None:
    raw = path.read_bytes()
    head, body = headers.split(raw)
    out = rendered(head, reply_to_group=True, title="Офис „София“", subject_prefix="[офис]")
    fields, after = naive(raw)[1], naive(out + body)[1]
    assert out.count(b"\n") == out.count(b"\r\n")
    assert len(values(out, "reply-to")) == 1
    assert len(values(out, "x-original-reply-to")) == len(values(head, "reply-to"))
    assert b"\r\nbcc:" not in out.lower()
    touched = {*REMOVED, b"subject", b"reply-to", b"x-horo-loop"}
    ours = {b"x-original-reply-to", b"message-id", b"date"} | touched
    kept = [field.rstrip(b"\r\n") for field in fields if name_of(field) not in touched]
    mine = [field.rstrip(b"\r\n") for field in after if name_of(field) not in ours or field in fields]
    assert [field for field in mine if name_of(field) not in touched][-len(kept) :] == kept or not kept
    subjects = [field for field in fields if name_of(field) == b"subject"]
    for before, now in zip(subjects, (field for field in after if name_of(field) == b"subject"), strict=True):
        value = before.partition(b":")[2].lstrip(b" \t").rstrip(b"\r\n")
        assert now.rstrip(b"\r\n").endswith(value)


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_received_goes_up_by_one_and_keeps_its_order(path: Path) -> None:
    head, _ = headers.split(path.read_bytes())
    assert values(rendered(head), "received")[1:] == values(head, "received")


@given(st.binary(max_size=300).map(lambda octets: octets.replace(b"\r", b"").replace(b"\n", b"\r\n")))
def test_p8_any_message_keeps_its_body(raw: bytes) -> None:
    head, body = headers.split(raw)
    out = rendered(head, reply_to_group=True, subject_prefix="[x]", title="T")
    assert headers.split(out) == (out, b"")
    assert headers.split(out + body) == (out, body)


def test_the_same_post_renders_to_the_same_octets() -> None:
    head = b"From: ana@example.org\r\n\r\n"
    assert rendered(head) == rendered(head)
    assert values(rendered(head), "message-id") == [b"<01kc0000000000000000000000@mail.example.com>"]
    assert values(rendered(head), "date") == [date(AT).encode()]


# --- single fields ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (ORIGIN, b"from client.example.org ([192.0.2.1])\tby mail.example.com with ESMTPS id 01kc0000000000000000000000;"),
        (Origin(ip="2001:db8::1", helo="[IPv6:2001:db8::1]", protocol="LMTP"), b"from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\tby"),
        (Origin(ip="", helo="", protocol="local"), b"by mail.example.com with local id"),
        (Origin(ip="192.0.2.1", helo="", protocol="ESMTP"), b"from unknown ([192.0.2.1])\tby"),
        (Origin(ip="192.0.2.1", helo="a\r\nBcc: x\x00 (é)", protocol="ESMTP"), b"from a??Bcc:?x????? ([192.0.2.1])\tby"),
        (Origin(ip="192.0.2.1", helo="h" * 5000, protocol="ESMTP"), b"from " + b"h" * 255 + b" ([192.0.2.1])\tby"),
    ],
)  # fmt: skip
def test_received(origin: Origin, expected: bytes) -> None:
    value = values(rendered(b"\r\n", origin=origin), "received")[0]
    assert value.startswith(expected)
    assert value.endswith(f";\t{date(AT)}".encode())


def test_p9_received_names_no_recipient() -> None:
    assert b" for " not in values(rendered(b"To: office@example.com\r\n\r\n"), "received")[0]


def test_a_date_is_read_back() -> None:
    for at in (0.0, AT, 1e9, 1709164800.0):
        assert parsedate_to_datetime(date(at)).timestamp() == int(at)


@pytest.mark.parametrize(
    ("address", "title", "expected"),
    [
        ("office@example.com", "", b"<office.example.com>"),
        ("office@example.com", "The Office", b"The Office <office.example.com>"),
        ("office@example.com", "Офис", b"=?utf-8?b?0J7RhNC40YE=?= <office.example.com>"),
        ("офис@xn--e1afmkfd.xn--90ae", "", b"<xn--h1alkk.xn--e1afmkfd.xn--90ae>"),
        ("office@example.com", "t" * 250, b"<office.example.com>"),
    ],
)
def test_list_id(address: str, title: str, expected: bytes) -> None:
    assert headers.first(list_id(group(address, title=title)), "list-id") == expected


def test_a_list_id_is_at_most_255_octets() -> None:
    domain = ".".join(["d" * 62] * 4)
    first, other = (
        headers.first(list_id(group(f"{name}@{domain}", title="T")), "list-id") or b"" for name in ("g" * 58, "h" * 58)
    )
    assert len(first) <= 255
    assert first != other
    assert first.endswith(b".localhost>")


def test_list_fields() -> None:
    head = rendered(b"\r\n")
    assert values(head, "list-post") == [b"<mailto:office@example.com>"]
    assert values(head, "list-owner") == [b"<mailto:office-owner@example.com>"]
    assert values(head, "precedence") == [b"list"]
    assert values(rendered(b"\r\n", who_can_post="owners"), "list-post") == [b"NO"]
    assert values(rendered(b"\r\n", address="офис@example.com"), "list-post") == [
        b"<mailto:%D0%BE%D1%84%D0%B8%D1%81@example.com>"
    ]
    assert b"Sender" not in head
    assert b"List-Unsubscribe" not in head


def test_a_group_beyond_ascii_adds_only_ascii_without_reply_to() -> None:
    assert rendered(b"\r\n", address="офис@example.com", title="Офис", subject_prefix="[офис]").isascii()
    assert values(rendered(b"\r\n", address="офис@example.com", reply_to_group=True), "reply-to") == [
        "офис@example.com".encode()
    ]


def test_foreign_list_fields_are_replaced_and_the_archive_stays() -> None:
    head = rendered(
        (Path(__file__).parent.parent / "messages" / "duplicate_headers.eml").read_bytes().partition(b"\r\n\r\n")[0]
        + b"\r\n\r\n"
    )
    assert values(head, "list-id") == [b"<office.example.com>"]
    assert values(head, "list-post") == [b"<mailto:office@example.com>"]
    assert values(head, "list-owner") == [b"<mailto:office-owner@example.com>"]
    assert values(head, "precedence") == [b"list"]
    assert values(head, "list-archive") == [b"<https://lists.example.org/archive>"]
    assert len(values(head, "list-unsubscribe")) == 1


def test_a_nested_list_keeps_its_parents_list_id() -> None:
    parent = rendered(b"From: ana@example.org\r\n\r\n")
    child = rendered(parent, parent=POST.id, address="board@example.com")
    assert values(child, "list-id") == [b"<office.example.com>"]
    assert values(child, "list-post") == [b"<mailto:board@example.com>"]
    assert values(child, "list-owner") == [b"<mailto:board-owner@example.com>"]
    assert loops(child, SECRET) == {"office@example.com", "board@example.com"}
    assert values(rendered(b"\r\n", parent=POST.id), "list-id") == [b"<office.example.com>"]


# --- Reply-To -----------------------------------------------------------------------------------------------------------------
def test_reply_to_is_one_and_the_old_ones_are_kept() -> None:
    head = b'Reply-To: a@example.org\r\nFrom: b@example.org\r\nreply-to : "B, C"\r\n <b@example.org>\r\n\r\n'
    out = rendered(head, reply_to_group=True, title="Office & Co.")
    assert values(out, "reply-to") == [b'"Office & Co." <office@example.com>']
    assert out.endswith(
        b'X-Original-Reply-To: a@example.org\r\nFrom: b@example.org\r\nX-Original-Reply-To: "B, C"\r\n <b@example.org>\r\n\r\n'
    )


@pytest.mark.parametrize(("length", "folded"), [(987, False), (988, True), (998, True), (999, False)])
def test_a_reply_to_that_just_fits_a_line_still_does_under_its_longer_name(length: int, folded: bool) -> None:
    """Mail servers refuse lines over 998 octets; one that was too long before is not ours to mend (P8)."""
    line = b"Reply-To: ".ljust(length - len(b"x@example.org"), b"n") + b"x@example.org"
    assert len(line) == length
    out = rendered(line + b"\r\n y@example.org\r\n\r\n", reply_to_group=True)
    value = line.partition(b": ")[2]
    between = b":\r\n " if folded else b": "
    assert b"\r\nX-Original-Reply-To" + between + value + b"\r\n y@example.org\r\n" in out
    assert (max(map(len, out.split(b"\r\n"))) <= 998) == (length < 999)


def test_reply_to_off_leaves_it_alone() -> None:
    assert values(rendered(b"Reply-To: a@example.org\r\n\r\n"), "reply-to") == [b"a@example.org"]


def test_a_title_with_control_characters_adds_no_header() -> None:
    out = rendered(b"\r\n", reply_to_group=True, title="a\r\nBcc: x@example.org\x85\u2028", subject_prefix="[a\nb]")
    assert values(out, "reply-to") == [b'"a Bcc: x@example.org" <office@example.com>']
    assert headers.count(out, "bcc") == 0


# --- subject prefix -------------------------------------------------------------------------------------------------------------
OFFICE = b"=?utf-8?b?W9C+0YTQuNGBXQ==?="  # [офис]
OFFICE_SPACE = b"=?utf-8?b?W9C+0YTQuNGBXSA=?="


@pytest.mark.parametrize(
    ("prefix", "before", "after"),
    [
        ("[office]", b"Subject: hello\r\n", b"Subject: [office] hello\r\n"),
        ("[office]", b"SUBJECT:hello  there \r\n", b"SUBJECT: [office] hello  there \r\n"),
        ("[office]", b"Subject:   hello\r\n", b"Subject:   [office] hello\r\n"),
        ("[office]", b"Subject: Re: hello\r\n", b"Subject: [office] Re: hello\r\n"),
        ("[office]", b"Subject: a\r\n folded\r\n\tone\r\n", b"Subject: [office] a\r\n folded\r\n\tone\r\n"),
        ("[office]", b"Subject:\r\n folded at once\r\n", b"Subject: [office]\r\n folded at once\r\n"),
        ("[office]", b"Subject: =?utf-8?q?=D0=90?=\r\n", b"Subject: [office] =?utf-8?q?=D0=90?=\r\n"),
        ("[office]", b"Subject: \xcf\xee\r\n", b"Subject: [office] \xcf\xee\r\n"),
        ("[office]", b"Subject:\r\n", b"Subject: [office]\r\n"),
        ("[office]", b"Subject: " + b"x" * 900 + b"\r\n", b"Subject: [office]\r\n " + b"x" * 900 + b"\r\n"),
        ("[офис]", b"Subject: hello\r\n", b"Subject: " + OFFICE + b" hello\r\n"),
        ("[офис]", b"Subject: =?utf-8?q?=D0=90?=\r\n", b"Subject: " + OFFICE_SPACE + b" =?utf-8?q?=D0=90?=\r\n"),
        ("[офис]", b"Subject:\r\n =?utf-8?q?=D0=90?=\r\n", b"Subject: " + OFFICE_SPACE + b"\r\n =?utf-8?q?=D0=90?=\r\n"),
        # there already
        ("[office]", b"Subject: [office] hello\r\n", None),
        ("[office]", b"Subject: [OFFICE] hello\r\n", None),
        ("[office]", b"Subject: Re: [office] hello\r\n", None),
        ("[office]", b"Subject: Re[2]: Fwd : AW: [office] hello\r\n", None),
        ("[office]", b"Subject: =?utf-8?b?UmU6IFtvZmZpY2VdIGhlbGxv?=\r\n", None),
        ("[офис]", b"Subject: =?utf-8?b?0J7RgtCzOiBb0L7RhNC40YFdIGhlbGxv?=\r\n", None),
        ("Office:", b"Subject: Office: hello\r\n", None),
        ("Office:", b"Subject: Re: Office: hello\r\n", None),
        # not there
        ("[office]", b"Subject: about [office]\r\n", b"Subject: [office] about [office]\r\n"),
        ("", b"Subject: hello\r\n", None),
    ],
)  # fmt: skip
def test_subject_prefix(prefix: str, before: bytes, after: bytes | None) -> None:
    out = rendered(before + b"\r\n", subject_prefix=prefix)
    assert out.endswith(b"\r\n" + (after or before) + b"\r\n")
    assert rendered(out, subject_prefix=prefix).endswith(b"\r\n" + (after or before) + b"\r\n")  # once, however often


def test_no_subject_gets_no_prefix() -> None:
    assert headers.count(rendered(b"From: a@example.org\r\n\r\n", subject_prefix="[office]"), "subject") == 0


# --- loop marks -------------------------------------------------------------------------------------------------------------------
def test_marks_that_are_not_ours_go_and_true_ones_stay() -> None:
    board = headers.loop_mark("board@example.com", SECRET)
    office = headers.loop_mark("office@example.com", SECRET)
    out = rendered(
        b"X-Horo-Loop: office@example.com forged\r\n" + board + office + b"x-horo-loop: sales@example.com 1\r\n\r\n"
    )
    assert headers.count(out, "x-horo-loop") == 2
    assert loops(out, SECRET) == {"office@example.com", "board@example.com"}


def test_forwarded_mail_gets_a_trace_and_a_mark_and_loses_what_is_secret() -> None:
    kept = b"From: mailer-daemon@example.org\r\nPrecedence: bulk\r\nList-Id: <other.example.net>\r\nReply-To: x@example.org\r\n\r\n"
    gone = b"Return-Path: <>\r\nBcc: x@example.org,\r\n y@example.org\r\nResent-Bcc: z@example.org\r\nX-Horo-Loop: a@b.example forged\r\n"
    out = render_forward(gone + kept, post=POST, name="office-owner@example.com", hostname=HOST, secret=SECRET)
    assert out.endswith(b"\r\n" + kept)
    assert [field.name for field in headers.fields(out)][:2] == ["received", "x-horo-loop"]
    assert len(headers.fields(out)) == 6
    assert loops(out, SECRET) == {"office-owner@example.com"}
