"""Trouble of every port at every call: the message is tried again, and in the end the outcome is what it had been without trouble."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

import shared.worker
from shared.bodies import BodiesUnavailable
from shared.bus import BusUnavailable, Outgoing
from shared.directory import DirectoryUnavailable
from shared.groups import SLOTS, slot
from shared.ledger import Claim, LedgerUnavailable
from shared.messages import Expanded, Fate, Post, State, TargetKind, encode
from shared.topology import Queue
from tests.expander.town import person
from tests.expander.world import FailAt, Result, World, open_world, post, role
from tests.support.doubles import Fault

OFFICE, BOARD, CREW = "office@a.test", "board@a.test", "crew@a.test"
SIZES: dict[str, dict[str, Any]] = {
    "in one piece": {"express_limit": 10_000, "batch_size": 10},
    "in slices": {"express_limit": 20, "slice_size": 100, "batch_size": 10},
}
PORTS: dict[str, tuple[Callable[[World], Any], str, Exception]] = {
    "bus": (lambda world: world.bus, "fault", BusUnavailable("gone")),
    "bus, unconfirmed": (lambda world: world.bus, "late", BusUnavailable("no confirm")),
    "directory": (lambda world: world.directory, "fault", DirectoryUnavailable("gone")),
    "ledger": (lambda world: world.ledger, "fault", LedgerUnavailable("gone")),
    "ledger, unheard": (lambda world: world.ledger, "late", LedgerUnavailable("done, but no answer")),
    "bodies": (lambda world: world.bodies, "fault", BodiesUnavailable("gone")),
    "bodies, at the end": (lambda world: world.bodies, "commit_fault", BodiesUnavailable("gone")),
    "ledger, a bug": (lambda world: world.ledger, "fault", RuntimeError("nobody foresaw this")),
}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No waits between tries, and no tracebacks painted for the terminal, which take seconds."""
    monkeypatch.setattr(shared.worker, "RETRY_DELAYS", (0.0,))
    with capture_logs():
        yield


def settle(world: World) -> None:
    """People in two groups in place and one with a post of its own, one that refuses, one that is disabled, a paused member."""
    directory = world.directory
    directory.add(BOARD, "boris@x.test", *(f"b{n}@x.test" for n in range(60)))
    directory.add("sub@b.test", "vera@x.test", "boris@x.test")
    directory.add("closed@b.test", "nobody@x.test", who_can_post="owners")
    directory.add("off@a.test", "nobody@x.test", disabled=True)
    people = (f"p{n}@x.test" for n in range(70))
    nested = (BOARD, "sub@b.test", "closed@b.test", "off@a.test")
    directory.add(
        OFFICE, "boris@x.test", person("paused@x.test", paused=True), *people, *nested, owners=("ola@x.test",)
    )
    directory.add(CREW, "p1@x.test", "sub@b.test")


def message() -> Post:
    """To two groups, one that is gone, and an owner address; its body goes to the store."""
    owner = role(OFFICE, TargetKind.OWNER, "office-owner@a.test")
    return post(OFFICE, CREW, "gone@a.test", owner, tail=b"x" * 320_000)


def outcome(result: Result) -> tuple[Any, ...]:
    """What counts of a run: every copy by its claim, the posts made inside, everything that the reporter is told.

    But for the brief: of a post that was opened before, the reporter asks the ledger.
    """
    told = {encode(msgspec.structs.replace(one, at=0.0, brief=None)) for one in result.expanded}
    return result.claims, {one.id for one in result.inside}, told, _refusals(result)


def _refusals(result: Result) -> set[tuple[str, str, int]]:
    return {(one.group, fate.address, fate.code) for one in result.attempted for fate in one.fates}


async def run(folder: Path, given: Post, size: str, prepare: Callable[[World], None] = settle) -> tuple[World, Result]:
    folder.mkdir(exist_ok=True)
    async with open_world(folder, **SIZES[size]) as world:
        prepare(world)
        return world, await world.run(given)


# --- one failure, at each call in turn --------------------------------------------------------------------------------
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("port", PORTS)
async def test_p3_trouble_at_any_call_loses_nothing_and_repeats_nothing(tmp_path: Path, port: str, size: str) -> None:
    find, name, error = PORTS[port]
    given = message()
    counter = Fault()
    clean, result = await run(
        tmp_path / "clean", given, size, lambda world: (settle(world), setattr(find(world), name, counter))[0]
    )
    wanted = outcome(result)
    assert (clean.bus.aside, clean.bus.retries) == ([], 0)
    assert counter.calls > 0
    assert len({who for _, who, _, _ in result.claims}) == 133

    numbers = range(1, counter.calls + 1)
    for number in numbers if counter.calls <= 40 else (*numbers[:20], *numbers[20::3]):
        fault = FailAt(number, error)
        world, again = await run(
            tmp_path / f"at{number}",
            given,
            size,
            lambda world, fault=fault: (settle(world), setattr(find(world), name, fault))[0],
        )
        assert world.bus.aside == [], number
        assert world.bus.retries == 1, number
        assert outcome(again) == wanted, number


@pytest.mark.parametrize("size", SIZES)
async def test_p3_a_bus_that_stays_away_for_a_while(tmp_path: Path, size: str) -> None:
    """Not even the retry can be published: the message stays unacked and is worked in the end."""
    given = message()
    _, clean = await run(tmp_path / "clean", given, size)
    for number in (1, 3, 9, 15):
        fault = FailAt(number, BusUnavailable("gone"), times=4)
        world, again = await run(
            tmp_path / f"at{number}",
            given,
            size,
            lambda world, fault=fault: (settle(world), setattr(world.bus, "fault", fault))[0],
        )
        assert world.bus.aside == []
        assert outcome(again) == outcome(clean)


async def test_trouble_that_does_not_pass_parks_the_post_with_its_reason(world: World) -> None:
    settle(world)
    world.ledger.fault.error = LedgerUnavailable("the disk is gone")
    given = message()
    result = await world.run(given)
    assert result.deliveries == []
    ((parked, reason),) = world.bus.aside
    assert parked.payload == encode(given)
    assert "the disk is gone" in reason
    assert reason.startswith("after 5 tries")


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x00" * 10, encode(Expanded(post_id="x", group=OFFICE, index=0, of=1, queued=(), suppressed=(), at=0.0))],
)
async def test_what_is_no_work_for_the_expander_is_parked(world: World, payload: bytes) -> None:
    for queue in (Queue.POSTS, Queue.SLICES, Queue.SIGNALS):
        await world.bus.feed(Outgoing(queue=queue, payload=payload))
    async with asyncio.timeout(10):
        await world.work()
    assert [parked.payload for parked, _ in world.bus.aside] == [payload] * 3
    assert all(reason.startswith("undecodable") for _, reason in world.bus.aside)


# --- edits in mid-fan-out -----------------------------------------------------------------------------------------------
class _Once:
    """Does something once, when the first batch of deliveries is on the bus."""

    def __init__(self, world: World, act: Callable[[], None]) -> None:
        self._world, self._act, self._done = world, act, False

    async def __call__(self) -> None:
        if not self._done and "deliveries" in self._world.bus.published[-1].queue:
            self._done = True
            self._act()


@pytest.mark.parametrize("where", ["one way less", "one way more"])
async def test_p3_a_sub_group_that_is_edited_in_mid_fan_out_is_missed_by_nobody_and_got_twice_by_nobody(
    tmp_path: Path, where: str
) -> None:
    """board is reached all the time, by way of crew, which hands it on; what changes is the way in place."""
    async with open_world(tmp_path, express_limit=20, slice_size=100) as world:
        people = sorted(f"b{n}@x.test" for n in range(300))
        world.directory.add(BOARD, *people)
        world.directory.add(CREW, BOARD, expand_groups=False)
        world.directory.add(OFFICE, CREW, *([BOARD] if where == "one way less" else []))
        if where == "one way less":
            world.bus.late = _Once(world, lambda: world.directory.remove(OFFICE, BOARD))
        else:
            world.directory.put(OFFICE, "aa@x.test")
            for number in range(300):
                world.directory.put(OFFICE, f"o{number}@x.test")
            world.bus.late = _Once(world, lambda: world.directory.put(OFFICE, BOARD))
        result = await world.run(post(OFFICE))
        assert [who for who in result.people if who.startswith("b")] == people


@pytest.mark.parametrize("in_place", [True, False])
async def test_p4_a_sub_group_deleted_in_mid_fan_out_is_no_person_and_the_fan_out_ends(
    tmp_path: Path, in_place: bool
) -> None:
    """Deleted, its address is a plain member to whoever reads the next slice: it must not be told of twice, nor be sent a copy."""
    sub = next(name for n in range(99) if slot(name := f"sub{n}@a.test") > SLOTS * 3 // 4)
    async with open_world(tmp_path, express_limit=20, slice_size=100) as world:
        world.directory.add(sub, "vera@x.test")
        world.directory.add(OFFICE, sub, *(f"p{n}@x.test" for n in range(300)), expand_groups=in_place)
        world.bus.late = _Once(world, lambda: world.directory.delete(sub))
        given = post(OFFICE)
        result = await world.run(given)
        assert sub not in result.copies
        assert len([who for who in result.people if who.startswith("p")]) == 300
        await world.file(result)
        for who in result.copies:
            sent = result.one(who).delivery
            claim = Claim(post_id=given.id, cell=sent.cell, hop=sent.hop)
            await world.ledger.record(claim, OFFICE, [_delivered(who)])
        totals = await world.ledger.totals(given.id, OFFICE)
        assert (totals.complete, totals.expanded, totals.failed) == (True, totals.announced, int(not in_place))


def _delivered(who: str) -> Fate:
    return Fate(address=who, state=State.DELIVERED, code=250, status="2.1.5", text="OK", hop="x", attempt=0, at=1.0)


async def test_p3_a_repetition_over_edited_members_keeps_every_cell(tmp_path: Path) -> None:
    async with open_world(tmp_path, batch_size=10) as world:
        world.directory.add(OFFICE, *(f"p{n}@x.test" for n in range(200)))
        given = post(OFFICE)
        first = await world.run(given)
        for number in range(0, 200, 3):
            world.directory.remove(OFFICE, f"p{number}@x.test")
        for number in range(400):  # the plan of the first expansion holds for more than it was made for
            world.directory.put(OFFICE, f"new{number}@x.test")
        second = await world.run(given)
        cells = {who: (cell, hop) for _, who, cell, hop in first.claims}
        again = {who: (cell, hop) for _, who, cell, hop in second.claims}
        both = cells.keys() & again.keys()
        assert len(both) == 200 - 67
        assert all(cells[who] == again[who] for who in both)
        assert {one.of for one in second.expanded} == {1}
