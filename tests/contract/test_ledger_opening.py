"""The ledger's port, held on SQLite and PostgreSQL alike: posts are opened once."""

from __future__ import annotations

import asyncio
import time

import msgspec

from shared.identity import new_id
from shared.ledger import Verdict
from shared.ledger.store import SqlLedger
from shared.messages import (
    BodyRef,
    TargetKind,
)
from tests.contract.ledgers import DAY, GROUP, post, target


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
        automatic=True,
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
