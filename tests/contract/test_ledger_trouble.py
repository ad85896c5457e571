"""The ledger's port, held on SQLite and PostgreSQL alike: databases that do not answer."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import migrate
from shared.database.engine import open_engine, write
from shared.ledger import Claim, LedgerUnavailable
from shared.ledger.store import SqlLedger
from tests.contract.ledgers import GROUP, at, fate, post, share, target


async def test_check_knows_its_schema(ledger: SqlLedger, engine: AsyncEngine) -> None:
    await ledger.check()
    async with write(engine, LedgerUnavailable) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await ledger.check()  # a newer Horo's, as in the middle of an upgrade
    async with write(engine, LedgerUnavailable) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    with pytest.raises(migrate.SchemaError):
        await ledger.check()


async def test_f19_a_database_that_is_not_there_is_unavailable(tmp_path: Path, free_port: Any) -> None:
    (tmp_path / "folder.db").mkdir()
    for wrong in (f"sqlite:///{tmp_path / 'folder.db'}", f"postgresql://horo@127.0.0.1:{free_port()}/x"):
        ledger = SqlLedger(open_engine(wrong), owned=True)
        for act in (
            ledger.check(),
            ledger.record(at("p"), GROUP, [fate("a@x")]),
            ledger.open_post(post(), [target()]),
            ledger.file(share("p")),
            ledger.take(Claim(post_id="p", cell=0, hop="h"), "o", 1),
            ledger.standings("p", ["a@x"]),
            ledger.totals("p"),
            ledger.park("q", "r", b"", 0, unique="u"),
        ):
            with pytest.raises(LedgerUnavailable):
                await act
        await ledger.close()


async def test_f20_a_file_that_is_locked_is_unavailable_and_then_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.database.engine.BUSY_LIMIT", 0.2)
    url = f"sqlite:///{tmp_path / 'horo.db'}"
    engine, blocker = open_engine(url), open_engine(url)
    await migrate.upgrade(engine)
    ledger = SqlLedger(engine, owned=True)
    async with write(blocker, LedgerUnavailable):
        outcomes = await asyncio.gather(
            *(ledger.record(at("p"), GROUP, [fate(f"m{n}@x")]) for n in range(30)), return_exceptions=True
        )
    assert all(isinstance(outcome, LedgerUnavailable) for outcome in outcomes)
    await ledger.record(at("p"), GROUP, [fate("a@x")])
    assert (await ledger.totals("p")).delivered == 1
    await ledger.close()
    await blocker.dispose()


async def test_f19_a_stopped_server_is_unavailable_within_seconds_and_then_works(
    postgres: Any, postgres_url: str
) -> None:
    ledger = SqlLedger(open_engine(postgres_url), owned=True)
    await migrate.upgrade(ledger._engine)
    await ledger.record(at("p"), GROUP, [fate("a@x.test")])
    postgres.pause()
    try:
        begun = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            await ledger.record(at("p"), GROUP, [fate("b@x.test")])
        assert time.monotonic() - begun < 20
    finally:
        postgres.resume()
    async with asyncio.timeout(20):
        while True:
            try:
                await ledger.record(at("p"), GROUP, [fate("b@x.test")])
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.1)
    assert (await ledger.totals("p")).delivered == 2
    await ledger.close()
