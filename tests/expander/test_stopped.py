"""A post that was stopped: nothing more of it is published, and all of it is told, so that its sums are whole."""

from __future__ import annotations

import time
from pathlib import Path

from shared.ledger.notes import stop_note
from tests.expander.world import World, open_world, post

OFFICE, SUB = "office@a.test", "sub@b.test"


async def stop(world: World, post_id: str) -> None:
    await world.ledger.real.note(stop_note(post_id, at=time.time(), why=""))


async def test_p4_a_small_post_stopped_before_it_is_expanded_gives_nobody_a_copy(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.directory.add(OFFICE, *(f"p{n}@x.test" for n in range(7)))
        message = post(OFFICE)
        await stop(world, message.id)
        result = await world.run(message)
        await world.file(result)
        assert result.deliveries == []
        totals = await world.ledger.real.totals(message.id)
        assert (totals.expanded, totals.suppressed, totals.deferred, totals.complete) == (7, 7, 0, True)


async def test_p4_a_stop_between_two_slices_stops_those_that_follow(tmp_path: Path) -> None:
    sizes = {"express_limit": 20, "slice_size": 100, "batch_size": 10}
    async with open_world(tmp_path, **sizes) as world:
        world.directory.add(OFFICE, *(f"p{n}@x.test" for n in range(300)))
        message = post(OFFICE)
        whole = await world.run(message)
        first, *others = whole.slices
        await stop(world, message.id)
        result = await world.run(*others)
        await world.file(whole)
        assert len(whole.people) == 300
        assert result.deliveries == []
        assert [one.index for one in result.expanded] == [each.index for each in others]
        told = {name for one in result.expanded for row in one.queued for name in row.addresses}
        here = {
            name for one in whole.expanded if one.index == first.index for row in one.queued for name in row.addresses
        }
        assert len(told) + len(here) == 300  # who would have got a copy is told all the same
        totals = await world.ledger.real.totals(message.id)
        assert (totals.expanded, totals.suppressed, totals.complete) == (300, 300, True)


async def test_no_post_is_made_inside_from_a_stopped_one_and_one_that_was_made_is_stopped_too(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.directory.add(OFFICE, "ana@x.test", SUB)
        world.directory.add(SUB, "vera@x.test")
        message = post(OFFICE)
        made = await world.run(message)
        (child,) = made.inside
        assert made.people == ["ana@x.test", "vera@x.test"]
        await stop(world, message.id)
        again = await world.run(message, child)
        assert (again.deliveries, again.inside) == ([], [])
        assert [note.kind for note in await world.ledger.real.notes(child.id)] == ["stopped"]
