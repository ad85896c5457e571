"""What comes back of a message: the header of what failed, all of it where RET=FULL asked and it is small, else the ledger's fields."""

from __future__ import annotations

import msgspec
import pytest

from services.reporter.returned import FULL_LIMIT, HEAD_LIMIT
from shared.messages import BodyRef, Content
from tests.reporter.rfc3464 import Status
from tests.reporter.world import NOW, World, attempted, expanded, fate, octets, record, target

HEAD = b"Received: from a\r\nFrom: Ana <ana@author.example>\r\nSubject: as it came\r\n\r\n"
LINES = HEAD.removesuffix(b"\r\n")


async def returned(content: Content | None, *, ret: str | None = None, world: World | None = None) -> Status:
    """The failure report of an alias for that message."""
    world, post = world or World(), record(ret=ret)
    world.ledger.open(post, target(envelope="alias"))
    await world.handle(msgspec.structs.replace(attempted(post, fate()), content=content))
    await world.settle()
    (report,) = world.bus.reports
    return Status(octets(report.content))


def stored(world: World, data: bytes) -> Content:
    world.bodies.blobs["k"] = (data, NOW)
    return Content(head=HEAD, ref=BodyRef(key="k", size=len(data), sha256=b""))


@pytest.mark.parametrize("ret", [None, "HDRS"])
async def test_the_header_of_what_failed_comes_back_as_it_is(ret: str | None) -> None:
    status = await returned(Content(head=HEAD, tail=b"body\r\n"), ret=ret)
    assert (status.original_kind, status.original) == ("text/rfc822-headers", LINES)


@pytest.mark.parametrize("inline", [True, False])
async def test_ret_full_brings_all_of_a_small_message_back(inline: bool) -> None:
    world, body = World(), b"a line\r\n" * 100
    content = Content(head=HEAD, tail=body) if inline else stored(world, body)
    status = await returned(content, ret="FULL", world=world)
    assert (status.original_kind, status.original) == ("message/rfc822", HEAD + body)


async def test_p10_ret_full_of_a_large_message_is_its_header() -> None:
    world = World()
    status = await returned(stored(world, b"x\r\n" * FULL_LIMIT), ret="FULL", world=world)
    assert (status.original_kind, status.original) == ("text/rfc822-headers", LINES)


async def test_p10_a_header_without_end_comes_back_in_part() -> None:
    status = await returned(Content(head=b"X: y\r\n" * HEAD_LIMIT + b"\r\n"))
    assert 0 < len(status.original) <= HEAD_LIMIT
    assert status.original.endswith(b"X: y\r\n")


async def test_a_body_that_has_gone_holds_no_report_back() -> None:
    gone = Content(head=HEAD, ref=BodyRef(key="gone", size=9, sha256=b""))
    assert (await returned(gone, ret="FULL")).original == LINES


@pytest.mark.parametrize("content", [None, Content(head=b"\r\n", tail=b"no header\r\n")])
async def test_without_the_message_the_ledgers_fields_come_back(content: Content | None) -> None:
    assert b"Subject: Plan for Monday" in (await returned(content, ret="FULL")).original


async def test_a_success_never_brings_a_message_back() -> None:
    """RFC 3461 4.3: FULL is for failures."""
    world, post = World(), record(ret="FULL")
    world.ledger.open(post, target(report=True))
    await world.handle(expanded(post))
    assert Status(octets(world.bus.reports[0].content)).original_kind == "text/rfc822-headers"
