"""`horo post stop` in the middle of a large fan-out: what is under way arrives, nothing else does, and everybody is accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.e2e.client import compose
from tests.e2e.conftest import Starts
from tests.e2e.sinks import NextHop
from tests.e2e.system import System, delivered, left_out, sums
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

PEOPLE = 600
SMALL_AND_SLOW = {
    "HORO_EXPRESS_LIMIT": "50",
    "HORO_SLICE_SIZE": "100",
    "HORO_BATCH_SIZE": "10",
    "HORO_HOP_CONNECTIONS": "1",
}
"""Six slices, sixty batches and more, one at a time: a fan-out of twenty seconds."""


def test_p4_a_fan_out_stopped_in_its_middle_ends_there_and_adds_up(
    embedded: Starts, hops: Callable[..., NextHop]
) -> None:
    hop = hops()
    system = embedded({**SMALL_AND_SLOW, "HORO_NEXT_HOP": hop.url})
    system.group("all@example.test")
    system.members("all@example.test", [f"slow-900_{n}@world.test" for n in range(PEOPLE)])
    message = compose("all@example.test")
    post = system.accepted(message)
    hop.wait_for(20)
    said = system.cli("post", "stop", post, "--why", "the wrong list")
    assert (said["already"], said["with"]) == (False, [])
    wait_until(lambda: len(hop.copies) + halted(system) >= PEOPLE, "the rest to be passed by", 60)
    document = system.settled(message.id)
    expanded, arrived, deferred, failed, suppressed = sums(document)
    assert (expanded, deferred, failed) == (PEOPLE, 0, 0)
    assert arrived + suppressed == PEOPLE
    assert 20 <= arrived < PEOPLE
    wait_until(
        lambda: delivered(system.trace(message.id)) == sorted(hop.counts), "the trace to say what the next hop has"
    )
    assert set(hop.counts.values()) == {1}
    assert {reason for _, reason in left_out(system.trace(message.id))} == {"stopped"}
    assert [note["detail"] for note in document["notes"]] == [{"why": "the wrong list"}]
    # others are not concerned, and a stop said again changes nothing
    assert system.cli("post", "stop", post)["already"] is True
    system.group("few@example.test", ["ana@world.test"])
    assert delivered(system.settled(system.accepted(compose("few@example.test")))) == ["ana@world.test"]
    assert system.terminate() == [0]


def halted(system: System) -> int:
    """Copies that the log says were passed by: those of the expander's shares that were never published, and of the sender's batches."""
    return sum(int(count) for count in re.findall(r"halted .*?copies=(\d+)", system.said("up")))
