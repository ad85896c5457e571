"""compose.yaml: what it says is true of the settings and of the tree, and the cluster that it describes carries mail."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import docker
import pytest
import yaml

from shared.runtime import apart
from shared.settings import PREFIX, Settings, load, seconds
from tests.deploy import built
from tests.deploy.composed import BOX, FILE, ROLES, Failed, Project, declared
from tests.deploy.kubectl import DEPLOY
from tests.e2e.client import Message, compose, send
from tests.support.waiting import wait_until

GROUP = "office@example.test"
PEOPLE = [f"member{number}@example.org" for number in range(8)]
PROMETHEUS = built.ROOT / "deploy/compose/prometheus.yml"
GRAFANA = built.ROOT / "deploy/compose/grafana"


def services() -> dict[str, Any]:
    """What the file says of each service."""
    found: dict[str, Any] = declared()["services"]
    return found


def settings(name: str) -> Settings:
    """The settings of a role, as it would load them."""
    given = services()[name]["environment"]
    assert all(key.startswith(PREFIX) for key in given)
    return load({**from_image(), **given})


def from_image() -> dict[str, str]:
    """The settings that stand in the image."""
    return dict(re.findall(r"(HORO_\w+)=(\S+)", (built.ROOT / "Dockerfile").read_text()))


# --- what it says -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*ROLES, "migrate"])
def test_every_key_is_a_setting_and_every_address_is_a_service(name: str) -> None:
    loaded = settings(name)
    apart(loaded)  # a broker, not the embedded bus
    everybody = services()
    ports = {"rabbitmq": 5672, "postgres": 5432, "valkey": 6379, "mail": 1025}
    for url in (loaded.broker_url, loaded.database_url, loaded.cache_url, loaded.next_hop):
        found = urlsplit(url)
        assert found.hostname in everybody
        assert found.port == ports[str(found.hostname)]
    assert urlsplit(loaded.broker_url).username == everybody["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_USER"]
    assert urlsplit(loaded.broker_url).password == everybody["rabbitmq"]["environment"]["RABBITMQ_DEFAULT_PASS"]
    assert urlsplit(loaded.database_url).username == everybody["postgres"]["environment"]["POSTGRES_USER"]
    assert urlsplit(loaded.database_url).password == everybody["postgres"]["environment"]["POSTGRES_PASSWORD"]
    assert urlsplit(loaded.database_url).path == f"/{everybody['postgres']['environment']['POSTGRES_DB']}"
    assert loaded.bodies_url == "file:"
    assert f"bodies:{loaded.data}" in everybody[name]["volumes"]
    assert loaded.migrate == "command"


def test_every_variable_that_looks_like_a_setting_is_one() -> None:
    assert set(re.findall(r"\$\{(HORO_\w+)", FILE.read_text())) <= {
        f"{PREFIX}{field.upper()}" for field in Settings.__struct_fields__
    }


def test_what_stands_beside_the_ingress_has_its_place() -> None:
    found = settings("ingress")
    assert found.socketmap_listen.startswith("0.0.0.0:")
    assert (found.rspamd_url, found.rspamd_fail, found.trusted_relays, found.trace_endpoint) == ("", "open", "", "")
    given = {
        "HORO_RSPAMD_URL": "http://rspamd:11333",
        "HORO_RSPAMD_FAIL": "closed",
        "HORO_TRUSTED_RELAYS": "172.16.0.0/12",
        "HORO_TRACE_ENDPOINT": "http://collector:4318",
    }
    taken = declared(given)["services"]["ingress"]["environment"]
    assert {key: taken[key] for key in given} == given
    assert load({**from_image(), **taken}).rspamd_fail == "closed"


def test_there_are_as_many_of_each_role_as_the_cluster_profile_wants() -> None:
    found = {name: one.get("deploy", {}).get("replicas", 1) for name, one in services().items() if name in ROLES}
    assert found == ROLES
    assert [services()[name]["command"] for name in ROLES] == [["serve", name] for name in ROLES]


@pytest.mark.parametrize("name", [*ROLES, "migrate"])
def test_a_container_of_horo_can_write_nowhere_and_become_nobody(name: str) -> None:
    one = services()[name]
    assert one["read_only"] is True
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert [place.split(":")[0] for place in one["tmpfs"]] == ["/tmp"]
    assert one["volumes"] == ["bodies:/data"]
    assert one["deploy"]["resources"]["limits"]["memory"]
    assert "user" not in one  # the image's


@pytest.mark.parametrize("name", list(ROLES))
def test_a_drain_ends_before_the_container_is_killed(name: str) -> None:
    grace, drain = seconds(services()[name]["stop_grace_period"]), seconds(settings(name).drain_timeout)
    assert grace >= drain + 20


def test_images_are_pinned_and_those_of_the_manifests() -> None:
    others = {name: one["image"] for name, one in services().items() if not one["image"].startswith("horo")}
    for image in others.values():
        assert re.fullmatch(r"[a-z./]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", image), image
    manifests = "".join(path.read_text() for path in (DEPLOY / "overlays" / "dev").glob("*.yaml"))
    for name in ("rabbitmq", "postgres", "valkey", "mail"):
        assert f"image: {others[name]}\n" in manifests


def test_ports_are_on_loopback_each_its_own_and_none_leads_to_broker_database_or_cache() -> None:
    published = {name: one["ports"] for name, one in services().items() if "ports" in one}
    assert set(published) == {"ingress", "console", "mail", "prometheus", "grafana"}
    hosts = [port.split(":") for ports in published.values() for port in ports]
    assert {host for host, _, _ in hosts} == {"127.0.0.1"}
    assert len({outside for _, outside, _ in hosts}) == len(hosts)
    given = {**from_image(), **services()["ingress"]["environment"]}
    listening = {int(one.rpartition(":")[2]) for key, one in given.items() if key.endswith("_LISTEN")}
    assert {int(port.rpartition(":")[2]) for name in ("ingress", "console") for port in published[name]} <= listening
    assert [name for name, one in services().items() if one.get("networks") == ["inside"]] == [
        "rabbitmq",
        "postgres",
        "valkey",
    ]
    assert declared()["networks"]["inside"]["internal"] is True


def test_whatever_it_mounts_is_in_the_tree_and_whatever_it_keeps_is_a_volume() -> None:
    for one in services().values():
        for place in one.get("volumes", []):
            source = place.split(":")[0]
            if source.startswith("."):
                assert (built.ROOT / source).exists(), source
                assert place.endswith(":ro")
            else:
                assert source in declared()["volumes"]


def test_prometheus_looks_at_every_role() -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load(PROMETHEUS.read_text())["scrape_configs"]}
    assert set(jobs) == {*ROLES, "rabbitmq"}
    health = int(from_image()["HORO_HEALTH_LISTEN"].rpartition(":")[2])
    for role in ROLES:
        (found,) = jobs[role]["dns_sd_configs"]
        assert (found["names"], found["type"], found["port"]) == ([role], "A", health)
    shared = {name: set(one["networks"]) for name, one in services().items()}
    assert all(shared[name] & shared["prometheus"] for name in jobs)
    # As the Prometheus operator calls them: its job label is the role.
    assert "jobLabel: app.kubernetes.io/component" in (DEPLOY / "base" / "monitoring.yaml").read_text()


def test_grafana_is_given_prometheus_and_the_dashboards() -> None:
    (source,) = yaml.safe_load((GRAFANA / "datasources.yml").read_text())["datasources"]
    assert urlsplit(source["url"]).hostname in services()
    assert services()["prometheus"]["ports"][0].endswith(f":{urlsplit(source['url']).port}")
    (provider,) = yaml.safe_load((GRAFANA / "dashboards.yml").read_text())["providers"]
    places = dict(place.split(":")[:2][::-1] for place in services()["grafana"]["volumes"])
    boards = built.ROOT / places[provider["options"]["path"]]
    found = [json.loads(board.read_text()) for board in boards.glob("*.json")]
    assert found
    assert all(board["panels"] for board in found)


# --- what it does -----------------------------------------------------------------------------------------------------
@pytest.fixture
def project(docker_engine: docker.DockerClient, image: str, tmp_path: Path) -> Iterator[Project]:
    """The project, without anything of it running; what a test started of it ends."""
    assert image
    made = Project(docker_engine, tmp_path)
    made.prepare()
    try:
        yield made
    finally:
        made.run("down", "--volumes", "--timeout", "0")


@pytest.mark.timeout(900)  # on a machine that has none of it yet, images are made first
def test_p3_the_cluster_carries_mail_and_ends_in_order(project: Project) -> None:
    assert json.loads(project.run("config", "--format", "json"))["services"].keys() == services().keys()
    try:
        project.run("up", "--no-build", "--detach", "--wait", "--wait-timeout", "180", *ROLES, "prometheus")
        carry(project)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{project.logs()}") from None


def carry(project: Project) -> None:
    """Mail to a group through all of them, seen at the next hop, in the ledger and by Prometheus; then they end."""
    running = Counter(
        one.labels["com.docker.compose.service"] for one in project.containers() if one.status == "running"
    )
    assert {name: running[name] for name in ROLES} == ROLES
    project.inside("console", "horo", "group", "create", GROUP, *[word for who in PEOPLE for word in ("--member", who)])
    large = b"large, so that it is kept in the shared volume\r\n" * 8_000
    sent = [compose(GROUP, body=b"small\r\n" if number else large) for number in range(12)]
    assert [send(project.ports["SMTP_PORT"], message).code for message in sent] == [250] * len(sent)
    expected = Counter((message.id, who) for message in sent for who in PEOPLE)
    wait_until(lambda: sum(received(project).values()) >= expected.total(), "every copy at the next hop", 60, pause=1)
    assert received(project) == expected
    wait_until(lambda: delivered(project, sent[0]) == len(PEOPLE), "the ledger's word", 30, pause=0.5)
    wait_until(lambda: scraped(project) == ROLES, "every process scraped by Prometheus", 60, pause=1)
    assert watched(project) == written()
    project.run("stop", *ROLES)
    ended = {one.name: one.attrs["State"]["ExitCode"] for role in ROLES for one in project.containers(role)}
    assert len(ended) == sum(ROLES.values())
    assert set(ended.values()) == {0}, ended
    assert received(project) == expected


def received(project: Project) -> Counter[tuple[str, str]]:
    """What came to the next hop: Message-ID and recipient, of each copy."""
    script = (
        "import email, json, pathlib; heads = [email.message_from_bytes(path.read_bytes()) for path in"
        f" pathlib.Path('{BOX}').glob('new/*')]; print(json.dumps([[one['Message-ID'], one['X-RcptTo']] for one in heads]))"
    )
    found = json.loads(project.inside("mail", "python", "-c", script))
    return Counter((identity.strip("<> "), who.strip()) for identity, to in found for who in to.split(","))


def delivered(project: Project, message: Message) -> int:
    """To how many recipients a message was delivered, by the ledger; 0 while not all of it is filed."""
    with contextlib.suppress(Failed):  # it is not known yet
        (post,) = json.loads(project.inside("console", "horo", "trace", message.id, "--json"))["posts"]
        return int(post["totals"]["delivered"]) if post["totals"]["complete"] else 0
    return 0


def scraped(project: Project) -> dict[str, int]:
    """How many processes of each role Prometheus has looked at, and found up."""
    found = asked(project, "query?query=sum%20by%20(job)%20(up)")["result"]
    return {one["metric"]["job"]: int(one["value"][1]) for one in found if one["metric"]["job"] in ROLES}


def watched(project: Project) -> set[str]:
    """The alerts that Prometheus has loaded."""
    groups = asked(project, "rules?type=alert")["groups"]
    return {rule["name"] for group in groups for rule in group["rules"]}


def written() -> set[str]:
    """The alerts in the tree."""
    (rules,) = (place.split(":")[0] for place in services()["prometheus"]["volumes"] if place.endswith("/horo:ro"))
    documents = [yaml.safe_load(path.read_text()) for path in (built.ROOT / rules).glob("*.rules.yml")]
    names = {
        rule["alert"] for one in documents for group in one["groups"] for rule in group["rules"] if "alert" in rule
    }
    assert names
    return names


def asked(project: Project, question: str) -> dict[str, Any]:
    """What Prometheus answers."""
    url = f"http://127.0.0.1:{project.ports['PROMETHEUS_PORT']}/api/v1/{question}"
    with urllib.request.urlopen(url, timeout=10) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
    return data
