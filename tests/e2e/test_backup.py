"""P1 and P3 over a backup: mail flows, backups are taken at any moment, each is restored elsewhere and started; then both ends are counted.

What the members must see is told from three sides: what the client was told before the backup began, what the restored ledger calls delivered
before anything was started on it, and what arrives at the restored system's own next hop.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import client
from tests.e2e.client import Flow, Ledger, compose
from tests.e2e.conftest import Starts
from tests.e2e.oracle import Oracle, Pair
from tests.e2e.sinks import NextHop
from tests.e2e.system import QUICK, System, run_horo
from tests.support.processes import Processes
from tests.support.servers import PostgreSQL, RabbitMQ
from tests.support.sink import Copy
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

TEAM, BIG = "team@example.test", "big@example.test"
GRAPH: Mapping[str, tuple[str, ...]] = {
    TEAM: tuple(f"t{number}@example.org" for number in range(10)),
    BIG: tuple(f"slow-100_b{number}@example.org" for number in range(400)),
}
SETTINGS = {
    "HORO_EXPRESS_LIMIT": "100",
    "HORO_SLICE_SIZE": "100",
    "HORO_BATCH_SIZE": "10",
    "HORO_WORKERS": "4",
    "HORO_INLINE_LIMIT": "4096",
}
HEAVY_BODY = b"A body that goes to the store.\r\n" * 300
ROUNDS = 2


@dataclass(frozen=True)
class Taken:
    """A backup: its file, and what had been accepted when it began, as its client has it and as who must get it."""

    file: Path
    ledger: Ledger
    promised: frozenset[Pair]


def backups(system: System, ledger: Ledger, hop: NextHop, folder: Path, seed: int) -> list[Taken]:
    """Take backups at moments that chance chooses, while mail to all groups flows."""
    noise = random.Random(seed)
    taken = []
    for round_ in range(ROUNDS):
        for body in noise.sample([HEAVY_BODY, HEAVY_BODY, b"For all.\r\n"], 2):
            ledger.send(system.smtp, compose(BIG, body=body))
        threading.Event().wait(noise.random() * 0.3)  # the moment that chance chooses
        before = Ledger(list(ledger.attempts))  # both of one list: mail goes on being accepted
        promised = Oracle(before, hop, GRAPH).expected()
        file = folder / f"{round_}.tar.gz"
        system.cli("backup", str(file))
        taken.append(Taken(file, before, promised))
    return taken


def restored(processes: Processes, taken: Taken, folder: Path, hop: NextHop) -> tuple[frozenset[Pair], list[Copy]]:
    """Restore elsewhere and start: whom the ledger called delivered before the start, and what arrived after it, until all is settled.

    The next hop is the same one: the messages in the queue name it.
    """
    folder.mkdir()
    env = {**QUICK, **SETTINGS, "HORO_DATA": str(folder / "var"), "HORO_NEXT_HOP": hop.url}
    done = run_horo(["restore", str(taken.file)], env, folder)
    assert done.returncode == 0, done.stderr
    judge = Oracle(taken.ledger, hop, GRAPH)
    had = judge.recorded(_Stopped(env, folder))  # type: ignore[arg-type]  # the ledger, asked by the command line alone
    before = len(hop.copies)
    system = System(processes, folder, {**SETTINGS, "HORO_NEXT_HOP": hop.url})
    try:
        judge.check_sums(system)
        return had, hop.copies[before:]
    finally:
        end(system, hop)


def end(system: System, hop: NextHop) -> None:
    """kill -9, and nothing that it had begun to send is taken any more."""
    system.kill("up")
    hop.stop()
    hop.start()


class _Stopped:
    """A Horo that does not run: its files, and the command line."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        self.env, self.folder = env, folder

    run = System.run
    cli = System.cli
    traces = System.traces


def test_p1_p3_a_backup_in_mid_flow_restored_elsewhere_reaches_everybody_and_nobody_whom_it_knows_to_have_it(
    embedded: Starts, hops: Callable[..., NextHop], processes: Processes, tmp_path: Path
) -> None:
    hop = hops()
    system = embedded({**SETTINGS, "HORO_NEXT_HOP": hop.url})
    for group, people in GRAPH.items():
        system.group(group)
        system.members(group, people)
    ledger = Ledger()
    with Flow(ledger, system.smtp, TEAM, pause=0.3) as flow:
        wait_until(lambda: flow.count >= 3, "mail to flow", 30)
        taken = backups(system, ledger, hop, tmp_path, seed=20261123)
    end(system, hop)  # the disaster
    lived = pairs(hop.copies)

    assert ledger.refusals() == []
    bodies = {identity: message.body for identity, message in ledger.tried.items()}
    under_way = 0
    for number, one in enumerate(taken):
        had, copies = restored(processes, one, tmp_path / f"restored-{number}", hop)
        arrived = pairs(copies)
        assert one.promised <= had | arrived.keys(), "accepted before the backup, and lost"
        assert not had & arrived.keys(), "delivered by the backup's own ledger, and delivered again"
        assert set(arrived.values()) <= {1}, "twice from one restore"
        assert had <= lived.keys(), "called delivered, and never arrived"
        assert all(client.received_body(copy.content) == bodies[client.message_id(copy.content)] for copy in copies)
        under_way += len(arrived)
    assert under_way > 100, "nothing was on its way: this test has shown nothing"


def pairs(copies: Iterable[Copy]) -> Counter[Pair]:
    """How often each person got each message."""
    return Counter((client.message_id(copy.content), copy.recipient) for copy in copies)


def test_p3_a_dump_of_postgresql_in_mid_flow_and_the_bodies_restored_on_empty_queues(
    cluster: Starts,
    hops: Callable[..., NextHop],
    postgres: PostgreSQL,
    rabbitmq: RabbitMQ,
    servers_settings: Mapping[str, str],
    tmp_path: Path,
) -> None:
    """As docs/how-to/back-up.md has it: what was delivered is known and not sent again, what was on its way is told, and mail flows."""
    first, second = hops(), hops()
    bodies = tmp_path / "bodies"
    together = {"ingress": 1, "expander sender reporter": 1}
    settings = {**SETTINGS, "HORO_NEXT_HOP": first.url, "HORO_BODIES_URL": f"file:{bodies}"}
    system = cluster(settings, roles=together)
    for group, people in GRAPH.items():
        system.group(group)
        system.members(group, people)
    heavy = compose(TEAM, body=HEAVY_BODY)
    system.settled(system.accepted(heavy))
    ledger = Ledger()
    with Flow(ledger, system.smtp, TEAM, pause=0.3) as flow:
        ledger.send(system.smtp, compose(BIG, body=HEAVY_BODY))
        wait_until(lambda: flow.count >= 5 and first.busy, "mail to flow", 30)
        url = servers_settings["HORO_DATABASE_URL"]
        dump = tmp_path / "horo.dump"
        subprocess.run(["pg_dump", "--format=custom", f"--file={dump}", url], check=True, timeout=60)
        shutil.copytree(bodies, tmp_path / "copied")
    for role in together:
        system.kill(role)

    empty, vhost = postgres.fresh(), rabbitmq.fresh()
    try:
        subprocess.run(
            ["pg_restore", "--no-owner", "--exit-on-error", f"--dbname={empty}", dump], check=True, timeout=60
        )
        again = cluster(
            {
                **settings,
                "HORO_DATABASE_URL": empty,
                "HORO_BROKER_URL": vhost,
                "HORO_BODIES_URL": f"file:{tmp_path / 'copied'}",
                "HORO_NEXT_HOP": second.url,
            },
            roles=together,
        )
        assert again.cli("group", "show", BIG)["members"] == len(GRAPH[BIG])
        recorded = Oracle(ledger, first, GRAPH).recorded(again)
        assert recorded <= pairs(first.copies).keys()
        assert again.send(heavy).code == 250  # repeated by its client, and known: nobody gets it twice
        fresh = compose(TEAM, body=HEAVY_BODY)
        again.settled(again.accepted(fresh))
        assert pairs(second.copies) == Counter({(fresh.id, person): 1 for person in GRAPH[TEAM]})
        again.close()
    finally:
        postgres.discard(empty)
        rabbitmq.discard(vhost)
