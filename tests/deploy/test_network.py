"""The network rules, worked out: for every pair of pods and of those outside, on every port, what may be called is what the design draws, no more.

An arrow needs both its ends: the caller's policies must let it out, the called one's must let it in. Whoever is outside the namespace is not held
by its rules.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import pytest

from tests.deploy.kubectl import WHOLE
from tests.deploy.manifests import ROLES, of_kind, pods, selects

Arrow = tuple[str, str, int, str]
"""Who calls whom, on which port, by which protocol."""


class Place(NamedTuple):
    """A pod of ours (`own`), or somebody outside: a pod of another namespace, or an address."""

    name: str
    labels: Mapping[str, str] = {}
    space: Mapping[str, str] = {}
    address: str = ""
    ports: Mapping[str, int] = {}
    own: bool = False


OUTSIDE = (
    Place("dns", {"k8s-app": "kube-dns"}, {"kubernetes.io/metadata.name": "kube-system"}),
    Place("monitoring", {"app": "prometheus"}, {"kubernetes.io/metadata.name": "monitoring"}),
    Place("keda", {"app": "keda-operator"}, {"kubernetes.io/metadata.name": "keda"}),
    Place("gateway", {"app": "gateway"}, {"kubernetes.io/metadata.name": "gateways", "horo-console": "allowed"}),
    Place("mta", {"app": "postfix"}, {"kubernetes.io/metadata.name": "mail", "horo-lmtp": "allowed"}),
    Place("stranger", {"app.kubernetes.io/name": "horo"}, {"kubernetes.io/metadata.name": "default"}),
    Place("rspamd", {"app": "rspamd"}, {"kubernetes.io/metadata.name": "rspamd"}),
    Place("collector", {"app": "opentelemetry"}, {"kubernetes.io/metadata.name": "tracing"}),
    Place("world", address="203.0.113.9"),
    Place("world6", address="2001:db8::9"),
    Place("metadata", address="169.254.169.254"),
    Place("private", address="192.168.7.7"),
    Place("private6", address="fd00::7"),
    Place("database", address="10.20.0.5"),
    Place("cache", address="10.20.1.5"),
)
ADDRESSES = tuple(place.name for place in OUTSIDE if place.address)
OPERATED = Place(
    "rabbitmq",
    {
        "app.kubernetes.io/name": "horo-rabbitmq",
        "app.kubernetes.io/component": "rabbitmq",
        "app.kubernetes.io/part-of": "rabbitmq",
    },
    ports={"amqp": 5672, "http": 15672, "prometheus": 15692, "epmd": 4369},
    own=True,
)
"""The pods that the cluster operator makes, with the labels that it gives them."""

COMMON: set[Arrow] = {
    *((role, "rabbitmq", 5672, "TCP") for role in ROLES),
    *((who, "dns", 53, protocol) for who in (*ROLES, "migrate") for protocol in ("TCP", "UDP")),
    *((where, "ingress", 2525, "TCP") for where in ADDRESSES),
    ("mta", "ingress", 2424, "TCP"),
    ("gateway", "console", 8080, "TCP"),
    *(("monitoring", role, 9090, "TCP") for role in ROLES),
    ("monitoring", "rabbitmq", 15692, "TCP"),
    ("keda", "rabbitmq", 15672, "TCP"),
}
DEV: set[Arrow] = {
    *((who, "postgres", 5432, "TCP") for who in (*ROLES, "migrate")),
    *((role, "valkey", 6379, "TCP") for role in ROLES),
    *((role, "bodies", 7070, "TCP") for role in ROLES),
    ("sender", "mailpit", 1025, "TCP"),
}
PROD: set[Arrow] = {
    *((who, "database", 5432, "TCP") for who in (*ROLES, "migrate")),
    *((role, "cache", 6379, "TCP") for role in ROLES),
    *((role, "world", 443, "TCP") for role in ROLES),  # S3
    *(("sender", where, port, "TCP") for where in ("world", "world6") for port in (25, 443, 5222, 5223)),
    *(("rabbitmq", "rabbitmq", port, "TCP") for port in (4369, 25672, 35672, 35682)),
    *(("rabbitmq", "dns", 53, protocol) for protocol in ("TCP", "UDP")),
}
COMPONENTS: set[Arrow] = {
    ("mta", "ingress", 2425, "TCP"),
    ("ingress", "rspamd", 11333, "TCP"),
    *((role, "collector", 4318, "TCP") for role in ROLES),
}
EXPECTED = {"dev": COMMON | DEV, "prod": COMMON | PROD}
EXPECTED |= {one + WHOLE: arrows | COMPONENTS for one, arrows in EXPECTED.items()}


@pytest.mark.parametrize("components", ["", WHOLE], ids=["alone", "with components"])
def test_what_may_be_called_is_what_the_design_draws_and_nothing_more(overlay: str, components: str) -> None:
    found, expected = arrows(overlay + components), EXPECTED[overlay + components]
    assert found - expected == set(), "not in the design"
    assert expected - found == set(), "drawn, but not let through"


@pytest.mark.parametrize("components", ["", WHOLE], ids=["alone", "with components"])
def test_between_two_pods_both_ends_say_the_same(overlay: str, components: str) -> None:
    """What one end alone allows does nothing today, and is open as soon as somebody adds the other."""
    overlay += components
    own = [place for place in places(overlay) if place.own]
    for source in own:
        for target in own:
            for port in set(_ports(overlay)):
                out = _let(overlay, "Egress", source, target, port, "TCP")
                into = _let(overlay, "Ingress", target, source, port, "TCP")
                assert out == into, (source.name, target.name, port)


def test_everything_is_refused_where_nothing_is_said(overlay: str) -> None:
    (rule,) = [one["spec"] for one in policies(overlay) if one["spec"]["podSelector"] == {}]
    assert rule == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_every_rule_is_for_somebody_who_is_there(overlay: str) -> None:
    for policy in policies(overlay):
        assert any(selects(policy["spec"]["podSelector"], one.labels) for one in places(overlay) if one.own)
        # a policy without a type that it has rules for would be read as another one
        for kind in ("Ingress", "Egress"):
            assert (kind.lower() in policy["spec"]) <= (kind in policy["spec"]["policyTypes"])


# --- the rules, worked out ------------------------------------------------------------------------------------------------
def policies(overlay: str) -> list[dict[str, Any]]:
    """All of them."""
    return of_kind(overlay, "NetworkPolicy")


@cache
def places(overlay: str) -> tuple[Place, ...]:
    """Everybody who calls or is called."""
    own = [Place(pod.component, pod.labels, ports=pod.ports, own=True) for pod in pods(overlay)]
    return (*own, *([OPERATED] if overlay.startswith("prod") else []), *OUTSIDE)


@cache
def arrows(overlay: str) -> set[Arrow]:
    """Everything that is let through, over all ports that any rule or container names, and some that none does."""
    tried = sorted(_ports(overlay))
    return {
        (source.name, target.name, port, protocol)
        for source in places(overlay)
        for target in places(overlay)
        if source.own or target.own
        for protocol in ("TCP", "UDP")
        for port in tried
        if _let(overlay, "Egress", source, target, port, protocol)
        and _let(overlay, "Ingress", target, source, port, protocol)
    }


def _ports(overlay: str) -> Iterator[int]:
    yield from {22, 24, 80, 111, 1024, 6443, 10250, 35671, 35683, 65535}
    for place in places(overlay):
        yield from place.ports.values()
    for policy in policies(overlay):
        for rule in (*policy["spec"].get("ingress", []), *policy["spec"].get("egress", [])):
            for one in rule["ports"]:  # a rule without ports would be for all of them: a KeyError here
                yield from (port for port in (one["port"], one.get("endPort")) if isinstance(port, int))


def _let(overlay: str, kind: str, held: Place, other: Place, port: int, protocol: str) -> bool:
    """Whether the rules of `held` let this through; those outside are held by none of ours."""
    if not held.own:
        return True
    mine = [
        policy["spec"]
        for policy in policies(overlay)
        if kind in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], held.labels)
    ]
    called = held if kind == "Ingress" else other
    return not mine or any(
        _port_matches(rule, called, port, protocol)
        and _peer_matches(rule["from" if kind == "Ingress" else "to"], other)
        for spec in mine
        for rule in spec.get(kind.lower(), [])
    )


def _port_matches(rule: Mapping[str, Any], called: Place, port: int, protocol: str) -> bool:
    for one in rule["ports"]:
        first = called.ports.get(one["port"]) if isinstance(one["port"], str) else one["port"]
        if first is not None and one.get("protocol", "TCP") == protocol and first <= port <= one.get("endPort", first):
            return True
    return False


def _peer_matches(peers: list[Mapping[str, Any]], other: Place) -> bool:
    for peer in peers:
        if block := peer.get("ipBlock"):
            if other.address and _inside(other.address, block["cidr"], *block.get("except", [])):
                return True
        elif not other.address:
            spaces = peer.get("namespaceSelector")
            near = other.own if spaces is None else not other.own and selects(spaces, other.space)
            if near and selects(peer.get("podSelector", {}), other.labels):
                return True
    return False


def _inside(address: str, cidr: str, *holes: str) -> bool:
    found, network = ipaddress.ip_address(address), ipaddress.ip_network(cidr)
    return found.version == network.version and found in network and not any(_inside(address, hole) for hole in holes)
