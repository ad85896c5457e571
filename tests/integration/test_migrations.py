"""Databases are brought to this Horo's version: fresh, twice, by many at once; a newer one is refused. On SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

import shared.ledger.tables  # noqa: F401 - puts its tables into the metadata
from shared.database import migrate
from shared.database.engine import open_engine, write
from shared.database.tables import metadata
from shared.directory import DirectoryUnavailable
from shared.directory.open import open_registry
from shared.identity import new_id
from shared.ledger.store import SqlLedger
from shared.settings import Settings

PERIOD = re.compile(r"_(rest|first|\d{8}_\d{8})$")
"""Parts of the ledger's large tables on PostgreSQL, which are made as time goes by."""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/not there yet/horo 100%.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    made = open_engine(url)
    yield made
    await made.dispose()


async def set_version(engine: AsyncEngine, version: str) -> None:
    async with write(engine, DirectoryUnavailable) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = :version"), {"version": version})


async def state(engine: AsyncEngine) -> list[Any]:
    async with engine.connect() as connection:
        return list((await connection.execute(text("SELECT id, seq, floor, epoch FROM directory_state"))).all())


async def test_a_fresh_database_gets_what_the_tables_say(engine: AsyncEngine) -> None:
    with pytest.raises(migrate.SchemaError, match="empty"):
        await migrate.check(engine)
    await migrate.upgrade(engine)
    await migrate.check(engine)
    async with engine.connect() as connection:
        assert await connection.run_sync(_differences) == []
        indexes = await connection.run_sync(
            lambda sync: {index["name"] for index in inspect(sync).get_indexes("members")}
        )
    assert {"ix_members_group_id_slot_key", "ix_members_key", "ix_members_group_key"} <= indexes
    assert [(row.id, row.seq, row.floor) for row in await state(engine)] == [(1, 1, 1)]


def _differences(sync: Connection) -> list[Any]:
    options = {"compare_type": True, "include_name": lambda name, kind, _: kind != "table" or not PERIOD.search(name)}
    return list(compare_metadata(MigrationContext.configure(sync, opts=options), metadata))


async def test_a_second_time_changes_nothing(engine: AsyncEngine) -> None:
    await migrate.upgrade(engine)
    before = await state(engine)
    await migrate.upgrade(engine)
    assert await state(engine) == before


async def test_two_databases_have_two_epochs(engine: AsyncEngine, tmp_path: Path) -> None:
    other = open_engine(f"sqlite:///{tmp_path}/other.db")
    await migrate.upgrade(engine)
    await migrate.upgrade(other)
    assert (await state(engine))[0].epoch != (await state(other))[0].epoch
    await other.dispose()


PROGRAM = """
import asyncio, sys
from shared.database import engine, migrate

async def main():
    made = engine.open_engine(sys.argv[1])
    sys.stdin.readline()
    await migrate.upgrade(made)
    await migrate.check(made)
    await made.dispose()

asyncio.run(main())
"""


async def test_several_processes_start_at_once(url: str, engine: AsyncEngine) -> None:
    def begin() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", PROGRAM, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    processes = [begin() for _ in range(4)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    ends = await asyncio.gather(*(asyncio.to_thread(process.communicate, timeout=60) for process in processes))
    assert [(process.returncode, end[1]) for process, end in zip(processes, ends, strict=True)] == [(0, b"")] * 4
    await migrate.check(engine)
    assert len(await state(engine)) == 1


async def test_a_newer_database_is_refused_and_left_alone(engine: AsyncEngine, url: str) -> None:
    await migrate.upgrade(engine)
    await set_version(engine, "9999")
    wanted = "the database is of version 9999, newer than this Horo knows"
    for act in (migrate.upgrade, migrate.check):
        with pytest.raises(migrate.SchemaError, match=wanted):
            await act(engine)
    with pytest.raises(migrate.SchemaError, match="upgrade Horo"):
        await open_registry(Settings(database_url=url))
    assert len(await state(engine)) == 1


async def test_an_older_database_is_told_and_brought_up(engine: AsyncEngine) -> None:
    async with write(engine, DirectoryUnavailable) as connection:
        await connection.run_sync(lambda sync: command.upgrade(migrate.config(connection=sync), "0001"))
    with pytest.raises(migrate.SchemaError, match=r"version 0001, older than this Horo's .*run `horo migrate`"):
        await migrate.check(engine)
    before = await state(engine)
    await migrate.upgrade(engine)
    await migrate.check(engine)
    assert await state(engine) == before


async def test_a_migration_that_fails_leaves_nothing(engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(sync: Connection) -> None:
        command.upgrade(migrate.config(connection=sync), "head")
        raise RuntimeError("in the middle")

    monkeypatch.setattr(migrate, "_run", fail)
    with pytest.raises(RuntimeError, match="in the middle"):
        await migrate.upgrade(engine)
    async with engine.connect() as connection:
        assert await connection.run_sync(lambda sync: inspect(sync).get_table_names()) == []
    monkeypatch.undo()
    await migrate.upgrade(engine)
    await migrate.check(engine)


async def test_sqlite_is_set_to_survive_a_loss_of_power(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path}/horo.db")
    async with engine.connect() as connection:
        found = [
            (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar()
            for pragma in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert found == ["wal", 2, 1]
    await engine.dispose()


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite:///", "sqlite:///:memory:", "sqlite://", ""])
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///"):
        open_engine(url)


async def test_no_server_is_unavailable_within_seconds(free_port: Any) -> None:
    engine = open_engine(f"postgresql://horo:secret-word@127.0.0.1:{free_port()}/horo")
    for act in (migrate.upgrade, migrate.check):
        with pytest.raises(migrate.DatabaseUnavailable) as caught:
            async with asyncio.timeout(15):
                await act(engine)
        assert "secret-word" not in str(caught.value)
    await engine.dispose()


async def test_what_the_ledger_held_before_it_had_periods_is_still_there_and_goes_when_it_is_old(
    engine: AsyncEngine,
) -> None:
    post_id = new_id()
    async with write(engine, DirectoryUnavailable) as connection:
        await connection.run_sync(lambda sync: command.upgrade(migrate.config(connection=sync), "0004"))
        columns = "post_id, cell, mark, seq, at, digest, attempts, delivered, failed, deferred, group_key, content"
        rows = f"INSERT INTO attempts ({columns}) VALUES (:post, 0, 1, 1, 1.0, 0, 1, 1, 0, 0, 'g@x', '[]')"
        await connection.execute(text(rows), {"post": post_id})
        await connection.execute(text("INSERT INTO people (hash, post_id) VALUES (7, :post)"), {"post": post_id})
    await migrate.upgrade(engine)
    ledger = SqlLedger(engine)
    for later, left in ((-3600.0, 1), (20 * 86400.0, 0)):
        await ledger.sweep(posts_before=time.time() + later)
        async with engine.connect() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM attempts")) == left
    await ledger.close()
