"""Questions to the DNS: shared, kept for their time, bounded in number and in memory."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, cast

import dns.exception
import pytest

from services.sender import mx
from services.sender.answers import Broken
from services.sender.mx import MailExchangers
from services.sender.names import LONGEST_NO, MOST_QUESTIONS, SHORTEST, Kept
from shared.routes import NextHop
from tests.sender.making import CONTENT, codes, envelope, hops
from tests.sender.test_mx import NameServer, exchangers, refusal, resolver, server
from tests.support.sink import Sink

__all__ = ["server"]  # the fixture


async def test_many_who_ask_for_a_domain_at_once_ask_once(server: NameServer) -> None:
    server.records = {("x.test", "MX"): ["10 a.x.test."], ("a.x.test", "A"): ["192.0.2.1"]}
    made = exchangers(server)
    found = await asyncio.gather(*(made.find("x.test") for _ in range(50)))
    assert {each[0].address for each in found} == {"192.0.2.1"}
    assert sorted(server.questions) == [("a.x.test", "A"), ("a.x.test", "AAAA"), ("x.test", "MX")]


async def test_domains_that_share_exchangers_share_what_is_known_of_them(server: NameServer) -> None:
    server.records = {(f"d{number}.test", "MX"): ["10 mx.host.test."] for number in range(30)}
    server.records[("mx.host.test", "A")] = ["192.0.2.1"]
    made = exchangers(server)
    await asyncio.gather(*(made.find(f"d{number}.test") for number in range(30)))
    assert len([question for question in server.questions if question[0] == "mx.host.test"]) == 2


@pytest.mark.parametrize(("minimum", "kept"), [(0, SHORTEST), (1, SHORTEST), (300, 300), (10_000_000, LONGEST_NO)])
@pytest.mark.parametrize("domain", ["gone.test", "nomx.test"])
async def test_no_is_kept_as_long_as_the_zone_says_within_bounds(
    server: NameServer, minimum: int, kept: float, domain: str
) -> None:
    now = [0.0]
    server.soa = minimum
    server.records = {("nomx.test", "TXT"): ["here"]}
    made = exchangers(server, clock=lambda: now[0])
    for moment, times in ((0.0, 1), (kept - 1, 1), (kept + 1, 2)):
        now[0] = moment
        await refusal(made, domain)
        assert server.questions.count((domain, "MX")) == times


async def test_one_who_gives_up_does_not_end_the_question_of_the_others(server: NameServer) -> None:
    server.records = {("x.test", "A"): ["192.0.2.1"]}
    made = exchangers(server)
    first = asyncio.create_task(made.find("x.test"))
    second = asyncio.create_task(made.find("x.test"))
    await asyncio.sleep(0)
    first.cancel()
    assert [exchanger.address for exchanger in await second] == ["192.0.2.1"]
    with pytest.raises(asyncio.CancelledError):
        await first


class Crowd:
    """A resolver that counts how many questions it has at a time; it fails them all, a little later."""

    def __init__(self) -> None:
        self.now = self.most = self.all = 0

    async def resolve(self, *_: Any, **__: Any) -> Any:
        self.now += 1
        self.all += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        raise dns.exception.Timeout


async def test_p10_ten_thousand_domains_at_once_are_asked_for_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mx, "MOST_DOMAINS", 1000)
    crowd = Crowd()
    made = MailExchangers(hostname="h.test", own=lambda _: False, rng=Random(3), resolver=cast(Any, crowd))
    found = await asyncio.gather(*(made.find(f"d{number}.test") for number in range(10_000)), return_exceptions=True)
    assert all(isinstance(each, Broken) for each in found)
    assert crowd.all == 10_000
    assert crowd.most <= MOST_QUESTIONS
    assert len(made._domains) == 1000


async def test_p10_what_is_used_stays_and_what_was_used_longest_ago_goes() -> None:
    kept: Kept[str] = Kept(3, clock=lambda: 0.0)
    asked: list[str] = []

    async def look_up(name: str) -> tuple[str, float]:
        asked.append(name)
        return name.upper(), 10.0

    for name in ("a", "b", "c", "a", "d", "a", "b"):
        assert await kept.get(name, look_up) == name.upper()
    assert asked == ["a", "b", "c", "d", "b"]
    assert len(kept) == 3


async def test_a_lookup_that_fails_unforeseen_is_told_and_not_kept() -> None:
    kept: Kept[str] = Kept(3)

    async def fails(_: str) -> tuple[str, float]:
        raise ZeroDivisionError

    async def works(_: str) -> tuple[str, float]:
        return "x", 1.0

    with pytest.raises(ZeroDivisionError):
        await kept.get("a", fails)
    assert await kept.get("a", works) == "x"


async def test_domains_behind_one_exchanger_share_its_connections(server: NameServer) -> None:
    server.records = {(f"d{number}.test", "MX"): ["10 mx.host.test."] for number in range(20)}
    server.records[("mx.host.test", "A")] = ["127.0.0.1"]
    async with Sink() as sink, hops(resolver=resolver(server), mx_port=sink.port, hop_timeout="5s") as made:
        for number in range(20):
            sent = await made.deliver(NextHop("mx", host=f"d{number}.test"), envelope(f"ana@d{number}.test"), CONTENT)
            assert codes(sent) == [(250, "2.0.0")]
    assert sink.connections == 1
    assert sink.transactions == 20  # one delivery a domain: exchangers may change for one and not for the other


async def test_an_internationalized_domain_is_asked_for_by_its_a_label(server: NameServer) -> None:
    server.records = {("xn--e1aybc.test", "A"): ["192.0.2.1"]}
    assert len(await exchangers(server).find("xn--e1aybc.test")) == 1
    assert ("xn--e1aybc.test", "MX") in server.questions
