"""The plain dialogues of SMTP: what is offered, in which order commands go, what they answer."""

from __future__ import annotations

import hashlib

import pytest

from shared.messages import Target
from tests.ingress.conftest import House, Start
from tests.ingress.dialogue import Client, talk

MESSAGE = b"From: Ana <ana@example.net>\r\nTo: office@example.test\r\nSubject: Hi\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\n\r\nHello\r\n"


async def test_p1_a_message_is_one_post_before_its_250(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk("""
            s: 220 mx.horo.test ESMTP
            c: EHLO client.example
            s: 250
            c: MAIL FROM:<Ana@Example.NET> SIZE=120 BODY=8BITMIME
            s: 250 2.1.0
            c: RCPT TO:<Office@EXAMPLE.test>
            s: 250 2.1.5
            c: DATA
            s: 354
        """)
        await client.send(MESSAGE + b"..dots stay\r\n.\r\n")
        final = await client.expect("250 2.0.0 OK queued as ")
        await client.talk("""
            c: QUIT
            s: 221 2.0.0
            s: eof
        """)
    [post] = house.bus.posts
    sent = MESSAGE + b".dots stay\r\n"
    assert final.endswith(post.id)
    assert post.mail_from == "Ana@example.net"
    assert post.targets == (Target(group="office@example.test", recipient="Office@example.test"),)
    assert post.content.head + post.content.tail == sent
    assert post.content.head.endswith(b"\r\n\r\n")
    assert post.digest == hashlib.sha256(sent).digest()
    assert (post.origin.ip, post.origin.helo, post.origin.protocol) == ("127.0.0.1", "client.example", "ESMTP")
    assert (post.smtputf8, post.envid, post.ret, post.authenticated) == (False, None, None, None)


async def test_ehlo_offers_what_is_kept(house: House) -> None:
    heard = await talk(
        house.smtp,
        """
        s: 220
        c: EHLO client.example
        s: 250
        """,
    )
    words = [line[4:] for line in heard[1:]]
    assert words[0] == "mx.horo.test"
    assert set(words[1:]) == {
        "PIPELINING", "8BITMIME", "SMTPUTF8", f"SIZE {house.settings.max_size}", "ENHANCEDSTATUSCODES", "DSN",
    }  # fmt: skip


SEQUENCE = [
    ("MAIL FROM:<a@example.net>", "503 5.5.1"),
    ("RCPT TO:<office@example.test>", "503 5.5.1"),
    ("DATA", "503 5.5.1"),
    ("LHLO client.example", "500 5.5.1"),
    ("EHLO", "501 5.5.4"),
    ("EHLO two words", "501 5.5.4"),
    ("EHLO <script>", "501 5.5.4"),
    ("EHLO [127.0.0.1]", "250"),
    ("HELO client.example", "250"),
    ("RSET now", "501 5.5.4"),
    ("NOOP whatever", "250 2.0.0"),
    ("HELP", "214 2.0.0"),
    ("VRFY office@example.test", "252 2.1.5"),
    ("VRFY nobody@example.test", "252 2.1.5"),
    ("VRFY", "501 5.5.4"),
    ("EXPN office@example.test", "502 5.5.1"),
    ("AUTH PLAIN AGEAYg==", "502 5.5.1"),
    ("STARTTLS", "502 5.5.1"),
    ("BDAT 5 LAST", "502 5.5.1"),
    ("XYZZY", "500 5.5.1"),
    ("", "500 5.5.1"),
    ("NO\u00d6P", "500 5.5.1"),
    ("NOOP " + "x" * 600, "500 5.5.2"),
    ("quit", "221 2.0.0"),
]


@pytest.mark.parametrize(("command", "reply"), SEQUENCE)
async def test_commands_before_mail(house: House, command: str, reply: str) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        assert (await client.ask(command)).startswith(reply)


async def test_the_answer_to_vrfy_is_the_same_for_everybody(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        assert await client.ask("VRFY office") == await client.ask("VRFY nobody-at-all")


async def test_the_sequence_inside_a_transaction(house: House) -> None:
    await talk(
        house.smtp,
        """
        s: 220
        c: EHLO client.example
        s: 250
        c: MAIL FROM:<a@example.net>
        s: 250
        c: MAIL FROM:<b@example.net>
        s: 503 5.5.1
        c: DATA
        s: 503 5.5.1
        c: RCPT TO:<office@example.test>
        s: 250
        c: DATA now
        s: 501 5.5.4
        c: RSET
        s: 250 2.0.0
        c: RCPT TO:<office@example.test>
        s: 503 5.5.1
        c: MAIL FROM:<b@example.net>
        s: 250
        c: EHLO again.example
        s: 250
        c: RCPT TO:<office@example.test>
        s: 503 5.5.1
        """,
    )


async def test_helo_has_no_extensions(house: House) -> None:
    await talk(
        house.smtp,
        """
        s: 220
        c: HELO old.example
        s: 250 mx.horo.test
        c: MAIL FROM:<a@example.net> SIZE=10
        s: 555 5.5.4
        c: MAIL FROM:<a@example.net>
        s: 250
        c: RCPT TO:<office@example.test> NOTIFY=NEVER
        s: 555 5.5.4
        c: RCPT TO:<office@example.test>
        s: 250
        c: DATA
        s: 354
        c: Subject: x
        c:
        c: body
        c: .
        s: 250
        """,
    )
    assert house.bus.posts[0].origin.protocol == "SMTP"


async def test_pipelined_groups_are_answered_in_order(house: House) -> None:
    heard = await talk(
        house.smtp,
        """
        s: 220
        c: EHLO client.example
        s: 250
        c: MAIL FROM:<a@example.net>
        c: RCPT TO:<office@example.test>
        c: RCPT TO:<nobody@example.test>
        c: RCPT TO:<office+tag@example.test>
        c: DATA
        s: 250 2.1.0
        s: 250 2.1.5
        s: 550 5.1.1
        s: 250 2.1.5
        s: 354
        c: Subject: one
        c:
        c: body
        c: .
        c: MAIL FROM:<a@example.net>
        c: RCPT TO:<nobody@example.test>
        c: DATA
        s: 250 2.0.0 OK queued
        s: 250 2.1.0
        s: 550 5.1.1
        s: 503 5.5.1
        c: RSET
        c: QUIT
        s: 250
        s: 221
        s: eof
        """,
    )
    assert len(heard) > 10
    [post] = house.bus.posts
    assert [target.recipient for target in post.targets] == ["office@example.test"]


async def test_replies_of_a_group_leave_together(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk("""
            s: 220
            c: EHLO client.example
            s: 250
        """)
        await client.send(b"MAIL FROM:<a@example.net>\r\n" + b"RCPT TO:<nobody@example.test>\r\n" * 5)
        first = await client.reader.read(65536)
        assert first.count(b"\r\n") == 6


async def test_a_client_that_half_closes_still_gets_its_answers(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        await client.send(b"EHLO x\r\n")
        await client.expect("250")
        await client.send(b"MAIL FROM:<a@example.net>\r\nRCPT TO:<office@example.test>\r\n")
        await client.expect("250")
        await client.expect("250")
        await client.send(b"DATA\r\n")
        await client.expect("354")
        await client.send(b"Subject: x\r\n\r\nbody\r\n.\r\n")
        client.writer.write_eof()
        await client.expect("250 2.0.0")
        await client.expect("eof")
    assert len(house.bus.posts) == 1


async def test_two_messages_in_one_session(house: House) -> None:
    message = """
        c: MAIL FROM:<a@example.net>
        s: 250
        c: RCPT TO:<office@example.test>
        s: 250
        c: DATA
        s: 354
        c: Subject: x
        c:
        c: body
        c: .
        s: 250
    """
    await talk(house.smtp, "s: 220\nc: EHLO x\ns: 250\n" + message * 2)
    first, second = house.bus.posts
    assert first.id != second.id
    assert first.digest == second.digest


async def test_an_empty_message_is_a_message(house: House) -> None:
    await talk(
        house.smtp,
        """
        s: 220
        c: EHLO x
        s: 250
        c: MAIL FROM:<a@example.net>
        c: RCPT TO:<office@example.test>
        c: DATA
        s: 250
        s: 250
        s: 354
        c: .
        s: 250
        """,
    )
    assert house.bus.posts[0].content.size == 0


async def test_listens_on_what_is_set_alone(start: Start) -> None:
    house = await start()
    assert set(house.ingress.addresses) == {"smtp", "lmtp"}
