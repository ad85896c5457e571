"""Who wrote a message and whom it is for: one strict parser, and bombs that must stay cheap (threats.md 3.2, faults.md 12 and 13)."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import policy
from shared.authresults import trusted_author
from shared.headers import split
from shared.mailboxes import mailboxes
from shared.policy import author, authors, automatic, recipients_in_header

MESSAGES = sorted((Path(__file__).parent.parent / "messages").glob("*.eml"))


def head(*lines: bytes | str) -> bytes:
    return b"".join((line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in lines) + b"\r\n"


# --- the author ---------------------------------------------------------------------------------------------------------------
CLEAR = [
    ("From: ana@example.org", "ana@example.org"),
    ("From:ana@example.org", "ana@example.org"),
    ("FROM: Ana@EXAMPLE.org", "ana@example.org"),
    ("From: Ana <ana@example.org>", "ana@example.org"),
    ("From: Ana Petrova\r\n <ana@example.org>", "ana@example.org"),
    ('From: "Petrova, Ana" <ana@example.org>', "ana@example.org"),
    ('From: "Ana \\"x\\" <a@b>" <ana@example.org>', "ana@example.org"),
    ("From: Ana P. <ana@example.org>", "ana@example.org"),
    ("From: <ana@example.org> (Ana)", "ana@example.org"),
    ("From: ana@example.org (Ana (of Sofia))", "ana@example.org"),
    ("From: (hi) ana@example.org", "ana@example.org"),
    ("From: =?utf-8?b?0JDQvdCw?= <ana@example.org>", "ana@example.org"),
    ("From: Ана <ana@example.org>", "ana@example.org"),
    (b"From: \xc0\xed\xe0 <ana@example.org>", "ana@example.org"),
    ("From: <иван@пример.бг>", "иван@xn--e1afmkfd.xn--90ae"),
    ('From: "ana p"@example.org', '"ana p"@example.org'),
    ('From: "ana"@example.org', "ana@example.org"),
    ("From: =?utf-8?q?boris=40evil=2Eorg?= <ana@example.org>", "ana@example.org"),
    ('From: "boris@evil.org" <ana@example.org>', "ana@example.org"),
]
DOUBTFUL = [
    ("From: ana@example.org, boris@example.org", ("ana@example.org", "boris@example.org")),
    ("From: ana@example.org\r\nFrom: boris@example.org", ("ana@example.org", "boris@example.org")),
    ("From: ana@example.org\r\nfrom: ana@example.org", ("ana@example.org",)),
    ("From : ana@example.org", ("ana@example.org",)),
    ("From: Team: ana@example.org;", ("ana@example.org",)),
    ("From: Team: ana@example.org, boris@example.org;, c@example.org", ("ana@example.org", "boris@example.org", "c@example.org")),
    ("From: undisclosed:;", ()),
    ("From: boris@evil.org <ana@example.org>", ("ana@example.org",)),
    ("From: <ana@example.org>,", ("ana@example.org",)),
    ("From: ,ana@example.org", ("ana@example.org",)),
    ("From: ana@example.org boris@example.org", ()),
    ("From: <ana@example.org> <boris@example.org>", ()),
    ("From: <ana@example.org> boris", ()),
    ("From: <ana@example.org", ()),
    ("From: ana@example.org>", ()),
    ("From: <<ana@example.org>>", ()),
    ("From: <@route.example:ana@example.org>", ()),
    ("From: ana(comment)@example.org", ()),
    ("From: ana @ example.org", ()),
    ("From: <ana@exam ple.org>", ()),
    ("From: ana@[192.0.2.1]", ()),
    ("From: ana", ()),
    ("From:", ()),
    ("From: (ana@example.org)", ()),
    ("From: (never closed ana@example.org", ()),
    ('From: "never closed <ana@example.org>', ()),
    ("From: ana@example.org)", ()),
    ("From: =?utf-8?q?x=40evil.com=3e=00?=foo@example.com", ()),
    ("From: =?utf-8?q?a=40b?=@example.com", ()),
    ("From: =?utf-8?b?YW5hQGV4YW1wbGUub3Jn?=", ()),
    ('From: "ana@evil.org>,<b"@example.org', ()),
    ("From: ana@example.org\x00", ()),
    ("From: Ana\x00 <ana@example.org>", ("ana@example.org",)),
    ("From: Ana\x1b <ana@example.org>", ("ana@example.org",)),
    ("From: ana@exampl\u212a.org", ()),
    ("To: ana@example.org", ()),
    ("Sender: ana@example.org", ()),
    (" From: ana@example.org", ()),
    ("no field\r\nFrom: ana@example.org", ()),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), CLEAR)
def test_one_clear_author(line: str | bytes, expected: str) -> None:
    assert author(head(line)) == expected
    assert authors(head(line)) == (expected,)


@pytest.mark.parametrize(("line", "expected"), DOUBTFUL)
def test_where_there_is_doubt_nobody_is_the_author(line: str, expected: tuple[str, ...]) -> None:
    assert author(head(line)) is None
    assert authors(head(line)) == expected


def test_a_head_of_only_strangers() -> None:
    assert (author(b""), authors(b""), author(b"\r\n")) == (None, (), None)


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_questions_to_real_messages_are_answered(path: Path) -> None:
    top, _ = split(path.read_bytes())
    known = author(top)
    assert known is None or known in authors(top)
    assert automatic(top, "ana@example.org") is None
    assert len(policy.subject_text(top)) <= 200


@given(st.binary(max_size=300))
def test_no_octets_break_the_questions(octets: bytes) -> None:
    for name in (
        b"From: ",
        b"To: ",
        b"Authentication-Results: ",
        b"Content-Type: ",
        b"Subject: ",
        b"References: ",
        b"Message-ID: ",
    ):
        top, _ = split(name + octets + b"\r\n\r\n")
        known = author(top)
        assert known is None or authors(top) == (known,)
        assert all("@" in key for key in recipients_in_header(top))
        assert automatic(top, "a@b.example") in (
            None,
            "sender is a mail robot",
            "Auto-Submitted",
            "Precedence",
            "multipart/report",
            *_FIELDS,
        )
        assert trusted_author(top) in (None, "pass", "fail", "unsure")
        assert policy.subject_text(top).isprintable()
        assert policy.message_id(top).isprintable()
        assert len(policy.references(top)) <= policy.MAX_REFERENCES


_FIELDS = ("X-Mailing-List", "X-Autoreply", "X-Autorespond", "Content-Identifier", "X400-Content-Identifier")
BOMBS = {
    "words": b"=?utf-8?q?a?= " * 18_000,
    "parentheses": b"(" * 250_000,
    "pairs": b"()" * 125_000,
    "quotes": b'"\\' * 125_000,
    "escaped quotes": b'\\"' * 125_000,
    "open quotes": b'"a,' * 80_000,
    "brackets": b"[" * 250_000,
    "angles": b"<" * 250_000,
    "ats": b"@" * 250_000,
    "commas": b"," * 250_000,
    "colons": b":;" * 125_000,
    "addresses": b"ana@example.org, " * 15_000,
    "named": b'"a" <ana@example.org>, ' * 11_000,
    "spaces": b" \t" * 125_000,
    "one": b"a" * 250_000,
    "eight bit": b"\xff" * 250_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_p10_a_bomb_in_a_header_is_cheap(name: str) -> None:
    """faults.md 12: 280 KB took the standard library 3.5 s and 2 GiB, 50,000 addresses 9.8 s, 1,000 parentheses its stack."""
    value = BOMBS[name]
    started = time.process_time()
    for top in (b"From: " + value + b"\r\n\r\n", b"From: " + value[:60_000] + b"\r\n\r\n"):
        authors(top), author(top), automatic(top, "a@b.example")
    for field in (
        b"To: ",
        b"Subject: ",
        b"References: ",
        b"Message-ID: ",
        b"Authentication-Results: ",
        b"Content-Type: ",
        b"Auto-Submitted: ",
    ):
        top = field + value + b"\r\n\r\n"
        recipients_in_header(top), automatic(top, "a@b.example"), policy.subject_text(top), policy.message_id(top)
        policy.references(top), trusted_author(top), policy.received_count(top)
    assert time.process_time() - started < 6.0


@pytest.mark.parametrize("comment", [b"()", b"(a) ", b"(\r\n )"])
def test_p10_comments_before_a_keyword_cost_linear_time(comment: bytes) -> None:
    top = b"Auto-Submitted: " + comment * ((1 << 20) // len(comment)) + b"no\r\n\r\n"
    started = time.process_time()
    assert automatic(top, "a@b.example") is None
    assert time.process_time() - started < 0.5


def test_p10_authors_and_recipients_are_bounded() -> None:
    many = ", ".join(f"a{number}@example.org" for number in range(12_000))
    assert len(authors(head(f"From: {many[:3000]}"))) == 100
    assert authors(head(f"From: {many}")) == ()  # over 64 KiB: not looked at
    assert len(recipients_in_header(head(f"To: {many}"))) == 10_000
    half = ", ".join(f"b{number}@example.org" for number in range(6_000))
    assert len(recipients_in_header(head(f"To: {half}", f"Cc: {many}"))) == 10_000


def test_recipients_are_found_in_four_fields() -> None:
    top = head(
        "To: Ana <Ana@example.org>, broken, \"Petrov, Boris\" <boris@EXAMPLE.org>,,",
        "Cc: Team: c@example.org, d@example.org;, e@example.org",
        "to: second@example.org",
        "Resent-To: f@example.org",
        "Resent-Cc: (x) g@example.org",
        "Bcc: no@example.org",
        "Reply-To: no@example.org",
    )  # fmt: skip
    assert recipients_in_header(top) == {
        f"{name}@example.org" for name in ("ana", "boris", "c", "d", "e", "second", "f", "g")
    }


def test_p10_elements_of_all_fields_together_are_bounded() -> None:
    """Fields by the thousand with junk in each: what comes after ten thousand elements is not looked at, be it no address at all."""
    junk = [f"To: {'.,' * 10}"] * 999
    assert recipients_in_header(head(*junk, "Cc: last@example.org")) == {"last@example.org"}
    assert recipients_in_header(head(*junk, *junk[:2], "Cc: last@example.org")) == frozenset()


def test_p10_tokens_of_all_fields_together_are_bounded() -> None:
    junk = ["To: " + "( )@" * 500] * 19  # a comment and an "@": two tokens
    assert recipients_in_header(head(*junk, "Cc: (c) last@example.org")) == {"last@example.org"}
    assert recipients_in_header(head(*junk, *junk[:2], "Cc: (c) last@example.org")) == frozenset()
    assert recipients_in_header(head(*junk, *junk[:2], "Cc: simple@example.org")) == {"simple@example.org"}


def test_names_with_dots_are_simple_however_many_there_are() -> None:
    many = ", ".join(f"J. Q. Public <person{number}@example.org>" for number in range(5_000))
    assert len(recipients_in_header(head(f"To: {many}"))) == 5_000


LOCAL = st.from_regex(r"[a-z0-9]{1,10}(\.[a-z0-9]{1,5})?", fullmatch=True)
PHRASE = st.sampled_from(["", "Ana ", '"A, <b>" ', "=?utf-8?b?0JA=?= ", "(c) ", "Ана. "])


@given(st.lists(st.tuples(PHRASE, LOCAL), min_size=1, max_size=8))
def test_a_well_formed_list_is_read_whole(people: list[tuple[str, str]]) -> None:
    text = ", ".join(f"{phrase}<{local}@example.org>" if phrase else f"{local}@example.org" for phrase, local in people)
    boxes, well_formed = mailboxes(text.encode(), limit=100)
    assert ([box.key for box in boxes], well_formed) == ([f"{local}@example.org" for _, local in people], True)
