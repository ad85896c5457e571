"""The embedded bus under what happens to files and processes: kill -9, several processes, locks, a full disk, damage."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from shared.bus import BusUnavailable, BusUnusable, Outgoing
from shared.bus import embedded_file as file
from shared.bus.embedded import Embedded
from shared.topology import DELIVERY_LIMIT, Queue

ROOT = Path(__file__).parents[2]
PATIENCE = 30.0

PUBLISHER = """
import asyncio, sys
from pathlib import Path
from shared.bus import Outgoing
from shared.bus.embedded import Embedded
from shared.topology import Queue

async def main(path, name, count):
    bus = await Embedded.open(Path(path))
    async def publish(number):
        await bus.publish(Outgoing(queue=Queue.POSTS, payload=f"{name}:{number}".encode()))
        print(number, flush=True)
    number = 0
    while number < count:
        await asyncio.gather(*(publish(number + more) for more in range(20)))
        number += 20
    await bus.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""

HOLDER = """
import asyncio, sys
from pathlib import Path
from shared.bus.embedded import Embedded
from shared.topology import Queue

async def main(path):
    bus = await Embedded.open(Path(path))
    async with bus.consume(Queue.POSTS, prefetch=3) as consumer:
        await consumer.get()
        print("holding", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "queue.db"


@pytest.fixture
async def bus(path: Path) -> AsyncIterator[Embedded]:
    made = await Embedded.open(path)
    yield made
    await made.close()


@pytest.fixture
def run() -> Iterator[object]:
    """Start a program of ours; whatever still runs in the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]


def post(payload: bytes = b"one", **more: object) -> Outgoing:
    return Outgoing(queue=Queue.POSTS, payload=payload, **more)  # type: ignore[arg-type]


async def drained(bus: Embedded, count: int) -> list[bytes]:
    """Take and ack `count` messages."""
    got = []
    async with asyncio.timeout(PATIENCE), bus.consume(Queue.POSTS, prefetch=50) as consumer:
        for _ in range(count):
            message = await consumer.get()
            got.append(message.payload)
            await message.ack()
    return got


@contextlib.contextmanager
def write_locked(path: Path) -> Iterator[None]:
    """Another program holds the file's write lock."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


# --- processes -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("after", [1, 200, 1000])
async def test_p1_kill_9_in_mid_publish_keeps_whatever_was_confirmed(path: Path, run: object, after: int) -> None:
    process = run(PUBLISHER, path, "p", 1_000_000)  # type: ignore[operator]
    confirmed = {process.stdout.readline().strip() for _ in range(after)}
    process.send_signal(signal.SIGKILL)
    confirmed |= set(process.communicate()[0].split("\n")[:-1])

    bus = await Embedded.open(path)
    there = [payload.decode().removeprefix("p:") for payload in await drained(bus, await bus.depth(Queue.POSTS))]
    await bus.close()
    assert len(confirmed) >= after
    assert confirmed <= set(there)
    assert len(there) == len(set(there))


async def test_p3_kill_9_of_the_consumer_gives_back_what_it_held(path: Path, run: object) -> None:
    bus = await Embedded.open(path)
    await bus.publish_all([post(b"%d" % number) for number in range(5)])
    await bus.close()
    holder = run(HOLDER, path)  # type: ignore[operator]
    assert holder.stdout.readline() == "holding\n"
    holder.kill()
    holder.communicate()

    bus = await Embedded.open(path)
    async with asyncio.timeout(PATIENCE), bus.consume(Queue.POSTS, prefetch=5) as consumer:
        back = [await consumer.get() for _ in range(5)]
        assert sum(message.redelivered for message in back) == 3
        for message in back:
            await message.ack()
    await bus.close()


async def test_two_processes_publish_while_a_third_consumes(path: Path, bus: Embedded, run: object) -> None:
    publishers = [run(PUBLISHER, path, name, 400) for name in ("a", "b")]  # type: ignore[operator]
    got = await drained(bus, 800)
    assert sorted(got) == sorted(f"{name}:{number}".encode() for name in "ab" for number in range(400))
    for publisher in publishers:
        assert await asyncio.to_thread(publisher.wait, PATIENCE) == 0


async def test_what_another_process_publishes_is_noticed_soon(path: Path, bus: Embedded) -> None:
    other = await Embedded.open(path)
    async with asyncio.timeout(PATIENCE), bus.consume(Queue.POSTS, prefetch=5) as consumer, bus.events("a.*") as events:
        waits = []
        for _ in range(5):
            waiting = asyncio.create_task(consumer.get())
            await asyncio.sleep(0)
            begun = time.monotonic()
            await other.publish(post())
            await (await waiting).ack()
            waits.append(time.monotonic() - begun)
        await other.emit("a.b", b"{}")
        assert await anext(aiter(events)) == ("a.b", b"{}")
    await other.close()
    assert min(waits) < 0.3


async def test_a_second_consuming_process_is_told_which_file_and_who(path: Path, bus: Embedded, run: object) -> None:
    await bus.publish(post())
    holder = run(HOLDER, path)  # type: ignore[operator]
    assert await asyncio.to_thread(holder.stdout.readline) == "holding\n"
    with pytest.raises(BusUnavailable) as caught:
        async with bus.consume(Queue.POSTS, prefetch=1):
            pass
    assert str(path) in caught.value.why
    assert str(holder.pid) in caught.value.why
    await bus.publish(post(b"publishing goes on"))
    await bus.emit("post.accepted", b"{}")

    holder.kill()
    holder.communicate()
    assert b"publishing goes on" in await drained(bus, 2)


async def test_a_message_that_kills_its_process_again_and_again_is_parked(path: Path) -> None:
    for crash in range(DELIVERY_LIMIT + 1):
        bus = await Embedded.open(path)
        if crash == 0:
            await bus.publish_all([post(b"poison", tries=2), Outgoing(queue=Queue.SIGNALS, payload=b"innocent")])
        async with asyncio.timeout(PATIENCE), bus.consume(Queue.POSTS, prefetch=1) as consumer:
            assert (await consumer.get()).payload == b"poison"
            os.close(bus._lock)  # type: ignore[arg-type] # as the kernel does when a process dies
            bus._lock = None
            await bus._writer.close()

    bus = await Embedded.open(path)
    async with asyncio.timeout(PATIENCE), bus.consume(Queue.PARKED, prefetch=1) as consumer:
        aside = await consumer.get()
        said = bus.parked(aside)
        assert (aside.payload, said.queue, said.tries) == (b"poison", "posts", 2)
        assert said.reason.startswith("delivery_limit")
        await aside.ack()
    assert await bus.depth(Queue.POSTS) == 0
    assert await bus.depth(Queue.SIGNALS) == 1
    await bus.close()


# --- files -----------------------------------------------------------------------------------------------------------
async def test_p1_a_locked_file_is_unavailable_within_the_timeout_and_an_ack_is_made_up_for(
    path: Path, bus: Embedded
) -> None:
    await bus.publish(post(b"before"))
    async with asyncio.timeout(PATIENCE), bus.consume(Queue.POSTS, prefetch=1) as consumer:
        message = await consumer.get()
        with write_locked(path):
            begun = time.monotonic()
            with pytest.raises(BusUnavailable):
                await bus.publish(post(b"lost"), timeout=0.3)
            assert time.monotonic() - begun < 2
            await message.ack()  # cannot be written yet, and is not lost
        await bus.publish(post(b"after"))
        after = await consumer.get()
        assert after.payload == b"after"
        await after.ack()
    assert await bus.depth(Queue.POSTS) == 0


async def test_p1_a_file_that_stays_locked_is_unavailable_and_never_a_hang(path: Path, bus: Embedded) -> None:
    with write_locked(path):
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(BusUnavailable, match="locked"):
                await bus.publish(post(), timeout=PATIENCE)
            with pytest.raises(BusUnavailable):
                await bus.check(timeout=0.1)
    await bus.check()
    assert await bus.depth(Queue.POSTS) == 0


async def test_p1_a_full_disk_is_unavailable_and_what_was_confirmed_stays(path: Path, bus: Embedded) -> None:
    await bus.publish(post(b"before"))
    pages = await bus._writer.submit(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    await bus._writer.submit(
        lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 20}").fetchall(), reads=True
    )
    with pytest.raises(BusUnavailable, match="full"):
        await bus.publish(post(b"x" * 1_000_000))
    assert await drained(bus, 1) == [b"before"]
    await bus._writer.submit(
        lambda connection: connection.execute("PRAGMA max_page_count = 4294967294").fetchall(), reads=True
    )
    await bus.publish(post(b"room again"))
    assert await drained(bus, 1) == [b"room again"]


async def test_a_damaged_file_is_refused_by_name(path: Path) -> None:
    bus = await Embedded.open(path)
    await bus.publish_all([post(os.urandom(5000)) for _ in range(100)])
    await bus.close()
    with path.open("r+b") as damaged:
        damaged.seek(path.stat().st_size // 2)
        damaged.write(os.urandom(16384))
    with pytest.raises(BusUnavailable, match="damaged") as caught:
        await Embedded.open(path)
    assert str(path) in caught.value.why


@pytest.mark.parametrize(
    "content", [b"not a database at all, but longer than a header" * 50, b"SQLite format 3\0" + b"\xff" * 5000]
)
async def test_a_foreign_file_is_refused_by_name_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(BusUnavailable) as caught:
        await Embedded.open(path)
    assert str(path) in caught.value.why
    assert path.read_bytes() == content


async def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute(f"PRAGMA user_version = {file.VERSION + 1}")
    with pytest.raises(BusUnavailable, match="newer version"):
        await Embedded.open(path)


async def test_a_path_that_cannot_be_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BusUnavailable) as caught:
        await Embedded.open(tmp_path / "file" / "queue.db")
    assert str(tmp_path / "file") in caught.value.why


async def test_p1_a_file_removed_in_use_confirms_nothing_more(path: Path, bus: Embedded) -> None:
    await bus.publish(post())
    path.unlink()
    with pytest.raises(BusUnavailable, match="removed"):
        await bus.publish(post())
    with pytest.raises(BusUnavailable, match="removed"):
        await bus.check()


async def test_p1_an_io_error_ends_all_confirms_until_the_next_start(path: Path, bus: Embedded) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_FSYNC
        raise error

    await bus.publish(post(b"before"))
    with pytest.raises(BusUnavailable, match="disk I/O error"):
        await bus._writer.submit(fail, durable=True)
    with pytest.raises(BusUnavailable, match="start again"):
        await bus.publish(post(b"after"))
    await bus.close()
    again = await Embedded.open(path)
    assert await drained(again, 1) == [b"before"]
    await again.close()


async def test_what_cannot_be_stored_fails_alone(bus: Embedded) -> None:
    results = await asyncio.gather(
        *(bus.publish(post(b"%d" % number, tries=2**70 if number == 5 else 0)) for number in range(10)),
        return_exceptions=True,
    )
    assert [isinstance(result, BusUnavailable) for result in results] == [number == 5 for number in range(10)]
    assert sorted(await drained(bus, 9)) == sorted(b"%d" % number for number in range(10) if number != 5)


async def test_the_file_is_its_owners_alone(path: Path, bus: Embedded) -> None:
    await bus.publish(post())
    assert [found.stat().st_mode & 0o077 for found in path.parent.glob("queue.db*")] == [0] * 3


async def test_p10_events_are_kept_for_a_while_and_not_for_ever(bus: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "EVENTS_KEPT", 100)
    async with bus.events() as stream:
        await asyncio.gather(*(bus.emit("a.b", b"%d" % number) for number in range(1000)))
        kept = await bus._writer.submit(
            lambda connection: connection.execute("SELECT count(*) FROM events").fetchone()[0]
        )
        assert kept == 100
        async with asyncio.timeout(PATIENCE):
            got = [payload async for _, (_, payload) in _numbered(stream, 100)]
    assert len(set(got)) == 100


async def _numbered(stream: object, count: int) -> AsyncIterator[tuple[int, tuple[str, bytes]]]:
    number = 0
    async for event in stream:  # type: ignore[attr-defined]
        yield number, event
        number += 1
        if number == count:
            return


async def test_p10_a_backlog_costs_a_consumer_no_more_than_its_prefetch(bus: Embedded) -> None:
    await bus.publish_all([post(b"x" * 100) for _ in range(5000)])
    async with asyncio.timeout(PATIENCE), bus.consume(Queue.POSTS, prefetch=10) as consumer:
        for _ in range(100):
            await (await consumer.get()).ack()
            taken = await bus._writer.submit(
                lambda connection: connection.execute("SELECT count(*) FROM messages WHERE taken = 1").fetchone()[0],
                reads=True,
            )
            assert taken <= 10


async def test_a_file_that_breaks_in_use_ends_its_consumers_rather_than_let_them_wait_for_ever(tmp_path: Path) -> None:
    bus = await Embedded.open(tmp_path / "queue.db")
    try:
        async with asyncio.timeout(10), bus.consume(Queue.POSTS, prefetch=4) as consumer:
            waiting = [asyncio.create_task(consumer.get()) for _ in range(3)]
            (tmp_path / "queue.db").unlink()
            with pytest.raises(BusUnavailable):
                await bus.publish(Outgoing(queue=Queue.POSTS, payload=b"x"))
            for one in waiting:
                with pytest.raises(BusUnusable, match="removed or replaced"):
                    await one
    finally:
        await bus.close()


async def test_what_no_waiting_can_mend_is_told_as_such(tmp_path: Path) -> None:
    """A start may wait for a server that is not up yet; it must not wait for a damaged file, a wrong path or another process."""
    (tmp_path / "damaged.db").write_bytes(b"no database " * 1000)
    for path in (tmp_path / "damaged.db", Path("/dev/null/queue.db"), Path("/proc/queue.db")):
        with pytest.raises(BusUnusable):
            await Embedded.open(path)
    first, second = await Embedded.open(tmp_path / "q.db"), await Embedded.open(tmp_path / "q.db")
    try:
        await first.own()
        await first.own()
        with pytest.raises(BusUnusable, match=f"another process .{os.getpid()}."):
            await second.own()
        await first.close()
        await second.own()
    finally:
        await first.close()
        await second.close()
