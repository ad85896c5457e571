"""The rendered objects as the tests ask about them: by kind, by pod, by what a container gets for settings."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tests.deploy.kubectl import render

ROLES = ("ingress", "expander", "sender", "reporter", "console")
COMPONENT = "app.kubernetes.io/component"
NAME = "app.kubernetes.io/name"

PROD_SECRETS: Mapping[str, Mapping[str, str]] = {
    "horo": {"secret": "0123456789abcdef0123456789abcdef"},
    "horo-database": {"url": "postgresql://horo:se%2Fcret@10.20.0.5/horo?sslmode=require"},
    "horo-cache": {"url": "rediss://:secret@10.20.1.5:6379/0"},
    "horo-bodies": {"access-key-id": "AKIAEXAMPLE", "secret-access-key": "secret"},
    "horo-rabbitmq-default-user": {"username": "default_user_a-b_c", "password": "aB-c_d=="},
    "horo-tls": {"tls.crt": "PEM", "tls.key": "PEM"},
}
"""What others make in production (README.md lists it): values of the form that is said there."""


class Pod(NamedTuple):
    """A template of pods: what makes them, their labels, their specification."""

    owner: Mapping[str, Any]
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The owner's."""
        return str(self.owner["metadata"]["name"])

    @property
    def component(self) -> str:
        """The role, or what else it is."""
        return str(self.labels[COMPONENT])

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        """All of them, those of the start too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def ports(self) -> dict[str, int]:
        """Ports that the containers have, by name."""
        return {port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", [])}


def of_kind(overlay: str, *kinds: str) -> list[dict[str, Any]]:
    """All objects of these kinds."""
    return [one for one in render(overlay) if one["kind"] in kinds]


def named(overlay: str, kind: str, name: str) -> dict[str, Any]:
    """The one object."""
    (found,) = [one for one in of_kind(overlay, kind) if one["metadata"]["name"] == name]
    return found


def pods(overlay: str) -> list[Pod]:
    """Every template of pods."""
    owners = of_kind(overlay, "Deployment", "StatefulSet", "Job")
    return [Pod(one, one["spec"]["template"]["metadata"]["labels"], one["spec"]["template"]["spec"]) for one in owners]


def horo_pods(overlay: str) -> list[Pod]:
    """Those that run Horo's image: the roles and the migration."""
    return [pod for pod in pods(overlay) if pod.labels[NAME] == "horo"]


def role(overlay: str, name: str) -> Pod:
    """The pods of a role."""
    (found,) = [pod for pod in horo_pods(overlay) if pod.component == name]
    return found


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches all, none matches nothing."""
    if selector is None:
        return False
    for key, value in selector.get("matchLabels", {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions", []):
        inside = labels.get(rule["key"]) in rule.get("values", [])
        if not {"In": inside, "NotIn": not inside}[rule["operator"]]:
            return False
    return True


def environment(overlay: str, pod: Pod) -> dict[str, str]:
    """The variables of the container `horo`, as the kubelet makes them: envFrom, then env, in order, with $(NAME) replaced."""
    (container,) = [one for one in pod.containers if one["name"] == "horo"]
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        found |= named(overlay, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", []):
        found[variable["name"]] = re.sub(
            r"\$\(([A-Z_]+)\)", lambda match: found.get(match[1], match[0]), _value(overlay, variable)
        )
    return found


def _value(overlay: str, variable: Mapping[str, Any]) -> str:
    if "value" in variable:
        return str(variable["value"])
    wanted = variable["valueFrom"]["secretKeyRef"]
    return secrets(overlay)[wanted["name"]][wanted["key"]]


def secrets(overlay: str) -> Mapping[str, Mapping[str, str]]:
    """The secrets that there are: those of the overlay, or in production those that others make."""
    if overlay.startswith("prod"):
        return PROD_SECRETS
    return {
        one["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in one["data"].items()}
        for one in of_kind(overlay, "Secret")
    }


def secret_keys(overlay: str) -> Iterator[tuple[str, str]]:
    """(secret, key) of everything that any object takes from a secret."""

    def walk(node: Any) -> Iterator[tuple[str, str]]:
        if isinstance(node, list):
            for one in node:
                yield from walk(one)
        elif isinstance(node, dict):
            if (wanted := node.get("secretKeyRef")) is not None:
                yield wanted["name"], wanted["key"]
            for wanted in node.get("secretTargetRef", []):
                yield wanted["name"], wanted["key"]
            if "secretName" in node:
                yield node["secretName"], ""
            for one in node.values():
                yield from walk(one)

    for one in render(overlay):
        yield from walk(one)


def quantity(text: str) -> float:
    """A quantity of memory in octets, or of processors."""
    units = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 0.001, "": 1}
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|m|)", str(text))
    assert match is not None, text
    return float(match[1]) * units[match[2]]
