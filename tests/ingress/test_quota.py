"""Quotas of a domain for the day, and a domain that is suspended: mail is put off in the session, counted, told, and never lost."""

from __future__ import annotations

from typing import Any

import pytest

from services.ingress.server import Ingress
from shared.bus import BusUnavailable
from shared.groups import Domain
from shared.ledger import LedgerUnavailable
from shared.ledger.days import Sent
from tests.ingress.conftest import House, Start
from tests.ingress.dialogue import Client, eventually, talk

TO_OFFICE = """
    s: 220
    c: LHLO client.test
    s: 250
    c: MAIL FROM:<ana@x.test>
    s: 250
    c: RCPT TO:<office@example.test>
"""
MESSAGE = """
    s: 250
    c: DATA
    s: 354
    b: b'From: ana@x.test\\r\\n\\r\\nhello\\r\\n.\\r\\n'
"""


class Counter:
    """The ledger's days over a dict, with the ledger's own rule; `away` makes every call fail."""

    def __init__(self) -> None:
        self.days: dict[str, Sent] = {}
        self.away = False

    async def spend(self, domain: str, day: str, sent: Sent, most: Sent) -> bool:
        had = await self.spent(domain, day)
        new = Sent(had.messages + sent.messages, had.recipients + sent.recipients)
        if (most.messages and new.messages > most.messages) or (most.recipients and new.recipients > most.recipients):
            return False
        self.days[domain] = new
        return True

    async def give_back(self, domain: str, day: str, sent: Sent) -> None:
        had = await self.spent(domain, day)
        self.days[domain] = Sent(had.messages - sent.messages, had.recipients - sent.recipients)

    async def spent(self, domain: str, day: str) -> Sent:
        if self.away:
            raise LedgerUnavailable("down")
        return self.days.get(domain, Sent())


@pytest.fixture
async def metered(start: Start, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start an ingress whose domain example.test has these settings; the house and its counter."""
    counter = Counter()
    plain = Ingress.__init__

    def counted(self: Ingress, *arguments: Any, **named: Any) -> None:
        plain(self, *arguments, days=counter, **named)

    monkeypatch.setattr(Ingress, "__init__", counted)

    async def go(**settings: Any) -> tuple[House, Counter]:
        house = await start()
        house.directory.domains["example.test"] = Domain(name="example.test", **settings)
        return house, counter

    return go


def refusals(house: House) -> list[tuple[str, int]]:
    return [(one.group, one.code) for one in house.bus.refused]


async def test_p5_messages_over_the_days_quota_are_put_off_at_rcpt_and_told(metered: Any) -> None:
    house, counter = await metered(messages_per_day=2)
    for _ in range(2):
        await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 250 2.0.0 OK queued")
    await talk(house.lmtp, TO_OFFICE + "s: 452 4.2.2 This domain has sent as much as it may today")
    assert counter.days == {"example.test": Sent(2, 0)}
    assert len(house.bus.posts) == 2
    await eventually(lambda: refusals(house) == [("office@example.test", 452)], "the refusal to be told")


async def test_recipients_are_counted_with_those_of_groups_in_place(metered: Any) -> None:
    house, counter = await metered(recipients_per_day=7)
    house.directory.add("board@example.test", "v@x.test", "w@x.test")
    house.directory.add("else@other.test", "y@x.test")
    house.directory.add("office@example.test", "ana@x.test", "board@example.test", "else@other.test")
    await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 250")
    assert counter.days == {
        "example.test": Sent(1, 4)
    }  # ana, v, w, and the other domain's group, which gets a post of its own
    await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 452 4.2.2")
    assert counter.days == {"example.test": Sent(1, 4)}
    assert len(house.bus.posts) == 1


async def test_a_post_larger_than_a_whole_day_is_refused_for_good(metered: Any) -> None:
    house, _ = await metered(recipients_per_day=1)
    await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 552 5.2.2")
    await eventually(lambda: refusals(house) == [("office@example.test", 552)], "the refusal to be told")


async def test_what_is_not_published_is_given_back(metered: Any) -> None:
    house, counter = await metered(messages_per_day=1)
    house.bus.fault.error = BusUnavailable("down")
    await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 451 4.3.0")
    assert counter.days == {"example.test": Sent(0, 0)}
    house.bus.fault.error = None
    await talk(house.lmtp, TO_OFFICE + MESSAGE + "s: 250")


async def test_p1_a_quota_that_cannot_be_read_is_451_and_concerns_no_other_domain(metered: Any) -> None:
    house, counter = await metered(messages_per_day=1)
    counter.away = True
    await talk(house.lmtp, TO_OFFICE + "s: 451 4.3.0")
    house.directory.add("free@other.test", "ana@x.test")
    await talk(house.lmtp, TO_OFFICE.replace("office@example.test", "free@other.test") + MESSAGE + "s: 250")


async def test_p5_over_smtp_a_domain_with_a_quota_has_transactions_of_its_own(metered: Any) -> None:
    house, _ = await metered(messages_per_day=1)
    house.directory.add("free@other.test", "ana@x.test")
    async with await Client.connect(house.smtp) as client:
        await client.talk("""
            s: 220
            c: EHLO client.test
            s: 250
            c: MAIL FROM:<ana@x.test>
            s: 250
            c: RCPT TO:<office@example.test>
            s: 250
            c: RCPT TO:<free@other.test>
            s: 452 4.5.3
        """)


@pytest.mark.parametrize(
    "address", ["office@example.test", "office-owner@example.test", "office-bounces+t@example.test"]
)
async def test_mail_for_a_suspended_domain_is_put_off_and_told(metered: Any, address: str) -> None:
    house, _ = await metered(suspended=True)
    await talk(house.lmtp, TO_OFFICE.replace("office@example.test", address) + "s: 450 4.2.1")
    await talk(house.lmtp, TO_OFFICE.replace("office@", "postmaster@") + "s: 250")
    await talk(house.lmtp, TO_OFFICE.replace("office@", "nobody@") + "s: 550 5.1.1")
    await eventually(lambda: refusals(house) == [("office@example.test", 450)], "the refusal to be told")


async def test_p6_a_domain_suspended_between_rcpt_and_data_is_put_off_at_data(metered: Any) -> None:
    house, _ = await metered()
    async with await Client.connect(house.lmtp) as client:
        await client.talk(TO_OFFICE + "s: 250\nc: DATA\ns: 354")
        house.directory.domains["example.test"] = Domain(name="example.test", suspended=True)
        await client.talk("b: b'From: ana@x.test\\r\\n\\r\\nhello\\r\\n.\\r\\n'\ns: 450 4.2.1")
    assert house.bus.posts == []
