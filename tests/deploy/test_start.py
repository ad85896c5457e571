"""The roles as the manifests start them: real processes with the environment of `dev`, on real servers; only addresses are others.

What a pod's probes ask is asked here, at every turn: before the migration, after it, while the broker hangs, after it is back, at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

import boto3
import psutil
import pytest
from moto.server import ThreadedMotoServer

from tests.deploy.manifests import ROLES, environment, of_kind, quantity, role
from tests.support import mode
from tests.support.processes import Child, Processes, http_status
from tests.support.servers import RabbitMQ
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def store(free_port: Callable[[], int]) -> Iterator[str]:
    """An S3 store with the bucket of dev; its endpoint."""
    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    endpoint = f"http://127.0.0.1:{port}"
    boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    ).create_bucket(Bucket="bodies")
    yield endpoint
    server.stop()


@pytest.fixture
def broker(servers: mode.Servers) -> RabbitMQ:
    """The newest broker that is to be had: what differs among them is not the manifests' business."""
    return servers.rabbitmq(mode.rabbitmq_versions(mode.ready())[-1])


@pytest.fixture
def broker_url(broker: RabbitMQ) -> Iterator[str]:
    """A virtual host of the test's own."""
    url = broker.fresh()
    yield url
    broker.discard(url)


class Cluster:
    """The pods of dev, each one process."""

    def __init__(self, processes: Processes, folder: Path, places: Mapping[str, str], port: Callable[[], int]) -> None:
        self._processes = processes
        self._folder = folder
        self._places = places
        self._port = port
        self.children: dict[str, Child] = {}
        self.health: dict[str, str] = {}

    def start(self, name: str) -> Child:
        """Start a role, or the migration, with the command and the variables of its container."""
        pod = role("dev", name)
        env = {**environment("dev", pod), "HORO_DATA": str(self._folder / name)}
        for key, value in self._places.items():
            if key in env:  # what the manifest does not set is not set here either
                env[key] = value
        for what in ("SMTP", "LMTP", "CONSOLE", "HEALTH"):
            env[f"HORO_{what}_LISTEN"] = f"127.0.0.1:{self._port()}"
        self.health[name] = f"http://{env['HORO_HEALTH_LISTEN']}"
        args = pod.spec["containers"][0]["args"]
        self.children[name] = self._processes.start(name, ["horo", *args], env, cwd=self._folder)
        return self.children[name]

    def probe(self, name: str, kind: str) -> int | None:
        """What the kubelet would hear."""
        container = role("dev", name).spec["containers"][0]
        asked = container[f"{kind}Probe"]
        return http_status(self.health[name] + asked["httpGet"]["path"], timeout=asked["timeoutSeconds"])

    def wait(self, kind: str, status: int) -> None:
        """Until the probe of every role hears this, within the time that a start may take."""

        def one(name: str) -> None:
            wait_until(lambda: self.probe(name, kind) == status, f"{kind} of {name} to be {status}", 90)

        with ThreadPoolExecutor(len(ROLES)) as kubelets:
            list(kubelets.map(one, ROLES))


def test_p1_the_roles_of_dev_start_wait_for_the_migration_and_answer_their_probes(
    processes: Processes,
    tmp_path: Path,
    broker: RabbitMQ,
    broker_url: str,
    postgres_url: str,
    redis_url: str,
    store: str,
    free_port: Callable[[], int],
) -> None:
    bodies = environment("dev", role("dev", "sender"))["HORO_BODIES_URL"].replace("http://horo-bodies:7070", store)
    places = {"HORO_BROKER_URL": broker_url, "HORO_DATABASE_URL": postgres_url, "HORO_CACHE_URL": redis_url}
    cluster = Cluster(processes, tmp_path, {**places, "HORO_BODIES_URL": bodies}, free_port)

    early = cluster.start("expander")
    early.wait_for_line("run `horo migrate`")  # it waits, and says for what
    assert cluster.probe("expander", "readiness") is None
    assert cluster.start("migrate").wait() == 0
    for name in ROLES:
        if name != "expander":
            cluster.start(name)
    cluster.wait("startup", 200)
    cluster.wait("readiness", 200)

    _asked_for_is_enough(cluster)
    _keda_finds_its_queues(broker, broker_url)
    broker.pause()  # connections stay open; only a publish that is confirmed can tell
    cluster.wait("readiness", 503)
    assert {cluster.probe(name, "liveness") for name in ROLES} == {200}  # nobody is killed for the broker's sake
    broker.resume()
    cluster.wait("readiness", 200)
    for name in ROLES:
        assert cluster.children[name].terminate(timeout=20) == 0  # with nothing in hand


def _asked_for_is_enough(cluster: Cluster) -> None:
    """A process at rest fits into the memory that its container asks for."""
    for name in ROLES:
        held = psutil.Process(cluster.children[name].pid).memory_full_info().uss
        asked = quantity(role("dev", name).spec["containers"][0]["resources"]["requests"]["memory"])
        assert held < asked, f"{name} holds {held / 2**20:.0f} MiB"


def _keda_finds_its_queues(broker: RabbitMQ, url: str) -> None:
    """By the same question that KEDA asks, of the broker that the services declared their queues on."""
    vhost = quote(urlsplit(url).path[1:], safe="")
    for one in of_kind("dev", "ScaledObject"):
        for trigger in one["spec"]["triggers"]:
            if trigger["type"] == "rabbitmq":
                name = quote(trigger["metadata"]["queueName"], safe="")
                found = broker.api("GET", f"/queues/{vhost}/{name}")
                assert (found["name"], found["type"]) == (trigger["metadata"]["queueName"], "quorum")
