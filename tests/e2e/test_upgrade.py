"""Today's services on what an older Horo left: its database, its bodies, its messages in its own queues (tests/upgrade/README.md).

Counted at both ends: who had a copy from the old one gets no second, and everybody else gets theirs from the new one.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from shared.database import migrate
from tests.e2e import client
from tests.e2e.client import compose
from tests.e2e.conftest import Starts
from tests.e2e.oracle import resolve
from tests.e2e.sinks import NextHop
from tests.e2e.system import QUICK, System, run_horo, sums
from tests.support.servers import RabbitMQ
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

OLD = Path(__file__).parents[1] / "upgrade" / "before_notes"
VERSION = "0003"
"""Of the old database."""
GRAPH: Mapping[str, tuple[str, ...]] = {
    "team@example.test": ("ana@example.org", "boris@example.org", "chris@example.org"),
    "mixed@example.test": ("dora@example.org", "450-1_elena@example.org"),
    "office@example.test": ("fani@example.org", "team@example.test"),
    "everybody@example.test": tuple(f"p{number}@example.org" for number in range(250)),
}
SETTINGS = {
    "HORO_SECRET": "the secret of the release before",
    "HORO_RETRY_MAX_AGE": "36500d",  # the old mail is never too old for this test, whenever it runs
    "HORO_LEDGER_KEEP": "36500d",
    "HORO_BATCH_SIZE": "25",
}


class Past:
    """What an older Horo left, with this test's next hop in the place of its own."""

    def __init__(self, name: str, hop: NextHop) -> None:
        self._about = json.loads((OLD / f"{name}.json").read_text())
        self._old, self._new = self._about["next_hop"].encode(), f"127.0.0.1:{hop.port}".encode()
        assert len(self._old) == len(self._new), "a message of the wire tells the length of a text before it"

    @property
    def had(self) -> set[tuple[str, str]]:
        """Who had a copy: (Message-ID, recipient)."""
        return {(identity, person) for identity, person in self._about["had"]}

    @property
    def sent(self) -> dict[str, dict[str, Any]]:
        """What had been accepted, by what had become of it."""
        return dict(self._about["sent"])

    def moved(self, data: bytes) -> bytes:
        """Octets with the next hop of today, also where they are written in hexadecimal."""
        plain = data.replace(self._old, self._new)
        return plain.replace(self._old.hex().upper().encode(), self._new.hex().upper().encode())

    def sql(self, name: str) -> str:
        """A dump."""
        return self.moved((OLD / name).read_bytes()).decode()

    def put_bodies(self, root: Path) -> None:
        """The bodies, where a store of files keeps them."""
        for key, text in self._about["bodies"].items():
            place = root / key[:2] / key[2:4] / key
            place.parent.mkdir(parents=True)
            place.write_bytes(base64.b64decode(text))


@pytest.fixture
def hop(hops: Callable[..., NextHop]) -> NextHop:
    """A next hop whose port has as many digits as that of the past."""
    return next(made for made in iter(hops, None) if len(str(made.port)) == 5)


def judged(system: System, hop: NextHop, past: Past) -> None:
    """Everybody has one copy in all, of the old Horo or the new one; the ledger adds up; and new mail flows to all of the old groups."""
    everything = {
        (message["id"], person) for message in past.sent.values() for person in resolve(message["to"][0], GRAPH)
    }
    owed = everything - past.had
    assert len(owed) == 1 + 250 + 3 + 4

    def arrived() -> Counter[tuple[str, str]]:
        return Counter((client.message_id(copy.content), copy.recipient) for copy in hop.copies)

    wait_until(lambda: arrived().keys() >= owed, "what the old Horo owed", 60, pause=0.2)
    for what, message in past.sent.items():
        document = system.settled(message["id"])
        expanded, delivered, deferred, failed, _ = sums(document)
        assert (delivered, deferred, failed) == (len(resolve(message["to"][0], GRAPH)), 0, 0), what
        assert expanded >= delivered
    assert arrived() == dict.fromkeys(owed, 1)
    bodies = {
        message["id"]: base64.b64decode(message["content"]).partition(b"\r\n\r\n")[2] for message in past.sent.values()
    }
    assert all(client.received_body(copy.content) == bodies[client.message_id(copy.content)] for copy in hop.copies)
    assert system.cli("parked", "list") == []

    fresh = compose("office@example.test")
    assert sums(system.settled(system.accepted(fresh)))[1:4] == (4, 0, 0)
    assert {person for identity, person in arrived() if identity == fresh.id} == resolve("office@example.test", GRAPH)


def test_p1_p3_an_old_database_and_an_old_queue_on_one_machine(embedded: Starts, hop: NextHop, tmp_path: Path) -> None:
    past = Past("sqlite", hop)
    data = tmp_path / "var"
    data.mkdir()
    for name in ("horo", "queue"):
        connection = sqlite3.connect(data / f"{name}.db")
        connection.executescript(past.sql(f"{name}.sql"))
        if name == "queue":
            connection.execute("UPDATE messages SET due = min(due, unixepoch())")  # the hour until the retry has passed
            connection.commit()
        connection.close()
    past.put_bodies(data / "bodies")
    system = embedded({**SETTINGS, "HORO_NEXT_HOP": hop.url})
    judged(system, hop, past)


def test_p1_p3_an_old_database_and_old_messages_in_old_queues_of_a_cluster(
    cluster: Starts,
    hop: NextHop,
    rabbitmq: RabbitMQ,
    servers_settings: Mapping[str, str],
    tmp_path: Path,
) -> None:
    past = Past("cluster", hop)
    with psycopg.connect(servers_settings["HORO_DATABASE_URL"]) as connection:
        connection.execute(past.sql("postgresql.sql"))
    put_messages(rabbitmq, servers_settings["HORO_BROKER_URL"].rpartition("/")[2], past)
    past.put_bodies(tmp_path / "bodies")
    settings = {
        **SETTINGS,
        "HORO_NEXT_HOP": hop.url,
        "HORO_BODIES_URL": f"file:{tmp_path / 'bodies'}",
        "HORO_MIGRATE": "command",
    }
    done = run_horo(["migrate", "--json"], {**QUICK, **servers_settings, **settings}, tmp_path)
    assert json.loads(done.stdout) == {"before": VERSION, "now": migrate.head()}
    system = cluster(settings, roles={"ingress": 1, "expander": 1, "sender reporter": 1})
    judged(system, hop, past)
    assert system.terminate() == [0, 0, 0]


def put_messages(rabbitmq: RabbitMQ, vhost: str, past: Past) -> None:
    """The topology of that time, and its messages as they were; what waits for a retry waits a second more."""
    broker = json.loads((OLD / "rabbitmq.json").read_text())
    rabbitmq.api("POST", f"/definitions/{vhost}", {name: broker[name] for name in ("queues", "exchanges", "bindings")})
    for message in broker["messages"]:
        waits = re.match(r"horo\.delay\.\d+$", message["queue"])
        exchange, key = ("horo.delay.1", message["routing_key"]) if waits else ("amq.default", message["queue"])
        published = rabbitmq.api(
            "POST",
            f"/exchanges/{vhost}/{quote(exchange)}/publish",
            {
                "routing_key": key,
                "payload": base64.b64encode(past.moved(base64.b64decode(message["payload"]))).decode(),
                "payload_encoding": "base64",
                "properties": message["properties"],
            },
        )
        assert published == {"routed": True}, message["queue"]
