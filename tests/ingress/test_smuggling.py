"""SMTP smuggling: no sequence but CRLF.CRLF ends a message, and what holds another is never accepted (threats.md 3.1)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.unstuff import END, MAX_LINE, Unstuffer
from tests.ingress.conftest import House
from tests.ingress.dialogue import Client

FAKE_ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r.\n",
    b"\n.\r",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\n.\r\n",
]
HIDDEN = b"MAIL FROM:<evil@example.net>\r\nRCPT TO:<office@example.test>\r\nDATA\r\nSubject: smuggled\r\n\r\nx"


async def _at_data(client: Client) -> None:
    await client.talk("""
        s: 220
        c: EHLO x
        s: 250
        c: MAIL FROM:<a@example.net>
        c: RCPT TO:<office@example.test>
        c: DATA
        s: 250
        s: 250
        s: 354
    """)


@pytest.mark.parametrize("fake", FAKE_ENDS, ids=repr)
@pytest.mark.parametrize("one_write", [True, False], ids=["one write", "octet by octet"])
async def test_p5_a_fake_end_is_refused_at_the_real_one(house: House, fake: bytes, one_write: bool) -> None:
    payload = b"Subject: a\r\n\r\nhello" + fake + HIDDEN + b"\r\n.\r\n"
    async with await Client.connect(house.smtp) as client:
        await _at_data(client)
        for piece in [payload] if one_write else [payload[i : i + 1] for i in range(len(payload))]:
            await client.send(piece)
        await client.expect("521 5.5.2 Bare CR, bare LF or NUL is not allowed")
        await client.expect("eof")
    assert house.bus.posts == []


async def test_cr_before_the_real_end_ends_the_message_and_refuses_it(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await _at_data(client)
        await client.send(b"Subject: a\r\n\r\nhello\r\r\n.\r\r\n" + HIDDEN + b"\r\r\n.\r\n")
        await client.expect("521 5.5.2")
        await client.expect("eof")
    assert house.bus.posts == []


async def test_a_fake_end_without_a_real_one_is_never_answered_with_250(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await _at_data(client)
        await client.send(b"Subject: a\r\n\r\nhello\n.\n" + HIDDEN)
        client.writer.write_eof()
        await client.expect("eof")
    assert house.bus.posts == []


async def test_lmtp_smuggling_is_refused_for_every_recipient(house: House) -> None:
    house.directory.add("board@example.test")
    async with await Client.connect(house.lmtp) as client:
        await client.talk("""
            s: 220
            c: LHLO x
            s: 250
            c: MAIL FROM:<a@example.net>
            c: RCPT TO:<office@example.test>
            c: RCPT TO:<board@example.test>
            c: DATA
            s: 250
            s: 250
            s: 250
            s: 354
            b: b"Subject: a\\r\\n\\r\\nbare\\nlf\\r\\n.\\r\\n"
            s: 521 5.5.2
            s: 521 5.5.2
            s: eof
        """)
    assert house.bus.posts == []


BARE_COMMANDS = [b"NOOP\n", b"NO\rOP\r\n", b"NOOP \x00\r\n", b"MAIL FROM:<a\x00b@example.net>\r\n", b"NOOP\r\r\n"]


@pytest.mark.parametrize("line", BARE_COMMANDS, ids=repr)
async def test_bare_bytes_in_commands_are_refused_and_end_the_session_at_the_third(house: House, line: bytes) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        for _ in range(3):
            await client.send(line)
            await client.expect("500 5.5.2")
        await client.expect("421 4.7.0")
        await client.expect("eof")


# --- the unstuffer alone -----------------------------------------------------------------------------------------------
def _feed(pieces: list[bytes]) -> tuple[bytes, Unstuffer]:
    unstuffer = Unstuffer()
    out = b""
    for position, piece in enumerate(pieces):
        out += unstuffer.feed(piece)
        if unstuffer.ended:
            unstuffer.rest += b"".join(pieces[position + 1 :])
            break
    return out, unstuffer


def _cut(raw: bytes, cuts: list[int]) -> list[bytes]:
    borders = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[low:high] for low, high in itertools.pairwise(borders)]


def _naive(raw: bytes) -> tuple[bytes, bytes] | None:
    """(message, rest) of dot-stuffed octets by the letter of RFC 5321 4.5.2, line by line."""
    end = (b"\r\n" + raw).find(END)
    if end < 0:
        return None
    message, rest = raw[:end], raw[end + 3 :]
    lines = message.split(b"\r\n")
    return b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines), rest


OCTETS = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"\0", b"a", b"..", b"\r\n.\r\n"]), max_size=40).map(
    b"".join
)
CUTS = st.lists(st.integers(0, 200), max_size=12)


@given(OCTETS, CUTS)
def test_the_pieces_do_not_matter(raw: bytes, cuts: list[int]) -> None:
    raw += END
    naive = _naive(raw)
    assert naive is not None
    message, rest = naive
    out, unstuffer = _feed(_cut(raw, cuts))
    assert unstuffer.ended
    assert unstuffer.rest == rest
    assert out == message
    before_the_end = raw[: len(raw) - len(rest)]
    plain = before_the_end.replace(b"\r\n", b"")
    assert unstuffer.smuggled == any(octet in plain for octet in (b"\r", b"\n", b"\0"))


@pytest.mark.parametrize("bare", [b"\n.\r\nMAIL FROM:<a@b.test>\r\nevil\r\r", b"\nx\r\r", b"\r\r"])
def test_a_bare_lf_and_a_bare_cr_at_the_end_of_a_piece_do_not_make_up_for_each_other(bare: bytes) -> None:
    _, unstuffer = _feed([b"Subject: x\r\n\r\nhello" + bare, b"\nend" + END])
    assert unstuffer.ended
    assert unstuffer.smuggled


@given(st.lists(st.binary(max_size=30).map(lambda b: b.translate(None, b"\r\n\0")), max_size=10), CUTS)
def test_p8_stuffing_and_unstuffing_is_the_identity(lines: list[bytes], cuts: list[int]) -> None:
    message = b"".join(line + b"\r\n" for line in lines)
    stuffed = b"".join((b"." if line.startswith(b".") else b"") + line + b"\r\n" for line in lines)
    out, unstuffer = _feed(_cut(stuffed + b".\r\nQUIT\r\n", cuts))
    assert out == message
    assert unstuffer.ended
    assert unstuffer.rest == b"QUIT\r\n"
    assert not unstuffer.smuggled


@pytest.mark.parametrize(("length", "overlong"), [(MAX_LINE, False), (MAX_LINE + 1, True)])
@pytest.mark.parametrize("size", [1000, 65536])
def test_lines_are_opaque_up_to_64_kib(length: int, overlong: bool, size: int) -> None:
    raw = b"short\r\n" + b"x" * length + b"\r\nshort\r\n.\r\n"
    _, unstuffer = _feed([raw[i : i + size] for i in range(0, len(raw), size)])
    assert unstuffer.ended
    assert unstuffer.overlong is overlong
