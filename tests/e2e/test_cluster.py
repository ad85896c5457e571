"""The cluster profile: every service its own process, expanders and senders in twos, over RabbitMQ, PostgreSQL and Redis by URLs alone."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.e2e import client
from tests.e2e.client import Flow, Ledger, compose
from tests.e2e.conftest import Starts
from tests.e2e.oracle import Oracle, resolve
from tests.e2e.sinks import NextHop
from tests.e2e.system import System, delivered, left_out, sums
from tests.support.servers import RabbitMQ, Redis
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

GRAPH: Mapping[str, tuple[str, ...]] = {
    "office@example.test": ("ana@example.test", "boris@example.test", "board@example.test", "all@example.test"),
    "board@example.test": ("ana@example.test", "chair@lmtp.test", "office@example.test"),  # a circle
    "all@example.test": ("boris@example.test", "dora@lmtp.test", "elena@example.org", "board@example.test"),
}


def make(system: System, graph: Mapping[str, tuple[str, ...]]) -> None:
    """Make the groups of a graph: first all of them, then their members, so that a member which is a group is known as one."""
    for group in graph:
        system.group(group)
    for group, members in graph.items():
        system.cli("member", "add", group, *members)


@pytest.mark.smoke
def test_p2_a_post_to_nested_groups_leaves_by_smtp_and_lmtp_once_for_each_person(
    cluster: Starts, hops: Callable[..., NextHop]
) -> None:
    smtp, lmtp = hops(), hops(protocol="lmtp")
    system = cluster({"HORO_NEXT_HOP": smtp.url, "HORO_ROUTES": f"lmtp.test={lmtp.url}"})
    make(system, GRAPH)
    everybody = resolve("office@example.test", GRAPH)
    assert len(everybody) == 5

    posts = [
        system.accepted(compose("office@example.test", "all@example.test", "board@example.test")) for _ in range(5)
    ]
    for post in posts:
        document = system.settled(post)
        assert sums(document)[1:4] == (5, 0, 0)
        assert delivered(document) == sorted(everybody)
        assert {reason for _, reason in left_out(document)} <= {"duplicate", "cycle"}
        by_lmtp = {row["address"] for row in document["addresses"] if str(lmtp.port) in row["hop"]}
        assert by_lmtp == {person for person in everybody if person.endswith("@lmtp.test")}
    assert smtp.counts == dict.fromkeys([person for person in everybody if not person.endswith("@lmtp.test")], 5)
    assert lmtp.counts == dict.fromkeys([person for person in everybody if person.endswith("@lmtp.test")], 5)
    assert system.terminate() == [0] * 6


def test_p1_services_that_share_a_process_do_what_they_do_apart(cluster: Starts, hops: Callable[..., NextHop]) -> None:
    hop = hops()
    together = "expander sender reporter"
    system = cluster({"HORO_NEXT_HOP": hop.url}, roles={"ingress": 1, together: 2})
    make(system, GRAPH)
    posts = [system.accepted(compose("office@example.test")) for _ in range(6)]
    system.children[together][0].kill()  # the other one has all three services, too
    for post in posts:
        assert sums(system.settled(post))[1:4] == (5, 0, 0)
    assert set(hop.counts) == resolve("office@example.test", GRAPH)
    assert system.children[together][1].terminate() == 0
    assert system.children["ingress"][0].terminate() == 0


def test_p3_a_large_group_is_sliced_among_expanders_and_everybody_gets_one_copy(
    cluster: Starts, hops: Callable[..., NextHop]
) -> None:
    hop = hops()
    system = cluster({"HORO_NEXT_HOP": hop.url, "HORO_EXPRESS_LIMIT": "100", "HORO_SLICE_SIZE": "200"})
    people = [f"person{number}@d{number % 7}.example.org" for number in range(2000)]
    system.group("everybody@example.test")
    system.members("everybody@example.test", people)
    assert system.cli("group", "show", "everybody@example.test")["members"] == 2000

    document = system.settled(system.accepted(compose("everybody@example.test")))
    assert sums(document) == (2000, 2000, 0, 0, 0)
    assert document["post"]["slices"] == 10
    assert hop.counts == dict.fromkeys(people, 1)
    assert len({copy.sha256 for copy in hop.copies}) == 1
    shares = [child.output.count('"event":"expanded"') for child in system.children["expander"]]
    assert sum(shares) == 10
    batches = hop.transactions
    assert 20 <= batches <= 60, "2,000 recipients in batches of at most 100"


def test_p8_a_large_body_crosses_by_reference_and_leaves_byte_for_byte(
    cluster: Starts, hops: Callable[..., NextHop]
) -> None:
    hop = hops()
    system = cluster({"HORO_NEXT_HOP": hop.url, "HORO_BATCH_SIZE": "2"})
    system.group("team@example.test", [f"p{number}@example.org" for number in range(10)])
    noise = random.Random(1)
    lines = (bytes(noise.choices(range(14, 256), k=900)) for _ in range(1200))
    body = b"\r\n".join(line if number % 7 else b"." + line for number, line in enumerate(lines)) + b"\r\n"
    assert len(body) > 1 << 20
    document = system.settled(system.accepted(compose("team@example.test", body=body)))
    assert sums(document) == (10, 10, 0, 0, 0)
    assert document["post"]["body"]["size"] >= len(body)
    assert hop.counts == {f"p{number}@example.org": 1 for number in range(10)}
    assert all(client.received_body(copy.content) == body for copy in hop.copies)


def test_p6_a_change_by_the_command_line_holds_everywhere_within_a_second(
    cluster: Starts, hops: Callable[..., NextHop]
) -> None:
    hop = hops()
    system = cluster({"HORO_NEXT_HOP": hop.url})
    system.group("team@example.test", ["ana@example.test", "boris@example.test"])
    system.settled(system.accepted(compose("team@example.test")))  # every cache is warm

    changes: list[tuple[list[str], Callable[[], Any]]] = [
        (["group", "set", "team@example.test", "disabled=on"], lambda: _code(system) == 550),
        (["group", "set", "team@example.test", "disabled=off"], lambda: _code(system) == 250),
        (["group", "set", "team@example.test", "who_can_post=owners"], lambda: _code(system) == 550),
        (["group", "set", "team@example.test", "who_can_post=anyone"], lambda: _code(system) == 250),
        (
            ["group", "create", "new@example.test", "--member", "ana@example.test"],
            lambda: _code(system, "new@example.test") == 250,
        ),
        (["group", "delete", "new@example.test"], lambda: _code(system, "new@example.test") == 550),
    ]
    for words, holds in changes:
        system.cli(*words)
        # The clock starts when the command has ended, which is after the change: what is measured is no longer than what is promised.
        wait_until(holds, f"{' '.join(words)} to hold", timeout=1.0, pause=0.02)
        assert holds()

    system.cli("member", "add", "team@example.test", "carla@example.test")
    system.cli("member", "remove", "team@example.test", "ana@example.test")
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() - begun > 1.0, "the second that a change may take", timeout=2)
    for _ in range(4):  # more than one expander answers
        assert delivered(system.settled(system.accepted(compose("team@example.test")))) == [
            "boris@example.test",
            "carla@example.test",
        ]


def _code(system: System, to: str = "team@example.test") -> int:
    return system.send(compose(to)).code


def test_p6_redis_flushed_frozen_and_stopped_changes_nothing(
    cluster: Starts, hops: Callable[..., NextHop], redis_server: Redis
) -> None:
    hop = hops()
    system = cluster({"HORO_NEXT_HOP": hop.url})
    graph = {"team@example.test": tuple(f"p{number}@example.org" for number in range(20))}
    make(system, graph)
    ledger = Ledger()
    oracle = Oracle(ledger, hop, graph)
    faults: list[Callable[[], object]] = [
        lambda: redis_server.ctl("FLUSHALL"),
        redis_server.pause,
        redis_server.resume,
        redis_server.kill,
        redis_server.start,
        redis_server.stop,
    ]
    with Flow(ledger, system.smtp, "team@example.test") as flow:
        for fault in faults:
            before = flow.count
            fault()
            wait_until(lambda before=before: flow.count >= before + 4, "mail to be accepted all the same")  # type: ignore[misc]
        system.cli("member", "remove", "team@example.test", "p0@example.org")
        flow.stop()
    oracle.check_sums(system)
    assert ledger.refusals() == []
    graph["team@example.test"] = graph["team@example.test"][1:]
    assert Oracle(ledger, hop, graph).judge().lost == frozenset()
    verdict = oracle.judge()
    assert (verdict.dup, verdict.unexpected, verdict.corrupt) == ({}, frozenset(), frozenset())

    last = compose("team@example.test")  # and a change holds though Redis is gone
    assert delivered(system.settled(system.accepted(last))) == sorted(graph["team@example.test"])


@pytest.mark.both_brokers
def test_p1_a_broker_that_is_away_is_a_451_and_services_come_back_to_it(
    cluster: Starts, hops: Callable[..., NextHop], rabbitmq: RabbitMQ
) -> None:
    hop = hops()
    system = cluster({"HORO_NEXT_HOP": hop.url})
    system.group("team@example.test", ["ana@example.test"])
    before = compose("team@example.test")
    system.settled(system.accepted(before))
    rabbitmq.stop()
    message, started = compose("team@example.test"), time.monotonic()
    reply = system.send(message)
    assert (reply.code, reply.text) == (451, "4.3.0 Temporary failure, please try again later")
    assert time.monotonic() - started < 10, "HORO_ACCEPT_TIMEOUT is 5 s"
    health = system.children["ingress"][0]
    back = threading.Thread(target=rabbitmq.start)
    back.start()
    ledger = Ledger()
    assert ledger.send(system.smtp, message).code == 250
    back.join()
    system.wait_ready()
    assert health.running
    document = system.settled(message.id)
    assert sums(document) == (1, 1, 0, 0, 0)
    assert hop.counts == {"ana@example.test": 2}
