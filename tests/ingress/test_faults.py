"""Trouble of our own is always 451 with a fixed text, in time, and never a 250 (P1); the drain loses nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

import pytest

from shared.replies import TROUBLE
from shared.settings import SettingsError
from tests.ingress.conftest import House, Start
from tests.ingress.dialogue import Client, eventually
from tests.support.doubles import bus_unavailable, directory_unavailable

SECRET = "amqp://user:hunter2@rabbit:5672"
BEFORE_RCPT = """
    s: 220
    c: EHLO x
    s: 250
    c: MAIL FROM:<a@example.net>
    s: 250
"""
AT_DATA = (
    BEFORE_RCPT
    + """
    c: RCPT TO:<office@example.test>
    s: 250
    c: DATA
    s: 354
"""
)
ERRORS = [
    bus_unavailable(),
    directory_unavailable(),
    ConnectionError(SECRET),
    ValueError(SECRET),
    RecursionError(SECRET),
    TimeoutError(),
    asyncio.CancelledError(),
    KeyError("group"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", ["directory", "bus", "directory at data"])
async def test_p1_whatever_is_raised_is_451_with_a_fixed_text(house: House, error: BaseException, where: str) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk(BEFORE_RCPT if where == "directory" else AT_DATA)
        (house.bus if where == "bus" else house.directory).fault.error = error
        if where == "directory":
            got = await client.ask("RCPT TO:<office@example.test>")
        else:
            got = await client.ask("Subject: x\r\n\r\nbody\r\n.")
        assert got == str(TROUBLE)
        house.bus.fault.error = house.directory.fault.error = None
        await client.talk("""
            c: RSET
            s: 250
            c: MAIL FROM:<a@example.net>
            s: 250
            c: RCPT TO:<office@example.test>
            s: 250
            c: DATA
            s: 354
            c: Subject: x
            c:
            c: .
            s: 250
        """)
    assert len(house.bus.posts) == 1


@pytest.mark.parametrize("where", ["directory", "bus", "confirm"])
async def test_p1_whatever_hangs_is_451_in_time(start: Start, where: str) -> None:
    house = await start(accept_timeout="0.2s")
    async with await Client.connect(house.smtp) as client:
        await client.talk(BEFORE_RCPT if where == "directory" else AT_DATA)
        {"directory": house.directory.fault, "bus": house.bus.fault, "confirm": house.bus.late}[where].hang()
        started = time.monotonic()
        line = "RCPT TO:<office@example.test>" if where == "directory" else "Subject: x\r\n\r\nbody\r\n."
        assert await client.ask(line) == str(TROUBLE)
        assert time.monotonic() - started < 3


async def test_p1_a_bus_that_swallows_its_cancellation_is_answered_all_the_same(start: Start) -> None:
    house = await start(accept_timeout="0.1s")

    async def stubborn(*_: object, **__: object) -> None:
        while not house.bus.fault.released.is_set():
            try:
                await house.bus.fault.released.wait()
            except asyncio.CancelledError:
                continue

    house.bus.publish = stubborn  # type: ignore[method-assign]
    async with await Client.connect(house.smtp) as client:
        await client.talk(AT_DATA)
        assert await client.ask("Subject: x\r\n\r\nbody\r\n.") == str(TROUBLE)


async def test_p1_lmtp_trouble_is_451_for_each(house: House) -> None:
    house.directory.add("board@example.test")
    house.bus.fault.error = bus_unavailable()
    async with await Client.connect(house.lmtp) as client:
        await client.talk("""
            s: 220
            c: LHLO x
            s: 250
            c: MAIL FROM:<a@example.net>
            s: 250
            c: RCPT TO:<office@example.test>
            s: 250
            c: RCPT TO:<board@example.test>
            s: 250
            c: DATA
            s: 354
            c: Subject: x
            c:
            c: .
            s: 451 4.3.0
            s: 451 4.3.0
            c: NOOP
            s: 250
        """)


async def test_p1_no_250_before_the_confirm(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk(AT_DATA)
        house.bus.late.hang()
        answer = asyncio.create_task(client.ask("Subject: x\r\n\r\nbody\r\n."))
        await house.bus.late.reached.wait()
        done, _ = await asyncio.wait({answer}, timeout=0.1)
        assert not done
        house.bus.late.release()
        assert (await answer).startswith("250 2.0.0")


@pytest.mark.parametrize("reset", [True, False])
async def test_p1_a_client_gone_after_the_dot_does_not_cancel_the_publish(house: House, reset: bool) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk(AT_DATA)
        house.bus.fault.hang()
        await client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        await house.bus.fault.reached.wait()
        if reset:
            linger = struct.pack("ii", 1, 0)
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    if reset:
        await eventually(lambda: house.ingress.sessions == 0, "the session to end")
    house.bus.fault.release()
    await eventually(lambda: house.bus.posts, "the post on the bus")


async def test_p10_messages_of_clients_that_are_gone_do_not_pile_up(start: Start) -> None:
    """While the bus hangs each of them is held for HORO_ACCEPT_TIMEOUT, and its connection no longer counts."""
    house = await start(max_connections=3)
    house.bus.fault.hang()
    linger = struct.pack("ii", 1, 0)
    for held in range(1, 4):
        async with await Client.connect(house.smtp) as client:
            await client.talk(AT_DATA)
            await client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
            await eventually(lambda held=held: len(house.ingress._context.accepting) == held, "an acceptance")  # type: ignore[misc]
            client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await eventually(lambda: house.ingress.sessions == 0, "the session to end")
    async with await Client.connect(house.smtp) as client:
        await client.talk(AT_DATA)
        assert (await client.ask("Subject: x\r\n\r\nbody\r\n.")).startswith("451 4.3.0")
        assert len(house.ingress._context.accepting) == 3
        house.bus.fault.release()
        await eventually(lambda: len(house.bus.posts) == 3, "the three posts on the bus")


async def test_a_client_gone_mid_data_leaves_no_post(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk(AT_DATA)
        await client.send(b"Subject: x\r\n\r\nhalf a messa")
    await eventually(lambda: house.ingress.sessions == 0, "the session to end")
    assert house.bus.posts == []


async def test_refusals_never_delay_a_reply(house: House) -> None:
    house.directory.add("off@example.test", disabled=True)
    house.bus.fault.hang()
    async with await Client.connect(house.smtp) as client:
        await client.talk(BEFORE_RCPT)
        for _ in range(10):
            assert (await client.ask("RCPT TO:<off@example.test>")).startswith("550 5.2.1")


async def test_p10_refusals_that_cannot_be_told_are_dropped(house: House) -> None:
    from services.ingress.outcomes import MAX_WAITING, Refusals
    from shared.replies import GROUP_DISABLED

    refusals = Refusals(house.bus)  # not started: nothing is taken from its queue
    for _ in range(MAX_WAITING + 100):
        refusals.note("office@example.test", GROUP_DISABLED, mail_from="", ip="127.0.0.1")
    assert refusals._waiting.qsize() == MAX_WAITING


# --- the drain ---------------------------------------------------------------------------------------------------------
async def test_drain_refuses_new_mail_and_finishes_what_is_open(start: Start) -> None:
    house = await start()
    in_data, idle, quiet = [await Client.connect(house.smtp) for _ in range(3)]
    await in_data.talk(AT_DATA)
    for client in (idle, quiet):
        await client.talk("s: 220\nc: EHLO x\ns: 250")
    stopping = asyncio.create_task(house.ingress.stop(grace=8))
    address = house.smtp
    await asyncio.sleep(0)
    with pytest.raises(ConnectionError):
        await Client.connect(address)
    assert (await idle.ask("MAIL FROM:<a@example.net>")).startswith("421 4.3.2")
    await quiet.expect("421 4.3.2")
    assert not stopping.done()
    assert (await in_data.ask("Subject: x\r\n\r\nbody\r\n.")).startswith("250 2.0.0")
    await in_data.expect("421 4.3.2")
    for client in (in_data, idle, quiet):
        await client.expect("eof")
        client.writer.transport.abort()
    await stopping
    assert len(house.bus.posts) == 1
    assert house.ingress.sessions == 0


async def test_drain_gives_up_a_transaction_after_the_grace(start: Start) -> None:
    house = await start()
    async with await Client.connect(house.smtp) as client:
        await client.talk(AT_DATA)
        await house.ingress.stop(grace=0.2)
        await client.expect("421 4.3.2")
        await client.expect("eof")
    assert house.bus.posts == []


async def test_drain_waits_for_a_publish_in_flight_and_tells_the_client(start: Start) -> None:
    house = await start()
    async with await Client.connect(house.smtp) as client:
        await client.talk(AT_DATA)
        house.bus.late.hang()
        await client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        await house.bus.late.reached.wait()
        stopping = asyncio.create_task(house.ingress.stop(grace=0.1))
        done, _ = await asyncio.wait({stopping}, timeout=0.5)
        assert not done
        house.bus.late.release()
        await client.expect("250 2.0.0")
        await client.expect("421 4.3.2")
        client.writer.transport.abort()
        await stopping


# --- starting -----------------------------------------------------------------------------------------------------------
async def test_an_address_in_use_is_told_by_its_setting(start: Start) -> None:
    from services.ingress.server import CannotListen

    first = await start()
    host, port = first.smtp
    with pytest.raises(CannotListen, match="HORO_LMTP_LISTEN"):
        await start(lmtp_listen=f"{host}:{port}")


@pytest.mark.parametrize(
    ("setting", "value"), [("trusted_relays", "10.0.0.0/8, nonsense"), ("tls_cert", "/nonexistent.pem")]
)
async def test_a_wrong_setting_stops_the_start_by_its_name(start: Start, setting: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"HORO_{setting.upper()}"):
        await start(**{setting: value})
