"""How a process starts: what cannot be is said in a sentence and soon, and what is made at the first start is made once."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shared import parts as module
from shared.bodies import BodiesUnavailable
from shared.bus import BusUnavailable
from shared.parts import effective_secret, open_parts
from shared.settings import Settings
from shared.starting import StartError

SOON = 4.0
"""Seconds within which a person hears that a start cannot be."""


async def refused(settings: Settings, *, consuming: bool = True) -> str:
    """What a start says that cannot be; soon."""
    begun = time.monotonic()
    with pytest.raises(StartError) as caught:
        async with open_parts(settings, consuming=consuming):
            pass
    assert time.monotonic() - begun < SOON
    return str(caught.value)


def test_a_secret_is_made_once_whoever_comes_first(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    found: set[str] = set()
    barrier = threading.Barrier(8)

    def ask() -> None:
        barrier.wait()
        found.add(effective_secret(settings))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 1
    assert len(found.pop()) >= 32
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_a_secret_that_is_set_is_taken_and_none_is_kept(tmp_path: Path) -> None:
    assert effective_secret(Settings(data=str(tmp_path), secret="s" * 16)) == "s" * 16
    assert list(tmp_path.iterdir()) == []


def test_an_empty_secret_file_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    with pytest.raises(StartError, match="delete it"):
        effective_secret(Settings(data=str(tmp_path)))


async def test_with_a_broker_every_process_needs_the_same_secret(tmp_path: Path) -> None:
    """One made in each process's own HORO_DATA would make them take each other's loop marks for forgeries."""
    why = await refused(Settings(data=str(tmp_path), broker_url="amqp://127.0.0.1:1"))
    assert why.startswith("HORO_SECRET is not set: with a broker")
    assert not (tmp_path / "secret").exists()


async def test_a_second_process_on_the_same_data_is_told_at_once_who_is_there(tmp_path: Path) -> None:
    settings = Settings(data=str(tmp_path))
    async with open_parts(settings, consuming=True):
        why = await refused(settings)
        assert f"another process ({os.getpid()})" in why
        assert "HORO_DATA" in why
        async with open_parts(settings) as beside:  # as the command line does
            assert await beside.check() == {}
    async with open_parts(settings, consuming=True) as after:
        assert await after.check() == {}


def _damaged_queue(data: Path) -> Settings:
    (data / "queue.db").write_bytes(b"this is no database, is it? " * 100)
    return Settings(data=str(data))


def _newer_queue(data: Path) -> Settings:
    with sqlite3.connect(data / "queue.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    return Settings(data=str(data))


def _newer_database(data: Path) -> Settings:
    with sqlite3.connect(data / "horo.db") as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('9999')")
    return Settings(data=str(data))


def _database_nowhere(data: Path) -> Settings:
    return Settings(data=str(data), database_url="sqlite:////proc/nowhere/horo.db")


def _database_is_a_folder(data: Path) -> Settings:
    (data / "horo.db").mkdir()
    return Settings(data=str(data))


def _no_path(data: Path) -> Settings:
    return Settings(data=str(data), database_url="sqlite:///")


def _bad_store(data: Path) -> Settings:
    return Settings(data=str(data), bodies_url="s3://user:key@bucket/")


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (_damaged_queue, "the bus (HORO_BROKER_URL): "),
        (_newer_queue, "newer version of Horo"),
        (_newer_database, "newer than this Horo knows"),
        (_database_nowhere, "the database (HORO_DATABASE_URL): "),
        (_database_is_a_folder, "the database (HORO_DATABASE_URL) does not answer"),
        (_no_path, "sqlite:/// needs the path of a file"),
        (_bad_store, "the body store (HORO_BODIES_URL): "),
    ],
)
async def test_what_cannot_be_opened_is_said_soon(
    prepare: Callable[[Path], Settings], says: str, tmp_path: Path
) -> None:
    why = await refused(prepare(tmp_path))
    assert says in why
    assert "user:key" not in why


async def test_a_server_that_comes_up_late_is_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real, tries = module.open_bus, 0

    async def late(url: str, data: Path) -> object:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise BusUnavailable("refused")
        return await real(url, data)

    monkeypatch.setattr(module, "open_bus", late)
    async with open_parts(Settings(data=str(tmp_path))):
        assert tries == 3


async def test_a_server_that_never_comes_up_is_given_up_with_its_cause(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def never(url: str, data: Path) -> object:
        raise BusUnavailable("10.0.0.7:5672 refused")

    monkeypatch.setattr(module, "open_bus", never)
    monkeypatch.setattr(module, "START_PATIENCE", 0.3)
    why = await refused(Settings(data=str(tmp_path)))
    assert why.startswith("the bus (HORO_BROKER_URL) does not answer")
    assert "10.0.0.7:5672 refused" in why


async def test_a_check_names_each_part_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_parts(Settings(data=str(tmp_path))) as parts:

        async def full() -> None:
            raise BodiesUnavailable("no space left")

        monkeypatch.setattr(parts.bodies, "check", full)
        assert await parts.check() == {"bodies": "no space left"}
