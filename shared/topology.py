"""Exchanges, queues, delays and lanes, as data. `bus/rabbitmq.py` declares it idempotently, `bus/embedded.py` keeps the same names.

Rules that hold on RabbitMQ 3.10 and 4.x: quorum queues, explicit delivery limit, dead letters at least once (which needs reject-publish),
one TTL queue per delay step (a TTL queue blocks behind its head), attempts in our own header, no priorities.
"""

from __future__ import annotations

from enum import StrEnum


class Queue(StrEnum):
    """The queues. The name on the broker is PREFIX + value."""

    POSTS = "posts"  # Post, ingress -> expander
    SLICES = "slices"  # Slice, expander -> all expanders
    SIGNALS = "signals"  # Signal -> expander
    SIGNALS_IN = "signals.in"  # JSON of other systems, through the exchange `signals` -> expander
    DELIVERIES_EXPRESS = "deliveries.express"  # Delivery, expander -> sender
    DELIVERIES_BULK = "deliveries.bulk"
    NOTIFICATIONS = "notifications"  # Notification, expander -> sender
    OUTCOMES = "outcomes"  # Outcome, anyone -> reporter
    PARKED = "parked"  # whatever could not be processed, for a person; the reporter files it in the ledger


WORK_QUEUES: tuple[Queue, ...] = tuple(queue for queue in Queue if queue is not Queue.PARKED)

PREFIX = "horo."
"""Prefix of every queue and exchange on the broker but `events` and `signals`, whose names are public."""

WORK_EXCHANGE = PREFIX + "work"
"""Direct exchange; the routing key is the queue's value."""

PARKED_EXCHANGE = PREFIX + "parked"
"""Fanout exchange, the dead letter exchange of every work queue."""

EVENTS_EXCHANGE = "events"
"""Topic exchange for other systems (DESIGN.md, public interface)."""

SIGNALS_EXCHANGE = "signals"
"""Fanout exchange to which other systems publish signals as JSON, with any routing key (docs/design/0015-signals.md)."""

DELAYS: tuple[int, ...] = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14400, 28800)
"""Delay steps in seconds; each is a queue PREFIX + "delay." + seconds whose messages are dead-lettered back to their work queue."""

DELIVERY_LIMIT = 50
"""Deliveries without an ack before the broker itself parks a message. Generous: a killed consumer counts against all that it had prefetched."""

MAX_LENGTH = 5_000_000
"""Messages a work queue holds before it refuses (reject-publish: the publisher is told, so the client gets 451 and keeps its message)."""

MAX_PAYLOAD = 8 * 1024 * 1024
"""Octets of one message: RabbitMQ 4 closes the channel over 16 MiB. Bodies cross by reference long before."""


def delay_step(delay: float) -> int:
    """The smallest step of at least `delay` seconds, or the largest there is; 0 for no delay."""
    if delay <= 0:
        return 0
    return next((step for step in DELAYS if step >= delay), DELAYS[-1])
