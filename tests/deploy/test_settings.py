"""What the containers get for settings is what `shared/settings.py` declares: every key known, every value of its type, every address right."""

from __future__ import annotations

import base64
import re
from urllib.parse import urlsplit

import pytest

from services.console import server as console
from services.ingress import limits
from services.ingress import server as ingress
from shared.routes import Routes
from shared.runtime import apart
from shared.settings import PREFIX, Settings, SettingsError, endpoint, load, seconds
from tests.deploy.kubectl import DEPLOY
from tests.deploy.manifests import (
    PROD_SECRETS,
    ROLES,
    environment,
    horo_pods,
    named,
    of_kind,
    pods,
    role,
    secret_keys,
    secrets,
    selects,
)

OTHERS = {"RABBITMQ_USERNAME", "RABBITMQ_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
"""Variables that are no settings: parts of the broker's URL, and what the S3 library reads."""

CLEANING = 20.0
"""Seconds for what comes after a drain: caches, connections and the interpreter are closed."""


def loaded(overlay: str, name: str) -> Settings:
    """The settings of a role, as it would load them."""
    return load(environment(overlay, role(overlay, name)))


@pytest.mark.parametrize("name", ROLES)
def test_every_key_is_a_setting_and_every_value_is_of_its_type(overlay: str, name: str) -> None:
    found = environment(overlay, role(overlay, name))
    assert {key for key in found if not key.startswith(PREFIX)} == OTHERS
    assert not any("$(" in value for value in found.values())
    settings = load(found)
    apart(settings)  # a broker, not the embedded bus
    assert settings.secret
    assert settings.cache_url.startswith("redis")
    assert settings.bodies_url.startswith("s3:")
    assert settings.database_url.startswith("postgresql:")
    assert "/@" not in settings.broker_url
    assert settings.postmaster
    assert settings.hostname
    assert settings.log_format == "json"
    assert settings.data == "/data"  # which is writable, in an image that is not


def test_the_migration_gets_the_settings_too_but_no_secret_that_it_does_not_need(overlay: str) -> None:
    found = environment(overlay, role(overlay, "migrate"))
    assert load(found).migrate == "command"
    assert {key for key in found if not key.startswith(PREFIX)} == set()
    assert not {"HORO_SECRET", "HORO_BROKER_URL", "HORO_CACHE_URL"} & set(found)
    assert all(loaded(overlay, name).migrate == "command" for name in ROLES)  # the Job's business alone


def test_a_mistake_in_the_config_map_would_be_found(overlay: str) -> None:
    found = environment(overlay, role(overlay, "ingress"))
    for key, value in (("HORO_DRAIN_TIMEOUT", "long"), ("HORO_SMTP_PORT", "25"), ("HORO_MIGRATE", "job")):
        with pytest.raises(SettingsError, match=key):
            load(found | {key: value})


def test_no_setting_with_a_password_is_in_the_config_map(overlay: str) -> None:
    for one in of_kind(overlay, "ConfigMap"):
        for key, value in one["data"].items():
            assert key.startswith(PREFIX)
            assert not re.search("secret|password|token", key, re.IGNORECASE)
            assert urlsplit(value).password is None, key


def test_everything_taken_from_a_secret_is_there_and_production_has_none_in_the_repository(overlay: str) -> None:
    for name, key in secret_keys(overlay):
        assert name in secrets(overlay), name
        assert not key or key in secrets(overlay)[name], (name, key)
    if overlay == "prod":
        assert not of_kind("prod", "Secret")


def test_the_secrets_that_others_make_in_production_are_told_in_the_readme() -> None:
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| ([^|]+) \|", page, re.MULTILINE))
    told = {name: set(re.findall(r"`([a-z.-]+)`", keys)) for name, keys in rows.items()}
    assert told == {name: set(keys) for name, keys in PROD_SECRETS.items()}


@pytest.mark.parametrize("name", ROLES)
def test_every_port_of_a_container_is_one_that_its_settings_listen_on(overlay: str, name: str) -> None:
    settings = loaded(overlay, name)
    listens = {"health": settings.health_listen}
    if name == "ingress":
        listens |= {"smtp": settings.smtp_listen, "lmtp": settings.lmtp_listen}
    if name == "console":
        listens |= {"http": settings.console_listen}
    assert role(overlay, name).ports == {what: endpoint(listen)[1] for what, listen in listens.items()}
    for listen in listens.values():
        host, port = endpoint(listen)
        assert host == "0.0.0.0"  # a probe comes to the pod's own address
        assert port > 1024  # which needs no capability


def test_certificates_are_read_where_they_are_mounted() -> None:
    pod = role("prod", "ingress")
    settings = loaded("prod", "ingress")
    (container,) = pod.containers
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}["tls"]
    (volume,) = [one for one in pod.spec["volumes"] if one["name"] == "tls"]
    files = {f"{mounted}/{key}" for key in PROD_SECRETS[volume["secret"]["secretName"]]}
    assert {settings.tls_cert, settings.tls_key} == files
    assert volume["secret"]["defaultMode"] == 0o440  # by the group of the pod, and nobody else


def test_every_address_in_dev_is_a_service_of_dev_with_that_port() -> None:
    settings = loaded("dev", "sender")
    hop = Routes.parse("", default=settings.next_hop).default
    bodies = dict(part.split("=") for part in urlsplit(settings.bodies_url).query.split("&"))["endpoint"]
    places = [urlsplit(url) for url in (settings.broker_url, settings.cache_url, bodies)]
    wanted = {(place.hostname, place.port) for place in places} | {(hop.host, hop.port)}
    wanted.add((urlsplit(settings.database_url).hostname, 5432))
    for host, port in wanted:
        service = named("dev", "Service", str(host))
        (target,) = [one["targetPort"] for one in service["spec"]["ports"] if one["port"] == port]
        (pod,) = [one for one in pods("dev") if selects({"matchLabels": service["spec"]["selector"]}, one.labels)]
        assert pod.ports[target] == port


def test_servers_of_dev_are_made_with_the_names_and_passwords_that_horo_uses() -> None:
    def variables(name: str) -> dict[str, str]:
        (pod,) = [one for one in pods("dev") if one.name == name]
        found = {}
        for one in pod.spec["containers"][0].get("env", []):
            wanted = one.get("valueFrom", {}).get("secretKeyRef")
            found[one["name"]] = secrets("dev")[wanted["name"]][wanted["key"]] if wanted else one["value"]
        return found

    settings, own = loaded("dev", "sender"), environment("dev", role("dev", "sender"))
    broker, database = urlsplit(settings.broker_url), urlsplit(settings.database_url)
    made = variables("horo-rabbitmq")
    assert (broker.username, broker.password) == (made["RABBITMQ_DEFAULT_USER"], made["RABBITMQ_DEFAULT_PASS"])
    made = variables("horo-postgres")
    assert (database.username, database.password) == (made["POSTGRES_USER"], made["POSTGRES_PASSWORD"])
    assert database.path == "/" + made["POSTGRES_DB"]
    made = variables("horo-bodies")
    assert (own["AWS_ACCESS_KEY_ID"], own["AWS_SECRET_ACCESS_KEY"]) == (
        made["ROOT_ACCESS_KEY"],
        made["ROOT_SECRET_KEY"],
    )
    (store,) = [one for one in pods("dev") if one.name == "horo-bodies"]
    (bucket,) = store.spec["initContainers"]
    assert bucket["command"] == ["mkdir", "-p", f"/data/{urlsplit(settings.bodies_url).netloc}"]


def test_the_database_of_dev_has_a_connection_for_everybody() -> None:
    """Two pools of a process, of pool_size each and as many again when they are short (shared/database/engine.py)."""
    (server,) = [one for one in pods("dev") if one.name == "horo-postgres"]
    most = int(server.spec["containers"][0]["args"][1].partition("=")[2])
    (size,) = map(int, re.findall(r"pool_size=(\d+)", loaded("dev", "sender").database_url))
    processes = sum(one["spec"]["maxReplicaCount"] for one in of_kind("dev", "ScaledObject"))
    processes += sum(named("dev", "Deployment", f"horo-{name}")["spec"]["replicas"] for name in ("reporter", "console"))
    assert processes * 2 * 2 * size < most


# --- drain ------------------------------------------------------------------------------------------------------------
def _before_stop(overlay: str, name: str) -> int:
    (container,) = role(overlay, name).containers
    return int(container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0))


@pytest.mark.parametrize("name", ROLES)
def test_p1_a_pod_is_not_killed_before_its_drain_has_ended_by_itself(overlay: str, name: str) -> None:
    grace = role(overlay, name).spec["terminationGracePeriodSeconds"]
    drain = seconds(loaded(overlay, name).drain_timeout)
    assert grace >= _before_stop(overlay, name) + drain + CLEANING
    assert grace <= 600  # what node drains and autoscalers wait


@pytest.mark.parametrize("name", ROLES)
def test_whoever_is_called_goes_on_answering_until_nobody_calls(overlay: str, name: str) -> None:
    called = any(
        selects({"matchLabels": service["spec"]["selector"]}, role(overlay, name).labels)
        for service in of_kind(overlay, "Service")
        if service["spec"].get("clusterIP") != "None"
    )
    assert (_before_stop(overlay, name) >= 5) == called


def test_p1_the_time_to_drain_is_enough_for_what_a_role_may_have_in_hand(overlay: str) -> None:
    settings = loaded(overlay, "ingress")
    own = limits.Limits.of(settings)
    taken = ingress.GRACE + own.accept_timeout + 1.0 + own.linger + 1.0 + 5.0
    assert seconds(settings.drain_timeout) > taken
    assert seconds(loaded(overlay, "console").drain_timeout) > console.GRACE
    sender = loaded(overlay, "sender")
    # Every wait of a delivery but that for the answer to a final dot, ten times as long: of that, nine tenths.
    assert seconds(sender.drain_timeout) >= 0.9 * 10 * seconds(sender.hop_timeout)
    for name in ("expander", "reporter"):
        assert seconds(loaded(overlay, name).drain_timeout) >= 120


def test_horo_s_pods_get_the_same_configuration_map(overlay: str) -> None:
    names = {
        source["configMapRef"]["name"]
        for pod in horo_pods(overlay)
        for container in pod.containers
        for source in container["envFrom"]
    }
    (one,) = of_kind(overlay, "ConfigMap")
    assert names == {one["metadata"]["name"]}
    assert re.fullmatch(
        r"horo-[a-z0-9]{10}", one["metadata"]["name"]
    )  # another content, another name: pods are replaced


def test_secrets_of_dev_are_not_those_of_anybody_else() -> None:
    for one in of_kind("dev", "Secret"):
        for key, value in one["data"].items():
            text = base64.b64decode(value).decode()
            assert "dev" in text or key in ("access-key-id", "username") or text.startswith("redis://horo-valkey")
