"""What is read from the servers."""

from __future__ import annotations

import aio_pika
import pytest

from bench.measure import MIB
from bench.run import received as between
from bench.systems.servers import received
from tests.support.servers import RabbitMQ


@pytest.mark.server("rabbitmq")
async def test_a_body_that_crosses_the_bus_is_in_what_the_broker_received(
    rabbitmq: RabbitMQ, rabbitmq_url: str
) -> None:
    async with await aio_pika.connect(rabbitmq_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(exclusive=True)
        before = received(rabbitmq)
        await channel.default_exchange.publish(aio_pika.Message(bytes(5 * MIB)), queue.name)
        grown = between(before, received(rabbitmq))
    assert grown is not None
    assert 5 * MIB <= grown < 5.5 * MIB
