"""rspamd's verdict on posts, over a double of its worker: obeyed in the session, bounded, and where there is none, as the setting says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services.ingress.rspamd import Rspamd
from shared.messages import Checked
from shared.settings import Settings
from tests.ingress.conftest import House, Start
from tests.ingress.dialogue import eventually, talk
from tests.ingress.test_quota import MESSAGE, TO_OFFICE
from tests.support.doubles import MemoryBodies

BODY = b"hello\r\n"


class Worker:
    """rspamd's normal worker: takes one request a connection, and answers `answer` (a verdict, or the octets of a whole answer)."""

    def __init__(self) -> None:
        self.answer: Any = {"action": "no action", "score": 1.5, "required_score": 15.0}
        self.requests: list[tuple[list[str], bytes]] = []
        self.hanging = False
        self.connections = 0
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            length = next(int(line.partition(":")[2]) for line in head if line.lower().startswith("content-length:"))
            self.requests.append((head, await reader.readexactly(length)))
            if self.hanging:
                await reader.read()
            writer.write(self.answer if isinstance(self.answer, bytes) else _http(json.dumps(self.answer).encode()))
            await writer.drain()
        except (OSError, EOFError):
            pass  # the ingress has had enough, which is what some tests are about
        finally:
            writer.close()

    def fields(self, name: str) -> list[str]:
        """The values of a header of the last request."""
        return [line.partition(": ")[2] for line in self.requests[-1][0] if line.startswith(f"{name}: ")]


def _http(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    made = Worker()
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0, limit=1 << 22)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()


@pytest.fixture
def checked(start: Start, worker: Worker) -> Any:
    async def go(**settings: Any) -> House:
        return await start(rspamd_url=f"http://127.0.0.1:{worker.port}", **settings)

    return go


@pytest.mark.parametrize(
    ("action", "reply", "marked"),
    [
        ("no action", "250 2.0.0", False),
        ("an action of my own", "250 2.0.0", False),
        ("add header", "250 2.0.0", True),
        ("rewrite subject", "250 2.0.0", True),
        ("greylist", "451 4.7.1", None),
        ("soft reject", "451 4.7.1", None),
        ("reject", "550 5.7.1", None),
        ("discard", "550 5.7.1", None),
        ("quarantine", "550 5.7.1", None),
    ],
)
async def test_p5_the_verdict_is_obeyed_in_the_session(
    checked: Any, worker: Worker, action: str, reply: str, marked: bool | None
) -> None:
    house = await checked()
    symbols = {"LIGHT": {"score": 0.1}, "HEAVY": {"score": -3.0}}
    worker.answer = {"action": action, "score": 6.123, "required_score": 15, "symbols": symbols, "time_real": 0.1}
    await talk(house.lmtp, TO_OFFICE + MESSAGE + f"s: {reply}")
    if marked is None:
        assert house.bus.posts == []
        code = int(reply[:3])
        await eventually(lambda: [one.code for one in house.bus.refused] == [code], "the refusal to be told")
        return
    (post,) = house.bus.posts
    assert post.checked == Checked(action=action, score=6.12, required=15.0, symbols=("HEAVY", "LIGHT"))
    head = b"From: ana@x.test\r\n\r\n"
    assert post.content.head == (b"X-Spam: Yes\r\n" + head if marked else head)
    assert post.content.tail == BODY


async def test_p8_rspamd_is_given_the_octets_and_the_envelope_that_came(checked: Any, worker: Worker) -> None:
    house = await checked()
    await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 250")
    ((head, body),) = worker.requests
    assert head[0] == "POST /checkv2 HTTP/1.1"
    assert body == b"From: ana@x.test\r\n\r\n" + BODY
    assert [worker.fields(name) for name in ("From", "Rcpt", "IP", "Helo")] == [
        ["ana@x.test"],
        ["office@example.test"],
        ["127.0.0.1"],
        ["client.test"],
    ]


async def test_a_relay_is_no_client(checked: Any, worker: Worker) -> None:
    house = await checked(trusted_relays="127.0.0.0/8")
    await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 250")
    assert worker.fields("IP") == worker.fields("Helo") == []


async def test_p8_a_large_body_is_checked_out_of_the_store_and_published_by_reference(
    checked: Any, worker: Worker
) -> None:
    bodies = MemoryBodies()
    house = await checked(bodies=bodies, inline_limit=1000)
    lines = "".join(f"{n:>70}\\r\\n" for n in range(100))
    await talk(house.lmtp, TO_OFFICE + MESSAGE.replace("hello\\r\\n", lines) + "s: 250")
    (post,) = house.bus.posts
    ((_, body),) = worker.requests
    assert post.content.ref is not None
    assert body == post.content.head + await bodies.get(post.content.ref)


async def test_p10_a_message_over_the_limit_is_not_sent_and_the_trace_will_say_so(checked: Any, worker: Worker) -> None:
    house = await checked(rspamd_max_size=1024)
    await talk(house.lmtp, TO_OFFICE + MESSAGE.replace("hello", "x" * 900 + "\\r\\n" + "y" * 900) + "s: 250")
    assert worker.requests == []
    assert [post.checked for post in house.bus.posts] == [Checked(action="too large")]


@pytest.mark.parametrize(
    "address", ["office-owner@example.test", "office-bounces+t@example.test", "postmaster@example.test"]
)
async def test_mail_that_goes_to_no_members_is_not_checked(checked: Any, worker: Worker, address: str) -> None:
    house = await checked()
    worker.answer = {"action": "reject"}
    await talk(house.lmtp, TO_OFFICE.replace("office@example.test", address) + MESSAGE + "s: 250")
    assert worker.requests == []
    assert [post.checked for post in house.bus.posts] == [None]


async def test_what_a_group_refuses_anyhow_is_not_checked(checked: Any, worker: Worker) -> None:
    house = await checked()
    house.directory.add("office@example.test", "ana@x.test", who_can_post="owners")
    await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 550 5.7.1 You are not allowed")
    assert worker.requests == []


BROKEN: dict[str, Any] = {
    "an error": b"HTTP/1.1 500 Internal\r\nContent-Length: 0\r\n\r\n",
    "no JSON": _http(b"<html>"),
    "no action": _http(b"{}"),
    "a list": _http(b"[]"),
    "half an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
    "no HTTP": b"\x00" * 70_000,
    "a bad length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
    "too long": b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (1 << 21),
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=list(BROKEN))
@pytest.mark.parametrize(("fail", "reply"), [("open", "250 2.0.0"), ("closed", "451 4.7.1")])
async def test_p5_without_a_verdict_the_setting_decides(
    checked: Any, worker: Worker, answer: Any, fail: str, reply: str
) -> None:
    house = await checked(rspamd_fail=fail)
    worker.answer = answer
    await talk(house.lmtp, TO_OFFICE + MESSAGE + f"s: {reply}")
    assert [post.checked for post in house.bus.posts] == ([Checked(action="unchecked")] if fail == "open" else [])
    worker.answer = {"action": "no action"}  # a broken answer is that of one message: the next one is asked for again
    await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 250")
    assert house.bus.posts[-1].checked == Checked(action="no action")


async def test_p1_a_worker_that_hangs_is_waited_for_so_long_and_no_longer(checked: Any, worker: Worker) -> None:
    house = await checked(rspamd_timeout="0.1s", rspamd_fail="closed")
    worker.hanging = True
    await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 451 4.7.1")
    assert worker.connections == 1


async def test_one_that_cannot_be_reached_is_left_alone_for_a_moment(
    start: Start, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    dials = []

    async def refused(*arguments: Any, **named: Any) -> Any:
        dials.append(arguments)
        raise ConnectionRefusedError("refused")

    house = await start(rspamd_url="http://127.0.0.1:1")
    reach = asyncio.open_connection
    monkeypatch.setattr("services.ingress.rspamd.asyncio.open_connection", _only(1, refused, reach))
    for _ in range(3):
        await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 250")
    assert len(dials) == 1
    assert [post.checked for post in house.bus.posts] == [Checked(action="unchecked")] * 3


def _only(port: int, instead: Any, otherwise: Any) -> Any:
    """`instead` for connections to this port."""

    async def connect(host: Any = None, to: Any = None, **named: Any) -> Any:
        return await (instead if to == port else otherwise)(host, to, **named)

    return connect


def test_a_client_writes_no_header_of_the_request() -> None:
    asked = [("From", "a\r\nRcpt: x@x.test"), ("Helo", "h\x00\x85\u2028\udcff"), ("IP", "")]
    head = Rspamd(Settings(rspamd_url="http://[::1]/base/"))._head(asked, 7)
    assert head.decode().split("\r\n") == [
        "POST /base/checkv2 HTTP/1.1",
        "Host: [::1]:11333",
        "Content-Length: 7",
        "Connection: close",
        "From: a??Rcpt: x@x.test",
        "Helo: h????",
        "",
        "",
    ]
