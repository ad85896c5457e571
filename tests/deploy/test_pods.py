"""Every pod: without rights, with limits, watched, and selected by what means it."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from cli.up import ROLES as COMMAND_ROLES
from shared import health
from shared.parts import START_PATIENCE
from tests.deploy.kubectl import render
from tests.deploy.manifests import COMPONENT, ROLES, named, of_kind, pods, quantity, role, selects
from tests.deploy.manifests import horo_pods as horo

ROOT = Path(__file__).parents[2]
UID = 10001
"""The user of the image."""


def test_every_role_of_the_command_line_is_deployed_once_and_starts_with_it(overlay: str) -> None:
    assert set(ROLES) == set(COMMAND_ROLES)
    found = {pod.component: pod.spec["containers"][0]["args"] for pod in horo(overlay)}
    assert found == {**{name: ["serve", name] for name in ROLES}, "migrate": ["migrate"]}
    assert all("command" not in pod.spec["containers"][0] for pod in horo(overlay))  # the image's entry point is horo


def test_names_are_unique_and_everything_is_in_the_namespace_that_refuses_privileges(overlay: str) -> None:
    names = Counter((one["kind"], one["metadata"]["name"]) for one in render(overlay))
    assert max(names.values()) == 1, names.most_common(1)
    (space,) = of_kind(overlay, "Namespace")
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    others = {one["metadata"].get("namespace") for one in render(overlay) if one["kind"] != "Namespace"}
    assert others == {space["metadata"]["name"]}


def test_no_pod_is_root_or_can_become_it_or_writes_to_its_image(overlay: str) -> None:
    for pod in pods(overlay):
        context = pod.spec["securityContext"]
        assert context["runAsNonRoot"] is True, pod.name
        assert context["runAsUser"] > 0, pod.name
        assert context["runAsGroup"] > 0, pod.name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, pod.name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec), pod.name
        assert not any("hostPath" in volume for volume in pod.spec["volumes"]), pod.name
        for container in pod.containers:
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, pod.name
            assert own["readOnlyRootFilesystem"] is True, pod.name
            assert own["capabilities"] == {"drop": ["ALL"]}, pod.name
            assert not {"privileged", "runAsUser", "runAsNonRoot"} & set(own), pod.name
            assert not any("hostPort" in port for port in container.get("ports", [])), pod.name


def test_pods_of_ours_run_as_the_image_s_user_and_write_where_they_may(overlay: str) -> None:
    for pod in horo(overlay):
        context = pod.spec["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"], context["fsGroup"]) == (UID, UID, UID), pod.name
        (container,) = pod.containers
        mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        volumes = {one["name"]: one for one in pod.spec["volumes"]}
        for path in ("/data", "/tmp"):
            assert "sizeLimit" in volumes[mounts[path]]["emptyDir"], (pod.name, path)


def test_no_pod_has_a_token_or_service_links(overlay: str) -> None:
    for pod in pods(overlay):
        assert pod.spec["automountServiceAccountToken"] is False, pod.name
        assert pod.spec["enableServiceLinks"] is False, pod.name
    for account in of_kind(overlay, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    accounts = {account["metadata"]["name"] for account in of_kind(overlay, "ServiceAccount")}
    assert accounts == {pod.spec["serviceAccountName"] for pod in horo(overlay)}
    assert not of_kind(overlay, "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def test_every_container_says_what_it_needs_and_what_it_may_have(overlay: str) -> None:
    for pod in pods(overlay):
        for container in pod.containers:
            resources = container["resources"]
            for what in ("cpu", "memory"):
                asked, most = quantity(resources["requests"][what]), quantity(resources["limits"][what])
                assert 0 < asked <= most, (pod.name, what)


def test_memory_asked_for_is_what_was_measured_and_its_limit_is_above_the_promise() -> None:
    """docs/benchmarks.md: the most that a process held while a million copies went out (P10), and the bench's own bound."""
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    row = re.search(r"\|\s*huge\s*\|\s*no service over (\d+) MiB\s*\|([^|]+)\|", page)
    assert row is not None, "the page of measurements has no row for memory"
    measured = {name: int(value) for name, value in re.findall(r"(\w+) (\d+) MiB", row[2])}
    assert set(measured) == {"ingress", "expander", "sender", "reporter"}
    for name, most in measured.items():
        resources = role("prod", name).spec["containers"][0]["resources"]
        assert quantity(resources["requests"]["memory"]) >= most * 2**20, name
        assert quantity(resources["limits"]["memory"]) >= int(row[1]) * 2**20 * 1.25, name


def test_images_are_pinned(overlay: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    ours = "horo:dev" if overlay == "dev" else f"registry.example.com/horo:{version}"
    images = {container["image"] for pod in pods(overlay) for container in pod.containers}
    images |= {one["spec"]["image"] for one in of_kind(overlay, "RabbitmqCluster")}
    assert ours in images
    for image in images - {ours}:
        assert re.search(r":v?\d+\.\d+(\.\d+)?(-[a-z]+)?$", image), image
    assert {container["image"] for pod in horo(overlay) for container in pod.containers} == {ours}


@pytest.mark.parametrize("name", ROLES)
def test_every_role_has_its_three_probes_and_they_fit_what_it_answers(overlay: str, name: str) -> None:
    (container,) = role(overlay, name).spec["containers"]
    startup, live, ready = (container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness"))
    assert [probe["httpGet"]["path"] for probe in (startup, live, ready)] == ["/livez", "/livez", "/readyz"]
    assert {probe["httpGet"]["port"] for probe in (startup, live, ready)} == {"health"}
    # A start that waits for three servers gives up by itself and says why, before it is killed without a word.
    assert startup["periodSeconds"] * startup["failureThreshold"] > 3 * START_PATIENCE
    assert live["timeoutSeconds"] > health.LIVE_WITHIN
    assert live["periodSeconds"] * live["failureThreshold"] >= 60
    assert ready["timeoutSeconds"] > health.READY_WITHIN + 1
    assert ready["periodSeconds"] > health.FRESH  # or every answer would be an old one


def test_servers_of_dev_have_probes_and_ports_that_exist() -> None:
    for pod in pods("dev"):
        for container in pod.spec["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for kind in ("startup", "liveness", "readiness"):
                probe = container.get(f"{kind}Probe", {})
                for way in ("httpGet", "tcpSocket"):
                    assert probe.get(way, {}).get("port", "") in ports | {""}, (pod.name, kind)
            if pod.component != "migrate":
                assert {"livenessProbe", "readinessProbe"} <= set(container), pod.name


def test_selectors_match_their_own_pods_and_no_others(overlay: str) -> None:
    for pod in pods(overlay):
        if (selector := pod.owner["spec"].get("selector")) is not None:
            assert [one.name for one in pods(overlay) if selects(selector, one.labels)] == [pod.name]
    for kind in ("ScaledObject", "PodDisruptionBudget", "ServiceMonitor"):
        for one in of_kind(overlay, kind):
            if one["metadata"]["name"] == "horo-rabbitmq":
                continue  # of the operator's pods: test_network.py knows their labels
            spec = one["spec"]
            if kind == "ScaledObject":
                found = [pod.component for pod in pods(overlay) if pod.name == spec["scaleTargetRef"]["name"]]
            else:
                found = [pod.component for pod in pods(overlay) if selects(spec["selector"], pod.labels)]
            assert found == [one["metadata"]["labels"][COMPONENT]], (kind, one["metadata"]["name"])


def test_services_select_one_kind_of_pod_and_name_ports_that_it_has(overlay: str) -> None:
    for service in of_kind(overlay, "Service"):
        found = [pod for pod in pods(overlay) if selects({"matchLabels": service["spec"]["selector"]}, pod.labels)]
        assert len(found) == 1, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in found[0].ports, (service["metadata"]["name"], port)


def test_what_is_open_to_the_world_is_smtp_alone() -> None:
    outside = [one for one in of_kind("prod", "Service") if one["spec"].get("type", "ClusterIP") != "ClusterIP"]
    assert [one["metadata"]["name"] for one in outside] == ["horo-smtp"]
    assert [port["port"] for port in outside[0]["spec"]["ports"]] == [25]
    assert outside[0]["spec"]["externalTrafficPolicy"] == "Local"  # the clients' own addresses
    assert not [one for one in of_kind("dev", "Service") if one["spec"].get("type", "ClusterIP") != "ClusterIP"]


@pytest.mark.parametrize("name", ROLES)
def test_every_role_is_scraped(overlay: str, name: str) -> None:
    monitor = named(overlay, "ServiceMonitor", f"horo-{name}")["spec"]
    (endpoint,) = monitor["endpoints"]
    found = [
        service
        for service in of_kind(overlay, "Service")
        if selects(monitor["selector"], service["metadata"]["labels"])
        and endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    ]
    assert [service["metadata"]["name"] for service in found] == [f"horo-{name}"]  # once, not once per service
    assert endpoint["path"] == "/metrics"


@pytest.mark.parametrize("name", ROLES)
def test_pods_of_a_role_are_spread_over_zones_and_nodes(overlay: str, name: str) -> None:
    pod = role(overlay, name)
    rules = {rule["topologyKey"]: rule for rule in pod.spec["topologySpreadConstraints"]}
    assert set(rules) == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
    for rule in rules.values():
        assert selects(rule["labelSelector"], pod.labels)  # else it spreads nothing
        assert set(rule["matchLabelKeys"]) == {COMPONENT, "pod-template-hash"}
    strategy = pod.owner["spec"]["strategy"]["rollingUpdate"]
    assert (strategy["maxUnavailable"], strategy["maxSurge"]) == (0, 1)


def test_each_release_has_a_migration_of_its_own(overlay: str) -> None:
    (job,) = of_kind(overlay, "Job")
    tag = job["spec"]["template"]["spec"]["containers"][0]["image"].rpartition(":")[2]
    assert job["metadata"]["name"] == f"horo-migrate-{tag}"
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure"
