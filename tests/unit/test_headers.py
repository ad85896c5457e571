"""Header sections: no octet is lost or moved, and nothing of ours can end a line."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import headers, rfc2047
from shared.headers import HeaderError
from shared.identity import loop_mark

MESSAGES = sorted((Path(__file__).parent.parent / "messages").glob("*.eml"))
SECRET = "a secret of the tests"

PIECES = st.sampled_from(
    [
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b":",
        b"a",
        b"From: x\r\n",
        b"From ",
        b">From a\r\n",
        b"X : y\r\n",
        b" fold\r\n",
        b"\xff",
        b"\x00",
        b"no field\r\n",
    ]
)
RAW = st.lists(PIECES, max_size=25).map(b"".join) | st.binary(max_size=200)


# --- splitting ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raw", "head"),
    [
        (b"", b""),
        (b"\r\n", b"\r\n"),
        (b"\r\nbody", b"\r\n"),
        (b"A: 1\r\n\r\nbody", b"A: 1\r\n\r\n"),
        (b"A: 1\n\nbody", b"A: 1\n\n"),
        (b"A: 1\r\n 2\r\n\t3\r\n\r\nbody", b"A: 1\r\n 2\r\n\t3\r\n\r\n"),
        (
            b"A: 1\r\n \r\n2: 3\r\n\r\nbody",
            b"A: 1\r\n \r\n2: 3\r\n\r\n",
        ),  # a line of white space is a continuation, not the end
        (b"A: 1\r\nno field\r\n\r\nbody", b"A: 1\r\n"),
        (b"A: 1\r\n", b"A: 1\r\n"),
        (b"A: 1", b"A: 1"),
        (b"A : 1\r\n\r\n", b"A : 1\r\n\r\n"),
        (b"no field\r\n\r\nA: 1\r\n", b""),
        (b" fold at the start\r\nA: 1\r\n\r\n", b""),
        (b": no name\r\n\r\n", b""),
        (b"From ana Mon\r\nA: 1\r\n\r\nbody", b"From ana Mon\r\nA: 1\r\n\r\n"),
        (b"From here on\r\nit is text\r\n", b""),
        (b"\xd0\x98: 1\r\n\r\nbody", b"\xd0\x98: 1\r\n\r\n"),
    ],
)
def test_where_a_head_ends(raw: bytes, head: bytes) -> None:
    assert headers.split(raw) == (head, raw[len(head) :])


@given(RAW)
def test_p8_head_and_body_are_the_message(raw: bytes) -> None:
    head, body = headers.split(raw)
    assert head + body == raw
    assert headers.split(head) == (head, b"")


@given(RAW)
def test_the_fields_are_the_head(raw: bytes) -> None:
    head, _ = headers.split(raw)
    joined = b"".join(field.raw for field in headers.fields(head))
    assert head.startswith(joined)
    assert head[len(joined) :] in (b"", b"\r\n", b"\n")


@given(RAW, st.binary(max_size=30))
def test_the_end_that_is_found_early_is_the_end(start: bytes, rest: bytes) -> None:
    end = headers.find_end(start)
    if end is not None:
        assert len(headers.split(start + rest)[0]) == end


def test_the_end_is_found_once_the_blank_line_is_there() -> None:
    raw = b"A: 1\r\n 2\r\nB: 3\r\n\r\nbody"
    ends = [headers.find_end(raw[:length]) for length in range(len(raw) + 1)]
    assert ends == [None] * 18 + [18] * 5
    assert headers.find_end(b"From ana Mon\r\n") is None
    assert headers.find_end(b"") is None


@pytest.mark.parametrize("path", MESSAGES, ids=lambda path: path.stem)
def test_p8_real_messages_are_split_without_loss(path: Path) -> None:
    raw = path.read_bytes()
    assert b"".join(headers.split(raw)) == raw


def test_the_fixtures_keep_their_crlf() -> None:
    assert len(MESSAGES) >= 20
    for path in MESSAGES:
        raw = path.read_bytes()
        assert raw.count(b"\n") == raw.count(b"\r\n"), path


# --- fields -----------------------------------------------------------------------------------------------------------------
HEAD = b"Subject: one\r\n two\r\nSUBJECT : \xff\r\nTo:a@b.example\r\nEmpty:\r\nFolded:\r\n \r\n x\t \r\n\r\n"


def test_fields_are_read() -> None:
    assert [field.name for field in headers.fields(HEAD)] == ["subject", "subject", "to", "empty", "folded"]
    assert headers.values(HEAD, "subject") == [b"one two", b"\xff"]
    assert headers.first(HEAD, b"To") == b"a@b.example"
    assert headers.first(HEAD, "empty") == b""
    assert headers.first(HEAD, "absent") is None
    assert headers.first(HEAD, "folded") == b"x"
    assert headers.count(HEAD, "Subject") == 2


@pytest.mark.parametrize(
    ("raw", "plain"),
    [
        (b"From: a\r\n", True),
        (b"From: a\r\n b\r\n", True),
        (b"From : a\r\n", False),
        (b"From: a\x00\r\n", False),
        (b"From: a\rb\r\n", False),
        (b"From: a\n", False),
    ],
)
def test_a_field_that_all_software_reads_alike(raw: bytes, plain: bool) -> None:
    assert headers.fields(raw)[0].plain is plain


# --- splicing ---------------------------------------------------------------------------------------------------------------
def test_splice_adds_removes_and_edits_in_place() -> None:
    head = b"A: 1\r\nB: 2\r\n folded\r\nb : 3\r\nC: 4\r\n\r\n"
    spliced = headers.splice(
        head,
        prepend=[b"X: x\r\n"],
        append=[b"Y: y\r\n"],
        remove=["B"],
        edit={"c": lambda field: b"Old-" + field.raw, "a": lambda _: b""},
    )
    assert spliced == b"X: x\r\nOld-C: 4\r\nY: y\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", b"X: x\r\n\r\n"),
        (b"\r\n", b"X: x\r\n\r\n"),
        (b"A: 1", b"X: x\r\nA: 1\r\n\r\n"),
        (b"A: 1\r\n", b"X: x\r\nA: 1\r\n\r\n"),
        (b"A: 1\n\n", b"X: x\r\nA: 1\n\n"),
        (b"From ana Mon\r\nA: 1\r\n\r\n", b"From ana Mon\r\nX: x\r\nA: 1\r\n\r\n"),
    ],
)
def test_a_spliced_head_has_its_blank_line(head: bytes, expected: bytes) -> None:
    assert headers.splice(head, prepend=[b"X: x\r\n"]) == expected


@given(RAW, st.sets(st.sampled_from(["from", "x", "a", "bcc"])))
def test_p8_splice_leaves_every_other_octet(raw: bytes, gone: set[str]) -> None:
    head, _ = headers.split(raw)
    kept = [field.raw for field in headers.fields(head) if field.name not in gone]
    spliced = headers.splice(head, prepend=[b"Added: 1\r\n"], remove=gone)
    after = [field.raw for field in headers.fields(spliced) if field.name != "added"]
    assert [raw.rstrip(b"\r\n") for raw in after] == [raw.rstrip(b"\r\n") for raw in kept]
    assert after[:-1] == kept[:-1]  # the very last line may have had no ending
    assert headers.split(spliced) == (spliced, b"")
    assert headers.split(spliced + b"no field\r\n")[1] == b"no field\r\n"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"X: 1",
        b"X: 1\n",
        b"X 1\r\n",
        b"X: 1\r\nY: 2\r\n",
        b"X: 1\r\n\r\n",
        b"X: a\nb\r\n",
        b"X: a\rb\r\n",
        b"X: a\x00\r\n",
        b" X: 1\r\n",
    ],
)
def test_splice_refuses_what_is_not_one_field(line: bytes) -> None:
    with pytest.raises(HeaderError):
        headers.splice(b"\r\n", prepend=[line])
    with pytest.raises(HeaderError):
        headers.splice(b"\r\n", append=[line])


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"y" * 200_000 + b"\r\n\r\n",
        b"X: y\r\n" + b" z\r\n" * 60_000 + b"\r\n",
        b"a:\r\n" * 60_000 + b"\r\n",
        b"a" * 200_000 + b"\r\n\r\n",
        b"a" + b" " * 200_000 + b"\r\n",
        b">" * 200_000 + b"\r\n",
        b"From " * 50_000,
    ],
    ids=["one line", "folded", "fields", "no colon", "spaces", "brackets", "From"],
)
def test_p10_large_heads_take_linear_time(head: bytes) -> None:
    started = time.process_time()
    headers.find_end(head)
    headers.splice(headers.split(head)[0], prepend=[b"X: 1\r\n"], edit={"a": lambda field: field.raw})
    assert time.process_time() - started < 1.0  # quadratic would be minutes


# --- writing ----------------------------------------------------------------------------------------------------------------
INJECTED = [
    "a\r\nBcc: x@y.example",
    "a\nb",
    "a\rb",
    "a\x00b",
    "a\x85b",
    "a\u2028b",
    "a\u2029b",
    "a\x0bb",
    "a\x0cb",
    "a\x1bb",
    "a\x7fb",
    "a\ud800b",
    "a\tb",
]


@pytest.mark.parametrize("text", INJECTED)
def test_control_characters_are_refused(text: str) -> None:
    for write in (headers.format_text, headers.format_phrase, headers.check_text):
        with pytest.raises(HeaderError):
            write(text)
    with pytest.raises(HeaderError):
        headers.format_address(text, "office@example.com")
    with pytest.raises(HeaderError):
        headers.format_address("Office", f"office{text}@example.com")
    with pytest.raises(HeaderError):
        headers.field("X", text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[office]", "[office]"),
        ("[офис]", "=?utf-8?b?W9C+0YTQuNGBXQ==?="),
        ("=?utf-8?q?=0ABcc:x?=", "=?utf-8?b?PT91dGYtOD9xPz0wQUJjYzp4Pz0=?="),  # encoded again, never copied
    ],
)
def test_format_text(text: str, expected: str) -> None:
    assert headers.format_text(text) == expected


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        ("", "office@example.com", "office@example.com"),
        ("Office", "office@example.com", "Office <office@example.com>"),
        ("The  Office, Ltd.", "office@example.com", '"The  Office, Ltd." <office@example.com>'),
        ('a "b" \\c', "office@example.com", '"a \\"b\\" \\\\c" <office@example.com>'),
        ("Офис", "office@example.com", "=?utf-8?b?0J7RhNC40YE=?= <office@example.com>"),
        ("=?utf-8?q?x?=", "office@example.com", "=?utf-8?b?PT91dGYtOD9xP3g/PQ==?= <office@example.com>"),
        ("evil@example.org", "office@example.com", '"evil@example.org" <office@example.com>'),
    ],
)
def test_format_address(name: str, address: str, expected: str) -> None:
    assert headers.format_address(name, address) == expected


@pytest.mark.parametrize(
    "address", ["a@x.example>, <b@y.example", "a@x.example, b@y.example", "a b@x.example", "a@x.example\r\nBcc: c"]
)
def test_an_address_cannot_add_another(address: str) -> None:
    with pytest.raises(HeaderError):
        headers.format_address("Office", address)


def test_long_fields_are_folded_at_spaces() -> None:
    field = headers.field("Subject", "word " * 60)
    lines = field.removesuffix(b"\r\n").split(b"\r\n")
    assert all(len(line) <= 78 for line in lines)
    assert all(line.startswith(b" word") for line in lines[1:])
    assert headers.first(field, "subject") == b"word " * 59 + b"word"


def test_a_line_over_998_octets_is_refused() -> None:
    assert headers.field("X", "y" * 995).count(b"\r\n") == 1
    with pytest.raises(HeaderError):
        headers.field("X", "y" * 996)


PRINTABLE = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Co", "Cn", "Cf")), max_size=300)


@given(PRINTABLE)
def test_what_is_written_is_one_field_that_reads_back(text: str) -> None:
    field = headers.field("Subject", headers.format_text(text))
    assert len(headers.fields(field)) == 1
    assert field.count(b"\n") == field.count(b"\r\n")
    assert all(len(line) <= 998 for line in field.split(b"\r\n"))
    assert rfc2047.decode(headers.first(field, "subject") or b"", limit=1000) == rfc2047.printable(text)


# --- encoded words ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"plain", "plain"),
        (b"=?UTF-8?Q?=D0=A2=D0=B0=D0=B9=D0=BD=D0=BE?=", "Тайно"),
        (b"=?windows-1251?Q?=CF=F0=EE=E5=EA=F2?= =?windows-1251?Q?_=E7=E0?=", "Проект за"),
        (b"=?utf-8?b?0J4=?=   =?utf-8?b?0YTQuNGB?=", "Офис"),
        (b"=?utf-8?q?=D0?= =?utf-8?q?=9E?=", "О"),  # a character split between words
        (b"a =?utf-8?q?b?= c", "a b c"),
        (b"=?utf-8*bg?q?x?=", "x"),
        (b"=?x-unknown?q?abc?=", "=?x-unknown?q?abc?="),
        (b"=?zlib?b?eJwDAAAAAAE=?=", "=?zlib?b?eJwDAAAAAAE=?="),
        (b"=?utf-8?b?!!!?=", "=?utf-8?b?!!!?="),
        (b"=?utf-8?q?a=0D=0ABcc:_x?=", "a Bcc: x"),
        ("a\u202eb\u2028c\x1b[1m".encode(), "ab c[1m"),
        (b"\xcf\xee", "\ufffd\ufffd"),
        ("сурово".encode(), "сурово"),
        (b"", ""),
    ],
)
def test_encoded_words_are_read_for_people(value: bytes, expected: str) -> None:
    assert rfc2047.decode(value, limit=200) == expected


def test_p10_a_bomb_of_encoded_words_is_bounded() -> None:
    started = time.process_time()
    text = rfc2047.decode(b"=?utf-8?q?a?= " * 20_000, limit=200)
    assert text == "a" * 200
    assert time.process_time() - started < 0.5


@given(st.binary(max_size=300))
def test_decoding_never_raises(value: bytes) -> None:
    assert len(rfc2047.decode(b"=?utf-8?q?" + value + b"?=" + value, limit=50)) <= 50


# --- loop marks ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "group", ["office@example.com", "офис@example.com", "office-owner@example.com", "postmaster@example.com"]
)
def test_a_loop_mark_is_read_back(group: str) -> None:
    head = headers.loop_mark(group, SECRET) + b"\r\n"
    assert head.isascii()
    assert headers.loops(head, SECRET) == {group}
    assert headers.loops(head, SECRET + "!") == frozenset()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"office@example.com",
        b"office@example.com aaaaaaaaaaaaaaaa",
        b"\xff\xfe x",
        b" " + loop_mark(SECRET, "").encode(),
        b"%ff%fe x",
    ],
)
def test_a_forged_mark_is_none(value: bytes) -> None:
    assert headers.loops(b"X-Horo-Loop: " + value + b"\r\n\r\n", SECRET) == frozenset()


def test_a_mark_of_one_group_is_none_of_another() -> None:
    mark = loop_mark(SECRET, "office@example.com").encode()
    assert headers.loops(b"X-Horo-Loop: board@example.com " + mark + b"\r\n\r\n", SECRET) == frozenset()
