"""The person who started a thread follows it from outside: over restarts of every service and server, past private mail, in that group alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from tests.e2e.client import Message, compose
from tests.e2e.conftest import Starts
from tests.e2e.sinks import NextHop
from tests.e2e.system import System, delivered, left_out, sums
from tests.support.servers import PostgreSQL, RabbitMQ, Redis

pytestmark = pytest.mark.e2e

SUPPORT, SALES, EVERYBODY = "support@example.test", "sales@example.test", "everybody@example.test"
AGENT, BOSS, CUSTOMER = "agent@staff.test", "boss@staff.test", "customer@elsewhere.test"
SMALL = {"HORO_EXPRESS_LIMIT": "100", "HORO_SLICE_SIZE": "100", "HORO_BATCH_SIZE": "20"}


def answer(to: str, author: str, *chain: Message | str) -> Message:
    """An answer to the last of a chain, as a mail client writes it."""
    names = [f"<{one if isinstance(one, str) else one.id}>" for one in chain]
    return compose(to, mail_from=author, headers=[f"In-Reply-To: {names[-1]}", f"References: {' '.join(names)}"])


def again(system: System, *servers: RabbitMQ | PostgreSQL | Redis) -> None:
    """Every service ends, so do the servers; all of them start again."""
    assert set(system.terminate()) == {0}
    for server in servers:
        server.stop()
        server.start()
    for role in system.children:
        system.restart(role)


def test_p3_who_started_a_thread_gets_every_answer_once_over_restarts_of_everything(
    cluster: Starts,
    hops: Callable[..., NextHop],
    rabbitmq: RabbitMQ,
    postgres: PostgreSQL,
    redis_server: Redis,
) -> None:
    hop = hops()
    system = cluster({"HORO_NEXT_HOP": hop.url, **SMALL})
    crowd = [f"p{number}@crowd.test" for number in range(320)]
    system.group(SUPPORT, [AGENT, BOSS])
    system.group(SALES, [AGENT, BOSS])
    system.group(EVERYBODY)
    system.members(EVERYBODY, crowd)
    question, call = compose(SUPPORT, mail_from=CUSTOMER), compose(EVERYBODY, mail_from=CUSTOMER)
    for message in (question, call):
        system.settled(system.accepted(message))
    expected = Counter({AGENT: 1, BOSS: 1, **dict.fromkeys(crowd, 1)})

    again(system, rabbitmq, postgres, redis_server)
    first = answer(SUPPORT, AGENT, question)
    document = system.settled(system.accepted(first))
    assert delivered(document) == [BOSS, CUSTOMER]
    assert [row["via"] for row in document["addresses"] if row["address"] == CUSTOMER] == [[SUPPORT, "thread"]]
    expected.update([BOSS, CUSTOMER])

    # the customer answers in private, and the agent takes it back to the group
    second = answer(SUPPORT, AGENT, question, first, "private@elsewhere.test")
    assert delivered(system.settled(system.accepted(second))) == [BOSS, CUSTOMER]
    expected.update([BOSS, CUSTOMER])

    system.kill("expander")
    system.restart("expander")
    own = answer(SUPPORT, CUSTOMER, second)
    document = system.settled(system.accepted(own))
    assert (delivered(document), left_out(document)) == ([AGENT, BOSS], [(CUSTOMER, "author")])
    assert sums(document) == (3, 2, 0, 0, 1)
    expected.update([AGENT, BOSS])
    thanks = answer(SUPPORT, BOSS, own)  # the question itself is not named any more
    assert delivered(system.settled(system.accepted(thanks))) == [AGENT, CUSTOMER]
    expected.update([AGENT, CUSTOMER])

    # a member now: one copy, as a member; paused: none
    system.cli("member", "add", SUPPORT, CUSTOMER)
    assert delivered(system.settled(system.accepted(answer(SUPPORT, BOSS, question)))) == [AGENT, CUSTOMER]
    expected.update([AGENT, CUSTOMER])
    system.cli("member", "pause", SUPPORT, CUSTOMER)
    document = system.settled(system.accepted(answer(SUPPORT, BOSS, question)))
    assert (delivered(document), left_out(document)) == ([AGENT], [(BOSS, "author"), (CUSTOMER, "paused")])
    expected.update([AGENT])

    # another group knows nothing of it, though somebody sends it the Message-ID
    assert delivered(system.settled(system.accepted(answer(SALES, AGENT, question)))) == [BOSS]
    expected.update([BOSS])

    # a fan-out in slices, on two expanders
    document = system.settled(system.accepted(answer(EVERYBODY, crowd[0], call)))
    assert delivered(document) == sorted([CUSTOMER, *crowd[1:]])
    expected.update([CUSTOMER, *crowd[1:]])

    assert hop.counts == expected
    assert set(system.terminate()) == {0}
