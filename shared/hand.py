"""What a worker has in hand: how long it waited for that, how old it is, how long the work takes; and the span of a trace, where traces are on.

The oldest post in hand stands for the oldest one that waits: queues are first in, first out, so what waits behind it is younger. What is tried
again is left out of both: it waits because somebody put it off. Gauges are read by the thread that answers `/metrics`.
"""

from __future__ import annotations

import time
from types import TracebackType

from shared import metrics, tracing
from shared.messages import Delivery, Expanded, Post, Signal, Slice, Wire
from shared.topology import Queue


class Hand:
    """The messages that one worker works on."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.held: dict[int, Wire] = {}
        self.waits = metrics.QUEUE_WAIT.labels(str(queue))
        self.works = metrics.WORK.labels(str(queue))
        metrics.IN_HAND.labels(str(queue)).set_function(lambda: float(len(self.held)))
        metrics.OLDEST.labels(str(queue)).set_function(self.oldest)

    def take(self, message: Wire, *, tries: int) -> Held:
        """For a `with` around the work; `tries` is how often it was tried before."""
        return Held(self, message, first=tries == 0)

    def oldest(self) -> float:
        """Seconds since the oldest post in hand was accepted, of those that are worked on for the first time; 0.0 for none."""
        held = list(self.held.values())  # in one step, for the event loop goes on meanwhile
        times = [at for at in map(accepted_at, held) if at is not None]
        return max(time.time() - min(times), 0.0) if times else 0.0


class Held:
    """One message in hand."""

    __slots__ = ("_begun", "_first", "_hand", "_message", "_span")

    def __init__(self, hand: Hand, message: Wire, *, first: bool) -> None:
        self._hand = hand
        self._message = message
        self._first = first
        self._begun = 0.0
        self._span: tracing.Work | None = None

    def __enter__(self) -> None:
        hand, message = self._hand, self._message
        self._begun = time.perf_counter()
        hand.held[id(self)] = message
        if self._first and (put := put_at(message)):
            hand.waits.observe(max(time.time() - put, 0.0))
        if tracing.enabled:
            self._span = tracing.begin(hand.queue, message)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        hand = self._hand
        del hand.held[id(self)]
        hand.works.observe(time.perf_counter() - self._begun)
        if self._span is not None:
            tracing.end(self._span, error)


def put_at(message: Wire) -> float | None:
    """When a message was put on the bus for its first attempt, seconds since the epoch; None or 0.0 where it does not say."""
    match message:
        case Post():
            return message.accepted_at if message.parent is None else None  # one made inside has its parent's time
        case Delivery():
            return message.queued_at if message.attempt == 0 else None
        case Expanded():
            return message.at
        case Signal():
            return message.sent_at
    return None


def accepted_at(message: Wire) -> float | None:
    """When the post of a message was accepted, for messages that are worked on for the first time."""
    match message:
        case Post():
            return message.accepted_at
        case Slice():
            return message.post.accepted_at
        case Delivery():
            return message.accepted_at if message.attempt == 0 else None
    return None
