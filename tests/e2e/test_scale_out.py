"""More processes, more mail: 1, 2 and 4 expanders and senders before a next hop with latency, on one running system.

Each sender may hold so few transactions that the next hop's latency is what a fan-out waits for, not this machine's cores. What is
compared are the durations of the same post in one run, with wide margins; nothing is measured in absolute time.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.e2e.client import compose
from tests.e2e.conftest import Starts
from tests.e2e.sinks import NextHop
from tests.e2e.system import System

pytestmark = pytest.mark.e2e

BIG = "big@example.test"
PEOPLE = [f"slow-80_b{number}@example.org" for number in range(1200)]
SETTINGS = {
    "HORO_EXPRESS_LIMIT": "100",
    "HORO_SLICE_SIZE": "100",
    "HORO_BATCH_SIZE": "25",
    "HORO_WORKERS": "2",
    "HORO_HOP_CONNECTIONS": "2",
}


def duration(system: System, hop: NextHop) -> float:
    """Seconds from the 250 to a post until its last copy was taken; everybody has exactly one."""
    before = len(hop.copies)
    system.accepted(compose(BIG))
    begun = time.time()
    hop.wait_for(before + len(PEOPLE), 60)
    copies = hop.copies[before:]
    assert sorted(copy.recipient for copy in copies) == sorted(PEOPLE)
    return max(copy.at for copy in copies) - begun


def shares(system: System, role: str, event: str, before: list[int]) -> list[int]:
    """How often each process of a role has told an event since `before`."""
    told = [child.output.count(f'"event":"{event}"') for child in system.children[role]]
    return [count - (before[number] if number < len(before) else 0) for number, count in enumerate(told)]


def test_p3_throughput_rises_with_the_number_of_senders_and_expanders(
    cluster: Starts, hops: Callable[..., NextHop]
) -> None:
    hop = hops()
    system = cluster(
        {**SETTINGS, "HORO_NEXT_HOP": hop.url}, roles={"ingress": 1, "expander": 1, "sender": 1, "reporter": 1}
    )
    system.group(BIG)
    system.members(BIG, PEOPLE)
    took = {}
    for count in (1, 2, 4):
        for role in ("expander", "sender"):
            system.add(role, count - len(system.children[role]))
        before = {role: shares(system, role, event, []) for role, event in WORK.items()}
        took[count] = duration(system, hop)
        for role, event in WORK.items():
            busy = sum(map(bool, shares(system, role, event, before[role])))
            assert busy >= min(count, 2), f"of {count}, {busy} {role} had something to do"
    print("seconds by processes:", {count: round(seconds, 2) for count, seconds in took.items()})
    assert took[1] / took[2] > 1.35, took
    assert took[1] / took[4] > 1.9, took


WORK = {"expander": "expanded", "sender": "delivered"}
"""What a process of a role tells of each piece of its work."""
