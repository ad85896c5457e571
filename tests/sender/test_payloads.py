"""Bodies of the store that many transactions share: read once, kept within bounds, and never kept where they could not be read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.sender import payloads
from services.sender.payloads import Payloads
from shared.bodies import BodyMissing
from shared.messages import BodyRef, Content


class Store:
    """Bodies of dots; counts who reads."""

    def __init__(self) -> None:
        self.read = 0
        self.trouble: Exception | None = None

    async def stream(self, ref: BodyRef, offset: int = 0) -> AsyncIterator[bytes]:
        self.read += 1
        await asyncio.sleep(0)
        if self.trouble is not None:
            raise self.trouble
        body = b".\r\n" * (ref.size // 3)
        yield body[offset:]


def content(number: int = 0, *, head: bytes = b"A: b\r\n\r\n", size: int = 300) -> Content:
    return Content(head=head, ref=BodyRef(key=f"k{number}", size=size, sha256=b""))


async def test_a_hundred_transactions_read_a_body_once_and_a_group_has_its_own_head() -> None:
    store = Store()
    shelf = Payloads(store)  # type: ignore[arg-type]
    all_of = await asyncio.gather(*(shelf.of(content()) for _ in range(100)))
    assert store.read == 1
    assert all_of[0].whole == b"A: b\r\n\r\n" + b"..\r\n" * 100 + b".\r\n"
    other = await shelf.of(content(head=b"C: d\r\n\r\n"))
    assert (other.whole or b"").startswith(b"C: d\r\n\r\n..\r\n")
    assert store.read == 2


async def test_a_body_that_cannot_be_read_is_read_again() -> None:
    store = Store()
    shelf = Payloads(store)  # type: ignore[arg-type]
    store.trouble = BodyMissing("gone")
    told = await asyncio.gather(*(shelf.of(content()) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in told] == [BodyMissing] * 3
    store.trouble = None
    assert (await shelf.of(content())).whole


async def test_who_gives_up_waiting_ends_nobody_elses_wait() -> None:
    shelf = Payloads(Store())  # type: ignore[arg-type]
    first = asyncio.create_task(shelf.of(content()))
    second = asyncio.create_task(shelf.of(content()))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).whole


async def test_p10_what_is_kept_is_bounded_and_the_large_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payloads, "KEPT", 2000)
    monkeypatch.setattr(payloads, "LARGE", 1000)
    store = Store()
    shelf = Payloads(store)  # type: ignore[arg-type]
    for number in range(10):
        await shelf.of(content(number))
    assert store.read == 10
    for number in range(6, 10):  # four of some 411 octets are within the bound
        await shelf.of(content(number))
    assert store.read == 10
    await shelf.of(content(0))
    assert store.read == 11
    assert (await shelf.of(content(size=3000))).whole is None
