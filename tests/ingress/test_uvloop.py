"""The same on uvloop, which services run on: flow control, TLS on top of a socket, and the end of a connection are its own there."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import trustme
import uvloop

from tests.ingress.conftest import House
from tests.ingress.dialogue import Client, eventually

NAME = "mx.horo.test"


def on_uvloop(test: Callable[[House], Awaitable[None]], **settings: object) -> House:
    """Run a test against an ingress, all on uvloop."""

    async def run() -> House:
        house = House(**settings)
        await house.ingress.start()
        try:
            await asyncio.wait_for(test(house), 30)
        finally:
            await house.ingress.stop(grace=0)
        assert house.ingress.sessions == 0
        return house

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


async def _transaction(client: Client, message: bytes) -> None:
    await client.talk("""
        c: EHLO x
        s: 250
        c: MAIL FROM:<a@example.net>
        c: RCPT TO:<office@example.test>
        c: DATA
        s: 250
        s: 250
        s: 354
    """)
    await client.send(message + b".\r\n")
    await client.expect("250 2.0.0")


def test_a_large_message_then_tls_then_another(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert(NAME)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    message = b"Subject: x\r\n\r\n" + (b"y" * 78 + b"\r\n") * 50000

    async def test(house: House) -> None:
        async with await Client.connect(house.smtp) as client:
            await client.expect("220")
            await _transaction(client, message)
            assert (await client.ask("STARTTLS")).startswith("220")
            await client.start_tls(trusting, NAME)
            await _transaction(client, message)
            assert (await client.ask("QUIT")).startswith("221")

    house = on_uvloop(test, tls_cert=str(chain), tls_key=str(key))
    assert [post.origin.protocol for post in house.bus.posts] == ["ESMTP", "ESMTPS"]
    assert {len(blob) for blob in house.bodies.blobs.values()} == {80 * 50000}


def test_a_client_that_does_not_read_is_cut_off() -> None:
    async def test(house: House) -> None:
        async with await Client.connect(house.smtp) as client:
            await client.expect("220")
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            try:
                while True:
                    await client.send(b"NOOP\r\n" * 10000)
            except (ConnectionError, TimeoutError):
                pass
        await eventually(lambda: house.ingress.sessions == 0, "the session to end")

    on_uvloop(test, command_timeout="0.2s", junk_commands=10**9)
