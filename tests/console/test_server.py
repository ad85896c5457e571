"""The server: limits of time and size, an orderly end, what it says in its headers and in the journal."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import prometheus_client
import pytest
import structlog

from services.console import connection, door
from services.console.__main__ import build
from services.console.door import Door
from shared.parts import open_parts
from shared.starting import StartError
from tests.console.conftest import OFFICE, Place, client_of, problem, running, settings

DOCUMENT = "/api/v1/openapi.json"
SIGNALS = f"/api/v1/groups/{OFFICE}/signals"


async def dial(place: Place) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*place.console.address)


async def rest(reader: asyncio.StreamReader, limit: float = 10) -> bytes:
    """All that comes until the server ends the connection."""
    async with asyncio.timeout(limit):
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""


# --- headers and log -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("method", "path"), [("GET", DOCUMENT), ("GET", "/nope"), ("DELETE", DOCUMENT), ("POST", SIGNALS)]
)
async def test_every_answer_is_safe_in_a_browser_and_tells_no_version(method: str, path: str, place: Place) -> None:
    answer = await place.client.request(method, path, headers={"Origin": "https://evil.test"})
    for name, value in door.HEADERS.items():
        assert answer.headers[name.decode()] == value.decode()
    assert "server" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control-")]
    if answer.status_code >= 400:
        problem(answer)


async def test_no_path_and_no_method_is_a_problem(place: Place) -> None:
    for path in (
        "/",
        "/api",
        "/api/v1",
        "/api/v2/posts",
        "/docs",
        "/schema",
        "/api/v1/groups/x",
        "//",
        "/api/v1/posts//x//",
    ):
        assert problem(await place.client.get(path))["status"] in (401, 404), path
    answer = await place.client.put(SIGNALS)
    assert problem(answer)["status"] == 405
    assert "POST" in answer.headers["allow"]


async def test_a_request_is_one_line_and_one_count_and_never_its_token(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = await place.token("ci")
    labels = {"route": "POST /api/v1/groups/{address}/signals", "status": "202"}
    before = prometheus_client.REGISTRY.get_sample_value("horo_requests_total", labels) or 0.0
    with structlog.testing.capture_logs() as lines:
        monkeypatch.setattr("shared.journal._log", structlog.get_logger())
        await place.client.post(f"{SIGNALS}?a=canary", json={"text": "canary"}, headers=headers)
        await place.client.get("/nope/" + "x" * 1000)
    lines = [line for line in lines if line["event"] == "requested"]
    assert [(line["route"], line["status"]) for line in lines] == [(labels["route"], 202), ("other", 404)]
    assert lines[0]["token"].startswith("ci (")
    assert lines[0]["ip"] == "127.0.0.1"
    assert len(lines[1]["path"]) == door.PATH_SHOWN
    assert headers["Authorization"].rpartition("_")[2] not in repr(lines)
    assert "canary" not in repr(lines)
    assert prometheus_client.REGISTRY.get_sample_value("horo_requests_total", labels) == before + 1


async def test_something_nobody_foresaw_tells_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> None:
        raise ZeroDivisionError("canary")

    monkeypatch.setattr(place.parts.ledger, "post", broken)
    answer = await place.client.get("/api/v1/posts/x", headers=await place.token())
    assert problem(answer) == {"title": "Internal Server Error", "status": 500}


# --- clients that keep it waiting ------------------------------------------------------------------------------------
@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nhost: x\r\n", b"\r\n"])
async def test_p10_a_head_that_does_not_come_is_not_awaited(
    sent: bytes, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    reader, writer = await dial(place)
    writer.write(sent)
    assert await rest(reader) == b""
    writer.close()


async def test_p10_a_second_head_is_not_awaited_either(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    reader, writer = await dial(place)
    writer.write(b"GET /nope HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 404")
    writer.write(b"\r\n")  # which ends the wait of a keep-alive, and begins nothing
    assert b"problem+json" in await rest(reader)
    writer.close()


async def test_p10_a_head_has_its_size(place: Place) -> None:
    reader, writer = await dial(place)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx-filler: " + b"x" * connection.HEAD_OCTETS)
    assert (await rest(reader)).startswith(b"HTTP/1.1 431 ")
    writer.close()


async def test_p10_a_head_without_end_is_not_read(place: Place) -> None:
    reader, writer = await dial(place)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx-filler: ")
    sent = 0
    with pytest.raises(ConnectionError):
        while sent < 64 * 1024 * 1024:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536
    assert await rest(reader) in (b"", connection._TOO_LARGE)


async def test_p10_a_body_that_does_not_come_is_not_awaited(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_door_of(place), "_limit", 0.3)
    headers = await place.token()
    reader, writer = await dial(place)
    head = f"POST {SIGNALS} HTTP/1.1\r\nhost: x\r\nauthorization: {headers['Authorization']}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: 100\r\n\r\n{{".encode())
    answer = await rest(reader)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"problem+json" in answer
    assert await place.signals() == []
    writer.close()


async def test_p10_an_answer_that_takes_too_long_is_503(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(*_: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(place.parts.ledger, "post", endless)
    monkeypatch.setattr(_door_of(place), "_limit", 0.3)
    answer = await place.client.get("/api/v1/posts/x", headers=await place.token())
    assert problem(answer)["status"] == 503
    assert answer.headers["retry-after"]


def _door_of(place: Place) -> Door:
    found: Any = place.console._server.config.app
    assert isinstance(found, Door)
    return found


@pytest.mark.parametrize(
    "sent",
    [
        b"EHLO example.test\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"GET / HTTP/1.1\nhost: x\r\nx: a\0b\r\n\r\n",
    ],
)
async def test_what_is_no_http_ends_the_connection(sent: bytes, place: Place) -> None:
    reader, writer = await dial(place)
    writer.write(sent)
    assert (await rest(reader)).startswith(b"HTTP/1.1 400 ")
    writer.close()
    assert (await place.client.get(DOCUMENT)).status_code == 200


async def test_small_answers_do_not_wait_for_each_other(place: Place) -> None:
    """Nagle's algorithm and delayed acknowledgements make 40 ms of a request that needs one."""
    await place.client.get("/nope")
    times = []
    for _ in range(15):
        begun = time.monotonic()
        await place.client.get("/nope")
        times.append(time.monotonic() - begun)
    assert sorted(times)[len(times) // 2] < 0.03


# --- too fast --------------------------------------------------------------------------------------------------------
class TestPace:
    @pytest.fixture
    def changes(self) -> dict[str, Any]:
        return {"max_requests_per_minute": 6}

    async def test_a_token_that_asks_too_fast_is_told_when_to_come_again(self, place: Place) -> None:
        mine, yours = await place.token("mine"), await place.token("yours")
        assert (await place.client.post(SIGNALS, json={"text": "x"}, headers=mine)).status_code == 202
        answer = await place.client.post(SIGNALS, json={"text": "x"}, headers=mine)
        assert problem(answer)["status"] == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 10
        assert (await place.client.post(SIGNALS, json={"text": "x"}, headers=yours)).status_code == 202
        assert len(await place.signals()) == 2


# --- its end ---------------------------------------------------------------------------------------------------------
async def test_p3_a_request_under_way_is_answered_before_the_end(tmp_path: Path) -> None:
    async with open_parts(settings(tmp_path), consuming=True) as parts:
        begun, go = asyncio.Event(), asyncio.Event()

        async def slowly(*_: Any) -> None:
            begun.set()
            await go.wait()

        parts.ledger.post = slowly  # type: ignore[assignment,method-assign]
        async with running(parts) as console, client_of(console) as client, client_of(console) as idle:
            await idle.get("/nope")  # a connection that is kept, and has nothing under way
            place = Place(console, parts, None, console._tokens, client)  # type: ignore[arg-type]
            asking = asyncio.create_task(client.get("/api/v1/posts/x", headers=await place.token()))
            await begun.wait()
            console.stop()
            await _refuses(console.address)
            go.set()
            assert (await asking).status_code == 404


async def _refuses(address: tuple[str, int]) -> None:
    """Wait until nobody listens any more."""
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(*address)
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.02)


async def test_an_address_in_use_is_named_with_its_setting(tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        async with open_parts(settings(tmp_path, console_listen=f"127.0.0.1:{port}"), consuming=True) as parts:
            with pytest.raises(StartError, match=r"in use by another program.* HORO_CONSOLE_LISTEN"):
                await build(parts).run()


async def test_a_console_without_an_address_is_not_started(tmp_path: Path) -> None:
    async with open_parts(settings(tmp_path, console_listen=""), consuming=True) as parts:
        with pytest.raises(StartError, match="HORO_CONSOLE_LISTEN is empty"):
            build(parts)


async def test_it_listens_on_ipv6(tmp_path: Path) -> None:
    async with (
        open_parts(settings(tmp_path, console_listen="[::1]:0"), consuming=True) as parts,
        running(parts) as console,
        httpx.AsyncClient(base_url=f"http://[::1]:{console.address[1]}", trust_env=False) as client,
    ):
        assert (await client.get(DOCUMENT)).status_code == 200
