"""STARTTLS: everything begins anew under TLS, and nothing that was said in clear text is carried in (CVE-2011-0411, CVE-2024-34083)."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from pathlib import Path

import pytest
import trustme

from tests.ingress.conftest import House, Start
from tests.ingress.dialogue import Client, eventually

NAME = "mx.horo.test"
HELLO = """
    s: 220
    c: EHLO x
    s: 250 STARTTLS
"""


@pytest.fixture
async def secure(start: Start, tmp_path: Path) -> tuple[House, ssl.SSLContext]:
    """An ingress with a certificate, and a client's context that believes it."""
    authority = trustme.CA()
    certificate = authority.issue_cert(NAME)
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return await start(tls_cert=str(chain), tls_key=str(key)), context


async def test_mail_under_tls(secure: tuple[House, ssl.SSLContext]) -> None:
    house, context = secure
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        assert (await client.ask("STARTTLS")).startswith("220 2.0.0")
        await client.start_tls(context, NAME)
        assert (await client.ask("MAIL FROM:<a@example.net>")).startswith("503"), "the greeting was carried over"
        await client.send(b"EHLO x\r\n")
        assert "STARTTLS" not in " ".join(await client.reply())
        assert (await client.ask("STARTTLS")).startswith("503")
        await client.talk("""
            c: MAIL FROM:<a@example.net> SMTPUTF8
            c: RCPT TO:<office@example.test>
            c: DATA
            s: 250
            s: 250
            s: 354
            c: Subject: x
            c:
            c: body
            c: .
            s: 250
            c: QUIT
            s: 221
            s: eof
        """)
    assert house.bus.posts[0].origin.protocol == "UTF8SMTPS"


async def test_starttls_forgets_the_transaction(secure: tuple[House, ssl.SSLContext]) -> None:
    house, context = secure
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        for line in ("MAIL FROM:<a@example.net>", "RCPT TO:<office@example.test>"):
            assert (await client.ask(line)).startswith("250")
        await client.ask("STARTTLS")
        await client.start_tls(context, NAME)
        await client.ask("EHLO x")
        assert (await client.ask("DATA")).startswith("503")


async def test_what_comes_with_starttls_in_clear_text_ends_the_session(secure: tuple[House, ssl.SSLContext]) -> None:
    house, _ = secure
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        await client.send(b"STARTTLS\r\nMAIL FROM:<evil@example.net>\r\nRCPT TO:<office@example.test>\r\n")
        await client.expect("554 5.5.0")
        await client.expect("eof")


async def test_what_comes_after_220_in_clear_text_is_no_command(secure: tuple[House, ssl.SSLContext]) -> None:
    house, _ = secure
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        assert (await client.ask("STARTTLS")).startswith("220")
        await client.send(b"NOOP\r\n" * 10)
        data = await asyncio.wait_for(client.reader.read(), 10)
        assert b"250" not in data
    await eventually(lambda: house.ingress.sessions == 0, "the session to end")


async def test_a_client_that_never_shakes_hands_is_cut_off(start: Start, secure: tuple[House, ssl.SSLContext]) -> None:
    first, _ = secure
    house = await start(tls_cert=first.settings.tls_cert, tls_key=first.settings.tls_key, command_timeout="0.2s")
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        await client.ask("STARTTLS")
        await eventually(lambda: house.ingress.sessions == 0, "the session to end")


async def test_a_large_message_under_tls_by_smtplib(secure: tuple[House, ssl.SSLContext]) -> None:
    house, context = secure
    message = b"Subject: x\r\n\r\n" + b"." + b"y" * 70 + b"\r\n" * 1000 + (b"z" * 76 + b"\r\n") * 50000

    def send() -> dict[str, tuple[int, bytes]]:
        with smtplib.SMTP(*house.smtp, timeout=30) as client:
            client._host = NAME
            client.starttls(context=context)
            return client.sendmail("ana@example.net", ["office@example.test"], message)

    assert await asyncio.to_thread(send) == {}
    content = house.bus.posts[0].content
    assert content.ref is not None
    assert content.head + house.bodies.blobs[content.ref.key] == message
    assert house.bus.posts[0].origin.protocol == "ESMTPS"
