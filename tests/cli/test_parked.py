"""Parked messages: seen, put back on their queue and forgotten, each exactly as often as asked."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.bus.embedded import Embedded
from shared.database.engine import open_engine
from shared.database.migrate import upgrade
from shared.identity import new_id
from shared.ledger.open import open_ledger
from shared.messages import Content, Origin, Post, Target, encode
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
