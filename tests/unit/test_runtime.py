"""How a process lives and ends: ready, drained in order, and never half dead when a service of several ends by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from shared import runtime as module
from shared.health import Health
from shared.parts import Parts
from shared.runtime import serve
from shared.settings import Settings
from shared.starting import ServiceEnded, StartError

ROOT = Path(__file__).parents[2]


class NoParts:
    """In place of all ports."""

    async def check(self) -> dict[str, str]:
        return {}


class Service:
    """A service that runs until told, or until `error`; notes in `story` what happens to it. `work` is what it has in hand."""

    def __init__(self, name: str, story: list[str]) -> None:
        self.name = name
        self.story = story
        self.begun = asyncio.Event()
        self.end = asyncio.Event()
        self.work = asyncio.Event()
        self.work.set()
        self.error: BaseException | None = None

    async def run(self) -> None:
        self.begun.set()
        await self.end.wait()
        if self.error is not None:
            raise self.error
        try:
            await self.work.wait()
        except asyncio.CancelledError:
            self.story.append(f"{self.name} cut off")
            raise
        self.story.append(f"{self.name} done")

    def stop(self) -> None:
        self.story.append(f"{self.name} told to stop")
        self.end.set()

    def dies(self, error: BaseException | None) -> None:
        """It ends by itself."""
        self.error = error
        self.end.set()


@pytest.fixture
def story(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened, in order: to the services, to readiness, to the parts."""
    told: list[str] = []

    @asynccontextmanager
    async def opened(settings: Settings, *, consuming: bool = False) -> AsyncIterator[Any]:
        assert consuming
        try:
            yield NoParts()
        finally:
            told.append("parts closed")

    def drain(health: Health) -> None:
        told.append("not ready")

    monkeypatch.setattr(module, "open_parts", opened)
    monkeypatch.setattr(Health, "drain", drain)
    return told


SETTINGS = Settings(health_listen="")


def started(
    *services: Service,
    ready: Callable[[Parts], Coroutine[Any, Any, None]] | None = None,
    settings: Settings = SETTINGS,
) -> asyncio.Task[None]:
    builds = {one.name: (lambda parts, one=one: one) for one in services}
    return asyncio.create_task(serve(settings, builds, ready=ready))


async def running(*services: Service) -> None:
    async with asyncio.timeout(10):
        await asyncio.gather(*(one.begun.wait() for one in services))


async def ended(task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(10):
        await task


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_p1_a_signal_ends_readiness_first_then_the_work_then_the_parts(story: list[str], number: int) -> None:
    one, two = Service("ingress", story), Service("sender", story)
    one.work.clear()
    task = started(one, two)
    await running(one, two)
    os.kill(os.getpid(), number)
    async with asyncio.timeout(10):
        while "sender done" not in story:
            await asyncio.sleep(0.01)
    assert "parts closed" not in story  # the other still has work in hand, and needs the bus for it
    one.work.set()
    await ended(task)
    assert story == [
        "not ready",
        "ingress told to stop",
        "sender told to stop",
        "sender done",
        "ingress done",
        "parts closed",
    ]


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("a fault of ours"), "sender ended: RuntimeError: a fault of ours; the rest has drained"),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [KeyError("x")])]), "sender ended: KeyError: 'x'"),
        (asyncio.CancelledError(), "sender ended by itself"),
        (None, "sender ended by itself"),
    ],
    ids=repr,
)
async def test_a_service_that_ends_by_itself_ends_the_process_and_the_others_drain(
    story: list[str], error: BaseException | None, says: str
) -> None:
    """A process that goes on with three of its four services looks well, and mail stays where it is."""
    one, two = Service("ingress", story), Service("sender", story)
    one.work.clear()
    task = started(one, two)
    await running(one, two)
    two.dies(error)
    async with asyncio.timeout(10):
        while "ingress told to stop" not in story:
            await asyncio.sleep(0.01)
    one.work.set()
    with pytest.raises(ServiceEnded) as caught:
        await ended(task)
    assert str(caught.value).startswith(says)
    assert "ingress done" in story
    assert story[-1] == "parts closed"


async def test_a_drain_after_a_crash_has_an_end(story: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CRASH_DRAIN", 0.05)
    one, two = Service("ingress", story), Service("sender", story)
    one.work.clear()
    task = started(one, two)
    await running(one, two)
    two.dies(RuntimeError("x"))
    with pytest.raises(ServiceEnded, match="sender ended"):
        await ended(task)
    assert story[-2:] == ["ingress cut off", "parts closed"]


async def test_p1_a_drain_that_was_asked_for_has_an_end_before_somebody_kills_the_process(
    story: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A next hop may be silent for ten minutes; what is cut off in order gives its claims back, what is killed does not."""
    one = Service("sender", story)
    one.work.clear()
    task = started(one, settings=Settings(health_listen="", drain_timeout="0.05s"))
    await running(one)
    os.kill(os.getpid(), signal.SIGTERM)
    await ended(task)
    assert story == ["not ready", "sender told to stop", "sender cut off", "parts closed"]
    assert "cut_off" in capsys.readouterr().out


async def test_a_service_that_fails_while_it_drains_is_told_of(story: list[str]) -> None:
    one = Service("sender", story)
    one.error = RuntimeError("at the last step")
    task = started(one)
    await running(one)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(ServiceEnded, match="at the last step"):
        await ended(task)


async def test_a_start_error_in_whatever_wrapping_is_told_as_it_is(story: list[str]) -> None:
    one, two = Service("ingress", story), Service("sender", story)
    task = started(one, two)
    await running(one)
    one.dies(ExceptionGroup("a", [ValueError("b"), ExceptionGroup("c", [StartError("127.0.0.1:25 is in use")])]))
    with pytest.raises(StartError, match=r"^127\.0\.0\.1:25 is in use$"):
        await ended(task)


async def test_a_start_that_fails_after_listening_ends_the_process(story: list[str]) -> None:
    async def ready(parts: Parts) -> None:
        raise StartError("the demo cannot be made")

    with pytest.raises(StartError, match="the demo"):
        await ended(started(Service("ingress", story), ready=ready))
    assert story[-1] == "parts closed"


async def test_a_signal_in_the_middle_of_the_start_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is not up is waited for; who is told to stop meanwhile stops."""
    waiting = asyncio.Event()

    @asynccontextmanager
    async def opened(settings: Settings, *, consuming: bool = False) -> AsyncIterator[Any]:
        waiting.set()
        await asyncio.Event().wait()
        yield NoParts()

    monkeypatch.setattr(module, "open_parts", opened)
    task = started(Service("ingress", []))
    await waiting.wait()
    os.kill(os.getpid(), signal.SIGTERM)
    await ended(task)


def test_the_exit_status_tells_what_can_be_mended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HORO_BROKER_URL", "embedded:")
    assert module.main("sender", lambda parts: Service("sender", [])) == module.EXIT_USAGE
    assert "inside one process" in capsys.readouterr().err

    def raising(error: Exception) -> Callable[[Coroutine[Any, Any, None]], None]:
        def run(coroutine: Coroutine[Any, Any, None]) -> None:
            coroutine.close()
            raise error

        return run

    monkeypatch.setattr(module, "apart", lambda settings: None)
    for error, status in ((StartError("one"), 2), (ServiceEnded("two"), 1)):
        monkeypatch.setattr(module, "run_loop", raising(error))
        assert module.main("sender", lambda parts: Service("sender", [])) == status
        assert capsys.readouterr().err == f"horo: {error}\n"


STUBBORN = """
import asyncio, sys
from shared.runtime import run_loop, serve
from shared.settings import Settings

class Stubborn:
    async def run(self):
        print("up", flush=True)
        await asyncio.Event().wait()
    def stop(self):
        print("told", flush=True)

run_loop(serve(Settings(data=sys.argv[1], health_listen=""), {"stubborn": lambda parts: Stubborn()}))
"""


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            assert b"up\n" in process.stdout
            process.send_signal(signal.SIGTERM)
            assert b"told\n" in process.stdout
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 1
        finally:
            process.kill()
