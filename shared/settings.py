"""Every setting, declared once: type, default, bound, description. Read once, from the environment over a TOML file.

The key of field `smtp_listen` is HORO_SMTP_LISTEN in the environment and `smtp_listen` or `HORO_SMTP_LISTEN` in the file that
HORO_CONFIG names. A wrong or unknown key stops the start with its name; what Kubernetes' service links put into the environment
(HORO_INGRESS_SERVICE_HOST, HORO_INGRESS_PORT_25_TCP, ...) is let pass. `docs/reference/settings.md` is generated from this file.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from shared.limits import Limits, LimitsError, LimitTable
from shared.routes import Routes, RoutesError

PREFIX = "HORO_"
_SERVICE_LINK = re.compile(
    r"^HORO(_[A-Z0-9_]+)?_(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$"
)
_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*"
)
_SECRET_OPTION = re.compile(r"\b(password|passfile|sslpassword|user|token|secret|key)=[^&]*", re.IGNORECASE)
_DURATION = re.compile(r"^(\d+(?:\.\d+)?)\s*(s|m|h|d)?$")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


class SettingsError(Exception):
    """A setting that cannot be used; the text names its key and says what would do."""


def _text(description: str) -> Any:
    return Meta(description=description)


def _whole(description: str, low: int, high: int) -> Any:
    return Meta(description=description, ge=low, le=high)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. Durations are text such as "90s", "15m", "4h", "5d" and are read with `seconds`."""

    data: Annotated[str, _text("Folder for everything that the embedded profile keeps")] = "./var"
    database_url: Annotated[
        str,
        _text("SQL database: sqlite:///PATH or postgresql://user:password@host/name; empty for a file in HORO_DATA"),
    ] = ""
    broker_url: Annotated[
        str, _text("Bus: embedded: (a durable queue in HORO_DATA) or amqp(s)://user:password@host/vhost")
    ] = "embedded:"
    cache_url: Annotated[str, _text("Shared cache: memory: (none beside the process) or redis(s)://host:6379/0")] = (
        "memory:"
    )
    bodies_url: Annotated[
        str, _text("Large bodies: file: (in HORO_DATA), file:PATH, or s3://bucket/prefix?endpoint=URL&region=NAME")
    ] = "file:"
    smtp_listen: Annotated[str, _text("SMTP address, host:port; empty for none")] = "127.0.0.1:2525"
    lmtp_listen: Annotated[str, _text("LMTP address, host:port; empty for none")] = "127.0.0.1:2424"
    socketmap_listen: Annotated[
        str, _text("Address where Postfix asks by socketmap which addresses are ours, host:port; empty for none")
    ] = ""
    console_listen: Annotated[str, _text("Console address, host:port; empty for none")] = "127.0.0.1:8080"
    health_listen: Annotated[str, _text("Address of /livez, /readyz and /metrics, host:port; empty for none")] = (
        "127.0.0.1:9090"
    )
    next_hop: Annotated[
        str,
        _text(
            "Where deliveries go: maildir:PATH, smtp://host:port, lmtp://host:port or mx:; empty for a Maildir in HORO_DATA"
        ),
    ] = ""
    routes: Annotated[
        str, _text("Next hops by domain, before HORO_NEXT_HOP: example.com=smtp://10.0.0.5:25, .example.org=mx:")
    ] = ""
    hostname: Annotated[
        str, _text("Name of this mail host in greetings, Received and reports; empty for the machine's own")
    ] = ""
    retry_schedule: Annotated[str, _text("Delays before the attempts after the first; the last repeats")] = (
        "1m, 5m, 15m, 30m, 1h, 2h, 4h"
    )
    retry_max_age: Annotated[str, _text("Age of a post at which what is still deferred has failed")] = "5d"
    delay_warning: Annotated[str, _text("Age at which a NOTIFY=DELAY request is answered")] = "4h"
    trusted_relays: Annotated[
        str, _text("Addresses or networks whose Authentication-Results are believed, comma separated")
    ] = ""
    rspamd_url: Annotated[str, _text("rspamd's worker that checks posts, http://host:11333; empty for none")] = ""
    rspamd_fail: Annotated[str, _text("Posts without rspamd's verdict: open (accepted) or closed (451)")] = "open"
    rspamd_timeout: Annotated[str, _text("Longest wait for rspamd's verdict")] = "10s"
    rspamd_max_size: Annotated[int, _whole("Largest message that rspamd is asked about, octets", 1024, 1 << 31)] = (
        35 << 20
    )
    postmaster: Annotated[
        str, _text("Address that gets mail for postmaster@ and for owners where a group has none")
    ] = ""
    secret: Annotated[
        str,
        _text(
            "Key of loop marks, bounce tokens and the URLs of channels, at least 16 characters, the same everywhere; empty for one made in HORO_DATA"
        ),
    ] = ""
    tls_cert: Annotated[str, _text("PEM file with the certificate chain for STARTTLS")] = ""
    tls_key: Annotated[str, _text("PEM file with the key of HORO_TLS_CERT")] = ""
    tls_out: Annotated[str, _text("STARTTLS towards next hops: none, opportunistic or required (verified)")] = (
        "opportunistic"
    )
    tls_ca: Annotated[
        str,
        _text(
            "PEM file with the authorities believed towards next hops; empty for the system's. Channels believe them beside the public ones"
        ),
    ] = ""
    max_size: Annotated[int, _whole("Largest message accepted, octets", 1024, 1 << 31)] = 35 * 1024 * 1024
    max_header_size: Annotated[int, _whole("Largest header section accepted, octets", 1024, 1 << 20)] = 256 * 1024
    max_recipients: Annotated[
        int, _whole("Recipients of one transaction; RFC 5321 wants at least 100", 100, 100_000)
    ] = 1000
    max_connections: Annotated[int, _whole("Open SMTP and LMTP connections in all", 1, 100_000)] = 2000
    max_connections_per_ip: Annotated[int, _whole("Open connections of one client address", 1, 100_000)] = 50
    max_messages_per_minute: Annotated[
        int, _whole("Messages a minute from one client address; 0 for no limit", 0, 10_000_000)
    ] = 0
    max_requests_per_minute: Annotated[
        int, _whole("API requests a minute with one token, of each console; 0 for no limit", 0, 10_000_000)
    ] = 600
    command_timeout: Annotated[str, _text("Longest wait for a client's next command")] = "60s"
    data_min_rate: Annotated[
        int, _whole("Octets a second that a client must reach in DATA, after a grace of 30 s", 1, 1 << 20)
    ] = 500
    session_timeout: Annotated[str, _text("Longest session of a client")] = "30m"
    accept_timeout: Annotated[str, _text("Longest wait for the bus and the stores before a client gets 451")] = "60s"
    inline_limit: Annotated[int, _whole("Bodies over this many octets go to the body store", 0, 4 << 20)] = 128 * 1024
    express_limit: Annotated[
        int, _whole("Posts to at most this many members take the express lane in one piece", 1, 100_000)
    ] = 500
    slice_size: Annotated[int, _whole("Members that a slice of a large fan-out holds, about", 100, 100_000)] = 5000
    batch_size: Annotated[int, _whole("Recipients of one transaction towards a next hop", 1, 1000)] = 100
    workers: Annotated[
        int,
        _whole(
            "Posts, deliveries or outcomes that one service works on at a time; a sender as many in each lane", 1, 1000
        ),
    ] = 40
    hop_connections: Annotated[int, _whole("Connections of one sender to one next hop", 1, 1000)] = 30
    hop_transactions: Annotated[
        int, _whole("Messages over one connection to a next hop before another one is made", 1, 1_000_000)
    ] = 1000
    hop_messages: Annotated[
        int, _whole("Messages a second from one sender to one next hop; 0 for no limit", 0, 1_000_000)
    ] = 0
    hop_recipients: Annotated[
        int, _whole("Recipients a second from one sender to one next hop; 0 for no limit", 0, 1_000_000)
    ] = 0
    hop_limits: Annotated[
        str,
        _text(
            "The same for single hosts: .google.com connections=5 transactions=50 messages=20 recipients=200, 10.0.0.5 messages=100"
        ),
    ] = ""
    hop_timeout: Annotated[
        str, _text("Longest wait for a next hop's answer to a command; ten times that after the final dot")
    ] = "60s"
    claim_lease: Annotated[str, _text("How long a sender's claim outlives the sender")] = "15s"
    max_tries: Annotated[int, _whole("Tries of a message that our own trouble stops, before it is parked", 1, 1000)] = (
        20
    )
    ledger_keep: Annotated[str, _text("How long finished posts stay in the ledger")] = "90d"
    language: Annotated[str, _text("Language of reports and notices where a group names none: en or bg")] = "en"
    bounce_days: Annotated[
        int, _whole("Days on which a member's address must fail for good before the member is suspended", 1, 30)
    ] = 3
    reports_per_hour: Annotated[
        int, _whole("Reports an hour to one address that is not ours; 0 for no limit", 0, 1_000_000)
    ] = 100
    channel_networks: Annotated[
        str, _text("Private addresses or networks that channels may reach, comma separated; empty for none")
    ] = ""
    drain_timeout: Annotated[
        str,
        _text("Longest time that work in hand gets to end after SIGTERM; what is left then is done again by others"),
    ] = "11m"
    migrate: Annotated[
        str,
        _text(
            "When the database is brought to this version: start (by the process that starts first) or command (`horo migrate` alone)"
        ),
    ] = "start"
    trace_endpoint: Annotated[
        str,
        _text(
            "OpenTelemetry collector that gets traces, OTLP over HTTP, http://host:4318; empty: OTEL_EXPORTER_OTLP_ENDPOINT's, or no traces"
        ),
    ] = ""
    trace_sample: Annotated[
        float,
        Meta(
            description="Share of posts that are traced, 0 to 1, the same everywhere: by their id, all services trace the same",
            ge=0,
            le=1,
        ),
    ] = 1.0
    log_level: Annotated[str, _text("debug, info, warning or error")] = "info"
    log_format: Annotated[str, _text("json, or console for people")] = "json"

    @property
    def data_path(self) -> Path:
        """HORO_DATA as a path."""
        return Path(self.data)

    @property
    def effective_database_url(self) -> str:
        """HORO_DATABASE_URL, or the SQLite file in HORO_DATA."""
        return self.database_url or f"sqlite:///{self.data_path / 'horo.db'}"

    @property
    def effective_next_hop(self) -> str:
        """HORO_NEXT_HOP, or the Maildir in HORO_DATA."""
        return self.next_hop or f"maildir:{self.data_path / 'maildir'}"

    @property
    def route_table(self) -> Routes:
        """HORO_ROUTES over HORO_NEXT_HOP. Raises `RoutesError`."""
        return Routes.parse(self.routes, default=self.effective_next_hop)

    @property
    def limit_table(self) -> LimitTable:
        """HORO_HOP_LIMITS over HORO_HOP_CONNECTIONS and the like. Raises `LimitsError`."""
        default = Limits(
            connections=self.hop_connections,
            transactions=self.hop_transactions,
            messages=self.hop_messages,
            recipients=self.hop_recipients,
        )
        return LimitTable.parse(self.hop_limits, default=default)

    @property
    def retry_delays(self) -> tuple[float, ...]:
        """HORO_RETRY_SCHEDULE in seconds."""
        return tuple(seconds(part) for part in self.retry_schedule.split(","))


def seconds(text: str) -> float:
    """A duration such as "90s", "15m", "4h", "5d" or "90" in seconds. Raises ValueError."""
    match = _DURATION.match(text.strip())
    if match is None:
        raise ValueError(f"{text.strip()!r} is no duration: write it as 90s, 15m, 4h or 5d")
    return float(match[1]) * _SECONDS[match[2]]


def endpoint(text: str) -> tuple[str, int]:
    """The host and port of a listening address, "127.0.0.1:2525", "[::1]:2525". Raises ValueError."""
    parts = urlsplit(f"//{text}")
    if parts.port is None or not parts.hostname or parts.path or parts.username:
        raise ValueError(f"{text!r} is no address to listen on: write it as host:port")
    return parts.hostname, parts.port


_DURATIONS = (
    "retry_max_age",
    "delay_warning",
    "command_timeout",
    "session_timeout",
    "accept_timeout",
    "hop_timeout",
    "claim_lease",
    "ledger_keep",
    "drain_timeout",
    "rspamd_timeout",
)
_NEVER_ZERO = (
    "command_timeout",
    "session_timeout",
    "accept_timeout",
    "hop_timeout",
    "claim_lease",
    "drain_timeout",
    "rspamd_timeout",
)
_SCHEMES = {
    "database_url": ("sqlite:", "postgresql:"),
    "broker_url": ("embedded:", "amqp:", "amqps:"),
    "cache_url": ("memory:", "redis:", "rediss:"),
    "bodies_url": ("file:", "s3:"),
    "trace_endpoint": ("http:", "https:"),
    "rspamd_url": ("http://", "https://"),
}
_CHOICES = {
    "tls_out": ("none", "opportunistic", "required"),
    "language": ("en", "bg"),
    "rspamd_fail": ("open", "closed"),
    "migrate": ("start", "command"),
    "log_level": ("debug", "info", "warning", "error"),
    "log_format": ("json", "console"),
}


def load(environ: Mapping[str, str]) -> Settings:
    """The settings of this process: defaults, then the file that HORO_CONFIG names, then the environment. Raises `SettingsError`."""
    values: dict[str, Any] = {}
    if config := environ.get("HORO_CONFIG", ""):
        values.update(_from_file(Path(config)))
    for name, value in environ.items():
        if name.startswith(PREFIX) and name != "HORO_CONFIG" and not _is_service_link(name, value):
            values[_known(name, "the environment")] = value
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(_named(str(error))) from error
    _check(settings)
    return settings


def _is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes set it: HORO_INGRESS_PORT is tcp://10.0.0.1:25 then. HORO_SMTP_PORT=2525 is a person's mistake, to be told."""
    return bool(_SERVICE_LINK.match(name)) and (not name.endswith("_PORT") or "SERVICE_PORT" in name or "://" in value)


def _from_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"HORO_CONFIG: cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"HORO_CONFIG: {path} is not TOML: {error}") from error
    return {_known(name, str(path)): value for name, value in document.items()}


def _known(name: str, where: str) -> str:
    field = name.removeprefix(PREFIX).lower()
    if field not in Settings.__struct_fields__:
        raise SettingsError(
            f"{PREFIX}{field.upper()}: no such setting (in {where}); `horo check --settings` lists them all"
        )
    return field


def _named(error: str) -> str:
    match = re.search(r"`\$\.([a-z_]+)`", error)
    return f"{PREFIX}{match[1].upper()}: {error.partition(' - at ')[0]}" if match else error


def _check(settings: Settings) -> None:
    """The rules that a type cannot say; each names its key."""
    for field in _DURATIONS:
        _attempt(field, _some_time if field in _NEVER_ZERO else seconds, getattr(settings, field))
    _attempt("trusted_relays", _networks, settings.trusted_relays)
    _attempt("channel_networks", _networks, settings.channel_networks)
    _attempt("rspamd_url", _web_address, settings.rspamd_url)
    _attempt("retry_schedule", lambda _: settings.retry_delays, settings.retry_schedule)
    for field in ("smtp_listen", "lmtp_listen", "socketmap_listen", "console_listen", "health_listen"):
        if value := getattr(settings, field):
            _attempt(field, endpoint, value)
    for field, schemes in _SCHEMES.items():
        value = getattr(settings, field)
        if value and not value.startswith(schemes):
            raise SettingsError(f"{PREFIX}{field.upper()}: {shown_url(value)!r} is not one of {', '.join(schemes)}")
    for field, choices in _CHOICES.items():
        if getattr(settings, field) not in choices:
            raise SettingsError(
                f"{PREFIX}{field.upper()}: {getattr(settings, field)!r} is not one of {', '.join(choices)}"
            )
    if settings.hostname and not _HOST_NAME.fullmatch(settings.hostname):
        raise SettingsError(
            f"HORO_HOSTNAME: {settings.hostname!r} is no host name (a name beyond ASCII is written as xn--...)"
        )
    if settings.secret and len(settings.secret) < 16:
        raise SettingsError("HORO_SECRET: at least 16 characters, or empty for one made in HORO_DATA")
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise SettingsError("HORO_TLS_CERT and HORO_TLS_KEY: one is set without the other")
    try:
        _ = settings.route_table
    except RoutesError as error:
        raise SettingsError(f"{PREFIX}{'ROUTES' if settings.routes else 'NEXT_HOP'}: {error}") from error
    try:
        _ = settings.limit_table
    except LimitsError as error:
        raise SettingsError(f"HORO_HOP_LIMITS: {error}") from error


def _attempt(field: str, read: Callable[[str], object], value: str) -> None:
    try:
        read(value)
    except ValueError as error:
        raise SettingsError(f"{PREFIX}{field.upper()}: {error}") from error


def _some_time(text: str) -> float:
    if (found := seconds(text)) <= 0:
        raise ValueError("must be longer than nothing")
    return found


def _web_address(url: str) -> None:
    parts = urlsplit(url)
    if url and (not parts.hostname or parts.port == 0 or parts.username or parts.query):
        raise ValueError(f"{shown_url(url)!r} is no address of a server: write it as http://host:port")


def _networks(text: str) -> list[object]:
    return [ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip()]


def shown_url(url: str) -> str:
    """A URL for people and logs: without user and password, wherever they stand in it and however badly it is written."""
    head, mark, rest = url.partition("://")
    if not mark:
        return url
    rest = rest.rpartition("@")[2] if "@" in rest else rest
    rest = _SECRET_OPTION.sub(r"\1=***", rest)
    return f"{head}://***@{rest}" if "@" in url.partition("://")[2] else f"{head}://{rest}"
