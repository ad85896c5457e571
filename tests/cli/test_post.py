"""`horo post stop`: durable, said once, with the posts that were made from it; and what it says to people and to scripts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

from shared.database.engine import open_engine
from shared.database.migrate import upgrade
from shared.identity import new_id
from shared.ledger import Ledger
from shared.ledger.open import open_ledger
from shared.messages import State, TargetKind
from shared.settings import Settings
from tests.cli.conftest import Horo
from tests.contract.ledgers import GROUP, at, fate, post, share, target

T = TypeVar("T")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "var"
    folder.mkdir()
    return folder


def with_ledger(data: Path, work: Callable[[Ledger], Awaitable[T]]) -> T:
    """Do something in the ledger that the command will read."""

    async def run() -> T:
        settings = Settings(data=str(data))
        engine = open_engine(settings.effective_database_url)
        try:
            await upgrade(engine)
            ledger = open_ledger(settings, engine)
            try:
                return await work(ledger)
            finally:
                await ledger.close()
        finally:
            await engine.dispose()

    return asyncio.run(run())


async def under_way(ledger: Ledger) -> tuple[str, str]:
    """A post with a copy delivered, one deferred and one queued, and a post made from it."""
    record = post()
    child = post(f"{record.id[:10]}{new_id()[10:]}", parent=record.id)
    await ledger.open_post(record, [target()])
    await ledger.file(share(record.id, ["a@x.test", "b@x.test", "c@x.test"]))
    await ledger.record(at(record.id), GROUP, [fate("a@x.test"), fate("b@x.test", State.DEFERRED)])
    await ledger.open_post(child, [target("sub@example.test")])
    await ledger.file(share(child.id, ["d@x.test"], group="sub@example.test"))
    return record.id, child.id


def test_p4_a_stop_leaves_out_who_has_no_copy_of_the_post_and_of_those_made_from_it(data: Path, horo: Horo) -> None:
    post_id, child = with_ledger(data, under_way)
    done = horo("post", "stop", post_id.upper(), "--why", "wrong\nlist", "--json")
    assert (done.status, done.json) == (
        0,
        {
            "post": post_id,
            "already": False,
            "with": [child],
            "delivered": 1,
            "failed": 0,
            "left_out": 3,
            "complete": True,
        },
    )
    again = horo("post", "stop", post_id)
    assert again.status == 0
    assert "was stopped before" in again.out
    traced = horo("trace", post_id)
    assert "stopped: why wrong" in traced.out
    assert traced.out.count("left out: the post was stopped") == 2
    (document,) = horo("trace", child, "--json").json["posts"]
    assert [row["reason"] for row in document["addresses"]] == ["stopped"]
    assert [(note["kind"], note["detail"]) for note in document["notes"]] == [
        ("stopped", {"why": f"with post {post_id}"})
    ]


def test_what_cannot_be_stopped_is_told_in_a_sentence(data: Path, horo: Horo) -> None:
    async def a_signal(ledger: Ledger) -> str:
        record = post()
        await ledger.open_post(record, [target(kind=TargetKind.SIGNAL)])
        return record.id

    signal = with_ledger(data, a_signal)
    for words, status, said in (
        (("office@example.test",), 1, "no post's id"),
        ((new_id(),), 3, "--unseen"),
        ((signal,), 1, "is a signal"),
    ):
        done = horo("post", "stop", *words)
        assert (done.status, done.out) == (status, "")
        assert said in done.err


def test_a_post_that_still_waits_on_the_bus_is_stopped_when_it_is_said(data: Path, horo: Horo) -> None:
    record = post()
    assert horo("post", "stop", record.id, "--unseen", "--json").json["complete"] is False

    async def opened(ledger: Ledger) -> bool:
        return (await ledger.open_post(record, [target()])).stopped

    assert with_ledger(data, opened)
    assert with_ledger(data, lambda ledger: ledger.notes(record.id))[0].at <= time.time()
