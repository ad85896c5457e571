"""Whatever bytes come: no crash, every line of every reply is well formed, and no 250 for a message that was not whole and clean."""

from __future__ import annotations

import asyncio
import re

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingress import commands
from tests.ingress.conftest import House
from tests.ingress.dialogue import Client

LINE = re.compile(rb"\A[2345]\d\d[ -](?:[245]\.\d{1,3}\.\d{1,3} )?[ -~]*\Z")
FRAGMENTS = [
    b"EHLO x\r\n", b"HELO x\r\n", b"LHLO x\r\n", b"MAIL FROM:<a@example.net>\r\n", b"MAIL FROM:<>\r\n", b"MAIL FROM:<",
    b"RCPT TO:<office@example.test>\r\n", b"RCPT TO:<nobody@example.test>\r\n", b"RCPT TO:", b"DATA\r\n", b"RSET\r\n",
    b"NOOP\r\n", b"VRFY a\r\n", b"STARTTLS\r\n", b"BDAT 3 LAST\r\nabc", b" SIZE=1", b" NOTIFY=NEVER", b" SMTPUTF8",
    b"\r\n.\r\n", b".\r\n", b"\r\n", b"\n", b"\r", b"\0", b"\xff", b"Subject: x\r\n\r\n", b".", b">", b"<", b" ", b'"', b"@",
]  # fmt: skip
NOISE = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=8)), max_size=30)
SLOW = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


async def _replies(address: tuple[str, int], pieces: list[bytes]) -> bytes:
    """All that the server says to these bytes, sent after its banner, to the end of the connection."""
    async with await Client.connect(address) as client:
        banner = await client.reader.readline()
        assert banner.startswith(b"220 ")
        try:
            for piece in pieces:
                client.writer.write(piece)
                await client.writer.drain()
            client.writer.write_eof()
            return await asyncio.wait_for(client.reader.read(), 10)
        except ConnectionError:
            return b""


@SLOW
@given(NOISE)
async def test_command_noise(house: House, noise: list[bytes]) -> None:
    for address in (house.smtp, house.lmtp):
        before = len(house.bus.posts)
        said = await _replies(address, noise)
        if said:
            assert said.endswith(b"\r\n")
            for line in said.removesuffix(b"\r\n").split(b"\r\n"):
                assert LINE.match(line), line
        queued = said.count(b"queued as")
        assert len(house.bus.posts) - before == queued
        assert b"451" not in said, "a fault of ours"
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")


@SLOW
@given(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=8)), max_size=20))
async def test_p1_message_noise(house: House, noise: list[bytes]) -> None:
    """After 354, what comes is one message, or none; a 250 only for octets without bare CR, LF or NUL, ended by the real end."""
    house.bus.published.clear()
    message = b"".join(noise)
    async with await Client.connect(house.smtp) as client:
        await client.talk("""
            s: 220
            c: EHLO x
            s: 250
            c: MAIL FROM:<a@example.net>
            s: 250
            c: RCPT TO:<office@example.test>
            s: 250
            c: DATA
            s: 354
        """)
        await client.send(message)
        client.writer.write_eof()
        lines = await client.reply()
    end = (b"\r\n" + message).find(b"\r\n.\r\n")
    whole = message[:end] if end >= 0 else None
    clean = whole is not None and not any(octet in whole.replace(b"\r\n", b"") for octet in (b"\r", b"\n", b"\0"))
    if whole is None:
        assert lines == []
    else:
        assert lines[0].startswith("250 2.0.0" if clean else "521 5.5.2"), (message, lines)
    assert len(house.bus.posts) >= (1 if clean else 0)
    if not clean:
        assert house.bus.posts == []


@given(st.binary(max_size=700).map(lambda octets: octets + b"\n"))
def test_no_line_breaks_the_parser(line: bytes) -> None:
    command = commands.parse(line)
    assert command.verb == command.verb.upper()
    assert commands.is_other_protocol(line) in (True, False)
    name = commands.helo_name(command.argument)
    assert name is None or (name.isascii() and name.isprintable() and not set(name) & set(' ()<>"\\@,;'))
    if not commands.has_bad_bytes(line):
        assert line.endswith(b"\r\n")
        assert not set(line[:-2]) & set(b"\r\n\0")
