"""The DATA reader: every size and shape of message, byte for byte (P8), in bounded memory (P10)."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import smtplib

import psutil
import pytest

from shared.bodies import BodiesUnavailable
from tests.ingress.conftest import House, Start
from tests.ingress.dialogue import Client, eventually
from tests.support.doubles import MemoryBodies

AT_DATA = """
    s: 220
    c: EHLO x
    s: 250
    c: MAIL FROM:<a@example.net>{}
    s: 250
    c: RCPT TO:<office@example.test>
    s: 250
    c: DATA
    s: 354
"""


async def at_data(house: House, parameters: str = "") -> Client:
    client = await Client.connect(house.smtp)
    await client.talk(AT_DATA.format(parameters))
    return client


def stuffed(message: bytes) -> bytes:
    return (b"\r\n" + message).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def body_of(house: House, number: int = 0) -> bytes:
    content = house.bus.posts[number].content
    return content.tail if content.ref is None else house.bodies.blobs[content.ref.key][content.offset :]


HEADS = {
    "usual": (b"Subject: x\r\n\r\n", b"body\r\n"),
    "no body": (b"Subject: x\r\n\r\n", b""),
    "no blank line": (b"Subject: x\r\nTo: y\r\n", b""),
    "no header": (b"\r\n", b"body\r\n"),
    "no header, no blank line": (b"", b"just some text\r\nFrom: nobody\r\n"),
    "text in the header": (b"Subject: x\r\n", b"this is no field\r\n\r\nbody\r\n"),
    "8 bit": (b"Subject: \xd0\x9f\xff\r\n\r\n", b"\xff\xfe8-bit\r\n"),
    "only a blank line": (b"\r\n", b""),
    "dots": (b"Subject: x\r\n\r\n", b".\r\n..\r\n.x\r\n\r\n.\r\n"),
    "blank lines": (b"Subject: x\r\n\r\n", b"\r\n\r\n\r\n"),
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("step", [1, 7, 100000])
async def test_p8_head_and_body_are_split_where_the_header_ends(house: House, name: str, step: int) -> None:
    head, body = HEADS[name]
    raw = stuffed(head + body)
    async with await at_data(house) as client:
        for position in range(0, len(raw), step):
            await client.send(raw[position : position + step])
        await client.expect("250 2.0.0")
    [post] = house.bus.posts
    assert (post.content.head, post.content.tail, post.content.ref) == (head, body, None)
    assert post.digest == hashlib.sha256(head + body).digest()


@pytest.mark.parametrize("size", [0, 4094, 4096, 4098, 65536, 70000, 300000])
async def test_p8_bodies_over_the_inline_limit_go_to_the_body_store(start: Start, size: int) -> None:
    house = await start(inline_limit=4096)
    head = b"Subject: x\r\n\r\n"
    lines = random.Random(size)  # dots and 8-bit octets where a border may fall
    body = b"".join(bytes(lines.choices(b".ab\xff", k=lines.randint(0, 70))) + b"\r\n" for _ in range(size // 37))[
        :size
    ]
    body = body[: max(size - 2, 0)].rstrip(b"\r\n")
    body = (body.ljust(size - 2, b"x") + b"\r\n") if size else b""
    async with await at_data(house) as client:
        await client.send(stuffed(head + body))
        await client.expect("250 2.0.0")
    [post] = house.bus.posts
    assert post.content.head == head
    assert body_of(house) == body
    assert (post.content.ref is not None) == (size > 4096)
    assert post.content.size == len(head) + size
    assert post.digest == hashlib.sha256(head + body).digest()


REFUSED = [
    ("too large", b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n" * 3000, "552 5.3.4"),
    ("line too long", b"Subject: x\r\n\r\n" + b"x" * 66000 + b"\r\n", "500 5.5.2"),
    ("header too large", b"X: " + b"x" * 900 + b"\r\n" + b"Y: y\r\n" * 100 + b"\r\nbody\r\n", "554 5.6.0"),
    ("header without end too large", b"Y: y\r\n" * 300, "554 5.6.0"),
    ("first line too large", b"x" * 2000 + b"\r\n", "554 5.6.0"),
]


@pytest.mark.parametrize(("name", "message", "reply"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_what_is_refused_is_read_to_its_end_and_the_session_goes_on(
    start: Start, name: str, message: bytes, reply: str
) -> None:
    house = await start(max_size=4096 if name == "too large" else 100_000, max_header_size=1024)
    async with await at_data(house) as client:
        await client.send(stuffed(message))
        await client.expect(reply)
        await client.talk("""
            c: MAIL FROM:<a@example.net>
            c: RCPT TO:<office@example.test>
            c: DATA
            s: 250
            s: 250
            s: 354
            c: Subject: x
            c:
            c: body
            c: .
            s: 250
        """)
    [post] = house.bus.posts
    assert post.content.head == b"Subject: x\r\n\r\n"


async def test_a_header_and_a_size_at_the_limit_pass(start: Start) -> None:
    house = await start(max_size=2048, max_header_size=1024)
    head = b"X: " + b"x" * 1017 + b"\r\n\r\n"
    assert len(head) == 1024
    async with await at_data(house, " SIZE=1") as client:
        await client.send(stuffed(head + b"y" * 1022 + b"\r\n"))
        await client.expect("250")
    assert house.bus.posts[0].content.size == 2048


async def test_a_size_that_lies_is_refused_mid_stream(start: Start) -> None:
    """Twice the limit is thrown away in the hope of an end; then the client is told, and hung up on."""
    house = await start(max_size=1024)
    async with await at_data(house, " SIZE=1") as client:
        sending = asyncio.create_task(_pour(client, (b"y" * 70 + b"\r\n") * 1000, 200 << 20))
        await client.expect("552 5.3.4")
        sent = await sending
    assert sent < 100 << 20
    assert house.bus.posts == []


async def _pour(client: Client, chunk: bytes, total: int) -> int:
    """Send up to `total` octets; how many went before the server had enough."""
    sent = 0
    try:
        while sent < total:
            client.writer.write(chunk)
            await client.writer.drain()
            sent += len(chunk)
    except (ConnectionError, TimeoutError):
        pass
    return sent


# --- trouble of the body store -------------------------------------------------------------------------------------------
LARGE = b"Subject: x\r\n\r\n" + b"y" * 5000 + b"\r\n"
TROUBLES = [
    (BodiesUnavailable("disk"), "451 4.3.0 Temporary failure, please try again later"),
    (BodiesUnavailable("disk", full=True), "452 4.3.1"),
    (OSError(5, "secret path /srv/mail"), "451 4.3.0 Temporary failure, please try again later"),
]


@pytest.mark.parametrize("late", [False, True], ids=["write", "commit"])
@pytest.mark.parametrize(("error", "reply"), TROUBLES, ids=["away", "full", "unknown"])
async def test_p1_trouble_of_the_body_store_is_temporary(
    start: Start, error: Exception, reply: str, late: bool
) -> None:
    house = await start(inline_limit=1024)
    (house.bodies.commit_fault if late else house.bodies.fault).error = error
    async with await at_data(house) as client:
        await client.send(stuffed(LARGE))
        await client.expect(reply)
        assert (await client.ask("NOOP")).startswith("250")
    assert house.bus.posts == []
    assert house.bodies.open == 0


async def test_p1_a_body_store_that_hangs_is_451_in_time(start: Start) -> None:
    house = await start(inline_limit=1024, accept_timeout="0.2s")
    house.bodies.fault.hang()
    async with await at_data(house) as client:
        await client.send(stuffed(LARGE))
        await client.expect("451 4.3.0")


async def test_nothing_is_left_of_a_body_whose_client_goes_away(start: Start) -> None:
    house = await start(inline_limit=1024)
    async with await at_data(house) as client:
        await client.send(b"Subject: x\r\n\r\n" + b"y" * 50000 + b"\r\n")
        await eventually(lambda: house.bodies.open, "a blob in the making")
    await eventually(lambda: house.bodies.thrown_away, "the blob to be thrown away")
    assert (house.bodies.open, house.bus.posts) == (0, [])


# --- memory ---------------------------------------------------------------------------------------------------------------
async def _growth(house: House, pieces: list[bytes]) -> tuple[str, float]:
    """The reply to a message of these pieces, and by how many MiB this process grew meanwhile."""
    process = psutil.Process(os.getpid())
    client = await at_data(house)
    before = process.memory_info().rss
    peak = before
    async with client:
        answer = asyncio.create_task(client.reply())
        for piece in pieces:
            if answer.done():
                break
            await _pour(client, piece, 1)
            peak = max(peak, process.memory_info().rss)
        lines = await asyncio.wait_for(answer, 30)
    return lines[-1] if lines else "eof", (max(peak, process.memory_info().rss) - before) / (1 << 20)


@pytest.mark.parametrize(
    ("first", "piece", "count", "reply"),
    [
        (b"Subject: x\r\n\r\n", (b"y" * 78 + b"\r\n") * 13107, 200, "250 2.0.0"),
        (b"Subject: x\r\n\r\n", b"A" * (1 << 20), 200, "500 5.5.2"),
        (b"", b"A" * (1 << 20), 200, "500 5.5.2"),
        (b"", b"X-A: b\r\n" * 131072, 200, "554 5.6.0"),
    ],
    ids=["body", "endless line", "endless first line", "endless header"],
)
async def test_p10_200_megabytes_do_not_grow_the_process(
    start: Start, first: bytes, piece: bytes, count: int, reply: str
) -> None:
    house = await start(max_size=300 << 20, bodies=MemoryBodies(keep=False))
    got, grown = await _growth(house, [first + piece, *([piece] * (count - 1)), b"\r\n.\r\n"])
    assert got.startswith(reply)
    assert grown < 16, f"grew by {grown:.0f} MiB"


async def test_p10_a_header_that_comes_octet_by_octet_costs_linear_time(start: Start) -> None:
    """The header's end is looked for again only after the section has doubled."""
    house = await start()
    head = b"X-A: bc\r\n" * 8000
    async with await at_data(house) as client:
        started = asyncio.get_running_loop().time()
        for position in range(0, len(head), 16):
            client.writer.write(head[position : position + 16])
            if position % 512 == 0:
                await client.writer.drain()
                await asyncio.sleep(0)
        await client.send(b"\r\nbody\r\n.\r\n")
        await client.expect("250")
        assert asyncio.get_running_loop().time() - started < 5


async def test_smtplib_sends_20_megabytes(start: Start) -> None:
    house = await start()
    message = b"Subject: large\r\n\r\n" + (b"." + b"z" * 75 + b"\r\n") * 262144

    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP(*house.smtp, timeout=60) as client:
            return client.sendmail("ana@example.net", ["office@example.test"], message)

    assert await asyncio.to_thread(send) == {}
    content = house.bus.posts[0].content
    assert content.head + body_of(house) == message


async def test_p10_clients_that_stop_in_their_messages_take_the_room_of_large_ones_only(start: Start) -> None:
    house = await start(max_held=100_000)
    line = b"y" * 76 + b"\r\n"
    stopped, other = await at_data(house), await at_data(house)
    try:
        await stopped.send(b"Subject: a\r\n\r\n" + line * 1150)
        await eventually(lambda: house.ingress._context.room.held > 85_000, "the first message to be held")
        await other.send(b"Subject: b\r\n\r\n" + line * 1000 + b".\r\n")
        await other.expect("452 4.3.1")
        again = b"MAIL FROM:<a@example.net>\r\nRCPT TO:<office@example.test>\r\nDATA\r\n"
        for size, reply in ((100, "250 2.0.0"), (1000, "452 4.3.1")):
            await other.send(again)
            for wanted in ("250", "250", "354"):
                await other.expect(wanted)
            await other.send(b"Subject: b\r\n\r\n" + line * size + b".\r\n")
            await other.expect(reply)
        await stopped.send(b".\r\n")
        await stopped.expect("250 2.0.0")
        await eventually(lambda: house.ingress._context.room.held == 0, "the room to be free")
        await other.send(again)
        for wanted in ("250", "250", "354"):
            await other.expect(wanted)
        await other.send(b"Subject: b\r\n\r\n" + line * 1000 + b".\r\n")
        await other.expect("250 2.0.0")
    finally:
        stopped.writer.transport.abort()
        other.writer.transport.abort()
    assert [len(post.content.tail) for post in house.bus.posts] == [100 * 78, 1150 * 78, 1000 * 78]


async def fill(house: House, octets: bytes, clients: int) -> list[Client]:
    """Clients that stop after so many octets of their messages, one after another."""
    stopped: list[Client] = []
    for number in range(1, clients + 1):
        stopped.append(await at_data(house))
        await stopped[-1].send(octets)
        await eventually(lambda: house.ingress._context.room.held > number * (len(octets) - 200), "it to be held")  # noqa: B023
    return stopped


@pytest.mark.parametrize(
    "octets",
    [
        b"Subject: a\r\n" + (b"X-Y: " + b"y" * 71 + b"\r\n") * 1500,
        b"Subject: a\r\n\r\n" + (b"y" * 76 + b"\r\n") * 3000,
    ],
    ids=["headers", "bodies in the store"],
)
async def test_p10_what_is_kept_elsewhere_of_unfinished_messages_is_counted(start: Start, octets: bytes) -> None:
    house = await start(max_held=int(len(octets) * 2.5), inline_limit=20_000)
    clients = await fill(house, octets, 2)
    try:
        for _ in range(3):
            clients.append(await at_data(house))
            await clients[-1].send(octets + b"\r\n.\r\n")
            await clients[-1].expect("452 4.3.1")
        assert house.ingress._context.room.held < len(octets) * 2.5
        await clients[0].send(b"\r\n.\r\n")
        await clients[0].expect("250 2.0.0")
    finally:
        for client in clients:
            client.writer.transport.abort()
    assert len(house.bus.posts) == 1
