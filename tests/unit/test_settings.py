"""Settings: every wrong or unknown key stops the start with its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.settings import Settings, SettingsError, endpoint, load, seconds, shown_url


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"HORO_SMPT_LISTEN": "127.0.0.1:25"}, "HORO_SMPT_LISTEN"),
        ({"HORO_MAX_SIZE": "many"}, "HORO_MAX_SIZE"),
        ({"HORO_MAX_SIZE": "1"}, "HORO_MAX_SIZE"),
        ({"HORO_MAX_RECIPIENTS": "99"}, "HORO_MAX_RECIPIENTS"),
        ({"HORO_SMTP_LISTEN": "2525"}, "HORO_SMTP_LISTEN"),
        ({"HORO_SMTP_LISTEN": "host:port"}, "HORO_SMTP_LISTEN"),
        ({"HORO_RETRY_MAX_AGE": "soon"}, "HORO_RETRY_MAX_AGE"),
        ({"HORO_RETRY_SCHEDULE": "1m,,5m"}, "HORO_RETRY_SCHEDULE"),
        ({"HORO_NEXT_HOP": "smtp:host"}, "HORO_NEXT_HOP"),
        ({"HORO_ROUTES": "example.com"}, "HORO_ROUTES"),
        ({"HORO_ROUTES": "a.test=mx:,a.test=mx:"}, "HORO_ROUTES"),
        ({"HORO_BROKER_URL": "kafka://x"}, "HORO_BROKER_URL"),
        ({"HORO_DATABASE_URL": "mysql://x"}, "HORO_DATABASE_URL"),
        ({"HORO_CACHE_URL": "memcached://x"}, "HORO_CACHE_URL"),
        ({"HORO_BODIES_URL": "ftp://x"}, "HORO_BODIES_URL"),
        ({"HORO_HOSTNAME": "two words"}, "HORO_HOSTNAME"),
        ({"HORO_HOSTNAME": "поща.example"}, "HORO_HOSTNAME"),
        ({"HORO_HOSTNAME": "mail.example>\r\nBcc: x"}, "HORO_HOSTNAME"),
        ({"HORO_HOSTNAME": "a" * 254}, "HORO_HOSTNAME"),
        ({"HORO_SECRET": "short"}, "HORO_SECRET"),
        ({"HORO_TLS_CERT": "/a.pem"}, "HORO_TLS_KEY"),
        ({"HORO_TLS_OUT": "always"}, "HORO_TLS_OUT"),
        ({"HORO_LOG_LEVEL": "loud"}, "HORO_LOG_LEVEL"),
        ({"HORO_SOCKETMAP_LISTEN": "2425"}, "HORO_SOCKETMAP_LISTEN"),
        ({"HORO_RSPAMD_URL": "rspamd:11333"}, "HORO_RSPAMD_URL"),
        ({"HORO_RSPAMD_URL": "http://"}, "HORO_RSPAMD_URL"),
        ({"HORO_RSPAMD_URL": "http://host:port"}, "HORO_RSPAMD_URL"),
        ({"HORO_RSPAMD_FAIL": "ajar"}, "HORO_RSPAMD_FAIL"),
        ({"HORO_RSPAMD_TIMEOUT": "0s"}, "HORO_RSPAMD_TIMEOUT"),
    ],
)
def test_a_wrong_setting_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        load(environ)


def test_a_password_is_never_in_the_error() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"HORO_BROKER_URL": "kafka://user:canary@host"})
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "link",
    [
        "HORO_SERVICE_HOST",
        "HORO_INGRESS_SERVICE_PORT",
        "HORO_INGRESS_PORT_25_TCP",
        "HORO_PORT_25_TCP_ADDR",
        "HORO_SENDER_SERVICE_PORT_HTTP",
        "HORO_PORT",
    ],
)
def test_the_service_links_of_kubernetes_are_let_pass(link: str) -> None:
    assert load({link: "tcp://10.0.0.1:25"}) == Settings()


@pytest.mark.parametrize("key", ["HORO_SMTP_PORT", "HORO_PORT"])
def test_a_port_that_no_service_link_would_say_is_a_mistake_that_is_told(key: str) -> None:
    with pytest.raises(SettingsError, match=f"{key}: no such setting"):
        load({key: "2525"})


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://u:p@h:1/v", "amqp://***@h:1/v"),
        ("postgresql://u:p/q@r@h/d", "postgresql://***@h/d"),
        (
            "postgresql://h/d?user=u&password=p%40&sslmode=require",
            "postgresql://h/d?user=***&password=***&sslmode=require",
        ),
        ("redis://:p@h", "redis://***@h"),
        ("sqlite:////data/horo.db", "sqlite:////data/horo.db"),
        ("embedded:", "embedded:"),
    ],
)
def test_p9_no_url_is_shown_with_its_password(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "line",
    [
        "workers = true",
        "workers = 1.5",
        "workers = []",
        "retry_max_age = 5",
        "smtp_listen = 2525",
        "hostname = 2026-11-23",
        "[smtp_listen]\nhost = 1",
        "retry_schedule = ['1m']",
        "claim_lease = '0s'",
        "trusted_relays = 'relay.example.test'",
    ],
)
def test_a_wrong_type_in_the_file_is_told_with_its_key(line: str, tmp_path: Path) -> None:
    path = tmp_path / "horo.toml"
    path.write_text(line)
    key = f"HORO_{line.split(maxsplit=1)[0].strip('[]').upper()}"
    with pytest.raises(SettingsError, match=f"^{key}: "):
        load({"HORO_CONFIG": str(path)})


def test_p9_a_url_of_another_kind_is_refused_without_its_password() -> None:
    with pytest.raises(SettingsError) as caught:
        load({"HORO_DATABASE_URL": "mysql://horo:ge/heim@h/x"})
    assert "heim" not in str(caught.value)


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "horo.toml"
    file.write_text('max_size = 5000000\nHORO_HOSTNAME = "mail.example.test"\n')
    settings = load({"HORO_CONFIG": str(file), "HORO_MAX_SIZE": "6000000"})
    assert (settings.max_size, settings.hostname) == (6_000_000, "mail.example.test")


@pytest.mark.parametrize("text", ["max_size = ", 'no_such = "x"', "max_size = 'x'"])
def test_a_wrong_file_is_told(tmp_path: Path, text: str) -> None:
    file = tmp_path / "horo.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match="HORO_"):
        load({"HORO_CONFIG": str(file)})


def test_a_missing_file_is_told() -> None:
    with pytest.raises(SettingsError, match="/no/such"):
        load({"HORO_CONFIG": "/no/such.toml"})


@pytest.mark.parametrize(
    ("text", "value"), [("90", 90.0), ("90s", 90.0), ("1.5m", 90.0), (" 4h ", 14400.0), ("5d", 432000.0)]
)
def test_durations(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("127.0.0.1:25", ("127.0.0.1", 25)), ("[::1]:2525", ("::1", 2525)), ("mail:0", ("mail", 0))]
)
def test_listening_addresses(text: str, value: tuple[str, int]) -> None:
    assert endpoint(text) == value
