"""The servers that other tests stand on do what the fixtures promise."""

from __future__ import annotations

import aio_pika
import psycopg
import pytest
import redis.asyncio
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import AMQPError

from tests.support.servers import PostgreSQL, RabbitMQ, Redis, Server


@pytest.mark.smoke
@pytest.mark.server("rabbitmq")
async def test_a_quorum_queue_keeps_a_confirmed_message_over_kill_and_restart(
    rabbitmq: RabbitMQ, rabbitmq_url: str
) -> None:
    async with await aio_pika.connect(rabbitmq_url, timeout=10) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await _declare(channel)
        message = aio_pika.Message(b"kept", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key="q", timeout=10)
        rabbitmq.kill()
    rabbitmq.start()
    async with await aio_pika.connect(rabbitmq_url, timeout=10) as connection:
        queue = await _declare(await connection.channel())
        got = await queue.get(timeout=10)
        assert got.body == b"kept"
        await got.ack()


async def _declare(channel: AbstractChannel) -> aio_pika.abc.AbstractQueue:
    return await channel.declare_queue("q", durable=True, arguments={"x-queue-type": "quorum"}, timeout=30)


@pytest.mark.server("rabbitmq")
async def test_a_virtual_host_is_fresh_and_goes_away(rabbitmq: RabbitMQ) -> None:
    first, second = rabbitmq.fresh(), rabbitmq.fresh()
    async with await aio_pika.connect(first, timeout=10) as connection:
        await _declare(await connection.channel())
    name = first.rpartition("/")[2]
    assert [queue["name"] for queue in rabbitmq.api("GET", f"/queues/{name}")] == ["q"]
    assert rabbitmq.api("GET", f"/queues/{second.rpartition('/')[2]}") == []
    rabbitmq.discard(first)
    rabbitmq.discard(second)
    with pytest.raises(AMQPError):
        await aio_pika.connect(first, timeout=10)
    assert name not in rabbitmq.ctl("list_vhosts").split()


@pytest.mark.server("rabbitmq")
def test_the_broker_has_the_version_it_says(rabbitmq: RabbitMQ) -> None:
    assert rabbitmq.api("GET", "/overview")["rabbitmq_version"].startswith(rabbitmq.version)
    assert rabbitmq.version in rabbitmq.ctl("version")


@pytest.mark.smoke
@pytest.mark.server("postgresql")
async def test_postgresql_keeps_a_commit_over_kill_and_restart(postgres: PostgreSQL, postgres_url: str) -> None:
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        await connection.execute("CREATE TABLE kept (n integer)")
        await connection.execute("INSERT INTO kept VALUES (1)")
        await connection.commit()
        postgres.kill()
    postgres.start()
    async with await psycopg.AsyncConnection.connect(postgres_url) as connection:
        assert await (await connection.execute("SELECT n FROM kept")).fetchall() == [(1,)]


@pytest.mark.server("postgresql")
def test_a_database_is_empty_and_goes_away_under_its_users(postgres: PostgreSQL) -> None:
    url = postgres.fresh()
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
        assert tables == (0,)
        assert connection.info.encoding == "utf-8"
        postgres.discard(url)
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    assert postgres.ctl("--command", "SHOW server_version").startswith(postgres.version)


@pytest.mark.smoke
@pytest.mark.server("redis")
async def test_redis_holds_a_value_and_is_emptied_for_the_next_test(redis_server: Redis, redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("k", "v")
        assert await client.get("k") == b"v"
        assert redis_server.ctl("GET", "k").strip() == "v"
        redis_server.discard(redis_url)
        assert await client.get("k") is None


def _check_every_state(server: Server) -> None:
    """Stopped, started, frozen, dead, and back: each state seen from outside."""
    url = server.url
    server.ensure_running()
    assert server.answers()
    server.stop()
    assert not server.answers()
    server.start()
    assert server.answers()
    server.pause()
    assert server.runner.running()
    assert not server.answers()
    server.resume()
    assert server.answers()
    server.kill()
    assert not server.answers()
    assert not server.runner.running()
    server.ensure_running()
    assert server.answers()
    assert server.url == url, "a server must come back where its clients know it"


@pytest.mark.server("rabbitmq")
def test_rabbitmq_stops_starts_freezes_and_dies(rabbitmq: RabbitMQ) -> None:
    _check_every_state(rabbitmq)


@pytest.mark.server("postgresql")
def test_postgresql_stops_starts_freezes_and_dies(postgres: PostgreSQL) -> None:
    _check_every_state(postgres)


@pytest.mark.server("redis")
def test_redis_stops_starts_freezes_and_dies(redis_server: Redis) -> None:
    _check_every_state(redis_server)


@pytest.mark.server("redis")
@pytest.mark.parametrize("end", ["frozen", "dead", "stopped", "dead while frozen"])
def test_a_server_is_back_for_the_next_test_whatever_this_one_leaves(redis_server: Redis, end: str) -> None:
    """Each leaves the server in another state, and whichever runs next finds it well."""
    assert redis_server.answers()
    match end:
        case "frozen":
            redis_server.pause()
        case "dead":
            redis_server.kill()
        case "stopped":
            redis_server.stop()
        case "dead while frozen":
            redis_server.pause()
            redis_server.kill()
    assert not redis_server.answers()


@pytest.mark.server("redis")
def test_a_frozen_server_can_be_stopped(redis_server: Redis) -> None:
    redis_server.pause()
    redis_server.stop()
    assert not redis_server.runner.running()
