"""Deliveries that share a connection: the next one is written behind a final dot whose answer is still owed. Whatever happens to one of
them, the other has its own right outcome, and nobody gets two copies."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.sender import conversation
from services.sender.hops import Hops, Sent
from tests.sender.making import BULK, CONTENT, codes, envelope, hops, towards, unknowns
from tests.sender.test_pool import until
from tests.support.sink import Sink


@asynccontextmanager
async def one_connection(*faults: str, protocol: str = "smtp", **changes: object) -> AsyncIterator[tuple[Sink, Hops]]:
    options = {"hop_connections": 1, "hop_timeout": "5s", **changes}
    async with Sink(*faults, protocol=protocol) as sink, hops(**options) as made:  # type: ignore[arg-type]
        yield sink, made


async def chained(sink: Sink, made: Hops, first: str, second: str) -> list[Sent]:
    """Two deliveries, the second behind the first one's dot."""
    one = asyncio.create_task(made.deliver(towards(sink), envelope(first), CONTENT))
    await until(lambda: "DATA" in sink.commands, "the first to be under way")
    two = asyncio.create_task(made.deliver(towards(sink), envelope(second), CONTENT))
    return [await one, await two]


async def test_a_delivery_goes_behind_a_dot_that_is_not_answered_yet() -> None:
    async with one_connection() as (sink, made):
        sent = await chained(sink, made, "slow-200_a@x.test", "b@x.test")
    assert [codes(each) for each in sent] == [[(250, "2.0.0")]] * 2
    assert sink.counts == {"slow-200_a@x.test": 1, "b@x.test": 1}
    assert sink.connections == 1
    assert "RSET" not in sink.commands  # behind a dot there is nothing to reset


async def test_lmtp_of_many_recipients_is_never_chained() -> None:
    async with one_connection(protocol="lmtp") as (sink, made):
        one = asyncio.create_task(made.deliver(towards(sink), envelope("slow-200_a@x.test", "a2@x.test"), CONTENT))
        await until(lambda: "DATA" in sink.commands, "the first to be under way")
        await made.deliver(towards(sink), envelope("b@x.test"), CONTENT)
        assert codes(await one) == [(250, "2.0.0")] * 2
    assert "RSET" in sink.commands


@pytest.mark.parametrize(
    ("first", "code", "unknown", "copies"),
    [
        ("drop-dot-lost_a@x.test", 451, True, 0),
        ("drop-dot-stored_a@x.test", 451, True, 1),
        ("421-dot_a@x.test", 421, False, 0),
        ("552-dot_a@x.test", 552, False, 0),
    ],
)
async def test_p3_trouble_after_the_dot_is_not_that_of_the_one_behind_it(
    first: str, code: int, unknown: bool, copies: int
) -> None:
    async with one_connection() as (sink, made):
        ana, boris = await chained(sink, made, first, "b@x.test")
    assert (codes(ana)[0][0], unknowns(ana)) == (code, [unknown])
    assert codes(boris) == [(250, "2.0.0")]
    assert (sink.counts[first], sink.counts["b@x.test"]) == (copies, 1)


async def test_a_server_that_lost_an_answer_in_a_chain_gets_none_again() -> None:
    """The fault is the server's; but it is not to cost a copy again and again."""
    async with one_connection() as (sink, made):
        one = asyncio.create_task(
            made.deliver(towards(sink), envelope("slow-300_a@x.test", "drop-dot-stored_a@x.test"), CONTENT)
        )
        await until(lambda: "DATA" in sink.commands, "the first to be under way")
        boris = await made.deliver(towards(sink), envelope("b@x.test"), CONTENT)
        assert unknowns(await one) == [True, True]
        assert codes(boris) == [(250, "2.0.0")]
        sink.commands.clear()
        await chained(sink, made, "slow-200_c@x.test", "d@x.test")
    assert sink.commands.count("RSET") == 2  # both had the connection to themselves
    assert set(sink.counts.values()) == {1}


@pytest.mark.parametrize("faults", [(), ("close-after-3",), ("no-pipelining",)])
async def test_p3_transactions_of_one_delivery_are_shared_by_connections(faults: tuple[str, ...]) -> None:
    odd = {7: "550", 23: "552-dot", 31: "drop-dot-stored", 40: "450-9", 55: "421-data", 66: "drop-rcpt"}
    names = [f"{odd.get(number, 'slow-3')}_{number}@x.test" for number in range(80)]
    senders = tuple(f"b-{number}@example.test" for number in range(80))
    async with Sink(*faults) as sink, hops(hop_connections=4, hop_timeout="5s") as made:
        sent = await made.deliver(towards(sink), envelope(*names, senders=senders), CONTENT)
    assert sink.most_open > 1
    expected = {7: 550, 23: 552, 31: 451, 40: 450, 55: 421, 66: 451}
    assert [code for code, _ in codes(sent)] == [expected.get(number, 250) for number in range(80)]
    assert [number for number, lost in enumerate(unknowns(sent)) if lost] == [31]
    assert {copy.recipient: copy.mail_from for copy in sink.copies} == {
        name: sender
        for number, (name, sender) in enumerate(zip(names, senders, strict=True))
        if number not in expected or number == 31
    }
    assert set(sink.counts.values()) == {1}


async def test_nobody_waits_for_ever_behind_a_dot_that_is_never_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "TURN_PATIENCE", 0.05)
    async with Sink() as sink, hops(hop_connections=2, hop_timeout="5s") as made:
        stuck = [asyncio.create_task(made.deliver(towards(sink), envelope("hang-dot_a@x.test"), CONTENT))]
        await until(lambda: sink.transactions == 1, "the first to be stuck")
        sent = await asyncio.gather(
            *(made.deliver(towards(sink), envelope(f"{number}@x.test"), CONTENT) for number in range(6))
        )
        assert [codes(each) for each in sent] == [[(250, "2.0.0")]] * 6
        assert not stuck[0].done()
        (state,) = made.snapshot()
        assert (state.express, state.bulk, state.idle) in ((1, 0, 0), (1, 0, 1))
        stuck[0].cancel()
        await asyncio.gather(*stuck, return_exceptions=True)
    assert sum(sink.counts.values()) == 7


async def test_one_who_is_cancelled_behind_another_does_it_no_harm() -> None:
    async with one_connection() as (sink, made):
        one = asyncio.create_task(made.deliver(towards(sink), envelope("slow-300_a@x.test"), CONTENT))
        await until(lambda: "DATA" in sink.commands, "the first to be under way")
        two = asyncio.create_task(made.deliver(towards(sink), envelope("b@x.test"), CONTENT))
        await asyncio.sleep(0)
        two.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await two
        assert codes(await one) == [(250, "2.0.0")]
        assert codes(await made.deliver(towards(sink), envelope("c@x.test"), CONTENT)) == [(250, "2.0.0")]
    assert sink.counts == {"slow-300_a@x.test": 1, "c@x.test": 1}


_HOWS = (
    "ok", "ok", "ok", "ok", "slow-5", "slow-30", "550", "450-9", "552-dot", "450-dot", "421-dot", "drop-dot-lost",
    "drop-dot-stored", "drop-rcpt", "421-rcpt", "drop-data", "421-data", "450-data", "550-data", "garbage", "dup", "early",
)  # fmt: skip
_deliveries = st.lists(st.lists(st.sampled_from(_HOWS), min_size=1, max_size=4), min_size=1, max_size=12)
_faults = st.sampled_from([(), (), (), ("no-pipelining",), ("close-after-1",), ("close-after-3",), ("limit-2",)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(_deliveries, _faults, st.integers(1, 3), st.booleans(), st.sampled_from(["smtp", "lmtp"]))
async def test_p3_p4_every_recipient_has_one_answer_and_it_is_what_the_server_did(
    deliveries: list[list[str]], faults: tuple[str, ...], connections: int, verp: bool, protocol: str
) -> None:
    """Naive model: whoever has a 250 has one copy, whoever is unknown none or one, and everybody else has none."""
    async with Sink(*faults, protocol=protocol) as sink, hops(hop_connections=connections, hop_timeout="2s") as made:  # type: ignore[arg-type]
        tasks = []
        for number, hows in enumerate(deliveries):
            names = [f"{how}_{number}x{index}@x.test" for index, how in enumerate(hows)]
            senders = tuple(f"b-{index if verp else 0}@example.test" for index in range(len(names)))
            lane = {"lane": BULK} if number % 2 else {}
            tasks.append((names, made.deliver(towards(sink), envelope(*names, senders=senders, **lane), CONTENT)))
        answered = await asyncio.gather(*(task for _, task in tasks))
        for state in made.snapshot():
            assert (state.express, state.bulk, state.waiting) == (0, 0, 0)
            assert state.open == state.idle <= connections
    for (names, _), sent in zip(tasks, answered, strict=True):
        assert sent.trouble is None
        for name, answer in zip(names, sent.answers, strict=True):
            assert answer is not None
            copies = sink.counts[name]
            if answer.unknown:
                assert copies <= 1
            else:
                assert copies == (1 if answer.reply.code == 250 else 0), (name, answer)


async def test_one_that_has_nothing_to_write_behind_a_dot_leaves_the_connection_to_who_waits_for_its_answer() -> None:
    """The second is too large for the server: nobody may take the connection for idle, and close it under the first."""
    large = msgspec.structs.replace(CONTENT, tail=b"x" * 5000 + b"\r\n")
    async with one_connection("size-1000") as (sink, made):
        made.pool._idle = 0.1
        one = asyncio.create_task(made.deliver(towards(sink), envelope("slow-800_a@x.test"), CONTENT))
        await until(lambda: "DATA" in sink.commands, "the first to be under way")
        two = await made.deliver(towards(sink), envelope("b@x.test"), large)
        assert codes(two) == [(552, "3.4")] or codes(two) == [(552, "5.3.4")]
        assert codes(await one) == [(250, "2.0.0")]
        three = await made.deliver(towards(sink), envelope("c@x.test"), CONTENT)
    assert codes(three) == [(250, "2.0.0")]
    assert sink.counts == {"slow-800_a@x.test": 1, "c@x.test": 1}
