"""Clients that mean no good: too slow, too many, too noisy, out of step, or of another protocol (threats.md 3.1)."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from services.ingress.limits import Crowd, Pace, connection_limit, network_of
from tests.ingress.conftest import House, Start
from tests.ingress.dialogue import Client, eventually

HELLO = """
    s: 220
    c: EHLO x
    s: 250
"""
AT_DATA = (
    HELLO
    + """
    c: MAIL FROM:<a@example.net>
    s: 250
    c: RCPT TO:<office@example.test>
    s: 250
    c: DATA
    s: 354
"""
)
OTHER_PROTOCOLS = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nEHLO x\r\nMAIL FROM:<a@example.net>\r\n",
    b"CONNECT office:25 HTTP/1.0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nEHLO x\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c",
]


@pytest.mark.parametrize("first", OTHER_PROTOCOLS, ids=repr)
async def test_another_protocol_is_hung_up_on_at_its_first_line(start: Start, first: bytes) -> None:
    house = await start(greeting_pause=5.0)
    async with await Client.connect(house.smtp) as client:
        await client.send(first)
        await client.expect("421 4.7.0 This is a mail server")
        await client.expect("eof")


@pytest.mark.parametrize("first", OTHER_PROTOCOLS[:-1], ids=repr)
async def test_and_after_the_banner(house: House, first: bytes) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        await client.send(first)
        await client.expect("421 4.7.0 This is a mail server")
        await client.expect("eof")


async def test_a_client_that_speaks_before_the_banner_is_out_of_step(start: Start) -> None:
    house = await start(greeting_pause=5.0)
    async with await Client.connect(house.smtp) as client:
        await client.send(b"EHLO x\r\n")
        await client.expect("554 5.5.0")
        await client.expect("eof")


async def test_content_before_354_is_out_of_step(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        await client.talk("""
            c: MAIL FROM:<a@example.net>
            c: RCPT TO:<office@example.test>
            c: DATA
            c: Subject: too early
            s: 250
            s: 250
            s: 554 5.5.0
            s: eof
        """)
    assert house.bus.posts == []


# --- slow ------------------------------------------------------------------------------------------------------------
async def test_a_client_that_says_nothing_is_timed_out(start: Start) -> None:
    house = await start(command_timeout="0.1s")
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        await client.expect("421 4.4.2")
        await client.expect("eof")


async def test_a_command_that_drips_has_one_deadline(start: Start) -> None:
    house = await start(command_timeout="0.3s")
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        answer = asyncio.create_task(client.expect("421 4.4.2"))
        while not answer.done():
            await client.send(b"N")
            await asyncio.sleep(0.02)
        await answer


async def test_a_message_that_stops_is_timed_out(start: Start) -> None:
    house = await start(command_timeout="0.1s")
    async with await Client.connect(house.smtp) as client:
        await client.talk(AT_DATA)
        await client.send(b"Subject: x\r\n\r\nbody")
        await client.expect("421 4.4.2")
        await client.expect("eof")
    assert house.bus.posts == []


async def test_a_message_that_drips_keeps_the_least_rate(start: Start) -> None:
    house = await start(data_grace=0.2, data_min_rate=1000)
    async with await Client.connect(house.smtp) as client:
        await client.talk(AT_DATA)
        answer = asyncio.create_task(client.expect("421 4.4.2"))
        while not answer.done():
            await client.send(b"x")
            await asyncio.sleep(0.01)
        await answer


async def test_a_session_has_an_end(start: Start) -> None:
    house = await start(session_timeout="0.3s")
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        line = ""
        for _ in range(90):
            line = await client.ask("NOOP")
            if not line.startswith("250"):
                break
            await asyncio.sleep(0.01)
        assert line.startswith("421 4.4.2")


async def test_a_client_that_does_not_read_is_cut_off(start: Start) -> None:
    house = await start(command_timeout="0.2s", junk_commands=10**9)
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with pytest.raises((ConnectionError, TimeoutError)):
            while True:
                await client.send(b"NOOP\r\n" * 10000)
    await eventually(lambda: house.ingress.sessions == 0, "the session to end")


# --- many ------------------------------------------------------------------------------------------------------------
async def test_one_address_has_its_share_of_connections(start: Start) -> None:
    house = await start(max_connections_per_ip=5)
    clients = [await Client.connect(house.smtp) for _ in range(5)]
    for client in clients:
        await client.expect("220")
    for address in (house.smtp, house.lmtp):
        async with await Client.connect(address) as late:
            await late.expect("421 4.7.0")
            await late.expect("eof")
    assert (await clients[0].ask("NOOP")).startswith("250")
    for client in clients:
        client.writer.transport.abort()
    await eventually(lambda: house.ingress.sessions == 0, "the sessions to end")
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")


async def test_a_flood_of_connections_leaves_the_open_ones_alive(start: Start) -> None:
    house = await start(max_connections=20, max_connections_per_ip=1000)
    clients = [await Client.connect(house.smtp) for _ in range(20)]
    for client in clients:
        await client.expect("220")
    flood = await asyncio.gather(*(Client.connect(house.smtp) for _ in range(300)))
    assert {(await client.expect("421 4.7.0"))[:3] for client in flood} == {"421"}
    assert (await clients[0].ask("NOOP")).startswith("250")
    for client in (*clients, *flood):
        client.writer.transport.abort()


async def test_messages_a_minute(start: Start) -> None:
    house = await start(max_messages_per_minute=3)
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        for _ in range(3):
            assert (await client.ask("MAIL FROM:<a@example.net>")).startswith("250")
            await client.ask("RSET")
        assert (await client.ask("MAIL FROM:<a@example.net>")).startswith("450 4.7.1")


# --- noisy -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["NOOP", "RSET", "VRFY x", "EHLO x"])
async def test_a_hundred_commands_without_mail_are_enough(house: House, command: str) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        for _ in range(100):
            await client.send(command.encode() + b"\r\n")
            assert (await client.reply())[-1].startswith("25")
        assert (await client.ask(command)).startswith("421 4.7.0 Too many commands")
        await client.expect("eof")


async def test_twenty_errors_are_enough(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO + "c: MAIL FROM:<a@example.net>\ns: 250")
        for number in range(20):
            assert (await client.ask(f"RCPT TO:<guess{number}@example.test>")).startswith("550 5.1.1")
        await client.expect("421 4.7.0 Too many errors")
        await client.expect("eof")


async def test_guessing_is_made_slow(start: Start) -> None:
    house = await start(tarpit=0.05, tarpit_after=2, errors=6)
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO + "c: MAIL FROM:<a@example.net>\ns: 250")
        loop = asyncio.get_running_loop()
        started = loop.time()
        for number in range(6):
            await client.ask(f"RCPT TO:<guess{number}@example.test>")
        assert loop.time() - started >= 0.15


async def test_accepted_mail_clears_the_account(start: Start) -> None:
    house = await start(errors=3, junk_commands=5)
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        for _ in range(5):
            await client.talk("""
                c: NOOP
                s: 250
                c: MAIL FROM:<a@example.net>
                s: 250
                c: RCPT TO:<nobody@example.test>
                s: 550
                c: RCPT TO:<nobody@example.test>
                s: 550
                c: RCPT TO:<office@example.test>
                s: 250
                c: DATA
                s: 354
                c: Subject: x
                c:
                c: .
                s: 250
            """)


async def test_a_line_without_end_is_hung_up_on(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        try:
            for _ in range(100):
                client.writer.write(b"A" * 65536)
                await client.writer.drain()
        except ConnectionError:
            pass
        await client.expect("500 5.5.2")


# --- counting alone ---------------------------------------------------------------------------------------------------
def test_crowd_counts_a_64_of_ipv6_as_one_client() -> None:
    crowd = Crowd(total=10, per_client=2)
    assert crowd.admit("2001:db8::1")
    assert crowd.admit("2001:db8::2")
    assert not crowd.admit("2001:db8::3")
    assert crowd.admit("2001:db8:0:1::3")
    crowd.leave("2001:db8::1")
    assert crowd.admit("2001:db8::3")
    assert crowd.count == 3


@pytest.mark.parametrize(
    ("ip", "client"),
    [("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("fe80::1%eth0", "fe80::/64"), ("", "")],
)
def test_network_of(ip: str, client: str) -> None:
    assert network_of(ip) == client


def test_pace_gives_a_burst_and_then_a_rate() -> None:
    pace = Pace(60)
    assert [pace.allows("10.0.0.1", 0.0) for _ in range(61)] == [True] * 60 + [False]
    assert not pace.allows("10.0.0.1", 0.5)
    assert pace.allows("10.0.0.1", 1.1)
    assert not pace.allows("10.0.0.1", 1.2)
    assert pace.allows("10.0.0.2", 1.2)
    assert all(Pace(0).allows("10.0.0.1", 0.0) for _ in range(1000))


def test_p10_pace_forgets() -> None:
    pace = Pace(60)
    for number in range(150_000):
        pace.allows(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", number / 1000)
    assert len(pace._due) <= 100_000


def test_connections_leave_descriptors_for_the_rest() -> None:
    assert connection_limit(2000, 1024) == 924
    assert connection_limit(500, 1 << 20) == 500
    assert connection_limit(500, 50) == 1


@pytest.mark.parametrize(
    "command",
    [
        "HELO a\x1b[2Kb",
        "EHLO a\u202eb",
        "MAIL FROM:<a\x1b[31m@example.net>",
        "MAIL FROM:<a\u202eb@example.net> SMTPUTF8",
        "MAIL FROM:<a\u2028b@example.net> SMTPUTF8",
        "MAIL FROM:<a@example.net> ENVID=\x1b",
        "RCPT TO:<a\x85b@example.test>",
        'RCPT TO:<"a\x1bb"@example.test>',
        "RCPT TO:<office@example.test> ORCPT=rfc822;+1B+0D+0A",
    ],
)
async def test_nothing_that_a_client_says_can_write_on_the_screen_of_who_reads_the_log(
    house: House, command: str
) -> None:
    """What has control or direction characters is refused before it is anything that is logged."""
    with capture_logs() as lines:
        async with await Client.connect(house.smtp) as client:
            await client.expect("220")
            await client.ask("EHLO x")
            if command.startswith("RCPT"):
                await client.ask("MAIL FROM:<a@example.net> SMTPUTF8")
            assert (await client.ask(command))[0] == "5"
            await client.ask("MAIL FROM:<a@example.net>")
            assert (await client.ask("RCPT TO:<nobody@example.test>")).startswith("550 5.1.1")  # and this is logged
    said = [str(value) for line in lines for value in line.values()]
    assert "nobody@example.test" in said
    assert all(value.isprintable() for value in said), said
