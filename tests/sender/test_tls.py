"""STARTTLS towards next hops: none, opportunistic, required; with certificates made for the test."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from services.sender.connection import Connection, Manners, Peer, TlsFailed
from services.sender.tls import MOST_SESSIONS, context_of
from shared.routes import NextHop
from shared.settings import Settings
from tests.sender.making import CONTENT, codes, deliver, envelope, hops, towards
from tests.support.sink import Sink


class Authority:
    """An authority, a server context for 127.0.0.1 and one whose certificate names another host."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.pem = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.pem))
        self.right, self.wrong = (self._server(authority, name) for name in ("127.0.0.1", "other.example.test"))

    @staticmethod
    def _server(authority: trustme.CA, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def ehlos(sink: Sink) -> int:
    return len([line for line in sink.commands if line.startswith("EHLO")])


@pytest.mark.parametrize("faults", [[], ["no-pipelining"], ["tls-inject"]])
@pytest.mark.parametrize("policy", ["opportunistic", "required"])
async def test_starttls_is_used_where_it_is_offered(authority: Authority, policy: str, faults: list[str]) -> None:
    async with Sink(*faults, tls=authority.right) as sink:
        sent = await deliver(
            sink, "ana@x.test", "550_b@x.test", tls_out=policy, tls_ca=str(authority.pem), hop_timeout="5s"
        )
    assert [code for code, _ in codes(sent)] == [250, 550]
    assert sink.counts == {"ana@x.test": 1}
    assert sink.commands[1] == "STARTTLS"
    assert ehlos(sink) == 2  # what was offered in the clear is asked again in TLS
    assert sink.connections == 1


async def test_octets_injected_before_tls_are_dropped(authority: Authority) -> None:
    """Behind its 220 somebody answers our EHLO in advance, with SIZE 1: were it believed, the message would be too large."""
    async with Sink("tls-inject", tls=authority.right) as sink:
        sent = await deliver(sink, "ana@x.test", tls_out="opportunistic", hop_timeout="5s")
    assert codes(sent) == [(250, "2.0.0")]


async def test_none_means_none(authority: Authority) -> None:
    async with Sink(tls=authority.right) as sink:
        assert codes(await deliver(sink, "ana@x.test", tls_out="none")) == [(250, "2.0.0")]
    assert "STARTTLS" not in sink.commands


async def test_opportunistic_takes_any_certificate(authority: Authority) -> None:
    async with Sink(tls=authority.wrong) as sink:
        assert codes(await deliver(sink, "ana@x.test", tls_out="opportunistic", hop_timeout="5s")) == [(250, "2.0.0")]
    assert ehlos(sink) == 2


@pytest.mark.parametrize("fault", ["tls-refuse", "tls-fail"])
async def test_f30_opportunistic_goes_on_in_the_clear_and_remembers_it(fault: str) -> None:
    async with Sink(fault, "close-after-1") as sink, hops(tls_out="opportunistic", hop_timeout="5s") as made:
        for _ in range(2):
            sent = await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)
            assert codes(sent) == [(250, "2.0.0")]
    assert sink.commands.count("STARTTLS") == 1
    assert sink.counts == {"ana@x.test": 2}


@pytest.mark.parametrize("fault", ["tls-refuse", "tls-fail", "nothing"])
async def test_f30_required_never_sends_in_the_clear(fault: str) -> None:
    async with Sink(fault) as sink:
        sent = await deliver(sink, "ana@x.test", tls_out="required", hop_timeout="5s")
    assert codes(sent) == [(454, "4.7.0")]
    assert not [line for line in sink.commands if line.startswith("MAIL")]


async def test_f30_required_refuses_a_certificate_of_another_host_or_authority(authority: Authority) -> None:
    async with (
        Sink(tls=authority.wrong) as sink,
        hops(tls_out="required", tls_ca=str(authority.pem), hop_timeout="5s") as made,
    ):
        assert codes(await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)) == [(454, "4.7.0")]
    async with (
        Sink(tls=authority.right) as sink,
        hops(tls_out="required", hop_timeout="5s") as made,
    ):  # the system's authorities
        hop = NextHop("smtp", host="127.0.0.1", port=sink.port)
        assert codes(await made.deliver(hop, envelope("ana@x.test"), CONTENT)) == [(454, "4.7.0")]
    assert not sink.copies


# --- sessions --------------------------------------------------------------------------------------------------------------
async def resumptions(sinks: list[Sink], policy: str, authority: Authority) -> list[bool]:
    """One connection to each of the sinks in order, under one context: whether it took up a session of an earlier one."""
    context = context_of(Settings(tls_out=policy, tls_ca=str(authority.pem)))
    manners = Manners(hostname="horo.example.test", timeout=5.0, tls=policy, context=context)  # type: ignore[arg-type]
    found = []
    for sink in sinks:
        connection = await Connection.open(Peer("smtp", "127.0.0.1", "127.0.0.1", sink.port), manners)
        assert connection.secure
        found.append(connection.channel.resumed)
        connection.close()
    return found


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """Both loops that a sender may run on make their TLS objects in their own way."""
    return (
        asyncio.DefaultEventLoopPolicy()
        if request.param == "asyncio"
        else pytest.importorskip("uvloop").EventLoopPolicy()
    )


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("policy", ["opportunistic", "required"])
async def test_a_tls_session_with_the_same_server_is_taken_up_again(
    authority: Authority, policy: str, version: ssl.TLSVersion
) -> None:
    authority.right.maximum_version = version
    try:
        async with Sink(tls=authority.right) as sink:
            assert await resumptions([sink] * 3, policy, authority) == [False, True, True]
    finally:
        authority.right.maximum_version = ssl.TLSVersion.MAXIMUM_SUPPORTED


async def test_a_session_that_the_server_has_forgotten_is_only_a_full_handshake(
    tmp_path: Path, authority: Authority
) -> None:
    async with Sink(tls=authority.right) as sink, Sink(tls=Authority(tmp_path).right) as other:
        assert await resumptions([sink, other, other], "opportunistic", authority) == [False, False, True]


async def test_f30_a_session_is_no_way_around_a_certificate_that_must_be_verified(authority: Authority) -> None:
    """A session is kept by the name that was to be proved: a server that takes it up under `required` was verified for that name."""
    async with Sink(tls=authority.right) as sink, Sink(tls=authority.wrong) as wrong:
        with pytest.raises(TlsFailed):
            await resumptions([sink, wrong], "required", authority)


async def test_p10_sessions_are_bounded(authority: Authority) -> None:
    context = context_of(Settings(tls_out="opportunistic"))
    assert context is not None
    async with Sink(tls=authority.right) as sink:
        manners = Manners(hostname="horo.example.test", timeout=5.0, tls="opportunistic", context=context)
        connection = await Connection.open(Peer("smtp", "127.0.0.1", "127.0.0.1", sink.port), manners)
        session = connection.channel.session
        connection.close()
    for number in range(MOST_SESSIONS + 50):
        context.keep(f"mx{number}.example.test", session)
    assert len(context.sessions) == MOST_SESSIONS
    assert "127.0.0.1" not in context.sessions
