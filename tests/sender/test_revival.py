"""A next hop that dies and comes back: counts stay exact, it is left alone while it is dead, and not trampled when it is back. And rates."""

from __future__ import annotations

import asyncio

import pytest

from services.sender import pacing, site
from services.sender.answers import Answer
from services.sender.hops import Hops
from shared.messages import Lane
from tests.sender.making import BULK, CONTENT, codes, envelope, hops, towards
from tests.sender.test_pool import until
from tests.support.sink import Sink


async def worked(made: Hops, sink: Sink, batches: list[list[str]], workers: int) -> dict[str, Answer]:
    """Every batch once, by so many workers: what each recipient was answered."""
    queue = list(reversed(batches))
    answers: dict[str, Answer] = {}

    async def work() -> None:
        while queue:
            batch = queue.pop()
            sent = await made.deliver(towards(sink), envelope(*batch), CONTENT)
            answers.update({name: answer for name, answer in zip(batch, sent.answers, strict=True) if answer})

    await asyncio.gather(*(work() for _ in range(workers)))
    assert {name for batch in batches for name in batch} == set(answers)
    return answers


async def test_f22_a_next_hop_that_dies_and_comes_back_is_counted_exactly_and_left_alone_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """200 batches of 5: the server dies in their midst, stays dead for a while, and comes back. Who has no 250 is tried again, as the sender does."""
    monkeypatch.setattr(pacing, "DOWN_FIRST", 0.05)
    monkeypatch.setattr(pacing, "DOWN_LONGEST", 0.2)
    batches = [[f"slow-1_{batch}x{number}@x.test" for number in range(5)] for batch in range(200)]
    async with hops(hop_timeout="5s", hop_connections=8) as made:
        async with Sink() as first:
            working = asyncio.create_task(worked(made, first, batches, 10))
            await until(lambda: len(first.copies) >= 200, "some copies")
            first.faults.add("drop-banner")  # it is dying: who connects is dropped
            first.hang_up()
            answers = await working
        took = {name for name, answer in answers.items() if answer.reply.code == 250}
        unsure = {name for name, answer in answers.items() if answer.unknown}
        assert took <= set(first.counts) <= took | unsure
        dialled = made.pool.dialled
        while made.snapshot()[0].failures < 4:  # dead: batches come all the time, and hardly any of them dials
            late = await worked(made, first, [["late@x.test"]] * 20, 10)
            assert late["late@x.test"].reply.code == 451
        assert made.pool.dialled - dialled <= 4
        await until(lambda: made.snapshot()[0].state == "unsure", "the pause after the last dial to pass")
        async with Sink(port=first.port) as second:
            left = [[name for name in batch if name not in took] for batch in batches]
            again = await worked(made, second, [batch for batch in left if batch], 10)
            assert {answer.reply.code for answer in again.values()} == {250}
            assert second.most_open <= 8
        assert made.snapshot()[0].state == "up"
    assert set(first.counts) | set(second.counts) == {name for batch in batches for name in batch}
    assert {name for name, count in (first.counts + second.counts).items() if count > 1} <= unsure


async def test_a_next_hop_that_is_back_is_not_trampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "DOWN_FIRST", 0.0)
    async with Sink() as sink:
        pass
    async with hops(hop_timeout="5s", hop_connections=20) as made:
        await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)
        async with Sink(port=sink.port) as alive:
            tasks = [
                asyncio.create_task(made.deliver(towards(alive), envelope(f"slow-200_{number}@x.test"), CONTENT))
                for number in range(10)
            ]
            await until(lambda: alive.transactions >= 1 or "DATA" in alive.commands, "the first to be back")
            assert alive.connections <= 2  # one, and the one that express may have beside it
            assert [codes(each) for each in await asyncio.gather(*tasks)] == [[(250, "2.0.0")]] * 10


# --- push-back ------------------------------------------------------------------------------------------------------------
async def grown(made: Hops, sink: Sink, size: int) -> None:
    """Work until the window has grown."""
    number = 0
    while not (found := made.snapshot()) or found[0].window < size:
        number += 1
        names = [f"slow-1_g{number}x{each}@x.test" for each in range(30)]
        await asyncio.gather(*(made.deliver(towards(sink), envelope(name), CONTENT) for name in names))


@pytest.mark.parametrize(
    ("sender", "recipient", "shrinks"),
    [
        ("450-mail_s@x.test", "ana@x.test", True),
        ("s@x.test", "421-rcpt_a@x.test", True),
        ("s@x.test", "421-dot_a@x.test", True),
        ("s@x.test", "hang-rcpt_a@x.test", True),
        ("s@x.test", "drop-data_a@x.test", True),
        ("s@x.test", "450-9_a@x.test", False),  # greylisting is between the server and one recipient
        ("s@x.test", "452_a@x.test", False),
        ("s@x.test", "550_a@x.test", False),
        ("550-mail_s@x.test", "ana@x.test", False),
        ("s@x.test", "552-dot_a@x.test", False),
    ],
)
async def test_what_makes_a_next_hop_slower_and_what_does_not(sender: str, recipient: str, shrinks: bool) -> None:
    async with Sink() as sink, hops(hop_timeout="0.5s", hop_connections=8) as made:
        await grown(made, sink, 8)
        await made.deliver(towards(sink), envelope(recipient, sender=sender), CONTENT)
        assert made.snapshot()[0].window == (4 if shrinks else 8)


async def test_a_session_limit_is_learned_and_is_no_push_back() -> None:
    async with Sink("close-after-3") as sink, hops(hop_timeout="5s", hop_connections=2) as made:
        for number in range(12):
            sent = await made.deliver(towards(sink), envelope(f"{number}@x.test"), CONTENT)
            assert codes(sent) == [(250, "2.0.0")]
        assert made.snapshot()[0].window == 2
    assert sink.connections == 4
    # it was told 421 once; after that connections end with our own QUIT
    assert len([line for line in sink.commands if line.startswith("MAIL")]) == 13


async def test_a_server_that_refuses_one_more_connection_is_full_and_not_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Sink() as sink, hops(hop_timeout="5s", hop_connections=6) as made:
        slow = [
            asyncio.create_task(made.deliver(towards(sink), envelope(f"slow-300_{number}@x.test"), CONTENT))
            for number in range(2)
        ]
        await until(lambda: sink.commands.count("DATA") == 2, "two connections to be in use")
        sink.faults.add("421-banner")
        dialled = made.pool.dialled
        more = await asyncio.gather(
            *(made.deliver(towards(sink), envelope(f"{number}@x.test"), CONTENT) for number in range(10))
        )
        assert [codes(each) for each in [*await asyncio.gather(*slow), *more]] == [[(250, "2.0.0")]] * 12
        assert made.pool.dialled - dialled <= 4
        assert made.snapshot()[0].state == "up"
    assert sink.counts.total() == 12


async def test_who_waits_too_long_for_a_connection_is_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "SLOT_PATIENCE", 0.05)
    async with Sink("no-pipelining") as sink, hops(hop_timeout="5s", hop_connections=1) as made:
        stuck = asyncio.create_task(made.deliver(towards(sink), envelope("hang-dot_a@x.test"), CONTENT))
        await until(lambda: sink.transactions == 1, "the connection to be taken")
        sent = await made.deliver(towards(sink), envelope("b@x.test", "c@x.test"), CONTENT)
        assert codes(sent) == [(451, "4.4.5")] * 2
        assert made.snapshot()[0].waiting == 0
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)


# --- lanes and rates ------------------------------------------------------------------------------------------------------
async def test_p7_express_is_not_behind_bulk_where_the_next_hop_takes_one_connection() -> None:
    async with Sink() as sink, hops(hop_timeout="5s", hop_connections=1) as made:
        bulk = [
            asyncio.create_task(made.deliver(towards(sink), envelope(f"slow-20_{number}@x.test", lane=BULK), CONTENT))
            for number in range(20)
        ]
        await until(lambda: sink.transactions == 2, "bulk to be under way")
        sent = await made.deliver(towards(sink), envelope("ana@x.test", lane=Lane.EXPRESS), CONTENT)
        assert codes(sent) == [(250, "2.0.0")]
        assert len(sink.copies) <= 8  # and not behind all twenty
        await asyncio.gather(*bulk)
    assert sink.counts.total() == 21


async def test_bulk_is_not_for_ever_behind_express_where_the_next_hop_takes_one_connection() -> None:
    async with Sink() as sink, hops(hop_timeout="5s", hop_connections=1) as made:
        express = [
            asyncio.create_task(made.deliver(towards(sink), envelope(f"slow-20_{number}@x.test"), CONTENT))
            for number in range(40)
        ]
        await until(lambda: sink.transactions == 2, "express to be under way")
        sent = await made.deliver(towards(sink), envelope("ana@x.test", lane=BULK), CONTENT)
        assert codes(sent) == [(250, "2.0.0")]
        assert len(sink.copies) <= 20
        await asyncio.gather(*express)
    assert sink.counts.total() == 41


@pytest.mark.parametrize("verp", [False, True])
async def test_a_rate_holds_whatever_comes_and_express_goes_first(verp: bool) -> None:
    """20 a second: in any second no more than that and what was allowed at once; nobody is forgotten."""
    rate, names = 20, [f"{number}@x.test" for number in range(50)]
    async with Sink() as sink, hops(hop_timeout="5s", hop_limits=f"127.0.0.1 messages={rate}") as made:
        if verp:
            senders = tuple(f"b-{number}@example.test" for number in range(50))
            await made.deliver(towards(sink), envelope(*names, senders=senders, lane=BULK), CONTENT)
        else:
            bulk = [
                asyncio.create_task(made.deliver(towards(sink), envelope(name, lane=BULK), CONTENT)) for name in names
            ]
            await until(lambda: bool(made.snapshot()) and made.snapshot()[0].waiting > 10, "bulk to wait for its turn")
            await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)
            assert len(sink.copies) < 40
            await asyncio.gather(*bulk)
    assert set(sink.counts.values()) == {1}
    assert sink.counts.total() == (50 if verp else 51)
    moments = sorted(copy.at for copy in sink.copies)
    busiest = max(sum(1 for moment in moments if first <= moment < first + 1) for first in moments)
    assert busiest <= 3 * rate
    assert moments[-1] - moments[0] >= 0.4


async def test_a_rate_of_recipients_cuts_transactions() -> None:
    names = [f"{number}@x.test" for number in range(30)]
    async with Sink() as sink, hops(hop_timeout="5s", hop_limits="127.0.0.1 recipients=15") as made:
        sent = await made.deliver(towards(sink), envelope(*names), CONTENT)
    assert codes(sent) == [(250, "2.0.0")] * 30
    assert sink.transactions == 2


async def test_connections_end_after_as_many_messages_as_an_operator_wants() -> None:
    async with Sink() as sink, hops(hop_timeout="5s", hop_limits="127.0.0.1 transactions=3 connections=1") as made:
        for number in range(7):
            await made.deliver(towards(sink), envelope(f"{number}@x.test"), CONTENT)
    assert sink.connections == 3
    assert sink.commands.count("QUIT") >= 2
