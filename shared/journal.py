"""The mail log: one function for each mail event, each one log line and one metric. Grep this file for everything that Horo says.

A line about a post has its id as `post`. While a post's work is being traced (`shared.tracing`), its lines are events of the span as well.

Lines carry ids and, where an operator must find a message, addresses; never message content, never a URL with a password. JSON escapes
control characters, so that no client can write a line of its own. Metrics have no label that a client controls.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
import structlog
from prometheus_client import Counter

from shared import metrics, tracing

ADDRESSES_SHOWN = 20
"""Addresses in one line of the log."""

CHECKED_AS = frozenset(
    ("no action", "greylist", "add header", "rewrite subject", "soft reject", "reject", "discard", "quarantine")
)
"""The actions that rspamd has of itself; a configuration may name more."""

_log: Any = structlog.get_logger("horo")


class _Lines:
    """Writes lines to standard error. A log that cannot be written (its reader is gone, the disk is full) is counted, and stops no mail: an
    exception out of here would turn a message that is durable into a 451."""

    def msg(self, message: str) -> None:
        """Write one line, at once."""
        try:
            sys.stderr.write(message + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            metrics.UNWRITTEN.inc()

    debug = info = warning = error = critical = msg


def configure(level: str, form: str) -> None:
    """Set up logging for a process: JSON lines, or coloured text for people, on standard error; libraries' logs go the same way."""
    shared: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    number = logging.getLevelNamesMapping()[level.upper()]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=12)
        if form == "console"
        else structlog.processors.JSONRenderer(
            serializer=lambda event, **_: msgspec.json.encode(event, enc_hook=str).decode()
        )
    )
    structlog.configure(
        processors=[*shared, renderer] if form == "console" else [_line],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: _Lines(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer]
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger("mail.log").setLevel(logging.ERROR)  # aiosmtpd logs every command with its addresses
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # warns of every client that speaks no HTTP
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # loud at every reconnect; ours are logged here
    logging.getLogger("aio_pika").setLevel(logging.CRITICAL)


def _line(_logger: Any, level: str, event: MutableMapping[str, Any]) -> str:
    """A line as JSON: in one step what structlog would do in five, for there is a line a message."""
    event["level"] = level
    event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    if "exc_info" in event:
        structlog.processors.format_exc_info(_logger, level, event)
    return msgspec.json.encode(event, enc_hook=str).decode()


@cache
def _counter(name: str) -> Counter:
    """The counter of an event: their names are the few in this file."""
    return metrics.EVENTS.labels(name)


@cache
def _labelled(metric: Any, *labels: str) -> Any:
    """The child of a metric, whose labels are few: the library looks it up under a lock."""
    return metric.labels(*labels)


def _event(name: str, level: str = "info", **fields: Any) -> None:
    _counter(name).inc()
    getattr(_log, level)(name, **fields)
    if tracing.enabled:
        tracing.note(name, fields)


# --- ingress ---------------------------------------------------------------------------------------------------------
def accepted(post_id: str, *, mail_from: str, groups: tuple[str, ...], size: int, ip: str, took: float) -> None:
    """A message is durable and the client gets 250; `took` seconds since the final dot."""
    metrics.ACCEPT.observe(took)
    if tracing.enabled:
        tracing.accepted(post_id, took=took, size=size, targets=len(groups))
    _event("accepted", post=post_id, mail_from=mail_from, groups=groups, size=size, ip=ip, took=round(took, 4))


def refused(reply: str, code: int, *, ip: str, recipient: str = "", mail_from: str = "", why: str = "") -> None:
    """A recipient or message was refused in the session, with the reply that the client saw."""
    metrics.REFUSED.labels(str(code)).inc()
    _event("refused", reply=reply, ip=ip, recipient=recipient, mail_from=mail_from, why=why)


def over_quota(domain: str, *, quota: str) -> None:
    """A post was not accepted, for its domain has sent as much as it may on one day: in `messages` or in `recipients`."""
    metrics.OVER_QUOTA.labels(quota).inc()
    _event("over_quota", "warning", domain=domain, quota=quota)


def checked(action: str, *, took: float) -> None:
    """rspamd has given its verdict on a message; an action that is not one of its own is "other". The line is that of the post, or of the refusal."""
    metrics.SPAM_CHECKS.labels(action if action in CHECKED_AS else "other").inc()
    metrics.SPAM_CHECK.observe(took)


def unchecked(why: str, *, ip: str) -> None:
    """rspamd gave no verdict on a message: HORO_RSPAMD_FAIL decides."""
    metrics.SPAM_CHECKS.labels("unchecked").inc()
    _event("unchecked", "warning", ip=ip, why=why)


def asked_for(map_name: str, answer: str) -> None:
    """A mail server in front asked by socketmap whether an address or a domain is ours. No line: it asks for every recipient that it is given."""
    metrics.SOCKETMAP.labels(map_name, answer).inc()


def session_trouble(ip: str, why: str) -> None:
    """A fault of our own during a session: the client got 451 or 421."""
    _event("session_trouble", "error", ip=ip, why=why)


def session_closed(ip: str, reply: str) -> None:
    """We ended a session: too slow, too many errors, junk, another protocol."""
    _event("session_closed", ip=ip, reply=reply)


def refusals_dropped(count: int) -> None:
    """Refusals were not told to the reporter: too many at once, or the bus was away. The clients had their replies; only the count is short."""
    metrics.REFUSALS_DROPPED.inc(count)


# --- expander --------------------------------------------------------------------------------------------------------
def expanded(post_id: str, *, group: str, recipients: int, suppressed: int, batches: int, took: float) -> None:
    """A share of a fan-out is durable on the bus; `took` seconds since the post was accepted."""
    metrics.EXPAND.observe(max(took, 0.0))
    metrics.COPIES.inc(recipients)
    metrics.SUPPRESSED.inc(suppressed)
    _event(
        "expanded",
        post=post_id,
        group=group,
        recipients=recipients,
        suppressed=suppressed,
        batches=batches,
        took=round(took, 4),
    )


def sliced(post_id: str, *, people: int, slices: int) -> None:
    """A large fan-out was cut into slices for all expanders."""
    _event("sliced", post=post_id, people=people, slices=slices)


def ended(post_id: str, *, group: str, verdict: str) -> None:
    """A target of a post ended without recipients: repetition, loop, no_recipients, gone."""
    _event("ended", post=post_id, group=group, verdict=verdict)


def handed_on(post_id: str, *, group: str, subgroup: str, child: str) -> None:
    """A sub-group that is not expanded in place got a post of its own."""
    if tracing.enabled:
        tracing.handed_on(post_id, child)
    _event("handed_on", post=post_id, group=group, subgroup=subgroup, child=child)


def signalled(signal_id: str, *, group: str, reached: int, origin: str, took: float) -> None:
    """All of a signal is durable on the bus: how many people and channels it reaches; `took` seconds since it was sent."""
    _event("signalled", post=signal_id, group=group, reached=reached, origin=origin, took=round(took, 4))


def unreadable(by: str, why: str) -> None:
    """A library gave up on mail to a bounce address: people get it."""
    _event("unreadable", "warning", by=by, why=why[:500])


def bounced(post_id: str, *, group: str, kind: str, about: str) -> None:
    """Mail to a post's bounce address was recognised: a bounce, or an automatic answer."""
    _event("bounced", post=post_id, group=group, kind=kind, about=about)


# --- sender ----------------------------------------------------------------------------------------------------------
def fate(
    post_id: str,
    *,
    recipients: Sequence[str],
    state: str,
    hop_kind: str,
    lane: str,
    host: str,
    reply: str,
    attempt: int,
    age: float,
) -> None:
    """What became of the recipients of one attempt who were answered the same; `age` seconds since the post was accepted.

    One line for all of them, with so many of their addresses as help to find it; the others are in the trace.
    """
    _labelled(metrics.FATES, state, hop_kind).inc(len(recipients))
    if state == "delivered":
        _labelled(metrics.JOURNEY, lane).observe(max(age, 0.0))
    _event(
        state,
        post=post_id,
        count=len(recipients),
        recipients=recipients[:ADDRESSES_SHOWN],
        host=host,
        reply=reply,
        attempt=attempt,
        age=round(age, 3),
    )


def notified(signal_id: str, *, channel: int, label: str, state: str, reply: str, attempt: int) -> None:
    """A channel was called about a signal. Its URL is a secret: the number and the label find it."""
    metrics.FATES.labels(state, "channel").inc()
    _event("notified", post=signal_id, channel=channel, label=label, state=state, reply=reply, attempt=attempt)


def hop_connected(change: int) -> None:
    """A connection to a next hop was opened (1) or closed (-1). Its line would say little: the snapshot of the hops has it all."""
    metrics.HOP_CONNECTIONS.inc(change)


def hop_down(hop: str, why: str) -> None:
    """A next hop cannot be reached; deliveries to it are put off without a dial each, until it is back."""
    metrics.HOPS_DOWN.inc()
    unavailable(f"next hop {hop}", why)


def hop_up(hop: str) -> None:
    """It can be reached again."""
    metrics.HOPS_DOWN.dec()
    available(f"next hop {hop}")


def hop_forgotten() -> None:
    """Nobody has asked for a next hop that was down for so long that it is not remembered any more."""
    metrics.HOPS_DOWN.dec()


def hop_pushed_back(hop: str, *, window: int) -> None:
    """A next hop said 421, put our MAIL off, or did not answer: it gets `window` connections now."""
    metrics.PUSHED_BACK.inc()
    _event("pushed_back", "warning", hop=hop, window=window)


def waiting(post_id: str, *, cell: int, hop: str, delay: float) -> None:
    """A batch waits for the claim of another sender, perhaps one that died."""
    _event("waiting", "debug", post=post_id, cell=cell, hop=hop, delay=round(delay, 1))


# --- expander and sender ------------------------------------------------------------------------------------------------
def halted(post_id: str, *, group: str, copies: int, where: str) -> None:
    """Copies of a batch (sender) or of a share (expander) are not sent, for their post was stopped."""
    metrics.STOPPED_COPIES.labels(where).inc(copies)
    _event("halted", post=post_id, group=group, copies=copies, where=where)


# --- reporter --------------------------------------------------------------------------------------------------------
def reported(post_id: str, *, group: str, kind: str, to: str) -> None:
    """A report or notice about a post is durable on the bus."""
    _event("reported", post=post_id, group=group, kind=kind, to=to)


def held(post_id: str, *, group: str, kind: str, to: str) -> None:
    """A report was not sent, for its reader has had as many as HORO_REPORTS_PER_HOUR lets pass."""
    _event("held", "warning", post=post_id, group=group, kind=kind, to=to)


def untold(post_id: str, *, group: str, recipient: str, reply: str, why: str) -> None:
    """A failure that nobody is told of: a report's own, or one whose author wants to hear of none."""
    _event("untold", post=post_id, group=group, recipient=recipient, reply=reply, why=why)


def suspended(group: str, *, member: str, why: str) -> None:
    """A member gets no more copies, for the address does not work."""
    _event("suspended", "warning", group=group, member=member, why=why)


def probed(group: str, *, member: str) -> None:
    """A member was asked by mail whether the address works."""
    _event("probed", group=group, member=member)


def emitted(routing_key: str, *, post: str = "") -> None:
    """An event went to the exchange for other systems; `post` is the post or signal that it is about, empty for none."""
    _event("emitted", "debug", post=post, routing_key=routing_key)


def swept(what: str, count: int) -> None:
    """Old things were dropped: posts of the ledger, orphaned bodies."""
    if count:
        _event("swept", what=what, count=count)


# --- console ---------------------------------------------------------------------------------------------------------
def requested(route: str, *, path: str, status: int, token: str, ip: str, took: float) -> None:
    """A request was answered with `status` (0: the client went away, or got half an answer); `route` is one of ours, or "other"."""
    metrics.REQUESTS.labels(route, str(status)).inc()
    metrics.ANSWER.labels(route).observe(took)
    _event("requested", route=route, path=path, status=status, token=token, ip=ip, took=round(took, 4))


# --- everybody -------------------------------------------------------------------------------------------------------
def retried(queue: str, why: str, *, tries: int, delay: float, post: str = "") -> None:
    """Work was put off because of trouble of our own; `post` is the post that it is about, empty where that is not known."""
    metrics.TROUBLE.labels(str(queue)).inc()
    _event("retried", "warning", post=post, queue=str(queue), why=why, tries=tries, delay=delay)


def parked(queue: str, why: str, *, post: str = "") -> None:
    """A message was put aside for a person: `horo parked list`; `post` is empty where it cannot be read."""
    metrics.PARKED.labels(str(queue)).inc()
    _event("parked", "error", post=post, queue=str(queue), why=why)


def crashed(where: str, error: BaseException, *, post: str = "") -> None:
    """Something nobody foresaw; the work is tried again. With the traceback, for this is a fault of ours."""
    metrics.EVENTS.labels("crashed").inc()
    _log.error("crashed", post=post, where=str(where), exc_info=error)


def survey_failed(why: str) -> None:
    """What the gauges show could not be found out; they show nothing until it can."""
    metrics.SURVEYS_FAILED.inc()
    _event("survey_failed", "warning", why=why)


def started(service: str, **fields: Any) -> None:
    """A service is ready."""
    _event("started", service=service, **fields)


def stopped(service: str) -> None:
    """A service has drained and ended."""
    _event("stopped", service=service)


def cut_off(service: str, *, after: float) -> None:
    """A service had work in hand when the time to drain was over; that work comes again, as after a crash."""
    _event("cut_off", "warning", service=service, after=round(after, 1))


def unavailable(what: str, why: str) -> None:
    """A server that we need does not answer."""
    _event("unavailable", "warning", what=what, why=why)


def available(what: str) -> None:
    """It answers again."""
    _event("available", what=what)
