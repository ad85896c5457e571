"""KEDA and the disruption budgets: what waits is counted where it waits, nothing is scaled to none, no drain of a node is blocked."""

from __future__ import annotations

import re
from typing import Any

import pytest

from services.sender.notify import THREADS
from shared import metrics
from shared.settings import Settings
from shared.topology import PREFIX, Queue
from tests.deploy.manifests import ROLES, named, of_kind, secret_keys

HANDS: dict[Queue, tuple[str, int]] = {
    Queue.POSTS: ("expander", Settings().workers),
    Queue.SLICES: ("expander", 2),
    Queue.SIGNALS: ("expander", 8),
    Queue.SIGNALS_IN: ("expander", 2),
    Queue.DELIVERIES_EXPRESS: ("sender", Settings().workers),
    Queue.DELIVERIES_BULK: ("sender", Settings().workers),
    Queue.NOTIFICATIONS: ("sender", THREADS),
}
"""Who works each queue, and how many of its messages one process works on at a time (it takes twice as many)."""

UNSCALED = {Queue.OUTCOMES, Queue.PARKED}
"""The reporter's: one process keeps up with many senders, and two are for the failure of one."""


def triggers(overlay: str, name: str) -> list[dict[str, Any]]:
    return list(named(overlay, "ScaledObject", f"horo-{name}")["spec"]["triggers"])


def test_every_queue_that_is_worked_is_counted_by_its_name_and_no_other_is(overlay: str) -> None:
    counted = {
        (name, trigger["metadata"]["queueName"])
        for name in ("ingress", "expander", "sender")
        for trigger in triggers(overlay, name)
        if trigger["type"] == "rabbitmq"
    }
    assert counted == {(name, PREFIX + queue.value) for queue, (name, _) in HANDS.items()}
    assert set(HANDS) | UNSCALED == set(Queue)


def test_what_is_in_hand_counts_and_one_busy_process_is_not_taken_for_a_backlog(overlay: str) -> None:
    for queue, (name, hands) in HANDS.items():
        (found,) = [
            one["metadata"]
            for one in triggers(overlay, name)
            if one["metadata"].get("queueName") == PREFIX + queue.value
        ]
        assert found["protocol"] == "http"  # over AMQP only what is ready would be seen
        assert found["mode"] == "QueueLength"
        assert found.get("excludeUnacknowledged", "false") == "false"
        assert found["vhostName"] == "/"
        assert int(found["value"]) > 2 * hands, queue


@pytest.mark.parametrize("name", ["ingress", "expander", "sender"])
def test_nothing_is_scaled_below_one_and_production_has_two(overlay: str, name: str) -> None:
    spec = named(overlay, "ScaledObject", f"horo-{name}")["spec"]
    least = 2 if overlay == "prod" else 1
    assert least <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    assert "idleReplicaCount" not in spec
    assert spec.get("fallback", {}).get("replicas", 1) >= 1
    assert (
        "replicas" not in named(overlay, "Deployment", f"horo-{name}")["spec"]
    )  # or each apply would undo the scaling
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    assert down["stabilizationWindowSeconds"] >= 300


def test_what_keda_does_not_scale_says_how_many(overlay: str) -> None:
    for name in ("reporter", "console"):
        assert named(overlay, "Deployment", f"horo-{name}")["spec"]["replicas"] == (2 if overlay == "prod" else 1)


def test_the_ingress_scales_on_processor_time_and_in_production_on_connections() -> None:
    for overlay in ("dev", "prod"):
        (cpu,) = [one for one in triggers(overlay, "ingress") if one["type"] == "cpu"]
        limit = named(overlay, "Deployment", "horo-ingress")["spec"]["template"]["spec"]["containers"][0]["resources"]
        assert cpu["metricType"] == "AverageValue"
        assert cpu["metadata"] == {"value": "600m"}
        assert limit["limits"]["cpu"] == "1"  # six tenths of what one process can use
    (connections,) = [one["metadata"] for one in triggers("prod", "ingress") if one["type"] == "prometheus"]
    (metric,) = re.findall(r"sum\((\w+)\{", connections["query"])
    assert metric == metrics.SESSIONS._name  # of those that the ingress has
    assert int(connections["threshold"]) <= Settings().max_connections / 2


def test_keda_knows_the_broker_by_the_secret_that_the_operator_makes(overlay: str) -> None:
    (auth,) = of_kind(overlay, "TriggerAuthentication")
    parameters = {one["parameter"]: (one["name"], one["key"]) for one in auth["spec"]["secretTargetRef"]}
    assert parameters == {
        "username": ("horo-rabbitmq-default-user", "username"),
        "password": ("horo-rabbitmq-default-user", "password"),
    }
    assert set(parameters.values()) <= set(secret_keys(overlay))
    for name in ("expander", "sender"):
        for trigger in triggers(overlay, name):
            assert trigger["authenticationRef"] == {"name": auth["metadata"]["name"]}
            assert trigger["metadata"]["host"] == "http://horo-rabbitmq.horo.svc:15672/"
    makers = [one["metadata"]["name"] for one in of_kind(overlay, "RabbitmqCluster", "StatefulSet")]
    assert "horo-rabbitmq" in makers  # the service, and in production the secret, get their names from it


@pytest.mark.parametrize("name", ROLES)
def test_a_node_can_be_drained_whatever_the_number_of_pods(overlay: str, name: str) -> None:
    """`minAvailable: 1` with one pod would hold up the drain for ever."""
    budget = named(overlay, "PodDisruptionBudget", f"horo-{name}")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_of_the_brokers_a_majority_stays() -> None:
    (cluster,) = of_kind("prod", "RabbitmqCluster")
    replicas = cluster["spec"]["replicas"]
    budget = named("prod", "PodDisruptionBudget", "horo-rabbitmq")["spec"]
    assert replicas % 2 == 1
    assert replicas - budget["maxUnavailable"] > replicas / 2
    config = dict(re.findall(r"^([a-z_.]+) = (\S+)$", cluster["spec"]["rabbitmq"]["additionalConfig"], re.MULTILINE))
    assert int(config["quorum_queue.continuous_membership_reconciliation.target_group_size"]) == replicas
    (rule,) = cluster["spec"]["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert rule["topologyKey"] == "kubernetes.io/hostname"  # never two on a node
    template = cluster["spec"]["override"]["statefulSet"]["spec"]["template"]["spec"]
    for container in (*template["containers"], *template["initContainers"]):  # what the namespace asks of every pod
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["runAsNonRoot"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    assert template["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
