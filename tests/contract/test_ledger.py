"""The ledger's port, held on SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from shared.database import migrate
from shared.database.engine import open_engine, write
from shared.identity import derive, new_id
from shared.ledger import Claim, LedgerUnavailable, PostRecord, Row, TargetRecord, Totals, Verdict
from shared.ledger.store import SqlLedger
from shared.messages import (
    BodyRef,
    Content,
    Delivery,
    Expanded,
    Fate,
    Origin,
    Post,
    Queued,
    Reason,
    Recipient,
    Refused,
    State,
    Suppressed,
    Target,
    TargetKind,
    encode,
)

GROUP = "office@example.test"
DAY = 86400.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'horo.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def engine(url: str) -> AsyncIterator[AsyncEngine]:
    made = open_engine(url)
    await migrate.upgrade(made)
    yield made
    await made.dispose()


@pytest.fixture
async def ledger(engine: AsyncEngine) -> AsyncIterator[SqlLedger]:
    made = SqlLedger(engine)
    yield made
    await made.close()


@pytest.fixture
async def other(url: str, ledger: SqlLedger) -> AsyncIterator[SqlLedger]:
    """The ledger as another process has it: engine and connections of its own."""
    made = SqlLedger(open_engine(url), owned=True)
    yield made
    await made.close()


def post(identifier: str = "", **changes: Any) -> PostRecord:
    now = changes.get("accepted_at", time.time())
    values: dict[str, Any] = {
        "id": identifier or new_id(now),
        "accepted_at": now,
        "mail_from": "ana@example.test",
        "author": "ana@example.test",
        "message_id": "<one@example.test>",
        "subject": "Здравейте",
        "size": 1234,
        "ip": "192.0.2.1",
        "cells": 7,
        "slices": 1,
    }
    return PostRecord(**{**values, **changes})


def target(group: str = GROUP, **changes: Any) -> TargetRecord:
    return TargetRecord(**{"group": group, "recipient": group, "kind": TargetKind.GROUP, **changes})


def share(
    post_id: str, queued: Any = (), suppressed: Any = (), *, group: str = GROUP, index: int = 0, of: int = 1
) -> Expanded:
    return Expanded(
        post_id=post_id,
        group=group,
        index=index,
        of=of,
        queued=tuple(Queued(address=name, via=(group,)) if isinstance(name, str) else name for name in queued),
        suppressed=tuple(suppressed),
        at=time.time(),
    )


def fate(address: str, state: State = State.DELIVERED, attempt: int = 0, **changes: Any) -> Fate:
    values: dict[str, Any] = {
        "code": {State.DELIVERED: 250, State.FAILED: 550}.get(state, 451),
        "status": "2.0.0",
        "text": "queued as 4F2",
        "hop": "mx.example.test",
        "at": time.time(),
        "next_at": time.time() + 60 if state is State.DEFERRED else None,
    }
    return Fate(address=address, state=state, attempt=attempt, **{**values, **changes})


async def rows_of(ledger: SqlLedger, post_id: str, recipient: str = "") -> list[Row]:
    return [row async for page in ledger.trace(post_id, recipient=recipient) for row in page]


def adds_up(totals: Totals) -> bool:
    return totals.expanded == totals.delivered + totals.deferred + totals.failed + totals.suppressed


# --- opening ---------------------------------------------------------------------------------------------------------
async def test_p3_a_post_opened_again_keeps_its_first_plan(ledger: SqlLedger, other: SqlLedger) -> None:
    first = post(cells=7, slices=3)
    opened = await ledger.open_post(first, [target(fingerprint=b"f")])
    again = await other.open_post(msgspec.structs.replace(first, cells=9, slices=5), [target(fingerprint=b"f")])
    assert (opened.cells, opened.slices, opened.verdicts) == (7, 3, {GROUP: Verdict.NEW})
    assert (again.cells, again.slices, again.verdicts) == (7, 3, {GROUP: Verdict.AGAIN})


async def test_p3_a_post_opened_again_keeps_its_first_graph(ledger: SqlLedger, other: SqlLedger) -> None:
    """Octets of any kind; a slice opens its post without a graph and gets the one that was recorded."""
    graph = bytes(range(256)) * 100
    first, without = post(graph=graph), post()
    opened = [
        await ledger.open_post(first, [target()]),
        await other.open_post(msgspec.structs.replace(first, graph=b"edited"), [target()]),
        await other.open_post(msgspec.structs.replace(first, graph=b""), [target()]),
    ]
    assert [one.graph for one in opened] == [graph] * 3
    assert (await ledger.open_post(without, [target()])).graph == b""
    summary = await other.post(first.id)
    assert summary is not None
    assert summary.record.graph == graph


async def test_p3_a_body_that_is_named_later_is_named_once(ledger: SqlLedger, other: SqlLedger) -> None:
    """Two expanders with one post: both go on with the blob that the ledger knows, which is the one that the collector leaves alone."""
    record = post()
    await ledger.open_post(record, [target()])
    bodies = [BodyRef(key=f"b{n}", size=n, sha256=bytes([n]) * 32) for n in range(8)]
    named = await asyncio.gather(
        *((ledger, other)[number % 2].set_body(record.id, body) for number, body in enumerate(bodies))
    )
    assert len({body.key for body in named}) == 1
    assert named[0] in bodies
    assert (await other.open_post(record, [target()])).body == named[0]
    in_use = [body.key for body in bodies if await ledger.body_in_use(body.key)]
    assert in_use == [named[0].key]


async def test_p3_a_body_that_came_with_the_post_is_not_named_anew(ledger: SqlLedger) -> None:
    record = post(body=BodyRef(key="came", size=1, sha256=b"\1" * 32))
    await ledger.open_post(record, [target()])
    assert await ledger.set_body(record.id, BodyRef(key="later", size=2, sha256=b"\2" * 32)) == record.body


async def test_p3_the_same_message_in_another_post_is_a_repetition(ledger: SqlLedger) -> None:
    first, second = post(), post()
    await ledger.open_post(first, [target(fingerprint=b"same")])
    for _ in range(2):  # and stays one when it is redelivered
        opened = await ledger.open_post(
            second, [target(fingerprint=b"same"), target("b@example.test", fingerprint=b"b")]
        )
        assert opened.verdicts[GROUP] is Verdict.REPETITION
    assert opened.verdicts["b@example.test"] is Verdict.AGAIN
    summary = await ledger.post(second.id)
    assert summary is not None
    assert [verdict for _, verdict, _ in summary.targets] == ["repetition", "open"]


async def test_p3_a_fingerprint_is_known_for_a_week(ledger: SqlLedger) -> None:
    now = time.time()
    for age, expected in (
        (20.0, Verdict.NEW),
        (14.5, Verdict.REPETITION),
        (8.0, Verdict.NEW),
        (7.0, Verdict.REPETITION),
    ):
        opened = await ledger.open_post(post(accepted_at=now - age * DAY), [target(fingerprint=b"week")])
        assert opened.verdicts == {GROUP: expected}, age


async def test_p3_a_post_without_a_fingerprint_is_never_a_repetition(ledger: SqlLedger) -> None:
    verdicts = [(await ledger.open_post(post(), [target()])).verdicts[GROUP] for _ in range(2)]
    assert verdicts == [Verdict.NEW, Verdict.NEW]


async def test_p3_of_many_posts_of_one_message_at_once_one_is_new(ledger: SqlLedger, other: SqlLedger) -> None:
    posts = [post() for _ in range(20)]
    opened = await asyncio.gather(
        *(one.open_post(record, [target(fingerprint=b"race")]) for record in posts for one in (ledger, other))
    )
    verdicts = [(found.verdicts[GROUP]) for found in opened]
    owners = {posts[number // 2].id for number, verdict in enumerate(verdicts) if verdict is not Verdict.REPETITION}
    assert len(owners) == 1
    assert sorted(v for v in verdicts if v is not Verdict.REPETITION)[0] in (Verdict.NEW, Verdict.AGAIN)


async def test_everything_of_a_post_and_its_targets_comes_back(ledger: SqlLedger) -> None:
    body = BodyRef(key="ab/cdef", size=999, sha256=bytes(range(32)))
    record = post(envid="QQ+2B1", ret="HDRS", body=body, parent=new_id())
    one = target(
        recipient="Office+tag@Example.test",
        token="abcdefghjkmn",
        fingerprint=b"\0\xff",
        references=("<a@b>", "<c@d>"),
        notify=("SUCCESS", "DELAY"),
        orcpt="rfc822;x+2By@z",
        report=True,
        envelope="alias",
        owners=("o@example.test",),
    )
    two = target("office-owner@example.test", kind=TargetKind.OWNER)
    await ledger.open_post(record, [one, two])
    await ledger.set_target(record.id, "office-owner@example.test", "loop")
    summary = await ledger.post(record.id)
    assert summary is not None
    assert summary.record == record
    assert [(found, verdict) for found, verdict, _ in summary.targets] == [(one, "open"), (two, "loop")]
    assert await ledger.target_of_token("abcdefghjkmn") == (record.id, GROUP)
    assert await ledger.target_of_token("") is None
    assert await ledger.target_of_token("nothere") is None
    assert await ledger.post(new_id()) is None


async def test_a_group_written_to_twice_is_one_target(ledger: SqlLedger) -> None:
    record = post()
    opened = await ledger.open_post(record, [target(), target(recipient="office+x@example.test")])
    assert opened.verdicts == {GROUP: Verdict.NEW}
    summary = await ledger.post(record.id)
    assert summary is not None
    assert len(summary.targets) == 1


async def test_a_thread_leads_back_to_who_started_it(ledger: SqlLedger) -> None:
    root = post(author="guest@elsewhere.test", message_id="<root@x>")
    reply = post(author="boris@example.test", message_id="<reply@x>")
    third = post(author="vera@example.test", message_id="<third@x>")
    assert (await ledger.open_post(root, [target()])).thread_authors == {}
    answered = await ledger.open_post(
        reply, [target(references=("<root@x>",)), target("b@example.test", references=("<root@x>",))]
    )
    assert answered.thread_authors == {GROUP: "guest@elsewhere.test"}  # the other group never had that post
    opened = await ledger.open_post(third, [target(references=("<unknown@x>", " <reply@x> "))])
    assert opened.thread_authors == {GROUP: "guest@elsewhere.test"}
    again = await ledger.open_post(third, [target()])  # what was found at first holds for every slice
    assert again.thread_authors == {GROUP: "guest@elsewhere.test"}


async def test_a_stolen_message_id_starts_no_thread(ledger: SqlLedger) -> None:
    now = time.time()
    await ledger.open_post(post(author="guest@x", message_id="<m@x>", accepted_at=now - 60), [target()])
    await ledger.open_post(post(author="thief@x", message_id="<m@x>", accepted_at=now - 30), [target()])
    opened = await ledger.open_post(post(message_id="<r@x>"), [target(references=("<m@x>",))])
    assert opened.thread_authors == {GROUP: "guest@x"}


# --- fates -----------------------------------------------------------------------------------------------------------
async def test_p3_a_final_state_never_turns_back(ledger: SqlLedger) -> None:
    post_id = new_id()
    await ledger.record(post_id, GROUP, [fate("a@x.test"), fate("b@x.test", State.FAILED)])
    for state in (State.DEFERRED, State.FAILED, State.DELIVERED):
        await ledger.record(post_id, GROUP, [fate("a@x.test", state, 5), fate("b@x.test", state, 5)])
    standings = await ledger.standings(post_id, ["a@x.test", "b@x.test", "c@x.test"])
    assert {key: standing.state for key, standing in standings.items()} == {
        "a@x.test": State.DELIVERED,
        "b@x.test": State.FAILED,
    }
    assert standings["a@x.test"].attempts == 1


async def test_p3_an_older_attempt_is_ignored_but_an_arrival_is_not(ledger: SqlLedger) -> None:
    post_id = new_id()
    due = time.time() + 300
    await ledger.record(post_id, GROUP, [fate("A@x.test", State.DEFERRED, 2, next_at=due, text="greylisted")])
    await ledger.record(post_id, GROUP, [fate("A@x.test", State.DEFERRED, 1, text="older")])
    await ledger.record(post_id, GROUP, [fate("A@x.test", State.FAILED, 1, text="older")])
    standing = (await ledger.standings(post_id, ["a@x.test"]))["a@x.test"]
    assert (standing.state, standing.attempts, standing.text) == (State.DEFERRED, 3, "greylisted")
    assert standing.next_at == pytest.approx(due)
    await ledger.record(post_id, GROUP, [fate("A@x.test", State.DELIVERED, 0)])
    standing = (await ledger.standings(post_id, ["a@x.test"]))["a@x.test"]
    assert (standing.state, standing.attempts, standing.next_at) == (State.DELIVERED, 3, None)


async def test_the_same_attempt_again_takes_the_newer_word(ledger: SqlLedger) -> None:
    post_id = new_id()
    await ledger.record(post_id, GROUP, [fate("a@x.test", State.DEFERRED, 0)])
    await ledger.record(post_id, GROUP, [fate("a@x.test", State.DEFERRED, 0, text="newer")])
    assert (await ledger.standings(post_id, ["a@x.test"]))["a@x.test"].text == "newer"


async def test_one_recipient_twice_in_a_batch_is_recorded_in_order(ledger: SqlLedger) -> None:
    post_id = new_id()
    await asyncio.gather(
        ledger.record(post_id, GROUP, [fate("a@x.test", State.DEFERRED, 0), fate("A@X.test", State.DELIVERED, 1)]),
        ledger.record(post_id, GROUP, [fate("a@x.test", State.FAILED, 2), fate("b@x.test")]),
    )
    assert (await ledger.standings(post_id, ["a@x.test"]))["a@x.test"].state is State.DELIVERED


async def test_standings_of_many_keys(ledger: SqlLedger) -> None:
    post_id = new_id()
    await ledger.record(post_id, GROUP, [fate(f"m{n}@x.test") for n in range(2500)])
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
        ledger.record(post_id, "gr\0up", strange),
        ledger.record(post_id, GROUP, [fate("ok@x.test")]),
        ledger.file(
            share(post_id, [*names, "ok@x.test"], [Suppressed(address="\0", reason=Reason.LOOP, via=("\0", "\n"))])
        ),
    )
    totals = await ledger.totals(post_id)
    assert (totals.delivered, totals.suppressed, totals.expanded) == (7, 1, 8)
    assert len(await ledger.standings(post_id, names)) == len(names)


async def test_an_entry_that_cannot_be_written_fails_alone(ledger: SqlLedger) -> None:
    post_id = new_id()
    wrong = fate("bad@x.test", at=float("nan"))  # no time at all: the column refuses it
    given = [ledger.record(post_id, GROUP, [fate(f"m{n}@x.test")]) for n in range(5)]
    outcomes = await asyncio.gather(ledger.record(post_id, GROUP, [wrong]), *given, return_exceptions=True)
    assert isinstance(outcomes[0], Exception)
    assert outcomes[1:] == [None] * 5
    assert (await ledger.totals(post_id)).delivered == 5


# --- shares ----------------------------------------------------------------------------------------------------------
async def test_p4_a_fan_out_is_complete_with_its_last_share(ledger: SqlLedger) -> None:
    record = post(slices=3)
    await ledger.open_post(record, [target()])
    shares = [
        share(record.id, [f"m{n}@x.test"], [Suppressed(address=f"s{n}@x.test", reason=Reason.PAUSED)], index=n, of=3)
        for n in range(3)
    ]
    assert await ledger.file(shares[0]) is False
    assert await ledger.file(shares[2]) is False
    assert await ledger.file(shares[2]) is False
    assert (await ledger.totals(record.id)).complete is False
    assert await ledger.file(shares[1]) is True
    assert await ledger.file(shares[0]) is True  # a repeat: its effect may not have been seen
    totals = await ledger.totals(record.id)
    assert totals == Totals(expanded=6, delivered=0, deferred=3, failed=0, suppressed=3, announced=6, complete=True)
    assert await ledger.totals(record.id, GROUP) == totals


async def test_p4_shares_filed_at_once_are_seen_complete(ledger: SqlLedger, other: SqlLedger) -> None:
    record = post(slices=12)
    await ledger.open_post(record, [target()])
    shares = [share(record.id, [f"m{n}@x.test"], index=n, of=12) for n in range(12)]
    done = await asyncio.gather(*((ledger, other)[one.index % 2].file(one) for one in shares))
    assert any(done)


async def test_p4_totals_by_group_and_of_the_post(ledger: SqlLedger) -> None:
    record = post()
    second = "b@example.test"
    await ledger.open_post(record, [target(), target(second)])
    await ledger.file(share(record.id, ["a@x.test", "b@x.test"], [Suppressed(address="c@x.test", reason=Reason.TO_CC)]))
    await ledger.record(record.id, GROUP, [fate("a@x.test"), fate("b@x.test", State.DEFERRED)])
    first = await ledger.totals(record.id, GROUP)
    assert first == Totals(expanded=3, delivered=1, deferred=1, failed=0, suppressed=1, announced=3, complete=True)
    assert (await ledger.totals(record.id, second)).complete is False
    assert (await ledger.totals(record.id)).complete is False
    await ledger.file(share(record.id, ["d@x.test"], group=second))
    whole = await ledger.totals(record.id)
    assert whole == Totals(expanded=4, delivered=1, deferred=2, failed=0, suppressed=1, announced=4, complete=True)


async def test_p3_a_sender_faster_than_the_reporter(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target()])
    await ledger.record(record.id, GROUP, [fate("Nested@x.test"), fate("direct@x.test")])
    nested = Queued(address="nested@x.test", via=(GROUP, "board@example.test"))
    assert await ledger.file(share(record.id, [nested, "direct@x.test", "late@x.test"])) is True
    found = {row.address: (row.state, row.via) for row in await rows_of(ledger, record.id)}
    assert found == {
        "Nested@x.test": (State.DELIVERED, (GROUP, "board@example.test")),
        "direct@x.test": (State.DELIVERED, (GROUP,)),
        "late@x.test": (State.QUEUED, (GROUP,)),
    }


async def test_p3_an_expansion_repeated_over_edited_members_adds_them(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target()])
    await ledger.file(share(record.id, ["a@x.test", "b@x.test"]))
    await ledger.record(record.id, GROUP, [fate("a@x.test")])
    await ledger.file(share(record.id, ["a@x.test", "c@x.test"]))
    totals = await ledger.totals(record.id)
    assert (totals.expanded, totals.delivered, totals.deferred) == (3, 1, 2)


async def test_one_address_left_out_on_two_paths_is_two_rows_and_one_when_told_again(ledger: SqlLedger) -> None:
    post_id = new_id()
    left_out = [
        Suppressed(address="Ana@x.test", reason=Reason.DUPLICATE, via=(GROUP, "b@example.test")),
        Suppressed(address="ana@x.test", reason=Reason.DUPLICATE, via=(GROUP, "c@example.test")),
        Suppressed(address="ana@x.test", reason=Reason.AUTHOR),
    ]
    for _ in range(2):
        await ledger.file(share(post_id, ["ana@x.test"], left_out))
    rows = await rows_of(ledger, post_id)
    assert rows[0].state is State.QUEUED
    assert {(row.reason, row.via) for row in rows[1:]} == {
        (Reason.DUPLICATE, (GROUP, "b@example.test")),
        (Reason.DUPLICATE, (GROUP, "c@example.test")),
        (Reason.AUTHOR, ()),
    }
    totals = await ledger.totals(post_id)
    assert (totals.expanded, totals.deferred, totals.suppressed) == (4, 1, 3)


# --- claims ----------------------------------------------------------------------------------------------------------
async def test_p3_a_claim_is_one_owners_until_it_is_released(ledger: SqlLedger, other: SqlLedger) -> None:
    claim = Claim(post_id=new_id(), cell=3, hop="mx:example.test")
    assert await ledger.claim(claim, "one", 30) == 0.0
    assert await ledger.claim(claim, "one", 30) == 0.0
    assert 25 < await other.claim(claim, "two", 30) <= 30
    assert await other.claim(msgspec.structs.replace(claim, cell=4), "two", 30) == 0.0
    await other.release(claim, "two")  # not theirs
    assert await other.claim(claim, "two", 30) > 0
    await ledger.release(claim, "one")
    assert await other.claim(claim, "two", 30) == 0.0


async def test_p3_a_claim_outlives_its_owner_by_the_lease(ledger: SqlLedger) -> None:
    claim = Claim(post_id=new_id(), cell=0, hop="h")
    assert await ledger.claim(claim, "dead", 0.2) == 0.0
    left = await ledger.claim(claim, "heir", 30)
    async with asyncio.timeout(5):
        while left:
            assert left <= 0.2
            await asyncio.sleep(left)
            left = await ledger.claim(claim, "heir", 30)
    assert await ledger.claim(claim, "dead", 30) > 25


async def test_p3_claims_are_renewed_together(ledger: SqlLedger) -> None:
    claims = [Claim(post_id=new_id(), cell=cell, hop="h") for cell in range(3)]
    for claim in claims:
        await ledger.claim(claim, "one", 5)
    await ledger.renew("one", 60)
    assert all([await ledger.claim(claim, "two", 5) > 50 for claim in claims])


async def test_p3_of_many_who_claim_at_once_one_gets_it(ledger: SqlLedger, other: SqlLedger) -> None:
    claim = Claim(post_id=new_id(), cell=0, hop="h")
    owners = [(one, f"{name}{n}") for n in range(20) for one, name in ((ledger, "a"), (other, "b"))]
    waits = await asyncio.gather(*(one.claim(claim, owner, 30) for one, owner in owners))
    assert waits.count(0.0) == 1


async def test_p3_a_lease_is_measured_by_the_databases_clock(
    ledger: SqlLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim(post_id=new_id(), cell=0, hop="h")
    assert await ledger.claim(claim, "one", 30) == 0.0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 10 * DAY)
    assert 25 < await ledger.claim(claim, "two", 30) <= 30


# --- asked -----------------------------------------------------------------------------------------------------------
async def test_p4_a_trace_comes_in_pages_recipients_first(ledger: SqlLedger) -> None:
    record = post()
    await ledger.open_post(record, [target()])
    names = [f"m{n:04}@x.test" for n in range(1100)]
    left_out = [Suppressed(address=f"s{n:04}@x.test", reason=Reason.PAUSED) for n in range(600)]
    random.Random(7).shuffle(names)
    await ledger.file(share(record.id, names, left_out))
    pages = [page async for page in ledger.trace(record.id)]
    assert [len(page) for page in pages] == [500, 500, 100, 500, 100]
    rows = [row for page in pages for row in page]
    assert [row.address for row in rows[:1100]] == sorted(names)
    assert [row.address for row in rows[1100:]] == [entry.address for entry in left_out]
    (one,) = await rows_of(ledger, record.id, "M0007@x.test")
    assert (one.address, one.state, one.group) == ("m0007@x.test", State.QUEUED, GROUP)


async def test_find_by_message_id_group_and_recipient_newest_first(ledger: SqlLedger) -> None:
    now = time.time()
    posts = [post(accepted_at=now - 100 + n, message_id=f"<m{n % 2}@x>") for n in range(6)]
    for number, record in enumerate(posts):
        group = f"g{number % 3}@example.test"
        await ledger.open_post(record, [target(group)])
        gone = [Suppressed(address="Gone@x.test", reason=Reason.PAUSED, via=(str(n),)) for n in range(3)]
        await ledger.file(
            share(record.id, ["All@x.test", f"only{number}@x.test"], gone if number == 5 else (), group=group)
        )
    await ledger.record(derive(posts[0].id, "report"), GROUP, [fate("all@x.test")])  # a report: no post of its own

    async def found(**asked: Any) -> list[int]:
        ids = [record.id for record in posts]
        return [ids.index(summary.record.id) for summary in await ledger.find(**asked)]

    assert await found(message_id="<m1@x>") == [5, 3, 1]
    assert await found(message_id="m1@x") == [5, 3, 1]
    assert await found(group="G2@example.test") == [5, 2]
    assert await found(recipient="ALL@x.test") == [5, 4, 3, 2, 1, 0]
    assert await found(recipient="all@x.test", limit=2) == [5, 4]
    assert await found(recipient="gone@x.test") == [5]
    assert await found(recipient="all@x.test", group="g0@example.test", message_id="m1@x") == [3]
    assert await found(recipient="nobody@x.test") == []
    assert await found(limit=3) == [5, 4, 3]
    assert (await ledger.find(recipient="only3@x.test"))[0].totals.deferred == 2


async def test_refusals_are_counted_once_and_the_last_are_kept(ledger: SqlLedger) -> None:
    at = 1_790_000_000.0
    messages = [
        Refused(group=GROUP, mail_from="s@x", code=550, status="5.7.1", text="no", ip="192.0.2.1", at=at + n)
        for n in range(450)
    ]
    await asyncio.gather(*(ledger.refused(message) for message in messages))
    await ledger.refused(messages[-1])
    await ledger.refused(msgspec.structs.replace(messages[0], group="other@example.test", at=at + DAY))
    assert await ledger.refusals_by_day(GROUP) == {"2026-09-21": 450}
    assert await ledger.refusals_by_day("other@example.test") == {"2026-09-22": 1}
    assert list(await ledger.refusals(GROUP, limit=2)) == [messages[-1], messages[-2]]
    assert len(await ledger.refusals(GROUP, limit=1000)) == 200


# --- parked ----------------------------------------------------------------------------------------------------------
def wire_post(body: str) -> Post:
    return Post(
        id=new_id(),
        accepted_at=time.time(),
        mail_from="",
        targets=(Target(group=GROUP, recipient=GROUP),),
        content=Content(head=b"\r\n", ref=BodyRef(key=body, size=1, sha256=b"")),
        digest=b"",
        origin=Origin(ip="", helo="", protocol="LMTP"),
    )


async def test_parked_messages_are_kept_once_and_forgotten(ledger: SqlLedger) -> None:
    payload = bytes(range(256))
    numbers = [await ledger.park("posts", f"why\0{n}", payload, 3, unique="u1") for n in range(2)]
    assert numbers[0] == numbers[1]
    second = await ledger.park("slices", "other", b"", 0, unique="u2")
    assert [one.id for one in await ledger.parked()] == [numbers[0], second]
    assert [one.id for one in await ledger.parked(after=numbers[0])] == [second]
    assert [one.id for one in await ledger.parked(limit=1)] == [numbers[0]]
    one = await ledger.parked_one(numbers[0])
    assert one is not None
    assert (one.queue, one.payload, one.tries) == ("posts", payload, 3)
    assert await ledger.unpark(numbers[0]) is True
    assert await ledger.unpark(numbers[0]) is False
    assert await ledger.parked_one(numbers[0]) is None


async def test_f46_a_body_is_in_use_while_a_parked_message_names_it(ledger: SqlLedger) -> None:
    parked = wire_post("parked-body")
    delivery = Delivery(
        post_id="p",
        group=GROUP,
        cell=0,
        hop="h",
        mail_from="",
        recipients=(Recipient(address="a@x"),),
        content=Content(head=b"", ref=BodyRef(key="delivery-body", size=1, sha256=b"")),
        accepted_at=0,
    )
    number = await ledger.park("posts", "why", encode(parked), 1, unique="a")
    await ledger.park("deliveries.bulk", "why", encode(delivery), 1, unique="b")
    assert await ledger.body_in_use("parked-body")
    assert await ledger.body_in_use("delivery-body")
    await ledger.unpark(number)
    assert not await ledger.body_in_use("parked-body")
    assert not await ledger.body_in_use("never")


async def test_f46_a_body_is_in_use_until_its_post_is_finished(ledger: SqlLedger) -> None:
    old = time.time() - 30 * DAY
    records = [
        post(accepted_at=at, body=BodyRef(key=key, size=1, sha256=b"\1"))
        for key, at in (("old", old), ("new", time.time()), ("unfiled", old))
    ]
    for record in records:
        await ledger.open_post(record, [target()])
    await ledger.file(share(records[0].id, ["a@x.test"]))
    await ledger.record(records[0].id, GROUP, [fate("a@x.test", State.DEFERRED)])
    assert await ledger.body_in_use("old")
    await ledger.record(records[0].id, GROUP, [fate("a@x.test", State.DELIVERED, 1)])
    assert not await ledger.body_in_use("old")
    assert await ledger.body_in_use("unfiled")
    await ledger.file(share(records[1].id, []))
    assert await ledger.body_in_use("new")  # finished, but recent


# --- sweeping --------------------------------------------------------------------------------------------------------
async def test_sweep_drops_what_is_finished_and_old(ledger: SqlLedger, engine: AsyncEngine) -> None:
    old, now = time.time() - 100 * DAY, time.time()
    finished, waiting, young = post(accepted_at=old), post(accepted_at=old + 1), post()
    for record in (finished, waiting, young):
        await ledger.open_post(record, [target(fingerprint=record.id.encode())])
        names = [f"m{n}@x.test" for n in range(2100)] if record is finished else ["a@x.test"]
        await ledger.file(share(record.id, names, [Suppressed(address="s@x.test", reason=Reason.PAUSED)]))
    await ledger.record(finished.id, GROUP, [fate(f"m{n}@x.test", at=old) for n in range(2100)])
    await ledger.record(young.id, GROUP, [fate("a@x.test")])
    report, alive = derive(finished.id, "report"), derive(waiting.id, "report")
    await ledger.record(report, GROUP, [fate("r@x.test", at=old)])
    await ledger.record(alive, GROUP, [fate("r@x.test", State.DEFERRED, at=old)])
    assert await ledger.sweep(posts_before=now - 90 * DAY) == 1
    assert await ledger.post(finished.id) is None
    assert await ledger.post(waiting.id) is not None
    assert await ledger.post(young.id) is not None
    assert await ledger.standings(report, ["r@x.test"]) == {}
    assert len(await ledger.standings(alive, ["r@x.test"])) == 1
    async with engine.connect() as connection:
        kept = set(await connection.scalars(text("SELECT DISTINCT post_id FROM recipients")))
        prints = set(await connection.scalars(text("SELECT post_id FROM fingerprints")))
    assert kept == {waiting.id, young.id, alive}
    assert prints == {young.id}
    assert await ledger.sweep(posts_before=now - 90 * DAY) == 0


# --- trouble ---------------------------------------------------------------------------------------------------------
async def test_check_knows_its_schema(ledger: SqlLedger, engine: AsyncEngine) -> None:
    await ledger.check()
    async with write(engine, LedgerUnavailable) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(migrate.SchemaError):
        await ledger.check()


async def test_f19_a_database_that_is_not_there_is_unavailable(tmp_path: Path, free_port: Any) -> None:
    (tmp_path / "folder.db").mkdir()
    for wrong in (f"sqlite:///{tmp_path / 'folder.db'}", f"postgresql://horo@127.0.0.1:{free_port()}/x"):
        ledger = SqlLedger(open_engine(wrong), owned=True)
        for act in (
            ledger.check(),
            ledger.record("p", GROUP, [fate("a@x")]),
            ledger.open_post(post(), [target()]),
            ledger.file(share("p")),
            ledger.claim(Claim(post_id="p", cell=0, hop="h"), "o", 1),
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
            *(ledger.record("p", GROUP, [fate(f"m{n}@x")]) for n in range(30)), return_exceptions=True
        )
    assert all(isinstance(outcome, LedgerUnavailable) for outcome in outcomes)
    await ledger.record("p", GROUP, [fate("a@x")])
    assert (await ledger.totals("p")).delivered == 1
    await ledger.close()
    await blocker.dispose()


async def test_f19_a_stopped_server_is_unavailable_within_seconds_and_then_works(
    postgres: Any, postgres_url: str
) -> None:
    ledger = SqlLedger(open_engine(postgres_url), owned=True)
    await migrate.upgrade(ledger._engine)
    await ledger.record("p", GROUP, [fate("a@x.test")])
    postgres.pause()
    try:
        begun = time.monotonic()
        with pytest.raises(LedgerUnavailable):
            await ledger.record("p", GROUP, [fate("b@x.test")])
        assert time.monotonic() - begun < 20
    finally:
        postgres.resume()
    async with asyncio.timeout(20):
        while True:
            try:
                await ledger.record("p", GROUP, [fate("b@x.test")])
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.1)
    assert (await ledger.totals("p")).delivered == 2
    await ledger.close()


async def test_p4_the_sums_add_up_at_every_read_of_a_busy_post(ledger: SqlLedger, other: SqlLedger) -> None:
    record = post(slices=10)
    await ledger.open_post(record, [target()])
    names = [[f"m{index}-{n}@x.test" for n in range(30)] for index in range(10)]
    seen = []

    async def send(index: int) -> None:
        for attempt, state in enumerate((State.DEFERRED, State.DELIVERED)):
            await ledger.record(record.id, GROUP, [fate(name, state, attempt) for name in names[index]])

    async def tell(index: int) -> None:
        await other.file(
            share(
                record.id,
                names[index],
                [Suppressed(address=f"s{index}@x.test", reason=Reason.AUTHOR)],
                index=index,
                of=10,
            )
        )

    async def watch() -> None:
        while not seen or not (seen[-1].complete and seen[-1].delivered == 300):
            seen.append(await other.totals(record.id))

    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        tasks.create_task(watch())
        for index in range(10):
            tasks.create_task(send(index))
            tasks.create_task(tell(index))
    assert all(adds_up(totals) for totals in seen)
    assert seen[-1] == Totals(
        expanded=310, delivered=300, deferred=0, failed=0, suppressed=10, announced=310, complete=True
    )
