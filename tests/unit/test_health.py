"""The health server: what each path says in each state, that probes are cheap, and that nothing that is slow or hostile stops it."""

from __future__ import annotations

import asyncio
import http.client
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import pytest

from shared import health as module
from shared.health import Health
from shared.settings import endpoint


class Parts:
    """Parts whose troubles a test sets; counts how often they are looked at."""

    def __init__(self) -> None:
        self.troubles: dict[str, str] = {}
        self.error: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.looks = 0

    async def look(self) -> Mapping[str, str]:
        self.looks += 1
        await self.go_on.wait()
        if self.error is not None:
            raise self.error
        return self.troubles


def _ask(address: str, path: str) -> tuple[int, str]:
    host, port = endpoint(address)
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


async def ask(health: Health, path: str) -> tuple[int, str]:
    return await asyncio.to_thread(_ask, health.address, path)


@pytest.fixture
def parts() -> Parts:
    return Parts()


@asynccontextmanager
async def serving(parts: Parts, port: int, host: str = "127.0.0.1") -> AsyncIterator[Health]:
    health = Health(f"{host}:{port}", look=parts.look)
    health.start()
    try:
        async with asyncio.timeout(20):
            yield health
    finally:
        parts.go_on.set()
        health.close()


async def test_each_path_in_each_state(parts: Parts, free_port: Callable[[], int]) -> None:
    async with serving(parts, free_port()) as health:
        assert await ask(health, "/readyz") == (503, "starting\n")
        assert await ask(health, "/livez") == (200, "ok\n")
        health.up()
        assert await ask(health, "/readyz") == (200, "ok\n")
        health.drain()
        assert await ask(health, "/readyz") == (503, "draining\n")
        assert await ask(health, "/livez") == (200, "ok\n")
        assert (await ask(health, "/other"))[0] == 404
        status, text = await ask(health, "/metrics")
        assert status == 200
        assert "horo_events_total" in text


async def test_what_does_not_answer_is_named_and_its_cause_is_not(
    parts: Parts, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FRESH", 0.0)
    parts.troubles = {"ledger": "password authentication failed for horo", "bus": "10.0.0.7 refused"}
    async with serving(parts, free_port()) as health:
        health.up()
        assert await ask(health, "/readyz") == (503, "unavailable: bus, ledger\n")
        parts.troubles = {}
        assert await ask(health, "/readyz") == (200, "ok\n")
        parts.error = RuntimeError("a fault of ours")
        assert await ask(health, "/readyz") == (503, "unavailable\n")


async def test_probes_are_cheap(parts: Parts, free_port: Callable[[], int]) -> None:
    """However many ask at once and after another, the parts are looked at once in `FRESH` seconds."""
    async with serving(parts, free_port()) as health:
        health.up()
        parts.go_on.clear()
        asking = [asyncio.create_task(ask(health, "/readyz")) for _ in range(10)]
        while not parts.looks:
            await asyncio.sleep(0.01)
        parts.go_on.set()
        answers = await asyncio.gather(*asking)
        answers += [await ask(health, "/readyz") for _ in range(10)]
        assert set(answers) == {(200, "ok\n")}
        assert parts.looks == 1


async def test_a_look_that_hangs_is_a_503_in_time_and_the_process_stays_alive(
    parts: Parts, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "READY_WITHIN", 0.2)
    monkeypatch.setattr(module, "FRESH", 0.0)
    parts.go_on.clear()
    async with serving(parts, free_port()) as health:
        health.up()
        assert await ask(health, "/readyz") == (503, "timeout\n")
        assert await ask(health, "/livez") == (200, "ok\n")
        parts.go_on.set()
        assert await ask(health, "/readyz") == (200, "ok\n")


async def test_a_blocked_event_loop_is_not_alive(
    parts: Parts, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LIVE_WITHIN", 0.1)
    async with serving(parts, free_port()) as health:
        asking = asyncio.get_running_loop().run_in_executor(None, _ask, health.address, "/livez")
        end = time.monotonic() + 5
        while not asking.done() and time.monotonic() < end:
            time.sleep(0.3)  # in the loop, which is the fault that is looked for
            await asyncio.sleep(0)
        assert await asking == (503, "timeout\n")


async def test_a_client_that_says_nothing_holds_nobody_up(
    parts: Parts, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module._Quiet, "timeout", 0.2)
    async with serving(parts, free_port()) as health:
        silent = socket.create_connection(endpoint(health.address))
        try:
            assert (await ask(health, "/livez"))[0] == 200
            silent.settimeout(5)
            assert await asyncio.to_thread(silent.recv, 1) == b""  # it was let go
        finally:
            silent.close()


async def test_ipv6(parts: Parts, free_port: Callable[[], int]) -> None:
    async with serving(parts, free_port(), "[::1]") as health:
        assert health.address.startswith("[::1]:")
        assert (await ask(health, "/livez"))[0] == 200


async def test_without_an_address_there_is_none(parts: Parts) -> None:
    health = Health("", look=parts.look)
    health.start()
    assert health.address == ""
    health.close()
