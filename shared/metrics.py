"""Every metric of Horo's own, declared once: name, kind, labels, help. `docs/reference/metrics.md` is made from this file.

Names follow Prometheus' conventions: `horo_`, base units (seconds), `_total` for counters. No label has a value that a client, an author or a
member could choose: queues, lanes, states, reply codes and our own routes are few, and a next hop has a label only where a setting names it
(`Named`). The journal moves all of them but those that are read when somebody asks (`shared.hand`, and what a service's `survey` finds).
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from shared.routes import NextHop, Routes

_SHORT = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30, 60)
_LONG = (0.01, 0.05, 0.1, 0.5, 1, 5, 30, 300, 3600)

# --- what happened ---------------------------------------------------------------------------------------------------
EVENTS = Counter("horo_events_total", "Mail events by name: one for every line of the log", ["event"])
REFUSED = Counter("horo_refused_total", "Recipients or messages refused in the session, by reply code", ["code"])
REFUSALS_DROPPED = Counter("horo_refusals_dropped_total", "Refusals that the reporter was not told of")
COPIES = Counter("horo_copies_total", "Copies of posts that expansions have planned")
SUPPRESSED = Counter("horo_suppressed_total", "Addresses that expansions have left out")
FATES = Counter("horo_recipient_fates_total", "Fates of recipients at one attempt", ["state", "hop"])
TROUBLE = Counter("horo_trouble_total", "Work put off because of trouble of our own, by queue", ["queue"])
PARKED = Counter("horo_parked_total", "Messages parked for a person, by queue", ["queue"])
PUSHED_BACK = Counter(
    "horo_hop_push_backs_total", "Times that a next hop was given fewer connections because it asked for it"
)
REQUESTS = Counter("horo_requests_total", "Requests to the console, by route and status", ["route", "status"])
UNWRITTEN = Counter("horo_log_lines_lost_total", "Lines of the log that could not be written")
SURVEYS_FAILED = Counter("horo_survey_failures_total", "Times that what the gauges show could not be found out")
STOPPED_COPIES = Counter(
    "horo_stopped_copies_total", "Copies that were not sent, for their post had been stopped", ["where"]
)

OVER_QUOTA = Counter("horo_over_quota_total", "Posts not accepted as a domain had sent its day's quota", ["quota"])
SPAM_CHECKS = Counter("horo_spam_checks_total", "Verdicts of rspamd on posts, by action", ["action"])
SOCKETMAP = Counter(
    "horo_socketmap_answers_total", "Questions of mail servers in front, by map and answer", ["map", "answer"]
)

# --- the legs of the journey -----------------------------------------------------------------------------------------
ACCEPT = Histogram("horo_accept_seconds", "From the final dot to our 250", buckets=_SHORT)
QUEUE_WAIT = Histogram(
    "horo_queue_wait_seconds",
    "From when a message was put on the bus until a worker took it, first attempts alone",
    ["queue"],
    buckets=_LONG,
)
WORK = Histogram(
    "horo_work_seconds",
    "From when a worker took a message until its work was done or put off: the expansion, the delivery of each lane, the record",
    ["queue"],
    buckets=_LONG,
)
SPAM_CHECK = Histogram("horo_spam_check_seconds", "From asking rspamd about a post to its verdict", buckets=_SHORT)
EXPAND = Histogram(
    "horo_expand_seconds",
    "From acceptance until the fan-out of a post, or of a slice of it, is durable",
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30, 300),
)
JOURNEY = Histogram(
    "horo_journey_seconds",
    "From acceptance to the delivery of the copies of one transaction, by lane: the whole journey",
    ["lane"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 30, 300, 3600, 86400),
)
ANSWER = Histogram(
    "horo_request_seconds",
    "From a request to the console to the end of its answer",
    ["route"],
    buckets=(0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 30),
)

# --- how things stand ------------------------------------------------------------------------------------------------
SESSIONS = Gauge("horo_smtp_sessions", "Open client connections", ["protocol"])
IN_HAND = Gauge("horo_in_hand", "Messages that a process works on now, by queue", ["queue"])
OLDEST = Gauge(
    "horo_oldest_waiting_seconds",
    "Age since acceptance of the oldest post that a process works on for the first time, by queue; 0 for none",
    ["queue"],
)
DEPTH = Gauge(
    "horo_queue_depth",
    "Messages that wait in a queue of the bus, of the whole installation; on RabbitMQ all delayed ones count under deliveries.express",
    ["queue"],
)
DUE = Gauge("horo_reports_due", "Reports and summaries that wait to be told, of the whole installation")
DUE_LATE = Gauge("horo_reports_late_seconds", "For how long the longest due report has been due and not looked at")
PARKED_NOW = Gauge("horo_parked_messages", "Messages that are parked for a person now, of the whole installation")
HOP_CONNECTIONS = Gauge("horo_hop_connections", "Open connections to next hops")
HOPS_DOWN = Gauge("horo_hops_down", "Next hops that cannot be reached")
HOPS = Gauge("horo_hops", "Next hops that a sender knows, by state of the circuit: up, down, unsure", ["state"])
HOP_UP = Gauge("horo_hop_up", "Whether a next hop can be reached; of several under one label, the worst", ["hop"])
HOP_WINDOW = Gauge("horo_hop_window", "Connections that a next hop may have now", ["hop"])
HOP_USED = Gauge("horo_hop_used", "Connections to a next hop in use, by lane", ["hop", "lane"])
HOP_WAITING = Gauge("horo_hop_waiting", "Deliveries that wait for a connection to a next hop", ["hop"])
CERTIFICATE = Gauge(
    "horo_certificate_expiry_timestamp_seconds",
    "When the certificate of HORO_TLS_CERT expires, seconds since the epoch",
)

MOST_HOPS = 20
"""Next hops that have a label of their own; all others are "other" together."""


class Named:
    """Which label a next hop has: those that the settings name have one, the first `MOST_HOPS` of them; the exchangers of other people's domains,
    which they choose, have not."""

    def __init__(self, routes: Routes, limited: tuple[str, ...]) -> None:
        """`limited`: the hosts and `.suffixes` of HORO_HOP_LIMITS."""
        hops = [routes.default, *routes.exact.values(), *routes.suffix.values()]
        fixed = dict.fromkeys(_peer(hop) for hop in hops if hop.kind in ("smtp", "lmtp"))
        names = [*fixed, *(name for name in limited if name not in fixed)][:MOST_HOPS]
        self._exact = frozenset(name for name in names if not name.startswith("."))
        self._suffixes = sorted((name for name in names if name.startswith(".")), key=len, reverse=True)

    def label(self, hop: str) -> str:
        """The label of a server, which is told as `host:port` or `host[address]:port`."""
        server, _, port = hop.lower().rpartition(":")
        host = server.partition("[")[0]
        for name in (f"{host}:{port}", host):
            if name in self._exact:
                return name
        return next((suffix for suffix in self._suffixes if f".{host}".endswith(suffix)), "other")


def _peer(hop: NextHop) -> str:
    return f"{hop.host}:{hop.port}"
