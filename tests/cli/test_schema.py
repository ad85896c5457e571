"""`horo migrate`, and processes that leave migrations to it (HORO_MIGRATE=command)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.output import Exit
from shared.database import migrate
from shared.database.engine import open_engine, write
from shared.directory import DirectoryUnavailable
from shared.directory.open import open_directory, open_registry
from shared.ledger import LedgerUnavailable
from shared.ledger.open import open_ledger
from shared.settings import Settings
from tests.cli.conftest import Horo


def settings(folder: Path, **more: str) -> Settings:
    return Settings(data=str(folder), database_url=f"sqlite:///{folder / 'horo.db'}", **more)


def test_an_empty_database_is_brought_up_and_a_second_time_changes_nothing(horo: Horo) -> None:
    first, second, told = horo("migrate", "--json"), horo("migrate", "--json"), horo("migrate")
    assert first.json == {"before": None, "now": migrate.head()}
    assert second.json == {"before": migrate.head(), "now": migrate.head()}
    assert told.out == f"The database is of version {migrate.head()} already.\n"
    assert horo("group", "create", "office@example.test", "--json").status == Exit.OK


def test_where_migrations_are_a_command_nothing_else_makes_the_tables(
    horo: Horo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HORO_MIGRATE", "command")
    refused = horo("group", "create", "office@example.test")
    assert refused.status == Exit.UNAVAILABLE
    assert "the database is empty: run `horo migrate`" in refused.err
    assert horo("migrate").status == Exit.OK
    assert horo("group", "create", "office@example.test").status == Exit.OK


def test_a_newer_database_is_refused_in_a_sentence(horo: Horo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HORO_DATABASE_URL", f"sqlite:///{tmp_path / 'horo.db'}")
    assert horo("migrate").status == Exit.OK
    with sqlite3.connect(tmp_path / "horo.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    done = horo("migrate")
    assert done.status == Exit.USAGE
    assert "newer than this Horo knows" in done.err


async def test_a_service_waits_for_the_command_as_for_a_server(tmp_path: Path) -> None:
    """`DirectoryUnavailable` is what a start tries again; anything else would end the process at once."""
    waiting = settings(tmp_path, migrate="command")
    with pytest.raises(DirectoryUnavailable) as caught:
        await open_directory(waiting)
    assert "run `horo migrate`" in caught.value.why
    engine = open_engine(waiting.effective_database_url)
    await migrate.upgrade(engine)
    await engine.dispose()
    await (await open_directory(waiting)).close()


async def test_p1_a_running_service_stays_ready_while_a_newer_release_migrates(tmp_path: Path) -> None:
    """In a rolling upgrade the database moves first: were the old processes not ready any more, nobody would take mail."""
    loaded = settings(tmp_path)
    directory, ledger = await open_directory(loaded), open_ledger(loaded)
    engine = open_engine(loaded.effective_database_url)
    async with write(engine, LedgerUnavailable) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await directory.check()
    await ledger.check()
    with pytest.raises(migrate.SchemaError, match="upgrade Horo"):  # but nothing older starts on it
        await open_registry(loaded)
    async with write(engine, LedgerUnavailable) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(migrate.SchemaError, match="run `horo migrate`"):
        await ledger.check()
    for opened in (directory, ledger):
        await opened.close()
    await engine.dispose()
