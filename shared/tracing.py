"""Traces (OpenTelemetry): one post is one trace, across all services and through the broker. The one door to `opentelemetry`.

Off unless HORO_TRACE_ENDPOINT or OpenTelemetry's own OTEL_EXPORTER_OTLP_ENDPOINT is set; then nothing is imported, and `enabled` is one look at a
module's variable. Nothing travels in the messages for it: the trace's id and that of its first span are made from the post's id, which all
messages carry, so a redelivery, a retry after hours and a message of an older release are in the trace as well (docs/design/0020-observability.md).
Which posts are traced follows from the id, too: all services choose the same ones.

Spans carry ids, counts and names of our own, never an address, a subject or the text of a reply: traces often go to somebody else's servers. What
cannot be exported is dropped; no mail waits for it.
"""

from __future__ import annotations

import hashlib
import os
import random
import socket
import time
from collections.abc import Mapping
from contextvars import ContextVar, Token
from importlib.metadata import version
from typing import Any, NamedTuple, cast

from shared.messages import Attempted, Delivery, DeliveryKind, Expanded, Notification, Post, Slice, Wire, post_of
from shared.settings import Settings
from shared.starting import StartError
from shared.topology import Queue

enabled = False
"""Whether anything is traced: whoever has work for a trace looks at this first."""

OTEL_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
EXPORT_TIMEOUT = 5.0
"""Seconds that an export may take."""
WORDS = ("verdict", "kind", "where", "queue", "hop_kind", "level")
"""Fields of the log that are words of our own; beside them only numbers go into a trace."""

_MASK = (1 << 64) - 1


class Work(NamedTuple):
    """A span under way: the post it is about, the span, and what was current before."""

    post: str
    span: Any
    before: Token[Work | None]


_current: ContextVar[Work | None] = ContextVar("horo_span", default=None)


def trace_id(post_id: str) -> int:
    """The 128 bits of a post's trace."""
    return int.from_bytes(hashlib.blake2b(post_id.encode(), digest_size=16, person=b"horo trace").digest()) or 1


def root_id(post_id: str) -> int:
    """The 64 bits of the first span of a post's trace: its acceptance."""
    return int.from_bytes(hashlib.blake2b(post_id.encode(), digest_size=8, person=b"horo root").digest()) or 1


def chosen(post_id: str, rate: float) -> bool:
    """Whether a post is among the share `rate` (0 to 1) that is traced: every process finds the same."""
    return (trace_id(post_id) & _MASK) < rate * (1 << 64)


def wanted(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether there is somewhere to send traces to."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    return bool(settings.trace_endpoint or any(environ.get(name) for name in OTEL_ENDPOINTS))


class _Tracer:
    """OpenTelemetry's SDK, with ids of our own making."""

    def __init__(self, settings: Settings, service: str, processor: Any | None) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an optional extra, loaded where it is used
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON  # noqa: PLC0415

        self.api = trace
        self.rate = settings.trace_sample
        self.next_trace = self.next_span = 0
        resource = Resource.create(
            {
                "service.name": service,
                "service.version": version("horo"),
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        )
        # shut down by `stop`: an exit handler would wait for an exporter that does not answer
        self.provider = TracerProvider(
            resource=resource, sampler=ALWAYS_ON, id_generator=cast(Any, self), shutdown_on_exit=False
        )
        self.provider.add_span_processor(processor or _exporting(settings))
        self.tracer = self.provider.get_tracer("horo", version("horo"))

    # --- the SDK's IdGenerator ---------------------------------------------------------------------------------------
    def generate_trace_id(self) -> int:
        """The trace that the next span belongs to."""
        return self.next_trace

    def generate_span_id(self) -> int:
        """The id that the next span is to have, or any."""
        return self.next_span or random.getrandbits(64) or 1

    def is_trace_id_random(self) -> bool:
        """It is as good as random: a hash."""
        return True

    # --- spans -------------------------------------------------------------------------------------------------------
    def root_of(self, post_id: str) -> Any:
        """The context of a post's first span, whoever made that."""
        api = self.api
        return api.SpanContext(
            trace_id(post_id), root_id(post_id), is_remote=True, trace_flags=api.TraceFlags(api.TraceFlags.SAMPLED)
        )

    def root(self, post_id: str, name: str, *, kind: str, start: float, links: Any = (), **attributes: Any) -> Any:
        """The first span of a post's trace."""
        return self._start(post_id, name, root_id(post_id), None, kind, start, links, attributes)

    def child(self, post_id: str, name: str, *, known: bool, **attributes: Any) -> Any:
        """A span under the first one, where there is one (`known`), else beside it."""
        api = self.api
        parent = api.set_span_in_context(api.NonRecordingSpan(self.root_of(post_id))) if known else None
        return self._start(post_id, name, 0, parent, "CONSUMER", time.time(), (), attributes)

    def _start(
        self, post_id: str, name: str, span: int, parent: Any, kind: str, start: float, links: Any, attributes: Any
    ) -> Any:
        from opentelemetry.context import Context  # noqa: PLC0415

        self.next_trace, self.next_span = trace_id(post_id), span
        try:
            return self.tracer.start_span(
                name,
                context=parent or Context(),
                kind=self.api.SpanKind[kind],
                attributes={"horo.post.id": post_id, **attributes},
                links=links,
                start_time=int(start * 1e9),
            )
        finally:
            self.next_span = 0


_tracer: _Tracer | None = None


def _exporting(settings: Settings) -> Any:
    """Exports in a thread of its own, in batches; what is too much is dropped."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    endpoint = settings.trace_endpoint.rstrip("/")
    if endpoint and not endpoint.endswith("/v1/traces"):
        endpoint += "/v1/traces"
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint or None, timeout=EXPORT_TIMEOUT))


def start(settings: Settings, service: str, *, processor: Any | None = None) -> None:
    """Trace from now on, if traces are wanted. `processor` takes the spans instead of the exporter. Raises `StartError` without the packages."""
    global enabled, _tracer  # noqa: PLW0603 - there is one for a process, as there is one log
    if processor is None and not wanted(settings, os.environ):
        return
    try:
        _tracer = _Tracer(settings, service, processor)
    except ImportError as error:
        raise StartError(
            f"traces need packages that are not installed ({error.name}): pip install 'horo[traces]', or unset HORO_TRACE_ENDPOINT"
        ) from error
    enabled = True


def stop() -> None:
    """Send what there is, for a moment, and trace no more."""
    global enabled, _tracer
    enabled, tracer, _tracer = False, _tracer, None
    if tracer is not None:
        tracer.provider.force_flush(int(EXPORT_TIMEOUT * 1000))
        tracer.provider.shutdown()


def accepted(post_id: str, *, took: float, size: int, targets: int) -> None:
    """A post was accepted: the first span of its trace, `took` seconds long until now."""
    if _tracer is not None and chosen(post_id, _tracer.rate):
        now = time.time()
        span = _tracer.root(
            post_id, "accept", kind="SERVER", start=now - took, **{"horo.size": size, "horo.targets": targets}
        )
        span.end()


def handed_on(parent: str, child: str) -> None:
    """A post was made inside: its trace begins, with a link to that of the post it was made from."""
    if _tracer is not None and chosen(child, _tracer.rate):
        links = (_tracer.api.Link(_tracer.root_of(parent)),)
        _tracer.root(child, "hand on", kind="PRODUCER", start=time.time(), links=links).end()


def begin(queue: Queue, message: Wire) -> Work | None:
    """Work on a message begins; None where its post is not traced."""
    post = post_of(message)
    if _tracer is None or not post or not chosen(post, _tracer.rate):
        return None
    attributes = {"messaging.destination.name": str(queue), "messaging.operation.type": "process"}
    span = _tracer.child(post, f"process {queue}", known=_rooted(message), **attributes, **_told(message))
    work = Work(post, span, _current.set(None))
    _current.set(work)
    return work


def end(work: Work, error: BaseException | None) -> None:
    """It is over; an error is told by its kind alone."""
    if error is not None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        work.span.set_status(Status(StatusCode.ERROR, type(error).__name__))
    work.span.end()
    _current.reset(work.before)


def note(name: str, fields: Mapping[str, Any]) -> None:
    """A line of the log about the post in hand, as an event of its span: numbers and words of ours alone."""
    work = _current.get()
    if work is not None and fields.get("post") == work.post:
        told = {
            key: value
            for key, value in fields.items()
            if isinstance(value, int | float) or (key in WORDS and isinstance(value, str))
        }
        work.span.add_event(name, told)


def _rooted(message: Wire) -> bool:
    """Whether the trace has a first span: what came from outside and what was handed on has one, reports, forwards and signals have none."""
    match message:
        case Delivery() | Attempted():
            return message.kind is DeliveryKind.POST
        case Post() | Slice() | Expanded():
            return True
    return False


def _told(message: Wire) -> dict[str, Any]:
    match message:
        case Delivery():
            return {
                "horo.lane": str(message.lane),
                "horo.attempt": message.attempt,
                "horo.recipients": len(message.recipients),
                "horo.cell": message.cell,
            }
        case Slice() | Expanded():
            return {"horo.slice": message.index, "horo.slices": message.of}
        case Notification():
            return {"horo.attempt": message.attempt, "horo.channel": message.channel}
    return {}
