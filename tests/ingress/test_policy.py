"""The decision after the dot: automatic mail, who may post, loops, sizes; one answer over SMTP, one for each over LMTP."""

from __future__ import annotations

import pytest

from shared import policy
from shared.groups import Domain
from tests.ingress.conftest import House, Start
from tests.ingress.dialogue import Client, eventually


async def send(
    address: tuple[str, int], *recipients: str, head: str = "", mail_from: str = "ana@example.net", lmtp: bool = False
) -> list[str]:
    """Send one message; the replies after the dot."""
    async with await Client.connect(address) as client:
        await client.expect("220")
        await client.ask("LHLO x" if lmtp else "EHLO x")
        await client.ask(f"MAIL FROM:<{mail_from}>")
        for recipient in recipients:
            assert (await client.ask(f"RCPT TO:<{recipient}>")).startswith("250")
        assert (await client.ask("DATA")).startswith("354")
        lines = head or "From: ana@example.net\nSubject: x"
        await client.send(lines.replace("\n", "\r\n").encode() + b"\r\n\r\nbody\r\n.\r\n")
        return [(await client.reply())[-1] for _ in range(len(recipients) if lmtp else 1)]


AUTOMATIC = [
    "From: a@example.net\nAuto-Submitted: auto-replied",
    "From: a@example.net\nPrecedence: bulk",
    "From: a@example.net\nX-Autoreply: yes",
    "From: MAILER-DAEMON@example.net",
    'From: a@example.net\nContent-Type: multipart/report; boundary="x"',
]


@pytest.mark.parametrize("head", AUTOMATIC)
async def test_automatic_mail_is_refused_where_the_switch_says_so(house: House, head: str) -> None:
    house.directory.add("open@example.test", reject_automatic=False)
    [reply] = await send(house.smtp, "office@example.test", head=head)
    assert reply.startswith("550 5.7.1 Automatic")
    assert house.bus.posts == []
    [reply] = await send(house.smtp, "open@example.test", head=head)
    assert reply.startswith("250")


MAY_POST = [
    ("anyone", "x@evil.example", "250"),
    ("domain", "ana@example.test", "250"),
    ("domain", "x@evil.example", "550 5.7.1"),
    ("domain", "x@sub.example.test", "550 5.7.1"),
    ("members", "ana@example.test", "250"),
    ("members", "deep@example.org", "250"),
    ("members", "far@example.org", "550 5.7.1"),
    ("members", "x@evil.example", "550 5.7.1"),
    ("members", "boss@example.org", "250"),
    ("owners", "boss@example.org", "250"),
    ("owners", "ana@example.test", "550 5.7.1"),
]


@pytest.mark.parametrize(("who", "author", "reply"), MAY_POST)
async def test_who_can_post(house: House, who: str, author: str, reply: str) -> None:
    """Members through sub-groups that are expanded in place count, those of groups that get a post of their own do not."""
    house.directory.add("board@example.test", "deep@example.org", "ring@example.test")
    house.directory.add("other@elsewhere.test", "far@example.org")
    house.directory.add(
        "ring@example.test",
        "ana@example.test", "board@example.test", "other@elsewhere.test",
        who_can_post=who, owners=("boss@example.org",),
    )  # fmt: skip
    [got] = await send(house.smtp, "ring@example.test", head=f"From: <{author}>", mail_from=author)
    assert got.startswith(reply)
    assert len(house.bus.posts) == (reply == "250")


@pytest.mark.parametrize(
    "head", ["From: a@example.test\nFrom: b@example.test", "From: a@example.test, b@example.test", "Subject: none"]
)
async def test_an_author_in_doubt_may_not_post(house: House, head: str) -> None:
    house.directory.add("ring@example.test", who_can_post="domain")
    [reply] = await send(house.smtp, "ring@example.test", head=head)
    assert reply.startswith("550 5.6.0")


RESULTS = "Authentication-Results: relay.example; dmarc={} header.from=example.test\nFrom: ana@example.test"


async def test_a_trusted_relays_verdict_counts(start: Start) -> None:
    house = await start(trusted_relays="10.0.0.0/8, 127.0.0.0/8")
    house.directory.add("ring@example.test", who_can_post="domain")
    [reply] = await send(house.smtp, "ring@example.test", head=RESULTS.format("fail"))
    assert reply.startswith("550 5.7.1")
    [reply] = await send(house.smtp, "ring@example.test", head=RESULTS.format("pass"))
    assert reply.startswith("250")
    assert house.bus.posts[0].authenticated == "ana@example.test"


@pytest.mark.parametrize(
    ("results", "reply"),
    [
        ("spf=pass smtp.mailfrom=x@evil.example; dkim=none; dmarc=none header.from=example.test", "550 5.7.1"),
        ("dkim=pass header.d=evil.example", "550 5.7.1"),
        ("auth=pass smtp.auth=boris@example.test; spf=none", "550 5.7.1"),
        ("auth=pass smtp.auth=ana@example.test; spf=none", "250"),
        ("dmarc=temperror header.from=example.test", "451 4.7.0"),
        ("none", "250"),
    ],
)
async def test_an_author_whom_a_trusted_relay_looked_at_and_does_not_vouch_for_may_not_post(
    start: Start, results: str, reply: str
) -> None:
    """`MAIL FROM` of one's own domain passes SPF; it says nothing of a From: of another."""
    house = await start(trusted_relays="127.0.0.0/8")
    house.directory.add("ring@example.test", "ana@example.test", who_can_post="members")
    head = f"Authentication-Results: relay.example; {results}\nFrom: ana@example.test"
    [got] = await send(house.smtp, "ring@example.test", head=head, mail_from="x@evil.example")
    assert got.startswith(reply)
    assert len(house.bus.posts) == (reply == "250")


async def test_a_strangers_verdict_does_not(house: House) -> None:
    house.directory.add("ring@example.test", who_can_post="domain")
    for verdict in ("fail", "pass"):
        [reply] = await send(house.smtp, "ring@example.test", head=RESULTS.format(verdict))
        assert reply.startswith("250")
    assert [post.authenticated for post in house.bus.posts] == [None, None]


@pytest.mark.parametrize(("hops", "reply"), [(100, "250"), (101, "554 5.4.6")])
async def test_more_than_a_hundred_hops_are_a_loop(house: House, hops: int, reply: str) -> None:
    head = "Received: from a by b; Mon, 23 Nov 2026 10:00:00 +0000\n" * hops + "From: a@example.net"
    for recipient in ("office@example.test", "office-bounces@example.test"):
        [got] = await send(house.smtp, recipient, head=head)
        assert got.startswith(reply)


async def test_a_group_of_a_smaller_size_refuses_after_the_dot_what_lied_at_mail(house: House) -> None:
    house.directory.add("small@example.test", max_size=200)
    [reply] = await send(house.smtp, "small@example.test", head="From: a@example.net\nX-Long: " + "x" * 200)
    assert reply.startswith("552 5.3.4")


async def test_lmtp_answers_each_and_publishes_one_post_for_those_that_pass(house: House) -> None:
    house.directory.add("closed@example.test", who_can_post="owners")
    house.directory.add("small@example.test", max_size=10)
    house.directory.add("board@example.test")
    replies = await send(
        house.lmtp,
        "office@example.test", "closed@example.test", "small@example.test", "office+again@example.test", "board@example.test",
        lmtp=True,
    )  # fmt: skip
    assert [reply[:9] for reply in replies] == ["250 2.0.0", "550 5.7.1", "552 5.3.4", "250 2.0.0", "250 2.0.0"]
    [post] = house.bus.posts
    assert [target.group for target in post.targets] == ["office@example.test", "board@example.test"]
    assert post.origin.protocol == "LMTP"
    await eventually(lambda: len(house.bus.refused) == 2, "two refusals on the bus")
    assert {one.group for one in house.bus.refused} == {"closed@example.test", "small@example.test"}


async def test_lmtp_publishes_nothing_where_all_refuse(house: House) -> None:
    house.directory.add("closed@example.test", who_can_post="owners")
    [reply] = await send(house.lmtp, "closed@example.test", lmtp=True)
    assert reply.startswith("550 5.7.1")
    assert house.bus.posts == []


@pytest.mark.parametrize("greeting", ["HELO x", "EHLO x"])
async def test_lmtp_has_a_greeting_of_its_own(house: House, greeting: str) -> None:
    async with await Client.connect(house.lmtp) as client:
        await client.expect("220 mx.horo.test LMTP")
        assert (await client.ask(greeting)).startswith("500 5.5.1")
        await client.send(b"LHLO x\r\n")
        assert {"250-PIPELINING", "250-ENHANCEDSTATUSCODES", "250 DSN"} <= set(await client.reply())


async def test_p5_a_policy_that_changed_after_rcpt_for_one_group_of_two_is_451(house: House) -> None:
    house.directory.add("twin@example.test")
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        for line in (
            "EHLO x",
            "MAIL FROM:<a@example.net>",
            "RCPT TO:<office@example.test>",
            "RCPT TO:<twin@example.test>",
        ):
            assert (await client.ask(line)).startswith("250")
        assert (await client.ask("DATA")).startswith("354")
        house.directory.add("twin@example.test", disabled=True)
        assert (await client.ask("Subject: x\r\n\r\n.")).startswith("451 4.3.0")
    assert house.bus.posts == []


async def test_a_group_disabled_during_data_refuses(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        for line in ("EHLO x", "MAIL FROM:<a@example.net>", "RCPT TO:<office@example.test>"):
            assert (await client.ask(line)).startswith("250")
        assert (await client.ask("DATA")).startswith("354")
        house.directory.add("office@example.test", disabled=True)
        assert (await client.ask("Subject: x\r\n\r\n.")).startswith("550 5.2.1")


async def test_p6_a_domain_disabled_during_data_refuses(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.expect("220")
        for line in ("EHLO x", "MAIL FROM:<a@example.net>", "RCPT TO:<office@example.test>"):
            assert (await client.ask(line)).startswith("250")
        assert (await client.ask("DATA")).startswith("354")
        house.directory.domains["example.test"] = Domain(name="example.test", disabled=True)
        assert (await client.ask("Subject: x\r\n\r\n.")).startswith("550 5.2.1")
    assert house.bus.posts == []


async def test_p10_a_header_is_looked_at_once_however_many_groups_there_are(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A header of 256 KiB takes tens of milliseconds; a thousand groups would hold up all sessions for a minute."""
    looked: list[str] = []

    def spy(name: str) -> None:
        real = getattr(policy, name)

        def look(*args: object) -> object:
            looked.append(name)
            return real(*args)

        monkeypatch.setattr(policy, name, look)

    spy("automatic")
    spy("author")
    names = [f"g{number}@example.test" for number in range(5)]
    for name in names:
        house.directory.add(name, who_can_post="domain")
    assert await send(house.lmtp, *names, head="From: ana@example.test", lmtp=True) != []
    assert sorted(looked) == ["author", "automatic"]
    assert len(house.bus.posts[0].targets) == 5
