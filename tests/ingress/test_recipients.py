"""The decision at RCPT (DESIGN.md, P5): unknown, disabled, foreign, too large, too many, and the addresses beside a group."""

from __future__ import annotations

import pytest

from shared.groups import Domain
from shared.messages import TargetKind
from tests.ingress.conftest import House, Start
from tests.ingress.dialogue import Client, eventually

HELLO = """
    s: 220
    c: EHLO x
    s: 250
"""
MAIL = (
    HELLO
    + """
    c: MAIL FROM:<a@example.net>
    s: 250
"""
)

REPLIES = [
    ("<office@example.test>", "250 2.1.5"),
    ("<OFFICE@Example.Test>", "250 2.1.5"),
    ("<office+tag@example.test>", "250 2.1.5"),
    ('<"office"@example.test>', "250 2.1.5"),
    ("<office-owner@example.test>", "250 2.1.5"),
    ("<office-bounces@example.test>", "250 2.1.5"),
    ("<office-bounces+token@example.test>", "250 2.1.5"),
    ("<postmaster@example.test>", "250 2.1.5"),
    ("<Postmaster>", "250 2.1.5"),
    ("<nobody@example.test>", "550 5.1.1"),
    ("<nobody-owner@example.test>", "550 5.1.1"),
    ("<nobody-bounces+x@example.test>", "550 5.1.1"),
    ("<off@example.test>", "550 5.2.1"),
    ("<off-owner@example.test>", "250 2.1.5"),
    ("<off-bounces+x@example.test>", "250 2.1.5"),
    ("<any@closed.test>", "550 5.2.1"),
    ("<any-owner@closed.test>", "550 5.2.1"),
    ("<postmaster@closed.test>", "250 2.1.5"),
    ("<u@evil.example>", "550 5.7.1"),
    ("<postmaster@evil.example>", "550 5.7.1"),
    ("<@example.test:u@evil.example>", "501 5.1.3"),
    ("<u%evil.example@example.test>", "501 5.1.3"),
    ("<evil.example!u@example.test>", "501 5.1.3"),
    ('<"u@evil.example"@example.test>', "501 5.1.3"),
    ("<u@[127.0.0.1]>", "501 5.1.3"),
    ("<office@example.test.>", "501 5.1.3"),
    ("<=?utf-8?q?office?=@example.test>", "501 5.1.3"),
    ("<office@example.test> <b@evil.example>", "501 5.5.4"),
    ("<>", "501 5.1.3"),
    ("office@example.test", "501 5.1.3"),
    ("<office>", "501 5.1.3"),
    ("<office@example.test", "501 5.1.3"),
    ("<" + "x" * 65 + "@example.test>", "501 5.1.3"),
    ("<\u043e\u0444\u0438\u0441@example.test>", "553 5.6.7"),
    ("<office@\u0435xample.test>", "553 5.6.7"),
]


@pytest.fixture
async def town(house: House) -> House:
    """Groups and domains of every kind."""
    house.directory.add("off@example.test", disabled=True)
    house.directory.add("any@closed.test")
    house.directory.domains["closed.test"] = Domain(name="closed.test", disabled=True)
    return house


@pytest.mark.parametrize(("path", "reply"), REPLIES)
async def test_p5_rcpt(town: House, path: str, reply: str) -> None:
    async with await Client.connect(town.smtp) as client:
        await client.talk(MAIL)
        got = await client.ask(f"RCPT TO:{path}")
        assert got.startswith(reply), got
        assert (await client.ask("NOOP")).startswith("250")


@pytest.mark.parametrize("command", ["RCPT", "RCPT office@example.test", "RCPT FROM:<office@example.test>"])
async def test_rcpt_without_to(house: House, command: str) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk(MAIL)
        assert (await client.ask(command)).startswith("501 5.5.4")


async def test_targets_of_every_kind(town: House) -> None:
    async with await Client.connect(town.lmtp) as client:
        await client.talk("""
            s: 220
            c: LHLO x
            s: 250
            c: MAIL FROM:<a@example.net>
            s: 250
            c: RCPT TO:<Office-Owner@example.test>
            s: 250
            c: RCPT TO:<office-bounces+ToKeN@example.test>
            s: 250
            c: RCPT TO:<office-bounces+other@example.test>
            s: 250
            c: RCPT TO:<postmaster@example.test>
            s: 250
            c: RCPT TO:<Office+x@example.test>
            s: 250
            c: RCPT TO:<office@example.test>
            s: 250
            c: RCPT TO:<postmaster>
            s: 250
            c: DATA
            s: 354
            c: Subject: x
            c:
            c: .
            s: 250
            s: 250
            s: 250
            s: 250
            s: 250
            s: 250
            s: 250
        """)
        assert len({line for line in client.heard if "queued as" in line}) == 1
    [post] = town.bus.posts
    assert [(target.kind, target.group, target.recipient) for target in post.targets] == [
        (TargetKind.OWNER, "office@example.test", "Office-Owner@example.test"),
        (TargetKind.BOUNCES, "office@example.test", "office-bounces+ToKeN@example.test"),
        (TargetKind.BOUNCES, "office@example.test", "office-bounces+other@example.test"),
        (TargetKind.POSTMASTER, "example.test", "postmaster@example.test"),
        (TargetKind.GROUP, "office@example.test", "Office+x@example.test"),
        (TargetKind.POSTMASTER, "", "postmaster"),
    ]


async def test_p5_the_null_sender_reaches_bounce_addresses_and_never_a_group(house: House) -> None:
    house.directory.add("open@example.test", reject_automatic=False)
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        await client.talk("""
            c: MAIL FROM:<>
            s: 250
            c: RCPT TO:<office@example.test>
            s: 550 5.7.1
            c: RCPT TO:<open@example.test>
            s: 550 5.7.1
            c: RCPT TO:<office-bounces+tok@example.test>
            s: 250
            c: RCPT TO:<office-owner@example.test>
            s: 250
            c: RCPT TO:<postmaster@example.test>
            s: 250
            c: DATA
            s: 354
            c: Subject: failed
            c: Auto-Submitted: auto-replied
            c:
            c: .
            s: 250
        """)
    [post] = house.bus.posts
    assert post.mail_from == ""
    assert [target.kind for target in post.targets] == ["bounces", "owner", "postmaster"]


async def test_p5_size_is_refused_at_rcpt_for_the_group_and_at_mail_for_all(house: House) -> None:
    house.directory.add("small@example.test", max_size=1000)
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        await client.talk(f"""
            c: MAIL FROM:<a@example.net> SIZE={house.settings.max_size + 1}
            s: 552 5.3.4
            c: MAIL FROM:<a@example.net> SIZE=1001
            s: 250
            c: RCPT TO:<small@example.test>
            s: 552 5.3.4
            c: RCPT TO:<office@example.test>
            s: 250
            c: RSET
            s: 250
            c: MAIL FROM:<a@example.net> SIZE=1000
            s: 250
            c: RCPT TO:<small@example.test>
            s: 250
        """)


async def test_p5_over_smtp_a_group_with_another_policy_gets_452_and_lmtp_takes_both(house: House) -> None:
    house.directory.add("closed@example.test", who_can_post="members")
    house.directory.add("twin@example.test")
    async with await Client.connect(house.smtp) as client:
        await client.talk(MAIL)
        await client.talk("""
            c: RCPT TO:<office@example.test>
            s: 250
            c: RCPT TO:<closed@example.test>
            s: 452 4.5.3 Please send to this recipient in a separate transaction
            c: RCPT TO:<twin@example.test>
            s: 250
        """)
    async with await Client.connect(house.lmtp) as client:
        await client.talk("""
            s: 220
            c: LHLO x
            s: 250
            c: MAIL FROM:<a@example.net>
            s: 250
            c: RCPT TO:<office@example.test>
            s: 250
            c: RCPT TO:<closed@example.test>
            s: 250
        """)


async def test_too_many_recipients_are_452_and_an_end_is_put_to_it(start: Start) -> None:
    house = await start(max_recipients=100)
    for number in range(101):
        house.directory.add(f"g{number}@example.test")
    async with await Client.connect(house.smtp) as client:
        await client.talk(MAIL)
        for number in range(100):
            assert (await client.ask(f"RCPT TO:<g{number}@example.test>")).startswith("250")
        for _ in range(100):
            assert (await client.ask("RCPT TO:<g100@example.test>")).startswith("452 4.5.3")
        assert (await client.ask("RCPT TO:<g100@example.test>")).startswith("421 4.7.0")


async def test_smtputf8_addresses(house: House) -> None:
    house.directory.add("\u043e\u0444\u0438\u0441@example.test")
    house.directory.add("office@xn--e1afmkfd.test")
    async with await Client.connect(house.smtp) as client:
        await client.talk(HELLO)
        await client.talk("""
            c: MAIL FROM:<\u0431\u043e\u0440\u0438\u0441@example.net> SMTPUTF8 BODY=8BITMIME
            s: 250
            c: RCPT TO:<\u041e\u0444\u0438\u0441@example.test>
            s: 250
            c: RCPT TO:<office@\u043f\u0440\u0438\u043c\u0435\u0440.test>
            s: 250
            b: b"RCPT TO:<\\xff@example.test>\\r\\n"
            s: 501 5.1.3
            c: DATA
            s: 354
            c: Subject: \u041f\u0440\u0438\u0432\u0435\u0442
            c:
            c: .
            s: 250
        """)
    [post] = house.bus.posts
    assert post.smtputf8
    assert post.mail_from == "\u0431\u043e\u0440\u0438\u0441@example.net"
    assert post.origin.protocol == "UTF8SMTP"
    assert [target.group for target in post.targets] == [
        "\u043e\u0444\u0438\u0441@example.test",
        "office@xn--e1afmkfd.test",
    ]


async def test_refusals_of_groups_that_exist_are_outcomes(house: House) -> None:
    house.directory.add("off@example.test", disabled=True)
    async with await Client.connect(house.smtp) as client:
        await client.talk(MAIL)
        await client.talk("""
            c: RCPT TO:<nobody@example.test>
            s: 550
            c: RCPT TO:<off@example.test>
            s: 550 5.2.1
        """)
        [refused] = await eventually(lambda: house.bus.refused, "the refusal on the bus")
    assert (refused.group, refused.code, refused.status) == ("off@example.test", 550, "5.2.1")
    assert (refused.mail_from, refused.ip) == ("a@example.net", "127.0.0.1")
