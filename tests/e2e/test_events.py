"""The exchange `events` as another system sees it, and messages that are none of ours, on a real broker. Both through the broker's own API."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
import pytest

from shared.messages import Signal, encode
from tests.e2e.client import compose
from tests.e2e.conftest import Starts
from tests.e2e.sinks import NextHop
from tests.e2e.system import System, delivered, sums
from tests.support.events import check
from tests.support.servers import RabbitMQ
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

TAP = "another-system"


class Scene(NamedTuple):
    """A Horo in one process on the cluster's servers, and the virtual host that it uses."""

    system: System
    hop: NextHop
    broker: RabbitMQ
    vhost: str

    def publish(self, queue: str, payload: bytes) -> None:
        """Put bytes on a work queue, as anybody with access to the broker can."""
        answer = self.broker.api(
            "POST",
            f"/exchanges/{self.vhost}/horo.work/publish",
            {
                "routing_key": queue,
                "payload": base64.b64encode(payload).decode(),
                "payload_encoding": "base64",
                "properties": {"delivery_mode": 2},
            },
        )
        assert answer == {"routed": True}

    def events(self) -> list[tuple[str, dict[str, Any]]]:
        """The events that came since the last call: routing key and document."""
        wanted = {"count": 1000, "ackmode": "ack_requeue_false", "encoding": "auto"}
        rows = self.broker.api("POST", f"/queues/{self.vhost}/{TAP}/get", wanted)
        return [(row["routing_key"], json.loads(row["payload"])) for row in rows]


@pytest.fixture
def at(
    embedded: Starts,
    hops: Callable[..., NextHop],
    servers_settings: Mapping[str, str],
    rabbitmq: RabbitMQ,
    rabbitmq_url: str,
) -> Iterator[Scene]:
    hop = hops()
    system = embedded({**servers_settings, "HORO_NEXT_HOP": hop.url})
    vhost = rabbitmq_url.rpartition("/")[2]
    rabbitmq.api("PUT", f"/queues/{vhost}/{TAP}", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
    rabbitmq.api("POST", f"/bindings/{vhost}/e/events/q/{TAP}", {"routing_key": "#"})
    yield Scene(system, hop, rabbitmq, vhost)
    assert system.terminate() == [0]


def test_every_kind_of_event_is_told_once_with_what_it_is_about(at: Scene) -> None:
    people = ["ana@example.org", "boris@example.org", "550_gone@example.org"]
    at.system.group("team@example.test", people, "owners=owner@example.org")
    at.system.group("quiet@example.test", people[:2], "disable_signals=on", "disabled=on")
    post = at.system.accepted(compose("team@example.test", subject="Заглавие"))
    assert sums(at.system.settled(post)) == (3, 2, 0, 1, 0)
    assert at.system.send(compose("quiet@example.test")).code == 550
    told = at.system.cli("signal", "team@example.test", "елате", "--title", "Хоро", "--link", "https://example.test/1")
    hushed = at.system.cli("signal", "quiet@example.test", "тихо")
    assert (told["refused"], hushed["refused"]) == (False, True)

    expected = {
        "post.accepted": 1,
        "post.refused": 1,
        "post.expanded": 1,
        "delivery.failed": 1,
        "report.sent": 1,
        "signal.delivered": 3,
        "signal.suppressed": 1,
    }
    seen: list[tuple[str, dict[str, Any]]] = []

    def all_here() -> bool:
        seen.extend(at.events())
        return len(seen) >= sum(expected.values())

    wait_until(all_here, f"{expected}; there are {Counter(key for key, _ in seen)}")
    assert Counter(key for key, _ in seen) == expected
    for key, event in seen:
        check(event, key)
    assert len({event["id"] for _, event in seen}) == len(seen)
    first = dict(reversed(seen))
    assert first["post.accepted"]["post"] == first["post.expanded"]["post"] == first["delivery.failed"]["post"] == post
    assert first["post.accepted"]["subject"].startswith("Заглавие")
    assert (first["post.refused"]["group"], first["post.refused"]["code"]) == ("quiet@example.test", 550)
    assert (first["post.expanded"]["recipients"], first["post.expanded"]["suppressed"]) == (3, 0)
    assert (first["delivery.failed"]["recipient"], first["delivery.failed"]["code"]) == ("550_gone@example.org", 550)
    assert (first["report.sent"]["kind"], first["report.sent"]["to"]) == ("owners", ["owner@example.org"])
    signals = [event for key, event in seen if key == "signal.delivered"]
    assert sorted(event["member"] for event in signals) == sorted(people)
    assert {(event["signal"], event["text"], event["title"], event["link"]) for event in signals} == {
        (told["signal"], "елате", "Хоро", "https://example.test/1")
    }
    hush = first["signal.suppressed"]
    assert (hush["signal"], hush["group"], hush["reason"], hush["spared"]) == (
        hushed["signal"],
        "quiet@example.test",
        "disabled",
        2,
    )
    at.hop.wait_for(3)
    assert at.hop.counts == {"ana@example.org": 1, "boris@example.org": 1, "owner@example.org": 1}


def test_what_is_no_message_of_ours_is_parked_with_the_reason_and_stops_nobody(at: Scene) -> None:
    at.system.group("team@example.test", ["ana@example.org"])
    queues = ("posts", "slices", "signals", "deliveries.express", "deliveries.bulk", "outcomes")
    garbage = b"\xff\x00not msgpack \x1b[31m"
    for queue in queues:
        at.publish(queue, garbage)
    document = at.system.settled(at.system.accepted(compose("team@example.test")))
    assert delivered(document) == ["ana@example.org"]

    def parked(count: int) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []

        def enough() -> bool:
            rows[:] = at.system.cli("parked", "list")
            return len(rows) >= count

        wait_until(enough, f"{count} parked messages", pause=0.3)
        return rows

    rows = parked(len(queues))
    assert sorted(row["queue"] for row in rows) == sorted(queues)
    assert all(row["reason"].startswith("undecodable: ") for row in rows)
    shown = at.system.run("parked", "show", str(rows[0]["number"]), "--raw")
    assert (shown.returncode, shown.stdout.encode("utf-8", "surrogateescape")) == (0, garbage)
    assert "\x1b" not in at.system.run("parked", "show", str(rows[0]["number"])).stdout  # nothing draws on the terminal
    numbers = [str(row["number"]) for row in rows]
    assert at.system.cli("parked", "retry", numbers[0]) == {"retried": [rows[0]["number"]]}
    again = parked(len(queues))  # nothing was mended, so it is parked again, under a number of its own
    assert {row["number"] for row in again} - {row["number"] for row in rows}
    assert len(again) == len(queues)
    dropped = at.system.cli("parked", "drop", *(str(row["number"]) for row in again))
    assert len(dropped["dropped"]) == len(queues)
    assert at.system.cli("parked", "list") == []
    assert at.hop.counts == {"ana@example.org": 1}


def test_a_message_of_the_right_form_on_the_wrong_queue_is_parked_too(at: Scene) -> None:
    at.publish(
        "deliveries.express", encode(Signal(id="x", group="team@example.test", text="t", origin="o", sent_at=0.0))
    )
    at.publish("posts", msgspec.msgpack.encode({"type": "post.v9", "id": "from the future"}))
    rows: list[dict[str, Any]] = []

    def both() -> bool:
        rows[:] = at.system.cli("parked", "list")
        return len(rows) == 2

    wait_until(both, "both to be parked", pause=0.3)
    assert sorted(row["queue"] for row in rows) == ["deliveries.express", "posts"]
