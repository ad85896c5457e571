"""What all sessions of one ingress share."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import TYPE_CHECKING, TypeVar

from services.ingress.accept import Acceptance
from services.ingress.limits import Crowd, Limits, Pace, Room
from services.ingress.outcomes import Refusals
from services.ingress.recipients import Recipients
from shared.bodies import Bodies

if TYPE_CHECKING:
    from services.ingress.connection import Connection

T = TypeVar("T")


class Context:
    """The deciders, the counts, who is connected, and whether the service is closing."""

    def __init__(
        self,
        *,
        hostname: str,
        limits: Limits,
        recipients: Recipients,
        acceptance: Acceptance,
        bodies: Bodies,
        crowd: Crowd,
        pace: Pace,
        refusals: Refusals,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.hostname = hostname
        self.limits = limits
        self.recipients = recipients
        self.acceptance = acceptance
        self.bodies = bodies
        self.crowd = crowd
        self.pace = pace
        self.refusals = refusals
        self.tls = tls
        self.room = Room(limits.max_held)
        self.draining = False
        self.sessions: set[Connection] = set()
        self.accepting: set[asyncio.Task[object]] = set()

    @property
    def overloaded(self) -> bool:
        """Whether there are as many acceptances as there may be clients: then some of them have gone away, and more would pile up (P10)."""
        return len(self.accepting) >= self.crowd.total

    def spawn(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Run an acceptance as a task of the service's own: it outlives its session, and the drain waits for it."""
        task: asyncio.Task[T] = asyncio.create_task(work, name="ingress accept")
        self.accepting.add(task)
        task.add_done_callback(self.accepting.discard)
        return task
