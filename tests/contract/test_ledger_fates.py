"""The ledger's port, held on SQLite and PostgreSQL alike: what senders claim and record."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from shared.identity import new_id
from shared.ledger import Claim
from shared.ledger.store import SqlLedger
from shared.messages import (
    Reason,
    State,
    Suppressed,
)
from tests.contract.ledgers import DAY, GROUP, at, fate, share, taken


# --- fates ------------------------------------------------------------------------------------------------------------
async def test_p3_a_final_state_never_turns_back(ledger: SqlLedger) -> None:
    post_id = new_id()
    await ledger.record(at(post_id), GROUP, [fate("a@x.test"), fate("b@x.test", State.FAILED)])
    for state in (State.DEFERRED, State.FAILED, State.DELIVERED):
        await ledger.record(at(post_id), GROUP, [fate("a@x.test", state, 5), fate("b@x.test", state, 5)])
    standings = await ledger.standings(post_id, ["a@x.test", "b@x.test", "c@x.test"])
    assert {key: standing.state for key, standing in standings.items()} == {
        "a@x.test": State.DELIVERED,
        "b@x.test": State.FAILED,
    }
    assert standings["a@x.test"].attempts == 1


async def test_p3_an_older_attempt_is_ignored_but_an_arrival_is_not(ledger: SqlLedger) -> None:
    post_id = new_id()
    due = time.time() + 300
    await ledger.record(at(post_id), GROUP, [fate("A@x.test", State.DEFERRED, 2, next_at=due, text="greylisted")])
    await ledger.record(at(post_id), GROUP, [fate("A@x.test", State.DEFERRED, 1, text="older")])
    await ledger.record(at(post_id), GROUP, [fate("A@x.test", State.FAILED, 1, text="older")])
    standing = (await ledger.standings(post_id, ["a@x.test"]))["a@x.test"]
    assert (standing.state, standing.attempts, standing.text) == (State.DEFERRED, 3, "greylisted")
    assert standing.next_at == pytest.approx(due)
    await ledger.record(at(post_id), GROUP, [fate("A@x.test", State.DELIVERED, 0)])
    standing = (await ledger.standings(post_id, ["a@x.test"]))["a@x.test"]
    assert (standing.state, standing.attempts, standing.next_at) == (State.DELIVERED, 3, None)


async def test_the_same_attempt_again_takes_the_newer_word(ledger: SqlLedger) -> None:
    post_id = new_id()
    await ledger.record(at(post_id), GROUP, [fate("a@x.test", State.DEFERRED, 0)])
    await ledger.record(at(post_id), GROUP, [fate("a@x.test", State.DEFERRED, 0, text="newer")])
    assert (await ledger.standings(post_id, ["a@x.test"]))["a@x.test"].text == "newer"


async def test_one_recipient_twice_in_a_batch_is_recorded_in_order(ledger: SqlLedger) -> None:
    post_id = new_id()
    await asyncio.gather(
        ledger.record(at(post_id), GROUP, [fate("a@x.test", State.DEFERRED, 0), fate("A@X.test", State.DELIVERED, 1)]),
        ledger.record(at(post_id), GROUP, [fate("a@x.test", State.FAILED, 2), fate("b@x.test")]),
    )
    assert (await ledger.standings(post_id, ["a@x.test"]))["a@x.test"].state is State.DELIVERED


async def test_standings_of_many_keys(ledger: SqlLedger) -> None:
    post_id = new_id()
    await ledger.record(at(post_id), GROUP, [fate(f"m{n}@x.test") for n in range(2500)])
    found = await ledger.standings(post_id, [f"m{n}@x.test" for n in range(0, 5000)])
    assert len(found) == 2500
    assert await ledger.standings(post_id, []) == {}


async def test_p3_hostile_text_is_recorded_and_harms_no_neighbour(ledger: SqlLedger) -> None:
    post_id = new_id()
    names = [
        "nul\0@x.test",
        "\udc80@x.test",
        "x" * 5000 + "@x.test",
        "ж" * 5000 + "@x.test",
        "new\nline@x.test",
        "%s:rows{}@x.test",
    ]
    strange = [
        fate(name, text="a\0b\udcff" + "y" * 9000, status="\0", hop="\udcff", attempt=10**9, code=10**6)
        for name in names
    ]
    await asyncio.gather(
        ledger.record(at(post_id), "gr\0up", strange),
        ledger.record(at(post_id), GROUP, [fate("ok@x.test")]),
        ledger.file(
            share(post_id, [*names, "ok@x.test"], [Suppressed(addresses=("\0",), reason=Reason.LOOP, via=("\0", "\n"))])
        ),
    )
    totals = await ledger.totals(post_id)
    assert (totals.delivered, totals.suppressed, totals.expanded) == (7, 1, 8)
    assert len(await ledger.standings(post_id, names)) == len(names)


async def test_an_entry_that_cannot_be_written_fails_alone(ledger: SqlLedger) -> None:
    post_id = new_id()
    wrong = fate("bad@x.test", at=float("nan"))  # no time at all: the column refuses it
    given = [ledger.record(at(post_id), GROUP, [fate(f"m{n}@x.test")]) for n in range(5)]
    outcomes = await asyncio.gather(ledger.record(at(post_id), GROUP, [wrong]), *given, return_exceptions=True)
    assert isinstance(outcomes[0], Exception)
    assert outcomes[1:] == [None] * 5
    assert (await ledger.totals(post_id)).delivered == 5


# --- claims -----------------------------------------------------------------------------------------------------------
async def test_p3_a_claim_is_one_owners_until_it_is_released(ledger: SqlLedger, other: SqlLedger) -> None:
    claim = Claim(post_id=new_id(), cell=3, hop="mx:example.test")
    assert await taken(ledger, claim, "one", 30) == 0.0
    assert await taken(ledger, claim, "one", 30) == 0.0
    assert 25 < await taken(other, claim, "two", 30) <= 30
    assert await taken(other, msgspec.structs.replace(claim, cell=4), "two", 30) == 0.0
    await other.release(claim, "two")  # not theirs
    assert await taken(other, claim, "two", 30) > 0
    await ledger.release(claim, "one")
    assert await taken(other, claim, "two", 30) == 0.0


async def test_p3_a_claim_outlives_its_owner_by_the_lease(ledger: SqlLedger) -> None:
    claim = Claim(post_id=new_id(), cell=0, hop="h")
    assert await taken(ledger, claim, "dead", 0.2) == 0.0
    left = await taken(ledger, claim, "heir", 30)
    async with asyncio.timeout(5):
        while left:
            assert left <= 0.25  # SQLite keeps its clock in days: the last digits are rounded
            await asyncio.sleep(left)
            left = await taken(ledger, claim, "heir", 30)
    assert await taken(ledger, claim, "dead", 30) > 25


async def test_p3_claims_are_renewed_together(ledger: SqlLedger) -> None:
    claims = [Claim(post_id=new_id(), cell=cell, hop="h") for cell in range(3)]
    for claim in claims:
        await taken(ledger, claim, "one", 5)
    await ledger.renew("one", 60)
    assert all([await taken(ledger, claim, "two", 5) > 50 for claim in claims])


async def test_p3_of_many_who_claim_at_once_one_gets_it(ledger: SqlLedger, other: SqlLedger) -> None:
    claim = Claim(post_id=new_id(), cell=0, hop="h")
    owners = [(one, f"{name}{n}") for n in range(20) for one, name in ((ledger, "a"), (other, "b"))]
    waits = await asyncio.gather(*(taken(one, claim, owner, 30) for one, owner in owners))
    assert waits.count(0.0) == 1


async def test_p3_a_lease_is_measured_by_the_databases_clock(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim(post_id=new_id(), cell=0, hop="h")
    assert await taken(ledger, claim, "one", 30) == 0.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 10 * DAY)
    assert 25 < await taken(ledger, claim, "two", 30) <= 30
