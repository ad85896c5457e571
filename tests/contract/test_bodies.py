"""The body stores' port, held on local files and on S3."""

from __future__ import annotations

import asyncio
import hashlib
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from moto.server import ThreadedMotoServer

from shared.bodies import Bodies, BodiesUnavailable, BodyMissing
from shared.bodies.open import open_bodies
from shared.messages import BodyRef
from tests.support.ports import free_port, release_port

MEBI = 1024 * 1024


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """An S3 server's URL; requests go to it unsigned by anybody real."""
    port = free_port()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()
    release_port(port)


@pytest.fixture(params=["files", "s3"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Bodies]:
    """Opens the same store, each time anew."""
    if request.param == "files":
        return lambda: open_bodies("file:", tmp_path)
    s3 = request.getfixturevalue("s3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "horo")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "horo-secret")
    bucket = f"bucket{abs(hash(tmp_path)) % 10**9}"
    with urllib.request.urlopen(urllib.request.Request(f"{s3}/{bucket}", method="PUT"), timeout=10):
        pass
    return lambda: open_bodies(f"s3://{bucket}/some/prefix?endpoint={s3}&region=us-east-1", tmp_path)


@pytest.fixture
async def bodies(make: Callable[[], Bodies]) -> AsyncIterator[Bodies]:
    store = make()
    yield store
    await store.close()


async def keys(bodies: Bodies, older_than: float | None = None) -> list[str]:
    return sorted([key async for key in bodies.list(older_than=time.time() + 60 if older_than is None else older_than)])


async def read(bodies: Bodies, ref: BodyRef, offset: int = 0) -> list[bytes]:
    return [chunk async for chunk in bodies.stream(ref, offset)]


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 6 * MEBI + 7])
async def test_p8_a_body_comes_back_byte_for_byte(bodies: Bodies, make: Callable[[], Bodies], size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"\r\n.\r"[: size % 256]
    ref = await bodies.put(data)
    assert (ref.size, ref.sha256) == (len(data), hashlib.sha256(data).digest())
    assert await bodies.get(ref) == data
    again = make()  # another process
    assert await again.get(ref) == data
    chunks = await read(again, ref)
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= 256 * 1024 for chunk in chunks)
    for offset in {0, size // 2, max(size - 1, 0), size}:
        assert b"".join(await read(bodies, ref, offset)) == data[offset:]
    await again.close()


@pytest.mark.parametrize("chunk", [1000, 300_000, 7 * MEBI])
async def test_p10_a_body_is_written_piece_by_piece(bodies: Bodies, chunk: int) -> None:
    data = (b"0123456789abcdef" * (13 * MEBI // 16))[: 13 * MEBI - 5] if chunk > 1000 else b"x" * 2_500
    async with bodies.create() as writer:
        for start in range(0, len(data), chunk):
            await writer.write(data[start : start + chunk])
        assert await keys(bodies) == []  # not there before the commit
        ref = await writer.commit()
    assert ref == BodyRef(key=ref.key, size=len(data), sha256=hashlib.sha256(data).digest())
    assert await bodies.get(ref) == data
    assert await keys(bodies) == [ref.key]


@pytest.mark.parametrize("size", [10, 12 * MEBI])
async def test_a_body_without_a_commit_leaves_nothing(bodies: Bodies, size: int) -> None:
    with pytest.raises(RuntimeError, match="client gone"):
        async with bodies.create() as writer:
            await writer.write(b"x" * size)
            raise RuntimeError("client gone")
    assert await keys(bodies) == []


async def test_a_cancelled_writer_leaves_nothing(bodies: Bodies) -> None:
    begun = asyncio.Event()

    async def work() -> None:
        async with bodies.create() as writer:
            for _ in range(10_000):
                await writer.write(b"x" * MEBI)
                begun.set()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await keys(bodies) == []


async def test_f21_what_is_not_what_was_stored_is_missing(bodies: Bodies) -> None:
    ref = await bodies.put(b"the body")
    wrong = [
        msgspec.structs.replace(ref, size=7),
        msgspec.structs.replace(ref, size=9),
        msgspec.structs.replace(ref, sha256=bytes(32)),
        msgspec.structs.replace(ref, key="0" * 32),
    ]
    wrong += [
        msgspec.structs.replace(ref, key=key)
        for key in ("", ".", "../../etc/passwd", "/etc/passwd", ref.key + "\n", "é")
    ]
    for one in wrong:
        with pytest.raises(BodyMissing):
            await bodies.get(one)
        with pytest.raises(BodyMissing):
            await read(bodies, one)
    assert await bodies.get(ref) == b"the body"


async def test_delete_forgets_and_may_be_repeated(bodies: Bodies) -> None:
    ref, kept = await bodies.put(b"a"), await bodies.put(b"b")
    for key in (ref.key, ref.key, "../../x", ""):
        await bodies.delete(key)
    with pytest.raises(BodyMissing):
        await bodies.get(ref)
    assert await keys(bodies) == [kept.key]


async def test_list_names_the_bodies_that_are_old_enough(bodies: Bodies) -> None:
    refs = [await bodies.put(bytes([n])) for n in range(5)]
    assert await keys(bodies) == sorted(ref.key for ref in refs)
    assert await keys(bodies, older_than=time.time() - 3600) == []
    assert len({ref.key for ref in refs} | {(await bodies.put(b"\0")).key}) == 6  # the same octets get another key


async def test_many_at_once(bodies: Bodies) -> None:
    data = [bytes([n]) * (n * 1000) for n in range(40)]
    refs = await asyncio.gather(*(bodies.put(one) for one in data))
    assert await asyncio.gather(*(bodies.get(ref) for ref in refs)) == data


async def test_check_leaves_nothing(bodies: Bodies) -> None:
    await bodies.check()
    assert await keys(bodies) == []


async def test_p1_a_store_that_is_not_there_is_unavailable(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "horo")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "horo-secret")
    monkeypatch.setattr("shared.bodies.s3.LIMIT", 3.0)
    (tmp_path / "file").write_bytes(b"")
    port = free_port()
    ref = BodyRef(key="0" * 32, size=1, sha256=b"")
    for url in (
        f"s3://nosuchbucket?endpoint={s3}",
        f"s3://bucket?endpoint=http://127.0.0.1:{port}",
        f"file:{tmp_path / 'file' / 'x'}",
    ):
        bodies = open_bodies(url, tmp_path)
        with pytest.raises(BodiesUnavailable):
            await bodies.check()
        with pytest.raises(BodiesUnavailable):
            async with bodies.create() as writer:
                await writer.write(b"x" * 6 * MEBI)
                await writer.commit()
        with pytest.raises(BodiesUnavailable):
            await bodies.get(ref)
        await bodies.close()
    release_port(port)


@pytest.mark.parametrize(
    "url",
    ["http://x", "s3:", "s3://", "s3://key:secret@bucket", "s3://bucket?nonsense=1", "s3://bucket?x", "file://host/x"],
)
def test_a_wrong_url_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"body store|write file"):
        open_bodies(url, tmp_path)
