"""The example of a consumer (docs/events/examples) beside a real Horo and a real broker: every kind of event, nothing lost, nothing printed twice."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from services.reporter import events
from tests.e2e.client import Flow, Ledger, compose
from tests.e2e.conftest import Starts
from tests.e2e.sinks import NextHop
from tests.e2e.system import System, is_settled, sums
from tests.support.events import check
from tests.support.install import require
from tests.support.processes import ROOT, Child, Processes
from tests.support.servers import RabbitMQ
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

CONSUMER = ROOT / "docs" / "events" / "examples" / "consumer.py"
LINE = re.compile(r"^(\S+Z) ([a-z.]+) (\{.*\})$", re.MULTILINE)
TEAM, CALM = "team@example.test", "calm@example.test"
PEOPLE = ["ana@example.org", "boris@example.org"]


class Line(NamedTuple):
    """What the consumer printed of one event."""

    at: str
    kind: str
    about: dict[str, Any]


class Follower:
    """The example as a process. It prints no ids, so a line that is there twice is an event that was printed twice."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.starts = 0

    def ready(self) -> None:
        """Wait until it consumes, in its present life."""
        self.starts += 1
        self.child.wait_until(self._consumes, "it to consume")

    def _consumes(self) -> bool:
        return self.child.output.count("consuming ") >= self.starts

    @property
    def lines(self) -> list[Line]:
        return [Line(at, kind, json.loads(about)) for at, kind, about in LINE.findall(self.child.output)]

    def kinds(self) -> Counter[str]:
        return Counter(line.kind for line in self.lines)

    def posts(self, kind: str) -> Counter[str]:
        """The posts of the events of a kind."""
        return Counter(line.about["post"] for line in self.lines if line.kind == kind)

    def wait_for(self, **least: int) -> None:
        """Wait until so many events of each kind are there; `_` stands for the dot."""
        wanted = {kind.replace("_", "."): count for kind, count in least.items()}

        def enough() -> bool:
            kinds = self.kinds()
            return all(kinds[kind] >= count for kind, count in wanted.items())

        try:
            wait_until(enough, f"{wanted}", timeout=90.0)
        except AssertionError as late:
            raise AssertionError(f"{late}; there are {self.kinds()}") from None


class Scene(NamedTuple):
    """A Horo in one process on the cluster's servers, its next hop and its broker, and what follows its events."""

    system: System
    hop: NextHop
    broker: RabbitMQ
    follow: Callable[..., Follower]

    def settled(self, ledger: Ledger) -> set[str]:
        """The posts to the calm group, once there is one for every 250 and nothing of them is on its way. A message that the client repeated,
        for it got no answer, may be two posts: then one of them is a repetition."""

        def done() -> set[str] | None:
            found = self.system.traces(CALM)
            there = {one["post"]["message_id"].strip("<>") for one in found} >= set(ledger.accepted)
            return {one["post"]["id"] for one in found} if there and all(map(is_settled, found)) else None

        return wait_until(done, "all mail to be worked", 120.0, pause=0.5)


@pytest.fixture
def at(
    embedded: Starts,
    hops: Callable[..., NextHop],
    servers_settings: Mapping[str, str],
    rabbitmq: RabbitMQ,
    rabbitmq_url: str,
    processes: Processes,
    tmp_path: Path,
) -> Iterator[Scene]:
    hop = hops()
    system = embedded({**servers_settings, "HORO_NEXT_HOP": hop.url, "HORO_BOUNCE_DAYS": "1"})

    def follow(name: str, *keys: str) -> Follower:
        words = ["python", str(CONSUMER), rabbitmq_url, name, str(tmp_path / f"{name}.db"), *keys]
        follower = Follower(processes.start(name, words, cwd=tmp_path))
        follower.ready()
        return follower

    yield Scene(system, hop, rabbitmq, follow)
    assert system.terminate() == [0]


def test_p3_a_consumer_is_told_everything_once_over_restarts_of_its_own_and_of_the_broker(at: Scene) -> None:
    everything, failures = at.follow("everything"), at.follow("failures", "delivery.*", "*.refused")
    at.system.group(TEAM, [*PEOPLE, "550_gone@example.org"], "report_delivery=on")
    at.system.group(CALM, PEOPLE)
    at.system.group("quiet@example.test", PEOPLE, "disable_signals=on", "disabled=on")
    post = at.system.accepted(compose(TEAM, subject="Заглавие"))
    assert sums(at.system.settled(post)) == (3, 2, 0, 1, 0)
    assert at.system.send(compose("quiet@example.test")).code == 550
    told = at.system.cli("signal", TEAM, "елате", "--title", "Хоро")
    at.system.cli("signal", "quiet@example.test", "тихо")
    everything.wait_for(post_refused=1, signal_suppressed=1, signal_delivered=3, delivery_failed=1, member_suspended=1)
    assert {line.about["text"] for line in everything.lines if line.kind == "signal.delivered"} == {"елате"}
    assert {line.about["signal"] for line in everything.lines if line.kind == "signal.delivered"} == {told["signal"]}

    # the broker dies with mail on its way, and comes back
    ledger = Ledger()
    with Flow(ledger, at.system.smtp, CALM, pause=0.05) as flow:
        wait_until(lambda: flow.count >= 6, "some mail to be accepted")
        at.broker.kill()
        assert at.system.send(compose(CALM)).code in (0, 451)
        before = flow.count
        at.broker.start()
        wait_until(lambda: flow.count >= before + 4, "mail to be accepted again", 90.0)
    for follower in (everything, failures):
        follower.ready()
    sent = at.settled(ledger)

    # the consumer is away: events wait in its queue
    everything.child.kill()
    late = at.system.accepted(compose(CALM))
    at.system.settled(late)
    at.system.cli("signal", CALM, "после")
    everything.child.start()
    everything.ready()
    count = len({post, late, *sent})
    everything.wait_for(post_accepted=count, post_expanded=count, signal_delivered=5, report_sent=1)

    for kind in ("post.accepted", "post.expanded"):
        assert everything.posts(kind) == Counter({post, late, *sent})
    doubled = [line for line, count in Counter(map(str, everything.lines)).items() if count > 1]
    assert doubled == []
    reports = [line.about for line in everything.lines if line.kind == "report.sent"]
    assert ("delivered", post, ["visitor@example.net"]) in [(one["kind"], one["post"], one["to"]) for one in reports]
    assert set(everything.kinds()) == set(map(events.routing_key, events.ALL))
    assert everything.kinds() == {
        "post.accepted": count,
        "post.expanded": count,
        "post.refused": 1,
        "delivery.failed": 1,
        "member.suspended": 1,
        "report.sent": len(reports),
        "signal.delivered": 5,
        "signal.suppressed": 1,
    }
    assert failures.kinds() == {"delivery.failed": 1, "post.refused": 1}
    for line in everything.lines:
        check({"id": "not printed", "version": 1, "type": line.kind, "at": line.at, **line.about})


def test_a_signal_by_curl_reaches_the_consumer_once_however_often_it_is_sent(at: Scene) -> None:
    if shutil.which("curl") is None:
        require(("curl",))
    follower = at.follow("signals", "signal.*")
    at.system.group(TEAM, PEOPLE)
    token = at.system.cli("token", "create", "monitor", "--scope", "signal:send")["token"]

    def signal(text: str, token: str = token, key: str = "backup-7") -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "API": f"http://127.0.0.1:{at.system.console}", "TOKEN": token, "KEY": key}
        words = ["sh", str(CONSUMER.with_name("signal.sh")), TEAM, text, 'db "one"']
        return subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)

    said = [signal("Резервното копие \\ не стана") for _ in range(3)]
    assert {(done.returncode, json.loads(done.stdout)["group"]) for done in said} == {(0, TEAM)}, said
    assert len({json.loads(done.stdout)["id"] for done in said}) == 1
    refused = signal("x", "horo_wrong_token")
    assert (refused.returncode, json.loads(refused.stdout)["status"]) == (22, 401)
    last = json.loads(signal("последно", key="backup-8").stdout)["id"]
    wait_until(lambda: sum(line.about["signal"] == last for line in follower.lines) == 2, "the last signal")
    told = [line.about for line in follower.lines if line.kind == "signal.delivered" and line.about["signal"] != last]
    assert sorted(one["member"] for one in told) == PEOPLE
    assert {(one["text"], one["title"], one["origin"]) for one in told} == {
        ("Резервното копие \\ не стана", 'db "one"', "token:monitor")
    }
