"""STARTTLS towards next hops: none, opportunistic, required; with certificates made for the test."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from shared.routes import NextHop
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
