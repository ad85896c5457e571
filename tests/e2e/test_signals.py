"""Signals from end to end: from the command line and from another system over AMQP to the events, a chat on loopback, and the trace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.client import compose
from tests.e2e.conftest import Starts
from tests.e2e.system import System
from tests.support.chat import Chat
from tests.support.servers import RabbitMQ
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

TEAM, BOARD = "team@example.test", "board@example.test"
PEOPLE = ["ana@example.org", "boris@example.org"]
CANARY = "b57canary0e1"
TAP = "another-system"


@pytest.fixture
def chat() -> Iterator[Chat]:
    made = Chat()
    yield made
    made.close()


SETTINGS = {"HORO_CHANNEL_NETWORKS": "127.0.0.0/8", "HORO_RETRY_SCHEDULE": "1s"}


def rows(document: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Each address of a trace: its state or why it was left out, and by which hop."""
    return {row["address"]: (row["reason"] or row["state"], row["hop"]) for row in document["addresses"]}


def add_up(document: Mapping[str, Any]) -> None:
    totals = document["totals"]
    assert totals["expanded"] == sum(totals[name] for name in ("delivered", "deferred", "failed", "suppressed"))


def test_p4_a_signal_reaches_people_and_channels_and_its_trace_says_so(embedded: Starts, chat: Chat) -> None:
    system = embedded(SETTINGS)
    system.group(BOARD, ["vera@example.org", "ana@example.org"])
    system.group(TEAM, [*PEOPLE, BOARD])
    system.cli("member", "pause", TEAM, "boris@example.org")
    url = f"json://127.0.0.1:{chat.port}/{CANARY}"
    own = system.cli("channel", "add", TEAM, url)
    same = system.cli("channel", "add", BOARD, url)
    refused = system.cli(
        "channel", "add", TEAM, f"json://127.0.0.1:{chat.port}/status410/{CANARY}", "--member", "ana@example.org"
    )
    system.cli("channel", "add", TEAM, f"json://127.0.0.1:{chat.port}/{CANARY}/b", "--member", "boris@example.org")
    assert own["label"] == same["label"]
    chat.answers = [503]  # whichever is called first is tried again

    sent = system.cli("signal", TEAM, "елате в 9", "--title", "Хоро", "--link", "https://example.test/1")
    trace = system.settled(sent["signal"])
    shown = f"webhook://127.0.0.1:{chat.port}"
    told = {row["address"]: row for row in trace["addresses"] if row["reason"] != "duplicate"}
    assert rows({"addresses": told.values()}) == {
        "ana@example.org": ("delivered", "events"),
        "vera@example.org": ("delivered", "events"),
        "boris@example.org": ("paused", ""),
        own["label"]: ("delivered", shown),
        refused["label"]: ("failed", shown),
    }
    assert [row["address"] for row in trace["addresses"] if row["reason"] == "duplicate"] == ["ana@example.org"]
    assert told[own["label"]]["via"] == [TEAM]
    add_up(trace)
    assert trace["targets"][0]["kind"] == "signal"
    assert sum(path == f"/{CANARY}" for path in chat.paths) in (1, 2)
    assert len(chat.told) == 3  # two channels and one retry
    assert {told.json["message"] for told in chat.told} == {"елате в 9\nhttps://example.test/1"}

    seen = json.dumps(trace) + system.said("up") + system.run("trace", sent["signal"]).stdout
    assert CANARY not in seen
    assert system.terminate() == [0]


def test_what_a_group_refuses_is_traced_too(embedded: Starts) -> None:
    system = embedded(SETTINGS)
    system.group("quiet@example.test", PEOPLE, "disable_signals=on")
    sent = system.cli("signal", "quiet@example.test", "тихо")
    trace = system.settled(sent["signal"])
    assert (trace["targets"][0]["verdict"], trace["addresses"]) == ("disabled", [])


def test_a_post_is_announced_once(embedded: Starts, chat: Chat) -> None:
    system = embedded(SETTINGS)
    system.group(TEAM, PEOPLE, "announce_posts=on", "title=Екип")
    system.cli("channel", "add", TEAM, f"json://127.0.0.1:{chat.port}/{CANARY}")
    message = compose(TEAM, subject="Заглавие")
    post = system.accepted(message)
    wait_until(lambda: chat.told, "the announcement")
    assert chat.told[0].json["title"].startswith("Екип: ")
    assert chat.told[0].json["message"].startswith("Заглавие")
    assert system.send(message).code == 250  # a client that lost our answer
    wait_until(lambda: len(system.traces(TEAM)) == 3, "the post, its repetition and one signal")
    assert sorted(trace["targets"][0]["kind"] for trace in system.traces(TEAM)) == ["group", "group", "signal"]
    assert {trace["post"]["mail_from"] for trace in system.traces(TEAM) if trace["targets"][0]["kind"] == "signal"} == {
        f"post:{post}"
    }
    assert len(chat.told) == 1


class Broker:
    """The cluster's broker as another system sees it: through its own API, by the public exchanges alone."""

    def __init__(self, rabbitmq: RabbitMQ, vhost: str) -> None:
        self._rabbitmq, self._vhost = rabbitmq, vhost
        rabbitmq.api("PUT", f"/queues/{vhost}/{TAP}", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
        rabbitmq.api("POST", f"/bindings/{vhost}/e/events/q/{TAP}", {"routing_key": "signal.#"})

    def publish(self, document: Any, *, routing_key: str = "") -> None:
        """Publish to the exchange `signals`."""
        text = document if isinstance(document, str) else json.dumps(document)
        answer = self._rabbitmq.api(
            "POST",
            f"/exchanges/{self._vhost}/signals/publish",
            {"routing_key": routing_key, "payload": text, "payload_encoding": "string", "properties": {}},
        )
        assert answer == {"routed": True}

    def events(self) -> list[dict[str, Any]]:
        """The events that came since the last call."""
        wanted = {"count": 1000, "ackmode": "ack_requeue_false", "encoding": "auto"}
        return [
            json.loads(row["payload"]) for row in self._rabbitmq.api("POST", f"/queues/{self._vhost}/{TAP}/get", wanted)
        ]


def test_another_system_sends_signals_over_amqp(
    cluster: Starts, rabbitmq: RabbitMQ, rabbitmq_url: str, chat: Chat
) -> None:
    system: System = cluster({**SETTINGS, "HORO_SECRET": "the secret of these tests"})
    broker = Broker(rabbitmq, rabbitmq_url.rpartition("/")[2])
    system.group(TEAM, PEOPLE)
    own = system.cli("channel", "add", TEAM, f"json://127.0.0.1:{chat.port}/{CANARY}")
    wanted = {"group": TEAM, "text": "пожар", "title": "Аларма", "origin": "pager", "id": "alarm 7"}
    broker.publish(wanted, routing_key="whatever")
    broker.publish(wanted)
    broker.publish({"group": "nobody@example.test", "text": "x"})
    broker.publish("no json")
    broker.publish({"group": TEAM, "text": "x", "surprise": 1})
    seen: dict[str, dict[str, Any]] = {}

    def told() -> bool:
        seen.update({event["id"]: event for event in broker.events()})
        return len(seen) >= 3

    wait_until(told, f"three events; there are {list(seen.values())}", pause=0.3)
    delivered = [event for event in seen.values() if event["type"] == "signal.delivered"]
    assert sorted(event["member"] for event in delivered) == PEOPLE
    assert {(event["text"], event["title"], event["origin"]) for event in delivered} == {("пожар", "Аларма", "pager")}
    (number,) = {event["signal"] for event in delivered}
    (hushed,) = [event for event in seen.values() if event["type"] == "signal.suppressed"]
    assert (hushed["group"], hushed["reason"], hushed["origin"]) == ("nobody@example.test", "unknown_group", "amqp")

    trace = system.settled(number)
    assert rows(trace) == {
        **dict.fromkeys(PEOPLE, ("delivered", "events")),
        own["label"]: ("delivered", f"webhook://127.0.0.1:{chat.port}"),
    }
    add_up(trace)
    assert chat.paths == [f"/{CANARY}"]
    assert chat.told[0].json["title"] == "Аларма"

    parked: list[dict[str, Any]] = []

    def both() -> bool:
        parked[:] = system.cli("parked", "list")
        return len(parked) == 2

    wait_until(both, "both to be parked", pause=0.3)
    assert {row["queue"] for row in parked} == {"signals.in"}
    assert sorted(row["reason"].partition(":")[0] for row in parked) == ["undecodable"] * 2
    assert any("surprise" in row["reason"] for row in parked)
    assert not [event for event in broker.events() if event["id"] not in seen]
