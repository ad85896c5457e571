"""The API as another system uses it: a token from the command line, plain HTTP, and what comes of it in events and in the ledger."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from tests.e2e.client import compose
from tests.e2e.conftest import Starts
from tests.e2e.sinks import NextHop
from tests.e2e.system import System
from tests.support.servers import RabbitMQ
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

TEAM = "team@example.test"
PEOPLE = ["ana@example.org", "boris@example.org"]
TAP = "another-system"


class Answer(NamedTuple):
    """What came back."""

    status: int
    document: Any


class Api:
    """Asks one console with one token, as a script with curl would."""

    def __init__(self, system: System, token: str) -> None:
        self._base = f"http://127.0.0.1:{system.console}/api/v1"
        self._token = token
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, path: str, body: Any = None, **headers: str) -> Answer:
        """GET, or POST with a body."""
        request = urllib.request.Request(
            self._base + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json", **headers},
        )
        try:
            with self._opener.open(request, timeout=30) as answer:
                return Answer(answer.status, json.load(answer))
        except urllib.error.HTTPError as refused:
            return Answer(refused.code, json.load(refused))


@pytest.fixture
def tapped(rabbitmq: RabbitMQ, rabbitmq_url: str) -> Iterator[Callable[[], list[tuple[str, dict[str, Any]]]]]:
    """A function that gives the events that came since it was called last: (routing key, document)."""
    vhost = rabbitmq_url.rpartition("/")[2]

    def bind() -> None:
        rabbitmq.api("PUT", f"/queues/{vhost}/{TAP}", {"durable": True, "arguments": {"x-queue-type": "quorum"}})
        rabbitmq.api("POST", f"/bindings/{vhost}/e/events/q/{TAP}", {"routing_key": "signal.#"})

    bound: list[bool] = []

    def events() -> list[tuple[str, dict[str, Any]]]:
        if not bound:
            bind()
            bound.append(True)
        wanted = {"count": 1000, "ackmode": "ack_requeue_false", "encoding": "auto"}
        rows = rabbitmq.api("POST", f"/queues/{vhost}/{TAP}/get", wanted)
        return [(row["routing_key"], json.loads(row["payload"])) for row in rows]

    yield events


def test_a_signal_by_rest_becomes_events(
    cluster: Starts, tapped: Callable[[], list[tuple[str, dict[str, Any]]]]
) -> None:
    system = cluster(roles={"expander": 1, "reporter": 1, "console": 1})
    assert tapped() == []
    system.group(TEAM, PEOPLE)
    system.group("quiet@example.test", PEOPLE, "disable_signals=on")
    made = system.cli("token", "create", "ci", "--scope", "signal:send", "--scope", "trace:read", "--expires", "1h")
    api = Api(system, made["token"])

    body = {"text": "билдът мина", "title": "CI", "link": "https://example.test/1"}
    first = api.ask(f"/groups/{TEAM}/signals", body, **{"Idempotency-Key": "build-7"})
    assert first.status == 202
    assert api.ask(f"/groups/{TEAM}/signals", body, **{"Idempotency-Key": "build-7"}) == first
    hushed = api.ask("/groups/quiet@example.test/signals", body)
    assert hushed.document["refused"] is True

    seen: list[tuple[str, dict[str, Any]]] = []
    told: dict[str, tuple[str, dict[str, Any]]] = {}

    def all_here() -> bool:
        seen.extend(tapped())
        told.update((event["id"], (key, event)) for key, event in seen)  # a repetition has the same ids
        return len(told) == 3

    wait_until(all_here, "three events")
    delivered = [event for key, event in told.values() if key == "signal.delivered"]
    assert sorted(event["member"] for event in delivered) == PEOPLE
    assert {event["signal"] for event in delivered} == {first.document["id"]}
    assert {(event["text"], event["title"], event["link"]) for event in delivered} == {tuple(body.values())}
    assert {event["origin"] for event in delivered} == {"token:ci"}
    ((_, suppressed),) = [entry for entry in told.values() if entry[0] == "signal.suppressed"]
    assert (suppressed["signal"], suppressed["reason"], suppressed["spared"]) == (hushed.document["id"], "disabled", 2)

    signal = f"/posts/{first.document['id']}"
    wait_until(lambda: api.ask(signal).status == 200 and api.ask(signal).document["totals"]["complete"], "its trace")
    rows = api.ask(f"{signal}/recipients").document["recipients"]
    assert [(row["address"], row["state"]) for row in rows] == [(person, "delivered") for person in PEOPLE]

    system.cli("token", "revoke", "ci")
    wait_until(lambda: api.ask(signal).status == 401, "the revoked token to be refused", timeout=2.0)
    assert made["token"].rpartition("_")[2] not in system.said("console")
    assert system.terminate() == [0, 0, 0]


def test_p4_what_became_of_a_message_is_told_to_its_domain_alone(
    embedded: Starts, hops: Callable[..., NextHop]
) -> None:
    system = embedded({"HORO_NEXT_HOP": hops().url})
    system.group(TEAM, [*PEOPLE, "550_gone@example.org"])
    system.group("office@other.test", PEOPLE)
    ours, theirs = (
        Api(system, system.cli("token", "create", name, "--scope", "trace:read", "--domain", name)["token"])
        for name in ("example.test", "other.test")
    )
    post = system.accepted(compose(TEAM))
    traced = system.settled(post)
    told = ours.ask(f"/posts/{post}").document
    sums: Mapping[str, int] = told["totals"]
    assert (sums["expanded"], sums["delivered"], sums["failed"], sums["complete"]) == (3, 2, 1, True)
    found = ours.ask(f"/posts?group={TEAM}").document
    assert [each["id"] for each in found["posts"]] == [post]
    rows = ours.ask(f"/posts/{post}/recipients?state=failed").document["recipients"]
    assert [(row["address"], row["code"]) for row in rows] == [("550_gone@example.org", 550)]
    everybody = ours.ask(f"/posts/{post}/recipients").document["recipients"]
    assert [row["address"] for row in everybody] == [row["address"] for row in traced["addresses"]]

    for path in (f"/posts/{post}", f"/posts/{post}/recipients"):
        assert theirs.ask(path).status == 404
    assert theirs.ask(f"/posts?group={TEAM}").document["posts"] == []
    assert theirs.ask(f"/posts?recipient={PEOPLE[0]}").document["posts"] == []
    assert system.terminate() == [0]


def test_without_an_address_there_is_no_console(embedded: Starts) -> None:
    system = embedded({"HORO_CONSOLE_LISTEN": ""})
    (up,) = system.children["up"]
    with pytest.raises(urllib.error.URLError):
        Api(system, "none").ask("/openapi.json")
    assert "console" not in up.output
    assert system.terminate() == [0]
