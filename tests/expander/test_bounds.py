"""What an expansion may cost, whatever members, graphs and header sections it is given (P10), and a slice that the ledger knows nothing of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from services.expander.graph import MAX_STEPS, Node, Scope, Walk
from services.expander.publishing import PORTION
from shared.bus import Outgoing
from shared.groups import SLOTS
from shared.messages import Delivery, Slice
from shared.topology import Queue
from tests.expander.world import QueueBus, World, head, open_world, post

OFFICE = "office@a.test"
DEEP = 2_000


class _Weighing(QueueBus):
    """Remembers how many octets waited for their confirms together, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.heaviest = 0

    async def publish_all(self, messages: Sequence[Outgoing], *, timeout: float = 30.0) -> None:
        self.heaviest = max(self.heaviest, sum(len(message.payload) for message in messages))
        await super().publish_all(messages, timeout=timeout)


@pytest.mark.parametrize(("express_limit", "slice_size"), [(500, 5000), (10, 200), (10, 2)])
async def test_p10_large_header_sections_to_many_hops_are_never_all_in_memory(
    tmp_path: Path, express_limit: int, slice_size: int
) -> None:
    """With `mx:` every domain is a batch, and with small slices there are many of those: each carries the whole header section."""
    settings = {"express_limit": express_limit, "slice_size": slice_size, "next_hop": "mx:"}
    large = head("Ana <ana@example.test>", f"X-Large: {'x' * 900}", *["X-More: " + "y" * 900] * 200)
    async with open_world(tmp_path, **settings) as world:
        world.bus = bus = _Weighing()
        world.directory.add(OFFICE, *(f"p@d{n}.test" for n in range(100)))
        result = await world.run(post(OFFICE, head=large))
    assert len(result.people) == len(result.deliveries) == 100
    sent = sum(len(one.payload) for one, wire in result.wires if isinstance(wire, Delivery | Slice))
    assert sent > 4 * PORTION
    assert bus.heaviest < PORTION + 300_000


async def test_p10_a_deep_chain_costs_what_its_length_is(world: World) -> None:
    """An administrator controls the graph, and no other post is worked while one is walked."""
    for number in range(DEEP):
        nested = [f"g{number + 1}@a.test"] if number < DEEP - 1 else []
        world.directory.add(f"g{number}@a.test", f"p{number}@x.test", *nested)
    group = await world.directory.group("g0@a.test")
    assert group is not None
    scope = await Walk(world.directory, targets=()).scope(group)
    assert len(scope.nodes) == DEEP
    steps = _Counted(scope.nodes)
    counted = Scope(group=scope.group, nodes=steps)
    paths = [counted.via(number) for number in range(DEEP)]
    assert steps.read < DEEP * 3 * MAX_STEPS
    assert paths[:2] == [("g0@a.test",), ("g0@a.test", "g1@a.test")]
    assert len(paths[MAX_STEPS - 1]) == len(paths[MAX_STEPS]) == len(paths[-1]) == MAX_STEPS
    assert (
        paths[MAX_STEPS - 1][-2:] == paths[MAX_STEPS][-3:-1] == (f"g{MAX_STEPS - 2}@a.test", f"g{MAX_STEPS - 1}@a.test")
    )
    assert paths[-1][:2] == ("g0@a.test", "...")
    assert paths[-1][-1] == f"g{DEEP - 1}@a.test"


class _Counted(list[Node]):
    """Counts how often a node is looked at."""

    read = 0

    def __getitem__(self, number: int) -> Node:  # type: ignore[override]
        self.read += 1
        return super().__getitem__(number)


async def test_p4_a_slice_of_a_post_that_the_ledger_does_not_know_is_parked(world: World) -> None:
    """The ledger was put back from a copy: without the graph of its groups nobody would get this share, and nobody would hear of it."""
    world.directory.add(OFFICE, "boris@x.test")
    result = await world.run(Slice(post=post(OFFICE), cells=4, index=1, of=2, low=SLOTS // 2, high=SLOTS))
    ((parked, reason),) = world.bus.aside
    assert parked.queue is Queue.SLICES
    assert "graph of groups" in reason
    assert result.expanded == []
