"""The bus over a broker that is killed, frozen, full, out of memory, misconfigured, or used by somebody hostile."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import trustme
from pamqp import encode

from shared.bus import BusUnavailable, Incoming, Outgoing
from shared.bus.rabbitmq import Rabbitmq
from shared.bus.rabbitmq_bundles import BUNDLE_TYPE
from shared.bus.rabbitmq_consumer import SCATTERED_AFTER
from shared.topology import DELAYS, DELIVERY_LIMIT, MAX_PAYLOAD, WORK_EXCHANGE, WORK_QUEUES, Queue
from tests.support.servers import RabbitMQ

PATIENCE = 90.0
"""Seconds in which a broker that was killed is back and everybody has noticed."""


@pytest.fixture
async def bus(rabbitmq_url: str) -> AsyncIterator[Rabbitmq]:
    made = await Rabbitmq.connect(rabbitmq_url)
    yield made
    await made.close()


def post(payload: bytes = b"one", **more: Any) -> Outgoing:
    return Outgoing(queue=Queue.POSTS, payload=payload, **more)


async def succeeds(act: Callable[[], Awaitable[object]]) -> None:
    """Try until it is no longer `BusUnavailable`."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            await act()
        except BusUnavailable:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        else:
            return


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        await asyncio.sleep(0.02)


async def taken(bus: Rabbitmq, queue: Queue) -> Incoming:
    """One message of a queue, acked."""
    async with asyncio.timeout(PATIENCE), bus.consume(queue, prefetch=1) as consumer:
        message = await consumer.get()
        await message.ack()
        return message


AT_LEAST_ONCE = len(WORK_QUEUES) + len(DELAYS)
"""Queues with a dead letter worker in the broker."""

WORKERS = "[begin sys:get_state(P, 5000), ok end || {_, P, _, _} <- supervisor:which_children(rabbit_fifo_dlx_sup), is_pid(P)]."


@pytest.fixture
async def settled(rabbitmq: RabbitMQ, bus: Rabbitmq) -> AsyncIterator[None]:
    """After a test that restarted the broker: all dead letter workers are up before the test's virtual host is deleted.

    A worker that loses its queue while it starts crashes, and again when its supervisor starts it; RabbitMQ 3.10's supervisor then gives
    up for good, and no queue with dead letters at least once can be declared on that node any more.
    """
    yield

    def up() -> bool:
        try:
            return rabbitmq.ctl("eval", WORKERS).count("ok") >= AT_LEAST_ONCE
        except RuntimeError:
            return False

    deadline = time.monotonic() + PATIENCE
    while not await asyncio.to_thread(up):
        assert time.monotonic() < deadline, "the dead letter workers did not come up"


# --- restarts --------------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_p1_p3_a_broker_that_ends_under_load_loses_nothing_it_confirmed(
    rabbitmq: RabbitMQ, bus: Rabbitmq, end: str
) -> None:
    confirmed: set[bytes] = set()
    received: set[bytes] = set()
    failures: list[BusUnavailable] = []
    enough = asyncio.Event()

    async def publish(name: int) -> None:
        number = 0
        while not enough.is_set():
            payload, number = b"%d:%d" % (name, number), number + 1
            try:
                await bus.publish(post(payload))
                confirmed.add(payload)
            except BusUnavailable as error:
                failures.append(error)
                await asyncio.sleep(0.05)

    async def work(consumer: Any) -> None:
        while True:
            message = await consumer.get()
            await asyncio.sleep(0)
            received.add(message.payload)
            await message.ack()

    async with bus.consume(Queue.POSTS, prefetch=50) as consumer:
        workers = [asyncio.create_task(work(consumer)) for _ in range(10)]
        publishers = [asyncio.create_task(publish(name)) for name in range(20)]
        await until(lambda: len(confirmed) > 500, "load")
        await asyncio.to_thread(getattr(rabbitmq, end))
        await until(lambda: bool(failures), "publishers to notice")
        await asyncio.to_thread(rabbitmq.start)
        before = len(confirmed)
        await until(lambda: len(confirmed) > before + 500, "publishers to come back")
        enough.set()
        await asyncio.gather(*publishers)
        await until(lambda: confirmed <= received, "consumers to come back")
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)


@pytest.mark.usefixtures("settled")
async def test_p1_delayed_and_parked_messages_survive_kill_9_of_the_broker(rabbitmq: RabbitMQ, bus: Rabbitmq) -> None:
    await bus.publish(post(b"later", delay=1, tries=1))
    await bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=b"bad"))
    async with asyncio.timeout(PATIENCE), bus.consume(Queue.OUTCOMES, prefetch=1) as consumer:
        await (await consumer.get()).park("why")
    await asyncio.to_thread(rabbitmq.kill)
    await asyncio.to_thread(rabbitmq.start)
    later, aside = await taken(bus, Queue.POSTS), await taken(bus, Queue.PARKED)
    assert (later.payload, later.tries) == (b"later", 1)
    assert (aside.payload, bus.parked(aside).queue) == (b"bad", "outcomes")


async def test_p1_a_frozen_broker_is_unavailable_within_the_timeout(rabbitmq: RabbitMQ, bus: Rabbitmq) -> None:
    await bus.publish(post())
    await asyncio.to_thread(rabbitmq.pause)
    try:
        for act in (lambda: bus.publish(post(), timeout=0.5), lambda: bus.check(timeout=0.5)):
            begun = time.monotonic()
            with pytest.raises(BusUnavailable):
                await act()
            assert time.monotonic() - begun < 3
        async with bus.consume(Queue.POSTS, prefetch=1):
            pass  # leaving a consumer that never came to be does not hang either
    finally:
        await asyncio.to_thread(rabbitmq.resume)
    await succeeds(lambda: bus.publish(post(b"thawed")))


# --- alarms and limits -----------------------------------------------------------------------------------------------
async def test_p1_a_memory_alarm_is_unavailable_and_consumers_drain(
    rabbitmq: RabbitMQ, bus: Rabbitmq, rabbitmq_url: str
) -> None:
    await bus.publish_all([post(b"%d" % number) for number in range(50)])
    await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        blocked = 0
        async with asyncio.timeout(PATIENCE):
            while not blocked:  # the alarm is raised within seconds
                begun = time.monotonic()
                try:
                    await bus.publish(post(b"late"), timeout=1)
                except BusUnavailable:
                    blocked += 1
                assert time.monotonic() - begun < 5
        with pytest.raises(BusUnavailable):
            await bus.check(timeout=0.5)
        async with asyncio.timeout(PATIENCE), bus.consume(Queue.POSTS, prefetch=1) as consumer:
            for _ in range(50):
                await (await consumer.get()).ack()
        fresh = await Rabbitmq.connect(rabbitmq_url)  # one can connect under an alarm: only a confirm proves anything
        with pytest.raises(BusUnavailable):
            await fresh.check(timeout=1)
        await fresh.close()
    finally:
        await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.6")
    await succeeds(lambda: bus.check(timeout=2))
    await succeeds(lambda: bus.publish(post(b"after")))


@pytest.mark.usefixtures("settled")
async def test_p1_a_broker_that_dies_under_its_alarm_keeps_nobody_from_publishing_afterwards(
    rabbitmq: RabbitMQ, bus: Rabbitmq
) -> None:
    await bus.emit("post.accepted", b"before")
    await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "absolute", "1MB")
    async with asyncio.timeout(PATIENCE):
        while True:  # the alarm is raised within seconds
            try:
                await bus.publish(post(b"late"), timeout=1)
            except BusUnavailable:
                break
    emitting = asyncio.create_task(bus.emit("post.accepted", b"held"))
    await asyncio.wait((emitting,), timeout=0.5)
    assert not emitting.done()
    await asyncio.to_thread(rabbitmq.kill)
    await asyncio.to_thread(rabbitmq.ensure_running)  # the alarm was that process' own
    await succeeds(lambda: bus.publish(post(b"after"), timeout=5))
    await succeeds(lambda: bus.emit("post.accepted", b"after"))
    await asyncio.wait((emitting,), timeout=PATIENCE)
    assert emitting.done()


async def test_p1_a_full_queue_refuses_and_the_publisher_is_told(
    rabbitmq: RabbitMQ, bus: Rabbitmq, rabbitmq_url: str
) -> None:
    vhost = rabbitmq_url.rpartition("/")[2]
    policy = {"pattern": "^horo[.]posts$", "definition": {"max-length": 5}, "apply-to": "queues"}
    await asyncio.to_thread(rabbitmq.api, "PUT", f"/policies/{vhost}/small", policy)
    confirmed = 0
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(BusUnavailable):
            while True:
                await bus.publish(post())
                confirmed += 1
    assert await bus.depth(Queue.POSTS) == confirmed
    await bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=b"others are not full"))


async def test_a_message_that_is_never_ended_is_parked_by_the_broker_with_the_reason(bus: Rabbitmq) -> None:
    await bus.publish(
        post(b"poison", delay=1, tries=3)
    )  # by way of a delay queue, which leaves its own marks in the headers
    async with asyncio.timeout(PATIENCE):
        for _ in range(DELIVERY_LIMIT + 1):
            async with bus.consume(Queue.POSTS, prefetch=1) as consumer:
                assert (await consumer.get()).payload == b"poison"
        aside = await taken(bus, Queue.PARKED)
    said = bus.parked(aside)
    assert (aside.payload, said.queue, said.tries) == (b"poison", "posts", 3)
    assert said.reason.startswith("delivery_limit")
    assert await bus.depth(Queue.POSTS) == 0


# --- topology --------------------------------------------------------------------------------------------------------
async def test_p1_a_deleted_queue_is_unavailable_until_it_is_declared_again(rabbitmq_url: str, bus: Rabbitmq) -> None:
    async with bus.consume(Queue.POSTS, prefetch=1) as consumer:
        async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
            await channel.queue_delete("horo.posts")
            await channel.queue_delete("horo.signals")
        with pytest.raises(BusUnavailable):
            await bus.publish(Outgoing(queue=Queue.SIGNALS, payload=b"unroutable"))
        await succeeds(lambda: bus.publish(post(b"healed")))
        async with asyncio.timeout(PATIENCE):
            assert (await consumer.get()).payload == b"healed"


async def test_a_queue_with_other_arguments_is_named(rabbitmq_url: str) -> None:
    async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
        await channel.declare_queue("horo.outcomes", durable=True)
    with pytest.raises(BusUnavailable, match=r"queue horo\.outcomes exists on the broker with other arguments"):
        await Rabbitmq.connect(rabbitmq_url)


async def test_a_user_who_may_not_configure_uses_what_is_there(rabbitmq: RabbitMQ, rabbitmq_url: str) -> None:
    vhost = rabbitmq_url.rpartition("/")[2]
    rabbitmq.api("PUT", "/users/humble", {"password": "humble", "tags": ""})
    rabbitmq.api("PUT", f"/permissions/{vhost}/humble", {"configure": "^amq[.]gen", "write": ".*", "read": ".*"})
    humble = rabbitmq_url.replace("horo:horo@", "humble:humble@")
    try:
        with pytest.raises(BusUnavailable, match="may not declare"):
            await Rabbitmq.connect(humble)
        await (await Rabbitmq.connect(rabbitmq_url)).close()
        bus = await Rabbitmq.connect(humble)
        await bus.publish(post(b"works"))
        assert (await taken(bus, Queue.POSTS)).payload == b"works"
        await bus.close()
    finally:
        rabbitmq.api("DELETE", "/users/humble")


async def test_no_error_holds_the_password(rabbitmq: RabbitMQ, rabbitmq_url: str, free_port: Callable[[], int]) -> None:
    wrong = rabbitmq_url.replace("horo:horo@", "horo:Geheim%2F123@")
    for url in (
        wrong,
        f"amqp://horo:Geheim%2F123@127.0.0.1:{free_port()}/x",
        "amqp://horo:Geheim%2F123@host.invalid/x",
    ):
        with pytest.raises(BusUnavailable) as caught:
            await Rabbitmq.connect(url)
        told = "".join(traceback.format_exception(caught.value))
        assert "Geheim" not in told


# --- hostile bytes ---------------------------------------------------------------------------------------------------
def nested(depth: int) -> bytes:
    """A header table in a table in a table."""
    table = struct.pack(">I", 0)
    for _ in range(depth):
        body = b"\x01aF" + table
        table = struct.pack(">I", len(body)) + body
    return table


HOSTILE: dict[str, tuple[str, bytes, dict[str, Any]]] = {
    "a timestamp that is no date": ("timestamp", b"\x7f" + b"\xff" * 7, {"timestamp": 1}),
    "headers nested deeper than our stack": ("table", nested(5000), {"headers": {"a": 1}}),
    "a content type that is no text": ("shortstr", b"\x04\xff\xfe\x80\x00", {"content_type": "x"}),
    "tries that are no number": (
        "table",
        struct.pack(">I", 17) + b"\x0ahoro-triesT" + b"\x00" * 5,
        {"headers": {"a": 1}},
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_properties_stop_nobody(
    name: str, rabbitmq_url: str, bus: Rabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, value, properties = HOSTILE[name]
    async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(WORK_EXCHANGE)
        message = aio_pika.Message(b"hostile", delivery_mode=2, **properties)
        with monkeypatch.context() as patched:
            patched.setitem(encode.METHODS, kind, lambda _: value)
            # Broken bytes may cost the sender its connection; what matters is whoever has to read them.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5):
                    await exchange.publish(message, "posts")
    await bus.publish(post(b"honest"))
    got: set[bytes] = set()
    async with asyncio.timeout(PATIENCE), bus.consume(Queue.POSTS, prefetch=1) as consumer:
        while b"honest" not in got:
            incoming = await consumer.get()
            got.add(incoming.payload)
            assert incoming.tries == 0
            await incoming.park("looked at")
    async with asyncio.timeout(PATIENCE), bus.consume(Queue.PARKED, prefetch=1) as consumer:
        for _ in got:
            aside = await consumer.get()
            assert bus.parked(aside).reason == "looked at"
            await aside.ack()


HEADERS: list[dict[str, Any]] = [
    {"horo-tries": "x" * 100},
    {"horo-tries": -5},
    {"horo-tries": True},
    {"horo-tries": 2**62, "horo-queue": 7, "horo-reason": None},
    {"x-death": "nonsense", "x-first-death-queue": 5},
    {"x-death": [1, {"queue": {"a": []}}, {"queue": "horo.nowhere"}]},
]


@pytest.mark.parametrize("headers", HEADERS)
async def test_hostile_headers_are_not_believed(headers: dict[str, Any], rabbitmq_url: str, bus: Rabbitmq) -> None:
    async with await aio_pika.connect(rabbitmq_url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(WORK_EXCHANGE)
        await exchange.publish(aio_pika.Message(b"hostile", headers=headers, delivery_mode=2), "parked")
    message = await taken(bus, Queue.PARKED)
    assert message.tries == 0
    said = bus.parked(message)
    assert said.tries == 0
    assert isinstance(said.queue, str)
    assert isinstance(said.reason, str)


# --- TLS -------------------------------------------------------------------------------------------------------------
@contextlib.asynccontextmanager
async def tls_in_front(rabbitmq: RabbitMQ, authority: trustme.CA, port: int) -> AsyncIterator[None]:
    """A TLS port that hands everything on to the broker."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection(rabbitmq.host, rabbitmq.port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", port, ssl=context)
    async with server:
        yield


async def test_amqps_works_and_verifies(
    rabbitmq: RabbitMQ, rabbitmq_url: str, free_port: Callable[[], int], tmp_path: Path
) -> None:
    ours, port = trustme.CA(), free_port()
    ours.cert_pem.write_to_path(tmp_path / "ca.pem")
    vhost = rabbitmq_url.rpartition("/")[2]
    url = f"amqps://horo:horo@localhost:{port}/{vhost}"
    async with tls_in_front(rabbitmq, ours, port):
        with pytest.raises(BusUnavailable, match="certificate verify failed"):
            await Rabbitmq.connect(url)
        bus = await Rabbitmq.connect(f"{url}?cafile={tmp_path / 'ca.pem'}")
        await bus.publish(post(b"sealed"))
        assert (await taken(bus, Queue.POSTS)).payload == b"sealed"
        await bus.close()


async def test_a_message_over_our_limit_that_somebody_else_put_there_is_parked_and_does_not_come_back(
    rabbitmq_url: str, bus: Rabbitmq
) -> None:
    payload = bytes(MAX_PAYLOAD + 1)
    connection = await aio_pika.connect(rabbitmq_url)
    async with connection:
        channel = await connection.channel()
        await channel.default_exchange.publish(aio_pika.Message(payload), "horo.posts")
    async with asyncio.timeout(PATIENCE), bus.consume(Queue.POSTS, prefetch=1) as consumer:
        message = await consumer.get()
        with pytest.raises(ValueError, match="over the limit"):
            await bus.publish(Outgoing(queue=Queue.POSTS, payload=message.payload))
        await message.park("too large to be put off")
    assert (await taken(bus, Queue.PARKED)).payload == payload
    assert await bus.depth(Queue.POSTS) == 0


# --- bundles ---------------------------------------------------------------------------------------------------------
async def test_a_bundle_that_ends_its_consumers_is_taken_apart_so_that_one_part_alone_is_parked(bus: Rabbitmq) -> None:
    await bus.publish_all([post(b"poison"), *(post(b"good %d" % number) for number in range(5))])
    assert await bus.depth(Queue.POSTS) == 1
    async with asyncio.timeout(PATIENCE):
        for _ in range(SCATTERED_AFTER):  # each dies with all that it took
            async with bus.consume(Queue.POSTS, prefetch=1) as consumer:
                await consumer.get()
        async with bus.consume(Queue.POSTS, prefetch=1) as consumer:
            singles = [await consumer.get()]
            assert singles[0].tries == 1, "it may have been worked before, and says so"
            while len(singles) < 5:
                if singles[-1].payload != b"poison":
                    await singles[-1].ack()
                else:
                    await singles[-1].park("poison")
                singles.append(await consumer.get())
    assert await bus.depth(Queue.POSTS) == 2  # the last one was not ended, and one was not taken


async def test_bytes_that_only_say_they_are_a_bundle_are_one_message(bus: Rabbitmq, rabbitmq_url: str) -> None:
    connection = await aio_pika.connect(rabbitmq_url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange("horo.work", ensure=False)
        await exchange.publish(aio_pika.Message(b"\xc1 nonsense", content_type=BUNDLE_TYPE), "posts")
    assert (await taken(bus, Queue.POSTS)).payload == b"\xc1 nonsense"


# --- events ----------------------------------------------------------------------------------------------------------
async def test_events_of_every_size_are_heard_byte_for_byte_each_once(bus: Rabbitmq) -> None:
    payloads = [bytes([number]) * size for number, size in enumerate((0, 1, 500, 131_064, 131_072, 300_000))] * 3
    async with asyncio.timeout(PATIENCE), bus.events("post.#") as stream:
        heard = aiter(stream)
        await asyncio.gather(*(bus.emit("post.accepted", payload) for payload in payloads))
        await bus.emit("signal.delivered", b"not asked for")
        await bus.emit("post.last", b"last")
        got = [await anext(heard) for _ in range(len(payloads) + 1)]
    assert sorted(got) == sorted([*(("post.accepted", payload) for payload in payloads), ("post.last", b"last")])


@pytest.mark.usefixtures("settled")
async def test_p1_an_event_that_the_broker_did_not_confirm_is_unavailable_and_the_next_one_works(
    rabbitmq: RabbitMQ, bus: Rabbitmq
) -> None:
    await bus.emit("post.accepted", b"before")
    await asyncio.to_thread(rabbitmq.pause)
    try:
        emitting = [asyncio.create_task(bus.emit("post.accepted", b"%d" % number)) for number in range(50)]
        await asyncio.wait(emitting, timeout=0.5)
        assert not any(task.done() for task in emitting)
        await asyncio.to_thread(rabbitmq.kill)
        await asyncio.wait(emitting, timeout=PATIENCE)
        assert all(task.done() for task in emitting)
        # a container is woken before it is killed, and may confirm some in that instant
        assert {type(task.exception()) for task in emitting} <= {BusUnavailable, type(None)}
    finally:
        await asyncio.to_thread(rabbitmq.ensure_running)
    await succeeds(lambda: bus.emit("post.accepted", b"after"))
