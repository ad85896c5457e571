"""The components, parts that not every installation has: uncommented in an overlay as its page says, they are valid, and Horo knows what they set."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from shared.settings import endpoint, load
from tests.deploy.kubectl import DEPLOY, WHOLE, render
from tests.deploy.manifests import ROLES, environment, named, of_kind, role
from tests.deploy.test_schemas import VERSIONS, custom

DASHBOARD = DEPLOY.parent / "grafana" / "horo.json"


@pytest.fixture
def whole(overlay: str) -> str:
    """Each overlay with all of its components."""
    return overlay + WHOLE


def test_every_component_is_offered_by_every_overlay(overlay: str) -> None:
    page = (DEPLOY / "overlays" / overlay / "kustomization.yaml").read_text("utf-8")
    assert "\ncomponents:" not in page  # none is taken before somebody asks for it
    for one in (*(DEPLOY / "components").iterdir(), DASHBOARD.parent):
        assert yaml.safe_load((one / "kustomization.yaml").read_text("utf-8"))["kind"] == "Component"
        assert f"#   - {'../../../grafana' if one == DASHBOARD.parent else f'../../components/{one.name}'}\n" in page


def test_they_are_valid_and_in_the_namespace_and_change_nothing_else(overlay: str, whole: str) -> None:
    before = {(one["kind"], one["metadata"]["name"]) for one in render(overlay)}
    added = [one for one in render(whole) if (one["kind"], one["metadata"]["name"]) not in before]
    (settings,) = [one["metadata"]["name"] for one in added if "HORO_DATA" in one.get("data", {})]
    assert {(one["kind"], one["metadata"]["name"]) for one in added} == {
        ("ConfigMap", settings),
        ("ConfigMap", "horo-dashboard"),
        ("Service", "horo-socketmap"),
        ("NetworkPolicy", "mail-servers-to-socketmap"),
        ("NetworkPolicy", "ingress-to-rspamd"),
        ("NetworkPolicy", "roles-to-collector"),
    }
    assert {one["metadata"]["namespace"] for one in added} == {"horo"}
    assert (
        len(render(whole)) == len(render(overlay)) + len(added) - 1
    )  # the settings' new name is in the old one's place
    for one in render(whole):
        if custom(one) is None:
            kubernetes_validate.validate(one, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", ROLES)
def test_every_role_knows_what_they_set(overlay: str, whole: str, name: str) -> None:
    plain, found = (load(environment(one, role(one, name))) for one in (overlay, whole))
    assert (plain.socketmap_listen, plain.rspamd_url, plain.trace_endpoint) == ("", "", "")
    assert urlsplit(found.rspamd_url).port == 11333
    assert urlsplit(found.trace_endpoint).port == 4318
    assert found.hostname == plain.hostname  # the overlay's own settings stay


def test_the_socketmap_is_a_port_of_the_ingress_and_the_service_leads_to_it(overlay: str, whole: str) -> None:
    pod = role(whole, "ingress")
    host, port = endpoint(load(environment(whole, pod)).socketmap_listen)
    assert host == "0.0.0.0"
    assert pod.ports == {**role(overlay, "ingress").ports, "socketmap": port}
    service = named(whole, "Service", "horo-socketmap")["spec"]
    assert service["ports"] == [{"name": "socketmap", "port": port, "targetPort": "socketmap"}]
    assert service.get("type", "ClusterIP") == "ClusterIP"  # not for the world
    assert service["selector"] == named(whole, "Service", "horo-lmtp")["spec"]["selector"]


def test_the_namespaces_that_rules_let_out_to_are_those_of_the_addresses(whole: str) -> None:
    settings = load(environment(whole, role(whole, "ingress")))
    for policy, url in (("ingress-to-rspamd", settings.rspamd_url), ("roles-to-collector", settings.trace_endpoint)):
        (rule,) = named(whole, "NetworkPolicy", policy)["spec"]["egress"]
        (peer,) = rule["to"]
        space = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        assert str(urlsplit(url).hostname).split(".")[1:] == [space, "svc"]
        assert rule["ports"] == [{"port": urlsplit(url).port}]


def test_grafana_s_sidecar_finds_the_dashboard(whole: str) -> None:
    (one,) = [
        found for found in of_kind(whole, "ConfigMap") if "grafana_dashboard" in found["metadata"].get("labels", {})
    ]
    assert json.loads(one["data"]["horo.json"]) == json.loads(DASHBOARD.read_text("utf-8"))
    assert (
        len(json.dumps(one)) < 256 * 1024
    )  # `kubectl apply` keeps a copy of it in an annotation, which may not be longer
