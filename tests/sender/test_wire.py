"""The wire, pure: replies read, addresses checked, commands written, dots stuffed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.answers import MAX_TEXT, Broken, clean
from services.sender.wire import (
    Stuffer,
    all_sendable,
    capabilities,
    line_ends,
    mail_command,
    mail_parameters,
    one_line,
    parse_reply,
    rcpt_command,
    rcpt_commands,
    sendable,
    sendable_sender,
)
from shared.messages import Recipient


@pytest.mark.parametrize(
    ("lines", "code", "status", "text"),
    [
        ([b"250 ok"], 250, "2.0.0", "ok"),
        ([b"250"], 250, "2.0.0", ""),
        ([b"550 5.1.1 no such user"], 550, "5.1.1", "no such user"),
        ([b"550 5.1.1"], 550, "5.1.1", ""),
        ([b"550 4.1.1 confused"], 550, "5.0.0", "4.1.1 confused"),  # a class that contradicts the code is not believed
        ([b"550-5.7.26 first", b"550 5.7.26 second"], 550, "5.7.26", "first second"),
        ([b"450 \x1b[31mred\x07 \xd0\x96"], 450, "4.0.0", "[31mred \\u0416"),
    ],
)
def test_replies(lines: list[bytes], code: int, status: str, text: str) -> None:
    reply = parse_reply(lines)
    assert (reply.code, reply.status, reply.text) == (code, status, text)


@pytest.mark.parametrize("line", [b"", b"2", b"hello", b"25x no", b"150 no", b"650 no", b"250x", b"2500 ok"])
def test_what_is_no_reply_line_breaks_the_conversation(line: bytes) -> None:
    with pytest.raises(Broken):
        line_ends(line)


def test_an_equal_line_is_the_same_reply_and_what_needs_more_thought_is_none() -> None:
    assert one_line(b"250 2.1.5 ok") == one_line(b"250 2.1.5 ok\r") == parse_reply([b"250 2.1.5 ok"])
    assert one_line(b"250 2.1.5 ok\r") is one_line(b"250 2.1.5 ok\r")
    assert one_line(b"250-more") is None
    assert one_line(b"421 4.3.2 going away") is None
    with pytest.raises(Broken):
        one_line(b"250 " + b"x" * 5000)


def test_lines_of_one_reply_must_agree() -> None:
    with pytest.raises(Broken):
        parse_reply([b"250-a", b"550 b"])


@given(st.text())
def test_remote_text_becomes_one_bounded_line_of_ascii(text: str) -> None:
    cleaned = clean(text)
    assert len(cleaned) <= MAX_TEXT
    assert cleaned.isascii()
    assert cleaned.isprintable()


def test_capabilities() -> None:
    offers = capabilities([b"250-host hello", b"250-size 1000", b"250-PIPELINING", b"250 8BITMIME "])
    assert offers == {"SIZE": "1000", "PIPELINING": "", "8BITMIME": ""}


@pytest.mark.parametrize(
    "address",
    [
        "ana@example.test",
        "a..b@example.test",
        '"a b"@example.test',
        '"a\\"b>"@example.test',
        "жана@xn--e1aybc.test",
        "a@[127.0.0.1]",
        "o'hara+x=y@x-y.test",
    ],
)
def test_addresses_that_are_sent(address: str) -> None:
    assert sendable(address)


@pytest.mark.parametrize(
    "address",
    [
        "", "ana", "@x.test", "ana@", "a b@x.test", "a\r\nDATA@x.test", "a\rb@x.test", "a\nb@x.test", "a\0b@x.test", "a\x85b@x.test",
        "a\u2028b@x.test", "a\u202eb@x.test",
        "a>b@x.test", "a@b> SIZE=1", "a@b c", "<a@b>", "a@b\r\nRCPT TO:<evil@x>", '"a\r\nb"@x.test', '"a"b"@x.test', '"a@x.test',
        "a\ud800@x.test", "a@x.test\t", "x" * 600 + "@x.test", "a@b@c@жабa.test",
    ],
)  # fmt: skip
def test_addresses_that_would_inject_are_never_sent(address: str) -> None:
    assert not sendable(address)
    assert sendable_sender(address) is (address == "")


@given(st.text(max_size=40), st.text(max_size=20))
def test_whatever_passes_the_check_makes_exactly_one_command(local: str, domain: str) -> None:
    address = f"{local}@{domain}"
    if sendable(address):
        command = rcpt_command(Recipient(address=address), {}).encode()
        assert re.fullmatch(rb"RCPT TO:<[^\r\n\x00]+@[^\r\n<> ]+>\r\n", command)


def test_parameters_are_sent_only_where_they_are_understood() -> None:
    offers = {"SIZE": "", "8BITMIME": "", "DSN": "", "SMTPUTF8": ""}
    full = mail_parameters(offers, size=9, eight_bit=True, utf8=True, envid="QQ314", ret="HDRS")
    assert mail_command("a@x", full) == "MAIL FROM:<a@x> SIZE=9 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ314\r\n"
    assert mail_parameters({}, size=9, eight_bit=True, utf8=False, envid="Q", ret="FULL") == ""
    bare = mail_parameters(offers, size=9, eight_bit=False, utf8=False, envid=None, ret=None)
    assert mail_command("", bare) == "MAIL FROM:<> SIZE=9\r\n"
    recipient = Recipient(address="b@x", notify=("FAILURE", "DELAY"), orcpt="rfc822;b@x")
    assert rcpt_command(recipient, offers) == "RCPT TO:<b@x> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@x\r\n"
    assert rcpt_command(recipient, {}) == "RCPT TO:<b@x>\r\n"


def test_commands_of_many_recipients_are_those_of_each() -> None:
    plain = [Recipient(address=f"u{number}@x") for number in range(3)]
    with_dsn = [*plain, Recipient(address="b@x", notify=("NEVER",))]
    for recipients in (plain, plain[:1], with_dsn):
        for offers in ({}, {"DSN": ""}):
            assert rcpt_commands(recipients, offers) == "".join(rcpt_command(each, offers) for each in recipients)


_bits = st.sampled_from([*'aZ9@@..<> "\\\n\r\t\0;:,()[]', "x" * 128, "example.test", "я", "\u2028", "-_+!'"])


@given(st.lists(st.lists(_bits, max_size=6).map("".join), min_size=1, max_size=4))
def test_the_check_of_many_addresses_lets_nothing_pass_that_the_check_of_one_refuses(addresses: list[str]) -> None:
    if all_sendable(addresses):
        assert all(sendable(address) for address in addresses)


def test_the_check_of_many_addresses_takes_plain_ones_and_leaves_the_rest_to_the_check_of_one() -> None:
    assert all_sendable(["ana@example.test", "o'hara+x=y@x-y.test", "a.b@xn--e1aybc.test"])
    assert not all_sendable(["ana@example.test", "жана@example.test"])
    assert not all_sendable(["ana@example.test", "a@x.test\nRCPT TO:<evil@x.test>"])
    assert not all_sendable(["ana@example.test\nb@x.test"])


@pytest.mark.parametrize("value", ["a b", "a\r\nDATA", "жаба", "x" * 600, "a\0"])
def test_dsn_values_that_would_inject_are_left_out(value: str) -> None:
    assert "ENVID" not in mail_parameters({"DSN": ""}, size=1, eight_bit=False, utf8=False, envid=value, ret=value)
    command = rcpt_command(Recipient(address="b@x", notify=(value,), orcpt=value), {"DSN": ""})
    assert command.rstrip() == "RCPT TO:<b@x>"


_pieces = st.lists(st.sampled_from([b"\r\n", b".", b"..", b"a", b"\r\n.", b"\r\n.\r\n", b"x\r\n", b"\r"]), max_size=20)


@given(_pieces)
def test_p8_stuffing_is_the_same_wherever_chunks_end(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    at_once, piecewise, octets = Stuffer(), Stuffer(), Stuffer()
    expected = at_once.feed(whole)
    assert b"".join(piecewise.feed(piece) for piece in pieces) == expected
    assert b"".join(octets.feed(whole[i : i + 1]) for i in range(len(whole))) == expected
    assert at_once.end() == piecewise.end() == octets.end()


@given(_pieces)
def test_p8_the_final_dot_is_the_first_one_and_unstuffing_gives_the_bytes_back(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    stuffer = Stuffer()
    wire = stuffer.feed(whole) + stuffer.end()
    assert (b"\r\n" + wire).index(b"\r\n.\r\n") == len(wire) - 3
    received = re.sub(rb"(^|\r\n)\.", rb"\1", wire[:-3])
    assert received == (whole if whole.endswith(b"\r\n") or not whole else whole + b"\r\n")
