"""P1 and P3 under kill -9: while mail flows, every process and every server is killed in turn and comes back; then both ends are counted.

Duplicates are forgiven to SMTP alone: what a killed sender had in flight, which is found as what has arrived and stands in no record. The
client repeats a message, octet for octet, until it has its 250, as every mail server does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from tests.e2e.client import Flow, Ledger, Session, compose
from tests.e2e.conftest import Starts
from tests.e2e.oracle import Oracle, Pair
from tests.e2e.sinks import NextHop
from tests.e2e.system import System
from tests.support.servers import PostgreSQL, RabbitMQ
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

TEAM, BIG = "team@example.test", "big@example.test"
GRAPH: Mapping[str, tuple[str, ...]] = {
    TEAM: tuple(f"t{number}@example.org" for number in range(20)),
    # the next hop answers the final dot of these after 300 ms: time to be killed in
    BIG: tuple(f"slow-300_b{number}@example.org" for number in range(1000)),
}
WORKERS, BATCH = 4, 25
SETTINGS = {
    "HORO_EXPRESS_LIMIT": "100",
    "HORO_SLICE_SIZE": "100",
    "HORO_BATCH_SIZE": str(BATCH),
    "HORO_WORKERS": str(WORKERS),
}
IN_HAND = 2 * WORKERS * BATCH
"""Recipients that one sender can have in flight: two lanes, so many transactions each, so many recipients each."""


class Scene(NamedTuple):
    """A running system, its client, and the judge of both."""

    system: System
    hop: NextHop
    ledger: Ledger
    oracle: Oracle


def scene(start: Starts, hop: NextHop) -> Scene:
    """Start, and make the two groups."""
    system = start({**SETTINGS, "HORO_NEXT_HOP": hop.url})
    for group, people in GRAPH.items():
        system.group(group)
        system.members(group, people)
    ledger = Ledger()
    return Scene(system, hop, ledger, Oracle(ledger, hop, GRAPH))


def big(at: Scene) -> None:
    """A post to the thousand, accepted; its fan-out has hardly begun."""
    assert at.ledger.send(at.system.smtp, compose(BIG)).code == 250


def more(flow: Flow, count: int) -> None:
    """Wait until so many more messages were accepted: mail flows."""
    before = flow.count
    wait_until(lambda: flow.count >= before + count, f"{count} more messages to be accepted", 30)


def sliced(system: System) -> None:
    """Wait until an expander has cut the first big post into slices: they are on the bus, or in work."""
    wait_until(lambda: '"sliced"' in system.said("expander"), "the big post to be sliced", 30, pause=0.005)


def in_mid_flow(hop: NextHop, begun: int) -> None:
    """Wait until the thousand get their copies: some have one, most have none."""
    wait_until(lambda: len(slow(hop)) >= begun + 50 and hop.busy > 1, "the big post to be on its way", 30, pause=0.01)


def slow(hop: NextHop) -> list[str]:
    """The copies that the thousand have."""
    return [copy.recipient for copy in hop.copies if copy.recipient.startswith("slow-")]


def quiet(hop: NextHop) -> None:
    """Wait until the next hop has taken what it had begun to take when its clients died."""
    seen = [-1, -1, -1, -1, -1, -1, -1, -1]

    def still() -> bool:
        seen[:] = [*seen[1:], len(hop.copies)]
        return len(set(seen)) == 1

    wait_until(still, "the next hop to come to rest", 20, pause=0.1)


def judged(at: Scene, forgiven: frozenset[Pair]) -> None:
    """Nobody missed, nobody twice but for `forgiven`, nobody else, no octet changed, no mail refused; and the sums add up."""
    at.oracle.wait()
    at.oracle.check_sums(at.system)
    verdict = at.oracle.judge()
    assert verdict.lost == frozenset()
    assert verdict.dup.keys() - forgiven == set(), f"{len(verdict.dup)} twice, {len(forgiven)} were in flight"
    assert set(verdict.dup.values()) <= {1}
    assert verdict.unexpected == frozenset()
    assert verdict.corrupt == frozenset()
    assert at.ledger.refusals() == []
    assert at.oracle.recorded(at.system) == at.oracle.expected()


def test_p1_p3_kill_9_of_every_service_in_mid_flow(cluster: Starts, hops: Callable[..., NextHop]) -> None:
    at = scene(cluster, hops())
    system, hop = at.system, at.hop
    with Flow(at.ledger, system.smtp, TEAM) as flow:
        more(flow, 3)
        with Session(system.smtp) as session:  # killed between the final dot and its 250: the client cannot know
            unsure = compose(TEAM)
            session.envelope(unsure)
            session.content(unsure)
            system.kill("ingress")
        system.restart("ingress")
        assert at.ledger.send(system.smtp, unsure).code == 250
        more(flow, 3)

        big(at)
        sliced(system)
        system.kill("expander")
        more(flow, 3)
        system.restart("expander")

        system.kill("reporter")
        more(flow, 3)
        system.restart("reporter")

        begun = len(slow(hop))
        big(at)
        in_mid_flow(hop, begun)
        system.kill("sender")
        quiet(hop)
        in_flight = at.oracle.in_flight(system)
        assert len(in_flight) <= 2 * IN_HAND
        more(flow, 3)
        system.restart("sender")
        more(flow, 3)
        flow.stop()
    judged(at, in_flight)
    assert len(at.oracle.expected()) >= 2 * 1000 + 20 * 20


@pytest.mark.both_brokers
def test_p1_p3_kill_9_of_the_broker_and_a_restart_of_the_database_in_mid_flow(
    cluster: Starts, hops: Callable[..., NextHop], rabbitmq: RabbitMQ, postgres: PostgreSQL
) -> None:
    at = scene(cluster, hops())
    with Flow(at.ledger, at.system.smtp, TEAM) as flow:
        more(flow, 3)
        big(at)
        in_mid_flow(at.hop, 0)
        rabbitmq.kill()
        rabbitmq.start()
        more(flow, 3)
        begun = len(slow(at.hop))
        big(at)
        in_mid_flow(at.hop, begun)
        postgres.stop()
        postgres.start()
        more(flow, 3)
        postgres.kill()
        postgres.start()
        more(flow, 3)
        flow.stop()
    judged(at, frozenset())  # no sender died, so nothing at all may come twice
    assert {reply.code for attempt in at.ledger.attempts if (reply := attempt.reply).code} <= {250, 421, 451, 452}
    assert all(child.running for children in at.system.children.values() for child in children)


def test_p1_p3_kill_9_of_the_embedded_profile_in_mid_flow(embedded: Starts, hops: Callable[..., NextHop]) -> None:
    at = scene(embedded, hops())
    forgiven: frozenset[Pair] = frozenset()
    with Flow(at.ledger, at.system.smtp, TEAM) as flow:
        for _ in range(2):
            more(flow, 3)
            begun = len(slow(at.hop))
            big(at)
            in_mid_flow(at.hop, begun)
            at.system.kill("up")
            quiet(at.hop)
            in_flight = at.oracle.in_flight(at.system)
            assert len(in_flight - forgiven) <= IN_HAND
            forgiven |= in_flight
            at.system.restart("up")
        more(flow, 3)
        flow.stop()
    judged(at, forgiven)


def test_p3_members_edited_in_mid_flow_who_stays_gets_one_who_comes_or_goes_at_most_one(
    cluster: Starts, hops: Callable[..., NextHop]
) -> None:
    at = scene(cluster, hops())
    leaving = set(GRAPH[BIG][::10])
    coming = {f"slow-300_c{number}@example.org" for number in range(100)}
    edit = threading.Thread(
        target=lambda: (
            at.system.cli("member", "remove", BIG, *leaving),
            at.system.cli("member", "add", BIG, *coming),
        )
    )
    message = compose(BIG)
    assert at.ledger.send(at.system.smtp, message).code == 250
    edit.start()
    sliced(at.system)
    at.system.kill("expander")  # what was expanded and not acked is expanded again, over other members
    edit.join()
    at.system.restart("expander")
    document = at.system.settled(message.id)
    stayed = set(GRAPH[BIG]) - leaving
    counts = at.hop.counts
    assert {person: counts[person] for person in stayed} == dict.fromkeys(stayed, 1)
    assert all(counts[person] <= 1 for person in leaving | coming)
    assert set(counts) <= stayed | leaving | coming
    assert document["totals"]["delivered"] == sum(counts.values())
