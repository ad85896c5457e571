"""Every object is what the API server, or the operator whose custom resource it is, would take: no field that it does not know, none missing.

Core types are held to the API's own schemas (kubernetes-validate, strict). For custom resources `schemas/` has the part of their definitions that
Horo uses, written after those of KEDA 2.17 and later, of the Prometheus operator and of the RabbitMQ cluster operator; what stands in none of them
is refused here, where an API server might drop it in silence.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from kubernetes_validate import utils

from tests.deploy.kubectl import render
from tests.deploy.manifests import of_kind

SCHEMAS = Path(__file__).parent / "schemas"
VERSIONS = ("1.31", "1.37")
"""The oldest version of Kubernetes that will do (a PodDisruptionBudget for unhealthy pods, `sleep` before the stop), and the newest known here."""


def custom(one: dict[str, Any]) -> Path | None:
    """The schema of a custom resource, None for a core type."""
    group = one["apiVersion"].partition("/")[0]
    short = {"keda.sh": "keda", "monitoring.coreos.com": "monitoring", "rabbitmq.com": "rabbitmq"}.get(group)
    return SCHEMAS / f"{short}-{one['kind'].lower()}.json" if short else None


@pytest.fixture(autouse=True)
def _definitions_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads two megabytes of definitions for each object."""
    monkeypatch.setattr(utils, "schema_contents", _contents)


_read = utils.schema_contents


@cache
def _contents(filename: str, version: str) -> Any:
    return _read(filename, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_core_objects_are_valid(overlay: str, version: str) -> None:
    for one in render(overlay):
        if custom(one) is None:
            kubernetes_validate.validate(one, version, strict=True)


def test_custom_resources_are_valid(overlay: str) -> None:
    found = set()
    for one in render(overlay):
        if (path := custom(one)) is not None:
            check(one, path)
            found.add(path)
    everything = set(SCHEMAS.glob("*.json"))
    assert found == (everything if overlay == "prod" else everything - {SCHEMAS / "rabbitmq-rabbitmqcluster.json"})


def check(one: dict[str, Any], path: Path) -> None:
    """Raises `jsonschema.ValidationError`."""
    schema = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(one)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("ScaledObject", ("spec", "minReplicas"), 1),
        ("ScaledObject", ("spec", "maxReplicaCount"), "4"),
        ("ScaledObject", ("spec", "triggers", 0, "metadata", "queue"), "horo.posts"),
        ("ScaledObject", ("spec", "triggers", 0, "type"), "rabbit"),
        ("TriggerAuthentication", ("spec", "secretTargetRef", 0, "parameter"), "user"),
        ("ServiceMonitor", ("spec", "endpoints", 0, "targetPort"), 9090),
        ("PodMonitor", ("spec", "podMetricsEndpoints", 0, "interval"), "often"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "for"), "often"),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "labels", "severity"), 1),
        ("PrometheusRule", ("spec", "groups", 0, "rules", 0, "record"), "two:at:once"),
        ("RabbitmqCluster", ("spec", "rabbitmq", "config"), ""),
        ("RabbitmqCluster", ("spec", "persistence", "storage"), "20 GB"),
        ("RabbitmqCluster", ("metadata", "name"), "Horo"),
    ],
)
def test_a_mistake_in_a_custom_resource_is_found(kind: str, path: tuple[str | int, ...], value: object) -> None:
    one: Any = json.loads(json.dumps(of_kind("prod", kind)[0]))
    good = custom(one)
    assert good is not None
    check(one, good)
    place = one
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check(one, good)


def test_a_mistake_in_a_core_object_is_found() -> None:
    one = json.loads(json.dumps(of_kind("prod", "Deployment")[0]))
    one["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)
