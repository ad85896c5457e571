"""Parked messages: seen, put back on their queue and forgotten, each exactly as often as asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from shared.bus.embedded import Embedded
from shared.database.engine import open_engine
from shared.database.migrate import upgrade
from shared.identity import new_id
from shared.ledger import Claim, Ledger, PostRecord, TargetRecord
from shared.ledger.open import open_ledger
from shared.messages import (
    Content,
    Delivery,
    Expanded,
    Fate,
    Origin,
    Post,
    Queued,
    Recipient,
    Slice,
    State,
    Target,
    TargetKind,
    decode,
    encode,
)
from shared.settings import Settings
from shared.topology import MAX_PAYLOAD, Queue
from tests.cli.conftest import Horo


def post() -> bytes:
    content = Content(head=b"Subject: \x1b[31mred\r\n\r\n", tail=b"wholly private words\r\n")
    return encode(
        Post(
            id=new_id(),
            accepted_at=1.0,
            mail_from="ana@example.test",
            targets=(Target(group="office@example.test", recipient="office@example.test"),),
            content=content,
            digest=bytes(32),
            origin=Origin(ip="127.0.0.1", helo="h", protocol="ESMTP"),
        )
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "var"
    folder.mkdir()
    return folder


def park(data: Path, *records: tuple[str, bytes]) -> list[int]:
    """File records as the reporter does; their numbers."""

    async def filed() -> list[int]:
        settings = Settings(data=str(data))
        engine = open_engine(settings.effective_database_url)
        try:
            await upgrade(engine)
            ledger = open_ledger(settings, engine)
            return [
                await ledger.park(queue, "undecodable: \x1b[2Jreason", payload, 3, unique=new_id())
                for queue, payload in records
            ]
        finally:
            await engine.dispose()

    return asyncio.run(filed())


def on_the_bus(data: Path, queue: Queue = Queue.POSTS) -> list[bytes]:
    """The payloads on a queue, taken from it."""

    async def taken() -> list[bytes]:
        bus = await Embedded.open(data / "queue.db")
        try:
            found = []
            async with bus.consume(queue, prefetch=100) as consumer:
                for _ in range(await bus.depth(queue)):
                    async with asyncio.timeout(10):
                        message = await consumer.get()
                    found.append(message.payload)
                    await message.ack()
            return found
        finally:
            await bus.close()

    return asyncio.run(taken())


def test_nothing_is_parked(horo: Horo) -> None:
    assert horo("parked", "list").out.strip() == "nothing is parked"
    assert horo("parked", "list", "--json").json == []
    assert horo("parked", "retry", "--all", "--json").json == {"retried": []}


def test_what_is_parked_is_shown(horo: Horo, data: Path) -> None:
    whole = post()
    one, two = park(data, ("posts", whole), ("outcomes", b"\xff\x1b[31m junk"))
    listed = horo("parked", "list", "--json").json
    assert [(row["number"], row["queue"], row["tries"]) for row in listed] == [(one, "posts", 3), (two, "outcomes", 3)]
    assert [row["number"] for row in horo("parked", "list", "--after", str(one), "--json").json] == [two]
    for words in (["list"], ["show", str(one)], ["show", str(two)]):
        text = horo("parked", *words).out
        assert "\x1b" not in text
        assert "undecodable" in text
    shown = horo("parked", "show", str(one), "--json").json
    assert shown["message"]["mail_from"] == "ana@example.test"
    assert horo("parked", "show", str(one), "--raw").raw == whole
    assert "private" not in str(shown["message"]["content"])


def test_p3_what_is_put_back_is_on_its_queue_once_and_no_longer_parked(horo: Horo, data: Path) -> None:
    payloads = [post() for _ in range(25)]
    numbers = park(data, *(("posts", payload) for payload in payloads))
    first = str(numbers[0])
    assert horo("parked", "retry", first, first, "--json").json == {"retried": [numbers[0]]}
    assert horo("parked", "retry", first).status == 3
    assert horo("parked", "retry", "--all", "--json").json == {"retried": numbers[1:]}
    assert horo("parked", "list", "--json").json == []
    assert sorted(on_the_bus(data)) == sorted(payloads)


def test_a_number_that_is_not_there_puts_nothing_back(horo: Horo, data: Path) -> None:
    (one,) = park(data, ("posts", post()))
    done = horo("parked", "retry", str(one), "999")
    assert done.status == 3
    assert [row["number"] for row in horo("parked", "list", "--json").json] == [one]
    assert on_the_bus(data) == []


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (("strangers", b"x"), "no queue of ours"),
        (("parked", b"x"), "no queue of ours"),
        (("posts", bytes(MAX_PAYLOAD + 1)), "too many for the bus"),
    ],
    ids=["strange queue", "its own queue", "too large"],
)
def test_what_cannot_be_put_back_stays_and_what_came_before_it_is_told(
    record: tuple[str, bytes], says: str, horo: Horo, data: Path
) -> None:
    one, two = park(data, ("posts", post()), record)
    done = horo("parked", "retry", "--all", "--json")
    assert (done.status, done.json) == (1, {"retried": [one]})
    assert says in done.err
    assert [row["number"] for row in horo("parked", "list", "--json").json] == [two]


def test_what_is_dropped_is_gone_and_the_rest_stays(horo: Horo, data: Path) -> None:
    one, two, three = park(data, *(("posts", post()) for _ in range(3)))
    assert horo("parked", "drop", str(one), str(three), "--yes", "--json").json == {"dropped": [one, three]}
    assert [row["number"] for row in horo("parked", "list", "--json").json] == [two]
    assert horo("parked", "drop", str(two), "999", "--yes").status == 3
    assert [row["number"] for row in horo("parked", "list", "--json").json] == [two]
    assert on_the_bus(data) == []


def test_p4_what_is_dropped_is_no_longer_waited_for(horo: Horo, data: Path) -> None:
    now = time.time()
    ids = [new_id(now + number) for number in range(3)]
    delivery = Delivery(
        post_id=ids[0],
        group=GROUP,
        cell=0,
        hop="mx:x.test",
        mail_from="",
        recipients=(Recipient(address="ana@x.test"), Recipient(address="boris@x.test")),
        content=Content(head=b"\r\n"),
        accepted_at=now,
        attempt=2,
    )
    part = Slice(post=msgspec.structs.replace(decode_post(), id=ids[1]), cells=2, index=1, of=2, low=0, high=1)
    whole = msgspec.structs.replace(decode_post(), id=ids[2])

    async def told(ledger: Ledger) -> None:
        people = (Queued(addresses=("ana@x.test", "boris@x.test", "vera@x.test"), via=(GROUP,)),)
        for post_id, slices in zip(ids, (1, 2, 1), strict=True):
            await ledger.open_post(record(post_id, now, slices), [target()])
        await ledger.file(expanded(ids[0], people, 0, 1))
        await ledger.file(expanded(ids[1], people, 0, 2))
        done = Fate(
            address="vera@x.test", state=State.DELIVERED, code=250, status="2.0.0", text="", hop="h", attempt=0, at=now
        )
        for post_id in ids[:2]:
            await ledger.record(Claim(post_id=post_id, cell=0, hop="h"), GROUP, [done])

    async def sums(ledger: Ledger) -> list[tuple[int, int, int, int, bool]]:
        totals = [await ledger.totals(post_id) for post_id in ids]
        return [(each.delivered, each.failed, each.deferred, each.suppressed, each.complete) for each in totals]

    numbers = park(
        data, (Queue.DELIVERIES_EXPRESS, encode(delivery)), (Queue.SLICES, encode(part)), (Queue.POSTS, encode(whole))
    )
    ask(data, told)
    assert ask(data, sums) == [(1, 0, 2, 0, True), (1, 0, 2, 0, False), (0, 0, 0, 0, False)]
    assert horo("parked", "drop", *map(str, numbers), "--yes").status == 0
    # of the delivery, both have failed; of the part, nobody comes to those who were told of before; the post is over
    assert ask(data, sums) == [(1, 2, 0, 0, True), (1, 0, 2, 0, True), (0, 0, 0, 0, True)]
    shown = horo("trace", ids[0]).out
    assert "dropped by an administrator" in shown
    assert ask(data, lambda ledger: ledger.sweep(posts_before=now + 1000)) == 2, (
        "the one that still waits for two stays"
    )


def test_p3_a_post_that_is_parked_for_an_owner_s_address_drops_nobody_s_copy(horo: Horo, data: Path) -> None:
    now = time.time()
    whole = msgspec.structs.replace(decode_post(), id=new_id(now))
    (number,) = park(data, (Queue.POSTS, encode(whole)))

    async def told(ledger: Ledger) -> None:
        await ledger.open_post(record(whole.id, now, 1), [target()])
        await ledger.file(expanded(whole.id, (Queued(addresses=("ana@x.test",), via=(GROUP,)),), 0, 1))

    ask(data, told)
    assert horo("parked", "drop", str(number), "--yes").status == 0
    assert ask(data, lambda ledger: ledger.totals(whole.id)).deferred == 1
    assert not ask(data, lambda ledger: ledger.notes(whole.id))


# --- the ledger beside ------------------------------------------------------------------------------------------------
GROUP = "office@example.test"
T = TypeVar("T")


def ask(data: Path, work: Callable[[Ledger], Awaitable[T]]) -> T:
    """What the ledger says to something."""

    async def asked() -> T:
        settings = Settings(data=str(data))
        engine = open_engine(settings.effective_database_url)
        try:
            ledger = open_ledger(settings, engine)
            try:
                return await work(ledger)
            finally:
                await ledger.close()
        finally:
            await engine.dispose()

    return asyncio.run(asked())


def decode_post() -> Post:
    message = decode(post())
    assert isinstance(message, Post)
    return message


def record(post_id: str, at: float, slices: int) -> PostRecord:
    return PostRecord(
        id=post_id,
        accepted_at=at,
        mail_from="ana@example.test",
        author="ana@example.test",
        message_id=f"<{post_id}@x>",
        subject="",
        size=1,
        ip="",
        cells=slices,
        slices=slices,
    )


def target() -> TargetRecord:
    return TargetRecord(group=GROUP, recipient=GROUP, kind=TargetKind.GROUP)


def expanded(post_id: str, queued: tuple[Queued, ...], index: int, of: int) -> Expanded:
    return Expanded(post_id=post_id, group=GROUP, index=index, of=of, queued=queued, suppressed=(), at=time.time())
