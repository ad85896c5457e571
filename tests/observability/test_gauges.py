"""Gauges and histograms of what a worker, a sender and a reporter have: what is shown, under which label, and what is not."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import msgspec
import pytest

from services.reporter.survey import survey
from services.sender.site import HopState
from services.sender.survey import show
from shared import metrics
from shared.hand import Hand
from shared.health import Health
from shared.ledger.due import Backlog
from shared.metrics import MOST_HOPS, Named
from shared.replies import TROUBLE, TransientError
from shared.routes import Routes
from shared.topology import Queue
from tests.observability.test_tracing import delivery, post
from tests.support.ports import free_port, release_port
from tests.unit.test_health import Parts, ask


def value(metric: Any, suffix: str = "", **labels: str) -> float | None:
    """A sample as it is scraped; None where there is none."""
    for family in metric.collect():
        for sample in family.samples:
            if sample.name == family.name + suffix and {k: v for k, v in sample.labels.items() if k != "le"} == labels:
                return float(sample.value)
    return None


def test_the_oldest_post_in_hand_is_shown_until_its_work_is_done() -> None:
    hand = Hand(Queue.POSTS)
    old, new = post(), post()
    old = msgspec.structs.replace(old, accepted_at=time.time() - 100)
    with hand.take(new, tries=0):
        with hand.take(old, tries=0):
            assert value(metrics.OLDEST, queue="posts") == pytest.approx(100, abs=2)
            assert value(metrics.IN_HAND, queue="posts") == 2
        assert value(metrics.OLDEST, queue="posts") == pytest.approx(1, abs=1)
    assert value(metrics.OLDEST, queue="posts") == 0
    assert value(metrics.IN_HAND, queue="posts") == 0


def test_a_retry_is_neither_waiting_nor_old() -> None:
    """It waits because somebody put it off: hours of that would hide what is slow."""
    hand = Hand(Queue.DELIVERIES_BULK)
    before = value(metrics.QUEUE_WAIT, "_count", queue="deliveries.bulk")
    retry = delivery(attempt=2, accepted_at=time.time() - 9000, queued_at=time.time() - 9000)
    with hand.take(retry, tries=0):
        assert value(metrics.OLDEST, queue="deliveries.bulk") == 0
    with hand.take(delivery(queued_at=time.time() - 5), tries=1):
        pass
    assert value(metrics.QUEUE_WAIT, "_count", queue="deliveries.bulk") == before


def test_the_wait_is_from_the_publish_to_the_take_and_the_work_is_counted_whatever_comes_of_it() -> None:
    hand = Hand(Queue.DELIVERIES_EXPRESS)
    labels = {"queue": "deliveries.express"}
    waited, worked = value(metrics.QUEUE_WAIT, "_sum", **labels), value(metrics.WORK, "_count", **labels)
    assert waited is not None and worked is not None
    with pytest.raises(ValueError, match="bad"), hand.take(delivery(queued_at=time.time() - 5), tries=0):
        raise ValueError("bad")
    assert value(metrics.QUEUE_WAIT, "_sum", **labels) == pytest.approx(waited + 5, abs=0.5)
    assert value(metrics.WORK, "_count", **labels) == worked + 1


def _hop(name: str, state: Any = "up", **changes: Any) -> HopState:
    whole = {"window": 4, "limit": 30, "open": 2, "express": 1, "bulk": 1, "idle": 0, "waiting": 3, "failures": 0}
    return HopState(hop=name, state=state, why="", **{**whole, **changes})


ROUTES = Routes.parse("a.test=smtp://10.0.0.5:26, b.test=mx:", default="smtp://Smart.example:25")


def test_a_next_hop_has_a_label_where_a_setting_names_it_and_others_have_none() -> None:
    """Other people choose the exchangers of their domains: a label each would be theirs to make (and without end)."""
    named = Named(ROUTES, (".google.test", "mx.one.test"))
    assert named.label("Smart.example[192.0.2.7]:25") == "smart.example:25"
    assert named.label("10.0.0.5:26") == "10.0.0.5:26"
    assert named.label("10.0.0.5:27") == "other"
    assert named.label("alt1.aspmx.google.test[192.0.2.1]:25") == ".google.test"
    assert named.label("mx.one.test[192.0.2.2]:25") == "mx.one.test"
    assert named.label("evil.attacker.test[192.0.2.3]:25") == "other"


def test_labels_of_next_hops_are_bounded() -> None:
    many = ",".join(f"d{n}.test=smtp://h{n}.test:25" for n in range(100))
    named = Named(Routes.parse(many, default="mx:"), ())
    labels = {named.label(f"h{n}.test:25") for n in range(100)}
    assert len(labels) == MOST_HOPS + 1


def test_hops_are_shown_by_state_and_summed_under_their_label() -> None:
    named = Named(ROUTES, ())
    show([_hop("smart.example:25"), _hop("x.test[1.2.3.4]:25", "down"), _hop("y.test[1.2.3.5]:25")], named)
    assert value(metrics.HOPS, state="down") == 1
    assert value(metrics.HOP_UP, hop="smart.example:25") == 1
    assert value(metrics.HOP_UP, hop="other") == 0
    assert value(metrics.HOP_WINDOW, hop="other") == 8
    assert value(metrics.HOP_USED, hop="other", lane="bulk") == 2
    show([], named)
    assert value(metrics.HOP_UP, hop="smart.example:25") is None
    assert value(metrics.HOPS, state="down") == 0


class Backend:
    """A bus and a ledger of which one may be away."""

    def __init__(self, *, away: bool) -> None:
        self.away = away

    async def depth(self, queue: Queue) -> int:
        if self.away:
            raise TransientError(TROUBLE, why="no broker")
        return len(queue.value)

    async def backlog(self, now: float) -> Backlog:
        return Backlog(due=7, late=now - 90, parked=2)


async def test_what_waits_is_shown_and_shown_no_more_when_it_cannot_be_found_out() -> None:
    well, ill = Backend(away=False), Backend(away=True)
    await survey(well, well, 100.0)  # type: ignore[arg-type]
    assert value(metrics.DEPTH, queue="posts") == 5
    assert value(metrics.DUE) == 7
    assert value(metrics.DUE_LATE) == 10
    assert value(metrics.PARKED_NOW) == 2
    with pytest.raises(TransientError):
        await survey(ill, ill, 100.0)  # type: ignore[arg-type]
    assert value(metrics.DEPTH, queue="posts") is None
    ill.backlog = ill.depth  # type: ignore[assignment, method-assign]
    with pytest.raises(TransientError):
        await survey(ill, ill, Queue.POSTS)  # type: ignore[arg-type]
    assert math.isnan(value(metrics.DUE) or 0)


async def test_metrics_answers_whatever_becomes_of_a_survey_and_asks_not_more_than_it_must() -> None:
    port = free_port()
    asked: list[str] = []

    async def failing() -> None:
        asked.append("failing")
        raise TransientError(TROUBLE, why="no broker")

    async def working() -> None:
        asked.append("working")

    health = Health(f"127.0.0.1:{port}", look=Parts().look, surveys=[failing, working])
    failures = value(metrics.SURVEYS_FAILED, "_total") or 0
    health.start()
    try:
        assert (await ask(health, "/metrics"))[0] == 200
        assert asked == [], "a process that starts is not asked"
        health.up()
        answers = await asyncio.gather(*(ask(health, "/metrics") for _ in range(5)))
    finally:
        health.close()
        release_port(port)
    assert {status for status, _ in answers} == {200}
    assert asked == ["failing", "working"]
    assert value(metrics.SURVEYS_FAILED, "_total") == failures + 1
