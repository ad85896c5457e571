"""Mail exchangers, against a name server in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random

import dns.asyncresolver
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest

from services.sender.answers import Broken
from services.sender.mx import MailExchangers, is_local
from services.sender.names import TROUBLE_FOR
from shared.routes import NextHop
from tests.sender.making import CONTENT, codes, envelope, hops
from tests.support.ports import free_port
from tests.support.sink import Sink


class NameServer(asyncio.DatagramProtocol):
    """Answers from `records` ((name, type) -> values); `codes` gives a name an rcode; `silent` names get no answer."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.codes: dict[str, dns.rcode.Rcode] = {}
        self.silent: set[str] = set()
        self.ttl = 300
        self.soa = 0
        self.questions: list[tuple[str, str]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.questions.append((name, kind))
        if name in self.silent:
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        if name in self.codes:
            response.set_rcode(self.codes[name])
        elif values := self.records.get((name, kind)):
            response.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", kind, *values))
        elif not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if not response.answer and self.soa:
            zone = "test."
            response.authority.append(
                dns.rrset.from_text(zone, 86400, "IN", "SOA", f"ns.test. root.test. 1 2 3 4 {self.soa}")
            )
        self.transport.sendto(response.to_wire(), addr)  # type: ignore[attr-defined]


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    port = free_port()
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        NameServer, local_addr=("127.0.0.1", port)
    )
    server.port = port  # type: ignore[attr-defined]
    yield server
    transport.close()


def resolver(server: NameServer, timeout: float = 2.0) -> dns.asyncresolver.Resolver:
    made = dns.asyncresolver.Resolver(configure=False)
    made.nameservers = ["127.0.0.1"]
    made.port = server.port  # type: ignore[attr-defined]
    made.timeout = timeout
    return made


def exchangers(
    server: NameServer, *, own: Callable[[str], bool] = lambda _: False, clock: Callable[[], float] = lambda: 0.0
) -> MailExchangers:
    return MailExchangers(hostname="horo.example.test", own=own, rng=Random(5), resolver=resolver(server), clock=clock)


async def refusal(found: MailExchangers, domain: str) -> tuple[int, str]:
    with pytest.raises(Broken) as caught:
        await found.find(domain)
    return caught.value.reply.code, caught.value.reply.status


async def test_exchangers_come_by_preference_and_equals_at_random(server: NameServer) -> None:
    server.records = {
        ("x.test", "MX"): ["20 late.x.test.", "10 a.x.test.", "10 b.x.test."],
        ("a.x.test", "A"): ["192.0.2.1"],
        ("a.x.test", "AAAA"): ["2001:db8::1"],
        ("b.x.test", "A"): ["192.0.2.2"],
        ("late.x.test", "A"): ["192.0.2.3"],
    }
    made = exchangers(server)
    orders = {tuple(exchanger.address for exchanger in await made.find("x.test")) for _ in range(30)}
    assert all(order[-1] == "192.0.2.3" for order in orders)
    assert {order[0] for order in orders} == {"192.0.2.1", "192.0.2.2", "2001:db8::1"}
    assert server.questions.count(("x.test", "MX")) == 1


async def test_without_mx_the_domain_itself_takes_mail(server: NameServer) -> None:
    server.records = {("x.test", "A"): ["192.0.2.1"], ("six.test", "AAAA"): ["2001:db8::1"]}
    assert [exchanger.address for exchanger in await exchangers(server).find("x.test")] == ["192.0.2.1"]
    assert [exchanger.address for exchanger in await exchangers(server).find("six.test")] == ["2001:db8::1"]


async def test_verdicts(server: NameServer) -> None:
    server.records = {
        ("null.test", "MX"): ["0 ."],
        ("dangling.test", "MX"): ["10 nowhere.dangling.test."],
        ("empty.test", "TXT"): ["here"],
        ("broken-mx.test", "MX"): ["10 fails.test."],
        ("any.test", "MX"): ["10 zero.any.test."],
        ("zero.any.test", "A"): ["0.0.0.0", "224.0.0.1"],
    }
    server.codes = {"fails.test": dns.rcode.SERVFAIL, "refused.test": dns.rcode.REFUSED}
    made = exchangers(server)
    assert await refusal(made, "null.test") == (556, "5.1.10")
    assert await refusal(made, "gone.test") == (550, "5.1.2")
    assert await refusal(made, "dangling.test") == (550, "5.4.4")
    assert await refusal(made, "empty.test") == (550, "5.4.4")
    assert await refusal(made, "fails.test") == (451, "4.4.3")
    assert await refusal(made, "refused.test") == (451, "4.4.3")
    assert await refusal(made, "broken-mx.test") == (451, "4.4.3")
    assert await refusal(made, "any.test") == (550, "5.4.4")


@pytest.mark.parametrize("domain", ["[127.0.0.1]", "a" * 64 + ".test", "x" * 300, "a..b", ""])
async def test_what_is_no_domain_is_final_and_asks_nobody(server: NameServer, domain: str) -> None:
    assert await refusal(exchangers(server), domain) == (550, "5.1.2")
    assert not server.questions


async def test_a_silent_name_server_is_temporary(server: NameServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.sender.names.LIFETIME", 0.2)
    server.silent = {"x.test"}
    assert await refusal(exchangers(server), "x.test") == (451, "4.4.3")


async def test_temporary_trouble_is_remembered_for_seconds_and_verdicts_for_longer(server: NameServer) -> None:
    now = [0.0]
    made = exchangers(server, clock=lambda: now[0])
    server.codes = {"x.test": dns.rcode.SERVFAIL}
    assert await refusal(made, "x.test") == (451, "4.4.3")
    server.codes = {}
    server.records = {("x.test", "A"): ["192.0.2.1"]}
    assert await refusal(made, "x.test") == (451, "4.4.3")  # not every batch waits for name servers that are down
    now[0] = TROUBLE_FOR + 1
    assert len(await made.find("x.test")) == 1
    asked = len(server.questions)
    assert await refusal(made, "gone.test") == await refusal(made, "gone.test")
    assert len(server.questions) == asked + 1


@pytest.mark.parametrize(("ttl", "kept", "forgotten"), [(0, 29, 31), (300, 299, 301), (10_000_000, 3599, 3601)])
async def test_answers_are_kept_for_their_ttl_within_bounds(
    server: NameServer, ttl: int, kept: float, forgotten: float
) -> None:
    now = [0.0]
    server.ttl = ttl
    server.records = {("x.test", "MX"): ["10 a.x.test."], ("a.x.test", "A"): ["192.0.2.1"]}
    made = exchangers(server, clock=lambda: now[0])
    await made.find("x.test")
    for moment, times in ((kept, 1), (forgotten, 2)):
        now[0] = moment
        await made.find("x.test")
        assert server.questions.count(("x.test", "MX")) == times


async def test_mail_never_loops_to_ourselves(server: NameServer) -> None:
    server.records = {
        ("self.test", "MX"): ["10 HORO.example.test."],
        ("backup.test", "MX"): ["10 better.test.", "20 horo.example.test.", "30 worse.test."],
        ("address.test", "MX"): ["10 better.test.", "20 alias.test.", "20 worse.test."],
        ("only.test", "A"): ["192.0.2.99"],
        ("better.test", "A"): ["192.0.2.1"],
        ("worse.test", "A"): ["192.0.2.3"],
        ("alias.test", "A"): ["192.0.2.99"],
    }
    made = exchangers(server, own=lambda address: address == "192.0.2.99")
    assert await refusal(made, "self.test") == (554, "5.4.6")
    assert await refusal(made, "only.test") == (554, "5.4.6")
    assert [exchanger.name for exchanger in await made.find("backup.test")] == ["better.test"]
    assert [exchanger.name for exchanger in await made.find("address.test")] == ["better.test"]


def test_our_own_addresses_are_known() -> None:
    assert is_local("127.0.0.1")
    assert not is_local("192.0.2.1")


async def test_the_standard_port_of_this_machine_is_ourselves(server: NameServer) -> None:
    server.records = {("x.test", "A"): ["127.0.0.1"]}
    async with hops(resolver=resolver(server)) as made:
        assert codes(await made.deliver(NextHop("mx", host="x.test"), envelope("ana@x.test"), CONTENT)) == [
            (554, "5.4.6")
        ]


async def test_delivery_goes_to_the_next_exchanger_where_the_first_is_down(server: NameServer) -> None:
    server.records = {
        ("x.test", "MX"): ["10 a.x.test.", "20 b.x.test."],
        ("a.x.test", "A"): ["127.0.0.2"],  # nobody listens there
        ("b.x.test", "A"): ["127.0.0.1"],
    }
    async with Sink() as sink, hops(resolver=resolver(server), mx_port=sink.port) as made:
        for _ in range(3):
            sent = await made.deliver(NextHop("mx", host="x.test"), envelope("ana@x.test", "550_b@x.test"), CONTENT)
            assert [code for code, _ in codes(sent)] == [250, 550]
        assert sent.answers[0] is not None
        assert sent.answers[0].host == f"b.x.test[127.0.0.1]:{sink.port}"
        assert made.pool.dialled == 2
    assert sink.counts == {"ana@x.test": 3}


async def test_f22_a_domain_all_of_whose_exchangers_are_down_is_tried_again(server: NameServer) -> None:
    server.records = {
        ("x.test", "MX"): ["10 a.x.test.", "20 b.x.test."],
        ("a.x.test", "A"): ["127.0.0.2", "127.0.0.3"],
        ("b.x.test", "A"): ["127.0.0.4"],
    }
    async with (
        Sink() as sink,
        hops(resolver=resolver(server), mx_port=sink.port) as made,
    ):  # it listens on 127.0.0.1 alone
        for _ in range(2):
            sent = await made.deliver(NextHop("mx", host="x.test"), envelope("ana@x.test", "b@x.test"), CONTENT)
            assert codes(sent) == [(451, "4.4.1")] * 2
        assert made.pool.dialled == 3  # each once: they are down for a while
    assert sink.connections == 0


async def test_a_domain_that_does_not_exist_fails_its_recipients(server: NameServer) -> None:
    async with hops(resolver=resolver(server)) as made:
        sent = await made.deliver(NextHop("mx", host="gone.test"), envelope("ana@gone.test", "b@gone.test"), CONTENT)
    assert codes(sent) == [(550, "5.1.2")] * 2
