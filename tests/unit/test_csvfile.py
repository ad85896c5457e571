"""Members as CSV: what is read, what is refused and where, and that what was written is read again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.address import AddressError, key, parse, split_role
from shared.directory import DirectoryError, NewMember
from shared.directory.csvfile import HEADER, MAX_LINE, PAGE, CsvErrors, read_members, write_members
from shared.directory.rules import Prepared, member, member_name
from shared.groups import Member, slot

DOMAIN = "example.test"


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def _read(data: bytes, size: int) -> list[Prepared]:
    found: list[Prepared] = []
    async for page in read_members(chunks(data, size), domain=DOMAIN):
        assert len(page) > 0
        found.extend(page)
    return found


def read(data: bytes | str, size: int = 65536) -> list[Prepared]:
    return asyncio.run(_read(data.encode() if isinstance(data, str) else data, size))


def wrong(data: bytes | str) -> list[tuple[int, str]]:
    with pytest.raises(CsvErrors) as caught:
        read(data)
    return list(caught.value.errors)


ANA = NewMember(address="ana@x.test")
NAMED = NewMember(address="ana@x.test", name="Ана Петрова")

GOOD = [
    ("", []),
    ("\r\n\n  \n", []),
    ("ana@x.test", [ANA]),
    ("ana@x.test\r\nboris\n", [ANA, NewMember(address="boris")]),
    ("\ufeffana@x.test\n", [ANA]),
    ("\ufeffaddress,name\nana@x.test,Ана Петрова\n", [NAMED]),
    ("ana@x.test,Ана Петрова\n", [NAMED]),
    ("ana@x.test;Ана Петрова\n", [NAMED]),
    ("ana@x.test\tАна Петрова\n", [NAMED]),
    ('ana@x.test,"Petrova, Ана"\n', [NewMember(address="ana@x.test", name="Petrova, Ана")]),
    ('"ana@x.test" , "say ""hi""" \n', [NewMember(address="ana@x.test", name='say "hi"')]),
    ("ana@x.test,,on,no\n", [NewMember(address="ana@x.test", paused=True, own_copies=False)]),
    ("ana@x.test,,ДА,\n", [NewMember(address="ana@x.test", paused=True)]),
    ("Paused,Email\nyes,ana@x.test\n", [NewMember(address="ana@x.test", paused=True)]),
    ("имейл;име\nana@x.test;Ана Петрова\n", [NAMED]),
    ("Ана Петрова <ana@x.test>\n", [NAMED]),
    ('"Петрова, Ана" <ana@x.test>\n', [NewMember(address="ana@x.test", name="Петрова, Ана")]),
    ("Петрова, Ана <ana@x.test>\n", [NewMember(address="ana@x.test", name="Петрова, Ана")]),
    ("<ana@x.test>\n<boris>\n", [ANA, NewMember(address="boris")]),
    ('"a \\"b\\" c" <ana@x.test>\n', [NewMember(address="ana@x.test", name='a "b" c')]),
    ("Ана Петрова <ana@x.test>,,on\n", [NewMember(address="ana@x.test", name="Ана Петрова", paused=True)]),
    ("'=ana@x.test,'+name\n", [NewMember(address="=ana@x.test", name="+name")]),
    ("ana@x.test,name,,,,\n", [NewMember(address="ana@x.test", name="name")]),
    ("name\n", [NewMember(address="name")]),
    (
        "name,address\nAna,ana@x.test\nonly a name,\tana@x.test \n",
        [NewMember(address="ana@x.test", name="Ana"), NewMember(address="ana@x.test", name="only a name")],
    ),
    ("address\nana@x.test,  ,\n\t\n", [ANA]),
    ("own_copies;address\n;ana@x.test\nYES ; Ana@X.TEST\n", [ANA, NewMember(address="Ana@x.test", own_copies=True)]),
    ("O'Brien <ana@x.test>\nana@x.test,O'Brien\n", [NewMember(address="ana@x.test", name="O'Brien")] * 2),
]


@pytest.mark.parametrize("size", [1, 7, 65536])
@pytest.mark.parametrize(("text", "wanted"), GOOD, ids=range(len(GOOD)))
def test_what_is_read(text: str, wanted: list[NewMember], size: int) -> None:
    assert read(text, size) == [member(new, DOMAIN) for new in wanted]


BAD = [
    (b"ana@x.test\nbad address\nboris\n@@\n", [2, 4], "no member's address"),
    (b"a\0b@x.test\n", [1], "NUL"),
    ("Ана,ana@x.test\n".encode("cp1251"), [1], "UTF-8"),
    ("ana@x.test\n".encode("utf-16"), [1, 2], "UTF-16"),
    (b"ok@x.test\n" + b"a" * (MAX_LINE + 1) + b"\nok2@x.test\nbad bad\n", [2, 4], "longer"),
    (b"a" * (MAX_LINE * 50), [1], "longer"),
    (b"ana@x.test,name,maybe\n", [1], "paused"),
    (b"ana@x.test,name,on,off,more\n", [1], "5 fields"),
    (b'ana@x.test,"open\n', [1], "not closed"),
    (b'ana@x.test,"a"b\n', [1], "after a closing"),
    (b",name only\n", [1], "no address"),
    (b"ana@x.test,a\rb\n", [1], "U+000D"),
    (b"address,colour\nana@x.test,red\n", [1], "colour"),
    (b"address,email\nana@x.test,red\n", [1], "twice"),
    (b"ana@x.test\rboris@x.test\r", [1], "control"),
    (b"ok@x.test\n,\nok@x.test,,,,x\n", [2, 3], "no address"),
    (b"ok@x.test\nana@x..test\n@x.test\nana@[127.0.0.1]\nana@1.2.3.4\n", [2, 3, 4, 5], "no domain name"),
    (b"ok@x.test\n" + b"a" * 65 + b"@x.test\na@" + b"x." * 130 + b"test\n", [2, 3], "longer than 64"),
]


@pytest.mark.parametrize(("data", "lines", "told"), BAD, ids=range(len(BAD)))
def test_what_is_refused_is_told_by_line(data: bytes, lines: list[int], told: str) -> None:
    errors = wrong(data)
    assert [number for number, _ in errors][: len(lines)] == lines
    assert told in errors[0][1]


def test_twenty_errors_are_told_and_all_are_counted() -> None:
    with pytest.raises(CsvErrors) as caught:
        read("good@x.test\n" + "bad bad\n" * 50)
    assert caught.value.total == 50
    assert [number for number, _ in caught.value.errors] == list(range(2, 22))
    assert "line 2:" in str(caught.value)
    assert "and 30 more" in str(caught.value)
    assert isinstance(caught.value, DirectoryError)


async def test_no_page_follows_the_first_error() -> None:
    data = b"".join(b"u%d@x.test\n" % number for number in range(PAGE)) + b"bad bad\n" + b"v@x.test\n" * (3 * PAGE)
    pages = []
    with pytest.raises(CsvErrors):
        async for page in read_members(chunks(data, 1000), domain=DOMAIN):
            pages.append(page)
    assert sum(len(page) for page in pages) <= PAGE
    assert all(new.address.startswith("u") for page in pages for new in page)


async def test_p10_memory_is_a_page_whatever_the_file() -> None:
    async def source() -> AsyncIterator[bytes]:
        for number in range(200):
            yield b"".join(b"u%d-%d@x.test\n" % (number, one) for one in range(500))

    sizes = [len(page) async for page in read_members(source(), domain=DOMAIN)]
    assert sum(sizes) == 100_000
    assert max(sizes) < 3 * PAGE


def test_formulas_are_written_as_text() -> None:
    rows = write_members([Member(address="=1+1@x.test", key="=1+1@x.test", name="=cmd|' /C calc'!A0")]).decode()
    assert rows == "'=1+1@x.test,'=cmd|' /C calc'!A0,off,off\r\n"
    for cell in ("+1", "-1", "@x", "'x"):
        assert (
            write_members([Member(address="a@x.test", key="a@x.test", name=cell)]).decode().split(",")[1] == f"'{cell}"
        )


def _valid(address: str) -> bool:
    try:
        return str(parse(address)) == address
    except AddressError:
        return False


def _valid_name(name: str) -> bool:
    try:
        return member_name(name) == name
    except DirectoryError:
        return False


LOCALS = st.one_of(
    st.text("abcXYZ0189.!#$&'*+-/=?^_`{|}~йЖ", min_size=1, max_size=20),
    st.text('ab ,;"\\@<>=', min_size=1, max_size=10).map(
        lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    ),
)
ADDRESSES = st.builds("{}@{}".format, LOCALS, st.sampled_from(["x.test", "example.org"])).filter(_valid)
NAMES = (
    st.one_of(st.just(""), st.text(max_size=30), st.text("=+-@'\",;<> ab", max_size=12))
    .map(str.strip)
    .filter(_valid_name)
)
MEMBERS = st.builds(
    lambda address, name, paused, own: Member(address=address, key=key(address), name=name, paused=paused, own_copies=own),
    ADDRESSES, NAMES, st.booleans(), st.booleans(),
)  # fmt: skip


@given(st.lists(MEMBERS, max_size=8), st.integers(1, 50))
def test_what_is_written_is_read_again(members: list[Member], size: int) -> None:
    found = read(HEADER + write_members(members), size)
    assert found == [
        member(NewMember(address=one.address, name=one.name, paused=one.paused, own_copies=one.own_copies), DOMAIN)
        for one in members
    ]


PARTS = st.text("abZ09._-@ \u00e9\u0430=+\"'<>[]%!", max_size=70)


@given(
    st.one_of(
        PARTS,
        st.builds(
            "{}@{}".format, PARTS, st.sampled_from(["x.test", "X.Test", "пример.test", "x", "-x.test", "1.2.3.4"])
        ),
    )
)
def test_the_short_way_to_an_address_ends_where_the_long_one_does(text: str) -> None:
    """What is recognised at a glance is what the grammar makes of it; what the grammar refuses is refused in its words."""
    try:
        wanted = parse(text, default_domain=DOMAIN)
    except AddressError as error:
        with pytest.raises(DirectoryError) as caught:
            member(NewMember(address=text), DOMAIN)
        assert str(error) in str(caught.value)
        return
    made = member(NewMember(address=text), DOMAIN)
    assert (made.address, made.key, made.slot) == (str(wanted), wanted.key, slot(wanted.key))
    role, base, _ = split_role(wanted.key)
    assert made.base == (base if role == "group" else "")


def _noise() -> Iterator[st.SearchStrategy[bytes]]:
    yield st.binary(max_size=300)
    yield st.lists(
        st.sampled_from([b"ana@x.test", b",", b";", b'"', b"\n", b"\r", b"<", b">", b"\xff", b"'=", b" "]), max_size=40
    ).map(b"".join)


@given(st.one_of(*_noise()), st.integers(1, 20))
def test_any_bytes_are_members_or_told_errors(data: bytes, size: int) -> None:
    try:
        first = read(data, size)
    except CsvErrors as error:
        assert error.total >= len(error.errors) > 0
        return
    assert first == read(data)
