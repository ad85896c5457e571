"""Reports as a reader of somebody else's understands them: Debian's Mail::DeliveryStatus::BounceParser, flufl.bounce and the standard library."""

from __future__ import annotations

import email
import email.policy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flufl.bounce import all_failures

from services.reporter import dsn
from services.reporter.decide import Action
from services.reporter.dsn import Block, Returned
from tests.reporter.test_dsn import report
from tests.reporter.world import NOW, fate, octets
from tests.support.install import require
from tests.support.runner import CannotServe

READER = Path(__file__).with_name("report_reader.pl")
PACKAGE = "libmail-deliverystatus-bounceparser-perl"
ORIGINAL = Returned(head=b"From: ana@author.example\r\nMessage-ID: <m1@author.example>\r\nSubject: Plan\r\n")
FAILED = (
    fate("boris@gmail.test", text="No such user here"),
    fate("vera@other.test", status="5.2.2", code=552, text="Mailbox full"),
    fate("x@late.test", status="5.4.7", code=554, text="Delivery time expired; the last answer was: 451 4.4.2 no"),
)


@pytest.fixture(scope="module")
def parser() -> None:
    """The Perl module, installed where it is not."""
    asked = ["perl", "-MMail::DeliveryStatus::BounceParser", "-e", "1"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        try:
            require((PACKAGE,))
        except CannotServe as error:
            pytest.skip(f"{PACKAGE} is not here: {error}")


def understood(built: bytes) -> Any:
    """What the Perl module makes of a message, which it takes as a mailbox of Unix has it."""
    told = subprocess.run(
        ["perl", READER], input=built.replace(b"\r\n", b"\n"), capture_output=True, check=True, timeout=60
    )
    return json.loads(told.stdout)


def built(*blocks: Block, language: str, **changes: Any) -> bytes:
    return octets(dsn.build(report(*blocks, language=language, returned=ORIGINAL, **changes)))


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("language", ["en", "bg"])
def test_failures_are_understood_by_three_readers(language: str) -> None:
    raw = built(*dsn.blocks_of_fates(FAILED, action=Action.FAILED, orcpt=None), language=language)
    found = understood(raw)
    assert (found["bounce"], found["original"].strip()) == (1, "<m1@author.example>")
    assert {(one["email"], one["action"], one["status"], one["std_reason"]) for one in found["reports"]} == {
        ("boris@gmail.test", "failed", "5.1.1", "user_unknown"),
        ("vera@other.test", "failed", "5.2.2", "over_quota"),
        ("x@late.test", "failed", "5.4.7", "unknown"),
    }
    assert len(found["reports"]) == 3
    temporary, permanent = all_failures(email.message_from_bytes(raw))
    assert (set(temporary), set(permanent)) == (set(), {each.address.encode() for each in FAILED})
    message: Any = email.message_from_bytes(raw, policy=email.policy.default)
    assert not message.defects
    assert [each["Status"] for each in message.get_payload()[1].get_payload()][1:] == ["5.1.1", "5.2.2", "5.4.7"]


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("language", ["en", "bg"])
def test_a_delay_and_a_success_are_no_bounce_to_anybody(language: str) -> None:
    late = dsn.block_of_fate(
        fate(code=451, status="4.2.1"), action=Action.DELAYED, orcpt=None, retry_until=NOW + 432000
    )
    own = [
        Block(final="o@e.test", action=each, status="2.1.5")
        for each in (Action.DELIVERED, Action.EXPANDED, Action.RELAYED)
    ]
    for block in (late, *own):
        raw = built(block, language=language)
        assert understood(raw)["bounce"] == 0
        temporary, permanent = all_failures(email.message_from_bytes(raw))
        assert (set(temporary), set(permanent)) == ({b"boris@gmail.test"} if block is late else set(), set())


@pytest.mark.parametrize("language", ["en", "bg"])
@pytest.mark.parametrize("to", ["ana@author.example", "ана@author.example"])
def test_international_reports_are_read_by_the_standard_library(language: str, to: str) -> None:
    head = "From: ана@author.example\r\nSubject: Здравей\r\n".encode()
    blocks = dsn.blocks_of_fates((fate("вера@other.test"),), action=Action.FAILED, orcpt="utf-8;офис@example.test")
    raw = built(*blocks, language=language, to=to, address="офис@example.test") + b""
    message: Any = email.message_from_bytes(raw, policy=email.policy.default)
    assert not message.defects
    kinds = [part.get_content_type() for part in message.walk() if not part.is_multipart()]
    assert kinds[0] == "text/plain"
    assert "message/global-delivery-status" in [part.get_content_type() for part in message.walk()]
    assert raw.isascii() is to.isascii()
    assert "офис@example.test" in message.get_payload()[0].get_content()
    again = octets(dsn.build(report(*blocks, language=language, to=to, returned=Returned(head=head))))
    assert "message/global-headers" in [part.get_content_type() for part in email.message_from_bytes(again).walk()]
