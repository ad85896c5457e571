"""Members who are suspended: shown with since and why, brought back by one command."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from shared.directory.open import open_registry
from shared.ledger import Ledger
from shared.ledger.bounces import Failure, Source, Suspension
from shared.ledger.open import open_ledger
from shared.settings import load
from tests.cli.conftest import Horo

GROUP = "office@example.test"
NOW = 1_795_435_200.0  # 2026-11-23


def failure(day: int) -> Failure:
    return Failure(
        group=GROUP,
        member="boris@x.test",
        at=NOW + day * 86400,
        post_id="01p",
        source=Source.SESSION,
        status="5.1.1",
        reply="550 no such user",
    )


def with_ledger(work: Callable[[Ledger], Awaitable[Any]]) -> Any:
    """Do something with the ledger that the command line shares."""

    async def run() -> Any:
        ledger = open_ledger(load(os.environ))
        try:
            return await work(ledger)
        finally:
            await ledger.close()

    return asyncio.run(run())


def suspend() -> None:
    """Boris is suspended, as the reporter does it."""

    async def member() -> None:
        registry = await open_registry(load(os.environ))
        await registry.set_member(GROUP, "boris@x.test", bounce="suspended")
        await registry.close()

    async def score(ledger: Ledger) -> None:
        await ledger.failed([failure(-1), failure(0)], since=0.0)
        values = {"group": GROUP, "member": "boris@x.test", "at": NOW, "post_id": "01p"}
        await ledger.suspended(Suspension(id="s", reason="2026-11-23 550 no such user", **values))  # type: ignore[arg-type]

    asyncio.run(member())
    with_ledger(score)


def test_a_suspended_member_is_shown_and_brought_back(horo: Horo) -> None:
    horo("group", "create", GROUP, "--member", "Boris@x.test", "--member", "vera@x.test")
    assert horo("member", "list", GROUP, "--suspended").out.startswith("nobody is suspended")
    suspend()
    listed = horo("member", "list", GROUP).out
    assert "suspended" in listed
    assert "since 2026-11-23: 2026-11-23 550 no such user" in listed
    (only,) = horo("member", "list", GROUP, "--suspended", "--json").json
    assert (only["address"], only["bounce"], only["suspended_at"]) == ("Boris@x.test", "suspended", NOW)
    assert only["suspended_reason"] == "2026-11-23 550 no such user"
    assert "suspended_at" not in horo("member", "list", GROUP, "--search", "vera", "--json").json[0]
    for _ in range(2):
        done = horo("member", "restore", "Office@example.test", "boris@X.test", "--json")
        assert (done.status, done.json["bounce"]) == (0, "ok")
    assert horo("member", "list", GROUP, "--suspended", "--json").json == []
    assert "gets the group's mail" in horo("member", "restore", GROUP, "boris@x.test").out

    async def left(ledger: Ledger) -> tuple[int, int]:
        kept = await ledger.failed([failure(9)], since=0.0)
        return len(kept), len(await ledger.suspensions(GROUP, ["boris@x.test"]))

    assert with_ledger(left) == (1, 0)  # the score is forgotten


def test_to_go_on_after_a_pause_does_not_bring_back(horo: Horo) -> None:
    horo("group", "create", GROUP, "--member", "boris@x.test")
    suspend()
    horo("member", "pause", GROUP, "boris@x.test")
    assert "restored, but paused" in horo("member", "restore", GROUP, "boris@x.test").out
    suspend()
    said = horo("member", "pause", GROUP, "boris@x.test", "--off").out
    assert f"horo member restore {GROUP} boris@x.test" in said
    (row,) = horo("member", "list", GROUP, "--json").json
    assert (row["paused"], row["bounce"]) == (False, "suspended")
