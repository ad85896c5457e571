"""Follows Horo's events and prints one line for each: a consumer that loses nothing and says nothing twice.

    pip install aio-pika
    python consumer.py amqp://user:password@localhost/vhost my-queue seen.db 'post.*' delivery.failed

The queue is this consumer's own and durable: events wait in it while the consumer is away. An event may come more than once, with the
same `id`; the ids that were printed are kept in `seen.db`. Do your own work in `work`, and if it is in a database, keep the ids there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import sys
import time
from typing import Any

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

DAYS_KEPT = 30  # an event comes again within minutes, as a rule; after the broker was down, when it is back


def work(event: dict[str, Any]) -> None:
    """What this consumer is for."""
    about = {name: value for name, value in event.items() if name not in ("type", "id", "at", "version")}
    print(event["at"], event["type"], json.dumps(about, ensure_ascii=False), flush=True)


def handle(message: AbstractIncomingMessage, seen: sqlite3.Connection) -> None:
    """Work an event that was not worked before. If that fails, its id is forgotten, and it comes again.

    What is printed cannot be taken back: a crash just before the commit prints it again. Work in the same database can.
    """
    event = json.loads(message.body)
    with seen:  # commits, or takes back what an exception interrupts
        if seen.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (event["id"], time.time())).rowcount:
            work(event)


async def consume(url: str, queue_name: str, keys: list[str], seen: sqlite3.Connection) -> None:
    """Consume until the connection ends."""
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)  # at most so many are on their way to us
        exchange = await channel.get_exchange("events")  # Horo's own: it must be there
        queue = await channel.declare_queue(queue_name, durable=True, arguments={"x-queue-type": "quorum"})
        for key in keys:
            await queue.bind(exchange, key)
        print("consuming", queue_name, file=sys.stderr, flush=True)
        async with queue.iterator() as messages:
            async for message in messages:
                handle(message, seen)
                await message.ack()  # after the work: what was not acked is delivered again


async def main(url: str, queue_name: str, database: str, *keys: str) -> None:
    """Consume for ever, over restarts of the broker."""
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # a lost connection is told below, in one line
    seen = sqlite3.connect(database)
    seen.execute("CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at REAL NOT NULL)")
    while True:
        with seen:
            seen.execute("DELETE FROM seen WHERE at < ?", (time.time() - DAYS_KEPT * 86400,))
        try:
            await consume(url, queue_name, list(keys) or ["#"], seen)
        except (aio_pika.exceptions.AMQPError, OSError) as error:
            print(f"{type(error).__name__}: {error}; trying again", file=sys.stderr, flush=True)
        await asyncio.sleep(1)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
