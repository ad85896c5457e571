"""The expander against an independent naive one, over random graphs of groups: the same copies, and every membership accounted for."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.expander import share
from shared.address import key
from shared.messages import Lane, Post, Reason, encode
from tests.expander import naive
from tests.expander.graphs import Scene, build, member, scenes
from tests.expander.world import Result, World, head, open_world, post

PROPERTY = settings(
    max_examples=60,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking takes minutes, and a scene is small as it is
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module", autouse=True, params=[8, 0], ids=["by cells", "by slices"])
def unit(request: pytest.FixtureRequest) -> Iterator[None]:
    """Members are judged cell by cell, and where there are many groups slice by slice: it must come to the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(share, "FEW_GROUPS", request.param)
        yield


def in_world(scenario: Callable[[World], Awaitable[None]], **values: Any) -> None:
    """Run a scenario in a world of its own."""

    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with open_world(Path(folder), **values) as world:
                await scenario(world)

    asyncio.run(run())


def written(scene: Scene, **changes: Any) -> Post:
    """The post of a scene."""
    top = head(", ".join(scene.authors) or "nobody", to=", ".join(scene.to_cc))
    return post(*scene.targets, head=top, **changes)


def expected(scene: Scene) -> naive.Answer:
    return naive.expand(scene.town, scene.targets, authors=set(scene.authors), to_cc=set(scene.to_cc))


def label(result: Result, post_id: str) -> str:
    """ "outside", or the sub-group that a post was made for."""
    found = result.posts[post_id]
    return found.targets[0].group if found.parent else "outside"


def copies(result: Result) -> Counter[tuple[str, str, str]]:
    """(post, target, key) of every copy that is on the bus."""
    return Counter(
        (label(result, one.post_id), one.group, who) for who, all_of in result.copies.items() for one in all_of
    )


def rows(result: Result) -> Counter[tuple[str, str, tuple[str, ...], str]]:
    """(post, target, path, key) of every row, a copy or a suppression; repetitions of a post made inside have no rows of their own."""
    found: Counter[tuple[str, str, tuple[str, ...], str]] = Counter()
    for one in result.expanded:
        for row in (*one.queued, *one.suppressed):
            if getattr(row, "reason", None) is not Reason.REPETITION:
                found.update(
                    (label(result, one.post_id), one.group, row.via, key(address)) for address in row.addresses
                )
    return found


# --- the same as the naive expander ----------------------------------------------------------------------------------------
@PROPERTY
@given(scenes())
def test_p2_p4_copies_and_rows_are_those_of_the_naive_expander(scene: Scene) -> None:
    async def scenario(world: World) -> None:
        build(world, scene.town)
        result = await world.run(written(scene))
        wanted = expected(scene)
        assert world.bus.aside == []
        assert copies(result) == wanted.copies
        assert rows(result) == wanted.rows

    in_world(scenario)


@PROPERTY
@given(scenes(in_place=True))
def test_p2_one_copy_a_person_where_everything_is_expanded_in_place(scene: Scene) -> None:
    async def scenario(world: World) -> None:
        build(world, scene.town)
        result = await world.run(written(scene))
        assert result.inside == []
        assert set(Counter(result.people).values()) <= {1}
        assert set(result.people) == {who for _, _, who in expected(scene).copies}

    in_world(scenario)


@PROPERTY
@given(scenes())
def test_p4_the_ledger_adds_up_for_every_target(scene: Scene) -> None:
    async def scenario(world: World) -> None:
        build(world, scene.town)
        result = await world.run(written(scene))
        await world.file(result)
        for post_id, group in {(one.post_id, one.group) for one in result.expanded}:
            totals = await world.ledger.totals(post_id, group)
            assert totals.complete
            assert totals.expanded == totals.announced
            assert totals.expanded == totals.delivered + totals.deferred + totals.failed + totals.suppressed

    in_world(scenario)


@PROPERTY
@given(scenes())
def test_p2_a_sub_group_is_expanded_as_a_post_of_its_own_once_and_the_work_is_bounded(scene: Scene) -> None:
    async def scenario(world: World) -> None:
        build(world, scene.town)
        result = await world.run(written(scene))
        ended = {
            one.post_id for one in result.expanded if any(row.reason is Reason.REPETITION for row in one.suppressed)
        }
        entered = Counter(label(result, one.id) for one in result.inside if one.id not in ended)
        assert sorted(entered.elements()) == sorted(expected(scene).handed)
        edges = sum(len(circle.members) for circle in scene.town.values())
        assert len(result.inside) <= len(scene.targets) * edges
        posts = len(scene.targets) + len(result.inside)
        assert world.directory.fault.calls <= posts * (10 + 10 * edges + 10 * len(scene.town))

    in_world(scenario)


# --- slices -----------------------------------------------------------------------------------------------------------------
@PROPERTY
@given(scenes())
def test_p2_p7_slices_give_what_one_piece_gives(scene: Scene) -> None:
    fillers = tuple(naive.Person(f"filler{number}@big.test") for number in range(120))
    town = {name: one._replace(members=one.members + fillers) for name, one in scene.town.items()}
    full = scene._replace(town=town)

    async def in_slices(world: World) -> None:
        build(world, full.town)
        result = await world.run(written(full))
        assert result.slices
        assert copies(result) == expected(full).copies
        assert rows(result) == expected(full).rows
        assert {one.lane for one in result.deliveries} <= {Lane.BULK}

    in_world(in_slices, express_limit=60, slice_size=100)


# --- again ------------------------------------------------------------------------------------------------------------------
@PROPERTY
@given(scenes())
def test_p3_the_same_post_again_gives_the_same_batches_octet_by_octet(scene: Scene) -> None:
    async def scenario(world: World) -> None:
        build(world, scene.town)
        message = written(scene)
        first, second = await world.run(message), await world.run(message)
        assert {_unqueued(one) for one in second.deliveries} == {_unqueued(one) for one in first.deliveries}
        assert {one.id for one in second.inside} == {one.id for one in first.inside}
        assert {_untimed(one) for one in second.expanded} == {_untimed(one) for one in first.expanded}

    in_world(scenario)


def _unqueued(one: Any) -> bytes:
    """But for when it was put on the bus."""
    return encode(msgspec.structs.replace(one, queued_at=0.0))


def _untimed(one: Any) -> bytes:
    """Told at another time, and without the brief: of a post that was opened before, the reporter asks the ledger."""
    return encode(msgspec.structs.replace(one, at=0.0, brief=None))


@PROPERTY
@given(scenes(in_place=True), st.data())
def test_p3_after_an_edit_of_members_everybody_keeps_their_cell(scene: Scene, data: st.DataObject) -> None:
    edited = _edited(scene, data)

    async def scenario(world: World) -> None:
        build(world, scene.town)
        message = written(scene)
        first = await world.run(message)
        world.directory.groups.clear()
        world.directory.rows.clear()
        build(world, edited.town)
        second = await world.run(message)
        before, after = _cells(first), _cells(second)
        for who in before.keys() & after.keys():
            assert before[who] == after[who]
        throughout = {who for _, _, who in expected(scene).copies} & {who for _, _, who in expected(edited).copies}
        assert throughout <= before.keys() & after.keys()
        assert all(len(of_one) == 1 for of_one in (*before.values(), *after.values()))

    in_world(scenario, batch_size=2)


def _edited(scene: Scene, data: st.DataObject) -> Scene:
    """The scene with people added, removed, paused; the groups among the members stay."""
    town = {}
    for name, circle in scene.town.items():
        kept = tuple(
            one._replace(paused=data.draw(st.booleans())) if naive.stands_for(scene.town, one) is None else one
            for one in circle.members
            if naive.stands_for(scene.town, one) is not None or data.draw(st.booleans())
        )
        added = tuple(naive.Person(f"new{n}@x.test") for n in range(data.draw(st.integers(0, 20))))
        town[name] = circle._replace(members=kept + added)
    return scene._replace(town=town)


def _cells(result: Result) -> dict[str, set[tuple[str, int, str]]]:
    found: dict[str, set[tuple[str, int, str]]] = {}
    for post_id, who, cell, hop in result.claims:
        found.setdefault(who, set()).add((post_id, cell, hop))
    return found


@PROPERTY
@given(scenes(in_place=True), st.data())
def test_p3_members_edited_between_the_slices(scene: Scene, data: st.DataObject) -> None:
    """Whoever was a member throughout gets one copy, anybody else at most one."""
    edited = _edited(scene, data)

    async def scenario(world: World) -> None:
        build(world, scene.town)
        for number in range(150):
            world.directory.put(scene.targets[0], f"filler{number}@big.test")
        world.bus.late = _After(world, edited)
        result = await world.run(written(scene))
        assert result.slices
        counted = Counter(result.people)
        assert set(counted.values()) <= {1}
        throughout = {who for _, _, who in expected(scene).copies} & {who for _, _, who in expected(edited).copies}
        assert throughout <= counted.keys()
        assert sum(who.endswith("@big.test") for who in counted) == 150

    in_world(scenario, express_limit=1, slice_size=100)


class _After:
    """Edits the members once the first batch of the first slice is on the bus; what stood in the target's fillers stays."""

    def __init__(self, world: World, edited: Scene) -> None:
        self._world, self._edited, self._done = world, edited, False

    async def __call__(self) -> None:
        if self._done or "deliveries" not in self._world.bus.published[-1].queue:
            return
        self._done = True
        for circle in self._edited.town.values():
            rows = self._world.directory.rows[circle.address]
            rows[:] = [row for row in rows if row.key.endswith("@big.test")]
            for one in circle.members:
                self._world.directory.put(circle.address, member(one))
