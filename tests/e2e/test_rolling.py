"""P1 and P3 while processes come and go in order: every service is restarted one by one, then workers are added and removed at random, under load.

Nothing is forgiven here: an orderly end drains, so nobody may be missed and nobody may get two, and no client may hear a 5xx.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import pytest

from tests.e2e.client import Flow, Ledger, compose
from tests.e2e.conftest import Starts
from tests.e2e.oracle import Oracle
from tests.e2e.sinks import NextHop
from tests.e2e.system import System
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

TEAM, BIG = "team@example.test", "big@example.test"
GRAPH: Mapping[str, tuple[str, ...]] = {
    TEAM: tuple(f"t{number}@example.org" for number in range(10)),
    # the next hop answers the final dot of these after 200 ms: there is something in hand whenever a process ends
    BIG: tuple(f"slow-200_b{number}@example.org" for number in range(400)),
}
SETTINGS = {
    "HORO_EXPRESS_LIMIT": "100",
    "HORO_SLICE_SIZE": "100",
    "HORO_BATCH_SIZE": "10",
    "HORO_WORKERS": "4",
}
SERVICES = {"ingress": 1, "expander": 2, "sender": 2, "reporter": 1, "console": 1}
SEED, STEPS, MOST = 20261123, 8, 3


def under_way(system: System, hop: NextHop, ledger: Ledger) -> None:
    """Accept a post to the big group, and wait until its copies are going out."""
    begun = hop.transactions
    assert ledger.send(system.smtp, compose(BIG)).code == 250
    wait_until(lambda: hop.transactions > begun and hop.busy > 0, "the big post to be on its way", 30, pause=0.01)


def change(system: System, noise: random.Random) -> str:
    """Add a worker or take one away, as chance has it; what was done. One of each role stays, and at most three run."""
    role = noise.choice(("expander", "sender", "reporter"))
    count = len(system.children[role])
    if count == 1 or (count < MOST and noise.random() < 0.5):
        system.add(role)
        return f"+{role}"
    number = noise.randrange(count)
    assert system.remove(role, number) == 0
    return f"-{role} {number}"


def test_p1_p3_every_service_restarted_one_by_one_then_workers_added_and_removed_at_random_under_load(
    cluster: Starts, hops: Callable[..., NextHop]
) -> None:
    hop = hops()
    system = cluster({**SETTINGS, "HORO_NEXT_HOP": hop.url}, roles=SERVICES)
    for group, people in GRAPH.items():
        system.group(group)
        system.members(group, people)
    ledger = Ledger()
    oracle = Oracle(ledger, hop, GRAPH)
    noise, done = random.Random(SEED), []
    with Flow(ledger, system.smtp, TEAM, threads=2, pause=0.2) as flow:
        for role in SERVICES:
            under_way(system, hop, ledger)
            assert set(system.roll(role)) == {0}
        for step in range(STEPS):
            if step % 2 == 0:
                under_way(system, hop, ledger)
            done.append(change(system, noise))
        flow.stop()
    print(f"seed {SEED}:", ", ".join(done))
    assert {word[0] for word in done} == {"+", "-"}
    oracle.wait()
    oracle.check_sums(system)
    verdict = oracle.judge()
    assert verdict.lost == frozenset()
    assert verdict.dup == {}
    assert verdict.unexpected == frozenset()
    assert verdict.corrupt == frozenset()
    assert ledger.refusals() == []
    assert oracle.recorded(system) == oracle.expected()
