"""`shared/topology.py` on a broker, declared idempotently whenever a connection is made. Works on RabbitMQ 3.10 and 4.x.

Dead letters travel at least once, which needs quorum queues and reject-publish. A user without configure rights (a service in a locked
down cluster) only checks that everything is there. What exists with other arguments is an error that names it: nothing is deleted here.

For operators of 3.10: do not delete queues or virtual hosts within the first seconds of a broker's start. A dead letter worker that loses its queue
then takes their supervisor with it (seen on 3.10.8), and the node must be started again before such a queue can be declared.
"""

from __future__ import annotations

from typing import Any

from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity, ChannelPreconditionFailed

from shared.bus import BusUnavailable
from shared.topology import (
    DELAYS,
    DELIVERY_LIMIT,
    EVENTS_EXCHANGE,
    MAX_LENGTH,
    PARKED_EXCHANGE,
    PREFIX,
    SIGNALS_EXCHANGE,
    WORK_EXCHANGE,
    WORK_QUEUES,
    Queue,
)

CANARY = PREFIX + "canary"
"""A queue that keeps its last message only; `check` publishes to it, for a confirm proves what an open connection does not."""

CANARY_KEY = "canary"

NEVER = 1_000_000_000
"""A delivery limit for the queue `parked`: RabbitMQ 4 drops after 20 where none is given, and 3.10 knows no -1."""

ACCESS_REFUSED = 403


def queue_name(queue: Queue) -> str:
    """A queue's name on the broker."""
    return PREFIX + queue.value


def delay_name(step: int) -> str:
    """The name of the exchange and of the queue of a delay step, in seconds."""
    return f"{PREFIX}delay.{step}"


def _dead_letter(exchange: str) -> dict[str, Any]:
    return {
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": exchange,
        "x-dead-letter-strategy": "at-least-once",
    }


def queue_arguments() -> dict[str, dict[str, Any]]:
    """The arguments of every queue, by its name."""
    quorum: dict[str, Any] = {"x-queue-type": "quorum"}
    work = quorum | _dead_letter(PARKED_EXCHANGE) | {"x-delivery-limit": DELIVERY_LIMIT, "x-max-length": MAX_LENGTH}
    queues = {queue_name(Queue.PARKED): quorum | {"x-delivery-limit": NEVER}}
    queues |= {queue_name(queue): work for queue in WORK_QUEUES}
    # No x-dead-letter-routing-key: the key that a message was published with says which work queue it goes back to.
    queues |= {
        delay_name(step): quorum | _dead_letter(WORK_EXCHANGE) | {"x-message-ttl": step * 1000} for step in DELAYS
    }
    queues[CANARY] = quorum | {"x-max-length": 1, "x-overflow": "drop-head", "x-delivery-limit": NEVER}
    return queues


def exchange_types() -> dict[str, ExchangeType]:
    """The type of every exchange, by its name."""
    fanouts = [PARKED_EXCHANGE, SIGNALS_EXCHANGE, *(delay_name(step) for step in DELAYS)]
    return {
        WORK_EXCHANGE: ExchangeType.DIRECT,
        EVENTS_EXCHANGE: ExchangeType.TOPIC,
        **dict.fromkeys(fanouts, ExchangeType.FANOUT),
    }


def bindings() -> list[tuple[str, str, str]]:
    """(exchange, queue, routing key) of every binding. `parked` has a key of its own, so that a person can publish to it like to any other."""
    return [
        (PARKED_EXCHANGE, queue_name(Queue.PARKED), ""),
        *((WORK_EXCHANGE, queue_name(queue), queue.value) for queue in Queue),
        (SIGNALS_EXCHANGE, queue_name(Queue.SIGNALS_IN), ""),
        *((delay_name(step), delay_name(step), "") for step in DELAYS),
        (WORK_EXCHANGE, CANARY, CANARY_KEY),
    ]


async def declare(connection: AbstractConnection) -> None:
    """Declare everything, or check that it is there where the user may not declare. Raises `BusUnavailable`."""
    try:
        await _apply(connection, passive=False)
    except ChannelClosed as error:
        if getattr(error, "errno", None) != ACCESS_REFUSED and "ACCESS_REFUSED" not in str(error):
            raise
        await _apply(connection, passive=True)


async def _apply(connection: AbstractConnection, *, passive: bool) -> None:
    channel = connection.channel(publisher_confirms=False)
    await channel.initialize()
    doing = ""
    try:
        exchanges: dict[str, AbstractExchange] = {}
        for name, kind in exchange_types().items():
            doing = f"exchange {name}"
            exchanges[name] = await channel.declare_exchange(name, kind, durable=True, passive=passive)
        queues = {}
        for name, arguments in queue_arguments().items():
            doing = f"queue {name}"
            queues[name] = await channel.declare_queue(name, durable=True, passive=passive, arguments=arguments)
        if not passive:
            for exchange, queue, key in bindings():
                doing = f"binding of {queue} to {exchange}"
                await queues[queue].bind(exchanges[exchange], routing_key=key)
    except ChannelPreconditionFailed as error:
        raise BusUnavailable(
            f"{doing} exists on the broker with other arguments: {error}; empty it, delete it and start again"
        ) from error
    except ChannelNotFoundEntity as error:
        raise BusUnavailable(
            f"{doing} is missing, and this user may not declare it: start one service with configure rights first"
        ) from error
    finally:
        await _close(channel)


async def _close(channel: AbstractChannel) -> None:
    if not channel.is_closed:
        await channel.close()
