"""Addresses: the grammar as tables (threats.md 3.1, "open relay" and "address ambiguity"), the laws of keys as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.address import (
    Address,
    AddressError,
    bounce_address,
    check_group_name,
    domain_key,
    key,
    keys,
    parse,
    parse_path,
    person_key,
    split_role,
)
from shared.idn import to_ascii

LABEL = "a" * 63


@pytest.mark.parametrize(
    ("argument", "address", "rest"),
    [
        (b"<ana@example.org>", "ana@example.org", b""),
        (b"<Ana@EXAMPLE.org> SIZE=10 BODY=8BITMIME", "Ana@example.org", b"SIZE=10 BODY=8BITMIME"),
        (b" <ana@example.org>", "ana@example.org", b""),
        (b'<"ana"@example.org>', "ana@example.org", b""),
        (b'<"a\\na"@example.org>', "ana@example.org", b""),
        (b'<"ana petrova"@example.org>', '"ana petrova"@example.org', b""),
        (b'<"a\\ b"@example.org>', '"a b"@example.org', b""),
        (b'<"a\\"\\\\b"@example.org>', '"a\\"\\\\b"@example.org', b""),
        (b'<"a>b"@example.org> X=1', '"a>b"@example.org', b"X=1"),
        (b'<".a"@example.org>', '".a"@example.org', b""),
        (b"<root@localhost>", "root@localhost", b""),
        (b"<office+tag=x@example.com>", "office+tag=x@example.com", b""),
        (b"<SRS0=HHH=TT=example.net=ana@example.com>", "SRS0=HHH=TT=example.net=ana@example.com", b""),
        (b"<!#$&'*+-/=?^_`{|}~@example.org>".replace(b"!", b""), "#$&'*+-/=?^_`{|}~@example.org", b""),
        (b"<ana@xn--e1afmkfd.XN--90ae>", "ana@xn--e1afmkfd.xn--90ae", b""),
        (b"<ana@ab--cd.example>", "ana@ab--cd.example", b""),
        (b"<PostMaster>", "postmaster", b""),
        (b"<" + b"l" * 64 + b"@example.org>", "l" * 64 + "@example.org", b""),
    ],
)
def test_a_path_is_read(argument: bytes, address: str, rest: bytes) -> None:
    found, parameters = parse_path(argument, utf8=False)
    assert (str(found), parameters) == (address, rest)


def test_the_null_path_is_none() -> None:
    assert parse_path(b"<> SIZE=1", utf8=False) == (None, b"SIZE=1")


def test_postmaster_has_no_domain() -> None:
    assert parse_path(b"<postmaster>", utf8=False)[0] == Address("postmaster", "")


@pytest.mark.parametrize(
    "argument",
    [
        # no path
        b"", b"ana@example.org", b"<ana@example.org", b"ana@example.org>", b"<ana@example.org>SIZE=1", b"<ana@example.org>,<b@c>",
        b"\t<ana@example.org>", b"< ana@example.org>", b"<ana@example.org >", b"<ana @example.org>", b"<ana@ example.org>",
        # routes and literals: never interpreted
        b"<@ours.example:u@evil.example>", b"<@ours.example,@b:u@evil.example>", b"<u%evil.example@ours.example>",
        b"<evil.example!u@ours.example>", b'<"u@evil.example"@ours.example>', b'<"u%evil"@ours.example>', b"<u@evil@ours.example>",
        b"<u@[127.0.0.1]>", b"<u@[IPv6:::1]>", b"<u@127.0.0.1>", b"<u@ours.example.>", b"<u@>", b"<@>", b"<@ours.example>", b"<u>",
        # what aiosmtpd rewrites
        b"<=?utf-8?q?all=2Dstaff?=@ours.example>", b"<(c)a(d)@(e)x.example>", b"<a(c)@x.example>", b'<"a@evil>,<"b"@ours.example>',
        b"<a\tb@x.example>", b'<"a"b@x.example>', b'<a"b"@x.example>', b'<""@x.example>', b'<"a@x.example>', b"<\"a\"\\@x.example>",
        # control characters
        b"<a\rb@x.example>", b"<a\nb@x.example>", b"<a\x00b@x.example>", b"<a@x\x00.example>", b"<a\x7f@x.example>", b'<"a\x1b"@x.example>',
        b'<"a\\\x00"@x.example>',
        # dots and hyphens
        b"<.a@x.example>", b"<a.@x.example>", b"<a..b@x.example>", b"<a@.x.example>", b"<a@x..example>", b"<a@-x.example>",
        b"<a@x-.example>", b"<a@x_y.example>", b"<a@x!y.example>",
        # limits
        b"<" + b"l" * 65 + b"@example.org>", b"<a@" + b"a" * 64 + b".org>", b"<a@" + b".".join([LABEL.encode()] * 4) + b">",
        b"<" + b"l" * 64 + b"@" + b".".join([LABEL.encode()] * 3) + b">",
    ],
)  # fmt: skip
@pytest.mark.parametrize("utf8", [False, True])
def test_what_could_be_read_as_another_mailbox_is_refused(argument: bytes, utf8: bool) -> None:
    with pytest.raises(AddressError) as error:
        parse_path(argument, utf8=utf8)
    assert not error.value.needs_utf8
    assert str(error.value).isprintable()
    assert str(error.value).isascii()


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("иван@example.org", "иван@example.org"),
        ("ana@пример.бг", "ana@xn--e1afmkfd.xn--90ae"),
        ("ana@faß.de", "ana@xn--fa-hia.de"),  # the idna codec says fass.de: somebody else's domain
        ("ana@BÜCHER.example", "ana@xn--bcher-kva.example"),
        ('"иван петров"@example.org', '"иван петров"@example.org'),
    ],
)
def test_utf8_needs_smtputf8(path: str, address: str) -> None:
    assert str(parse_path(f"<{path}>".encode(), utf8=True)[0]) == address
    with pytest.raises(AddressError) as error:
        parse_path(f"<{path}>".encode(), utf8=False)
    assert error.value.needs_utf8


@pytest.mark.parametrize(
    "path",
    [
        "a@ours。example", "a@ours．example", "a@ours｡example", "a@ours․example", "a@ｏurs.example", "a@our\u212a.example",
        "ｏffice@ours.example", "office\u212a@ours.example", "office＠ours.example", "of\u202efice@ours.example", "of\u200bfice@ours.example",
        "of\u00adfice@ours.example", "of\u00a0fice@ours.example", "of\u2028fice@ours.example", "of\x85fice@ours.example",
        "a@exa\u200dmple.org", "a@℡.example", "a@½.example", "a@\ue000.example", "\ue000@x.example",
    ],
)  # fmt: skip
def test_look_alikes_of_ascii_are_refused(path: str) -> None:
    with pytest.raises(AddressError):
        parse_path(f"<{path}>".encode(), utf8=True)
    with pytest.raises(AddressError):
        parse(path)


@pytest.mark.parametrize(
    "octets", [b"<\xff@x.example>", b"<a@\xc3.example>", b"<\xed\xa0\x80@x.example>", b"<\xc0\xaf@x.example>"]
)
@pytest.mark.parametrize("utf8", [False, True])
def test_octets_that_are_no_utf8_are_a_syntax_error(octets: bytes, utf8: bool) -> None:
    with pytest.raises(AddressError) as error:
        parse_path(octets, utf8=utf8)
    assert not error.value.needs_utf8


@given(
    st.binary(max_size=400) | st.binary(max_size=80).map(lambda octets: b"<" + octets + b"@example.org>"), st.booleans()
)
def test_any_octets_are_an_address_or_an_error(octets: bytes, utf8: bool) -> None:
    try:
        address, _ = parse_path(octets, utf8=utf8)
    except AddressError as error:
        assert str(error).isprintable()
    else:
        assert address is None or utf8 or str(address).isascii()


@given(st.text(max_size=80) | st.text(max_size=20).map(lambda text: f'"{text}"@example.org'))
def test_an_address_that_was_read_is_read_again_as_itself(text: str) -> None:
    try:
        address = parse(text)
    except AddressError:
        return
    again, rest = parse_path(f"<{address}>".encode(), utf8=True)
    assert (again, rest) == (address, b"")
    assert address.key == key(address.key)
    assert parse(str(address)) == address


# --- people's input -----------------------------------------------------------------------------------------------------
def test_a_bare_name_is_of_the_default_domain() -> None:
    assert str(parse(" boris ", default_domain="Пример.бг")) == "boris@xn--e1afmkfd.xn--90ae"


@pytest.mark.parametrize(
    "text", ["", "  ", "boris", "a b@x.example", "Ana <ana@x.example>", "a@x.example,b@x.example", "a@" + "b" * 300]
)
def test_what_people_may_not_enter(text: str) -> None:
    with pytest.raises(AddressError):
        parse(text)


def test_an_empty_name_is_not_of_the_default_domain() -> None:
    with pytest.raises(AddressError):
        parse("", default_domain="example.com")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Example.COM", "example.com"),
        (" пример.бг ", "xn--e1afmkfd.xn--90ae"),
        ("ПРИМЕР.БГ", "xn--e1afmkfd.xn--90ae"),
        ("faß.de", "xn--fa-hia.de"),
    ],
)
def test_a_domain_has_one_form(name: str, expected: str) -> None:
    assert domain_key(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a..b",
        "example.com.",
        "-a.com",
        "a_b.com",
        "a b.com",
        "1.2.3.4",
        "a@b.com",
        "пример。бг",
        "\ud800.com",
        "я" * 70 + ".бг",
    ],
)
def test_what_is_no_domain(name: str) -> None:
    with pytest.raises(AddressError):
        domain_key(name)


# --- keys ---------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("Ana@Example.ORG", "ana@example.org"),
        ('"Ana"@Example.ORG', "ana@example.org"),
        ('"A\\na"@example.org', "ana@example.org"),
        ('"Ana P"@example.org', '"ana p"@example.org'),
        ("ИВАН@ПРИМЕР.БГ", "иван@xn--e1afmkfd.xn--90ae"),
        ("и\u0306@example.org", "й@example.org"),
        ("ana+work@example.org", "ana+work@example.org"),
        ("postmaster", "postmaster"),
        ("No Address", "no address"),
        ("Ana@a..b.é", "ana@a..b.é"),
        ("", ""),
    ],
)
def test_key(address: str, expected: str) -> None:
    assert key(address) == expected


@given(
    st.text()
    | st.text(max_size=30).map(lambda text: f"{text}@пример.бг")
    | st.text(max_size=20).map(lambda text: f'"{text}"@{text}')
)
def test_key_never_raises_and_is_idempotent(text: str) -> None:
    assert key(key(text)) == key(text)


@given(st.text(max_size=300))
def test_a_domain_is_its_own_form(text: str) -> None:
    try:
        name = to_ascii(text)
    except AddressError:
        return
    assert name.isascii()
    assert to_ascii(name) == name


def test_p10_long_text_does_not_fill_the_cache() -> None:
    from shared.address import _cached_key

    before = _cached_key.cache_info().currsize
    assert key("A" * 100_000) == "a" * 100_000
    assert _cached_key.cache_info().currsize == before


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("Ana+work@example.org", "ana@example.org"),
        ("ana@example.org", "ana@example.org"),
        ("+x@example.org", "+x@example.org"),
        ('"a b+c"@example.org', '"a b+c"@example.org'),
    ],
)
def test_a_person_is_known_without_the_tag(address: str, expected: str) -> None:
    assert person_key(address) == expected


# --- addresses of ours -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("office@d.example", ("group", "office@d.example", "")),
        ("office+x@d.example", ("group", "office@d.example", "x")),
        ("office+x+y@d.example", ("group", "office@d.example", "x+y")),
        ("office-owner@d.example", ("owner", "office@d.example", "")),
        ("office-owner+x@d.example", ("owner", "office@d.example", "x")),
        ("office+x-owner@d.example", ("group", "office@d.example", "x-owner")),
        ("office-bounces@d.example", ("bounces", "office@d.example", "")),
        ("office-bounces+tok-en@d.example", ("bounces", "office@d.example", "tok-en")),
        ("postmaster@d.example", ("postmaster", "d.example", "")),
        ("postmaster+token@d.example", ("postmaster", "d.example", "token")),
        ("postmaster", ("postmaster", "", "")),
        ("-owner@d.example", ("group", "-owner@d.example", "")),
        ("+x@d.example", ("group", "+x@d.example", "")),
        ('"a+b"@d.example', ("group", '"a+b"@d.example', "")),
        ("", ("group", "", "")),
        ("nothing", ("group", "nothing", "")),
    ],
)
def test_split_role(text: str, expected: tuple[str, str, str]) -> None:
    assert split_role(text) == expected


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("office@d.example", "office-bounces+abcdefghijkl@d.example"),
        ("g" * 43 + "@d.example", "g" * 43 + "-bounces+abcdefghijkl@d.example"),
        ("g" * 44 + "@d.example", "postmaster+abcdefghijkl@d.example"),
        ("офис@d.example", "postmaster+abcdefghijkl@d.example"),
    ],
)
def test_a_bounce_address_fits_and_comes_back(group: str, expected: str) -> None:
    address = bounce_address(group, "abcdefghijkl")
    assert address == expected
    assert parse_path(f"<{address}>".encode(), utf8=False)[0] is not None
    role, _, tag = split_role(key(address))
    assert (role in ("bounces", "postmaster"), tag) == (True, "abcdefghijkl")


@pytest.mark.parametrize(
    "name",
    [
        "office",
        "Office.2",
        "a-b_c",
        "офис",
        "офис-2",
        "γραφείο",
        "事務所",
        "グループ組",
        "हिन्दी",
        "가나",
        "o" * 58,
        "abuse",
        "owner",
        "2024",
    ],
)
def test_names_that_a_group_may_have(name: str) -> None:
    check_group_name(name)
    assert str(parse(f"{name}@example.com")) == f"{name}@example.com"


@pytest.mark.parametrize(
    "name",
    [
        "", "postmaster", "PostMaster", "office-owner", "office-bounces", "OFFICE-OWNER", "a+b", "a b", '"ab"', "a@b", "a%b", "a!b", "-a",
        ".a", "a.", "a..b", "o" * 59, "я" * 30,
        "оffice",  # a Cyrillic о before Latin letters
        "offiсe-2", "pаypal", "αbc", "ｏffice", "o\ufb03ce", "\u212aelvin", "cafe\u0301", "a\u200bb", "a\u202eb", "a²", "১০a",
        "a৪", "x\u0332", "а\u0301", "a\u064eb", "a\ufe0fb", "a\u034fb", "\u115fa", "가\u115f",
        "off\nice", "\ud800",
    ],
)  # fmt: skip
def test_names_that_a_group_may_not_have(name: str) -> None:
    with pytest.raises(AddressError) as error:
        check_group_name(name)
    assert str(error.value).isprintable()


@given(st.lists(st.one_of(st.text(max_size=12), st.from_regex(r"[a-zA-Z\"]{1,4}@[a-zA-Z.]{1,6}", fullmatch=True))))
def test_the_keys_of_many_are_the_keys_of_each(addresses: list[str]) -> None:
    assert list(keys(addresses)) == [key(address) for address in addresses]
