"""Local bodies under crashes, rot and full disks."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shared.bodies import BodiesUnavailable, BodyMissing
from shared.bodies.files import FileBodies
from shared.replies import NO_ROOM, TROUBLE

_WRITER = """
import asyncio, sys
from pathlib import Path
from shared.bodies.files import FileBodies

async def main():
    async with FileBodies(Path(sys.argv[1])).create() as writer:
        for _ in range(1000000):
            await writer.write(b"x" * 300000)
            print("written", flush=True)

asyncio.run(main())
"""


async def keys(bodies: FileBodies) -> list[str]:
    return [key async for key in bodies.list(older_than=time.time() + 60)]


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


async def test_p1_killed_while_writing_leaves_nothing_that_can_be_read(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path.cwd())
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait(timeout=10)
        process.stdout.close()  # type: ignore[union-attr]
    (leftover,) = files(tmp_path)
    assert leftover.parent == tmp_path / "tmp"
    bodies = FileBodies(tmp_path)
    assert await keys(bodies) == []
    assert leftover.exists()  # young: it could be a writer's at work
    old = time.time() - 2 * 86400
    os.utime(leftover, (old, old))
    assert await keys(bodies) == []
    assert files(tmp_path) == []
    await bodies.close()


async def test_f21_a_flipped_bit_is_missing_never_sent(tmp_path: Path) -> None:
    bodies = FileBodies(tmp_path)
    ref = await bodies.put(b"x" * 1_000_000)
    (path,) = files(tmp_path)
    with path.open("r+b") as file:
        file.seek(500_000)
        file.write(b"y")
    with pytest.raises(BodyMissing):
        await bodies.get(ref)
    with pytest.raises(BodyMissing):
        async for _ in bodies.stream(ref):
            pass
    path.unlink()
    with pytest.raises(BodyMissing):
        await bodies.get(ref)
    await bodies.close()


@pytest.mark.parametrize(("code", "full"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)])
@pytest.mark.parametrize("call", ["write", "fsync", "open"])
async def test_f21_a_disk_in_trouble_is_unavailable_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int, full: bool
) -> None:
    bodies = FileBodies(tmp_path)
    kept = await bodies.put(b"kept")

    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(f"shared.bodies.files.os.{call}", fail)
        with pytest.raises(BodiesUnavailable) as caught:
            await bodies.put(b"x" * 1000)
        assert caught.value.reply is (NO_ROOM if full else TROUBLE)
        with pytest.raises(BodiesUnavailable):
            async with bodies.create() as writer:
                await writer.write(b"x" * 1_000_000)
                await writer.commit()
    assert await keys(bodies) == [kept.key]
    assert len(files(tmp_path)) == 1
    assert await bodies.get(await bodies.put(b"again")) == b"again"
    await bodies.close()


async def test_p1_a_folder_whose_fsync_fails_keeps_no_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = FileBodies(tmp_path)
    synced = os.fsync

    def fail(file: int) -> None:
        if Path(f"/proc/self/fd/{file}").is_dir():
            raise OSError(errno.EIO, "I/O error")
        synced(file)

    with monkeypatch.context() as patch:
        await bodies.put(b"folders are there")
        patch.setattr("shared.bodies.files.os.fsync", fail)
        for _ in range(3):
            with pytest.raises(BodiesUnavailable):
                await bodies.put(b"lost")
    assert len(await keys(bodies)) == 1
    await bodies.close()


async def test_p1_file_and_folder_are_synced_before_the_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies = FileBodies(tmp_path)
    synced: list[str] = []
    real = os.fsync

    def watch(file: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        real(file)

    monkeypatch.setattr("shared.bodies.files.os.fsync", watch)
    ref = await bodies.put(b"durable")
    place = tmp_path / ref.key[:2] / ref.key[2:4] / ref.key
    assert place.stat().st_mode & 0o077 == 0
    assert str(tmp_path / "tmp" / ref.key) in synced
    assert synced[-1] == str(place.parent)
    assert str(place.parent.parent) in synced  # the new folder's entry
    await bodies.close()


async def test_a_reader_that_leaves_early_closes_its_file(tmp_path: Path) -> None:
    bodies = FileBodies(tmp_path)
    ref = await bodies.put(b"x" * 2_000_000)

    def opened() -> int:
        return sum(fd.resolve().is_relative_to(tmp_path) for fd in Path("/proc/self/fd").iterdir())

    stream = bodies.stream(ref)
    async for _ in stream:
        assert opened() == 1
        break
    await stream.aclose()  # type: ignore[attr-defined]
    assert opened() == 0

    async def read() -> None:
        async for _ in bodies.stream(ref):
            await asyncio.sleep(0)

    for number in range(40):
        task = asyncio.create_task(read())
        for _ in range(number % 7):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await bodies.close()
    async with asyncio.timeout(5):
        while opened():
            await asyncio.sleep(0.01)


async def test_a_writer_that_is_cancelled_at_any_point_leaves_nothing(tmp_path: Path) -> None:
    bodies = FileBodies(tmp_path)

    async def work() -> None:
        async with bodies.create() as writer:
            await writer.write(b"x" * 600_000)
            await asyncio.sleep(0)
            await writer.write(b"x" * 600_000)
            await asyncio.Event().wait()

    for number in range(40):
        task = asyncio.create_task(work())
        for _ in range(number % 9):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    await bodies.close()
    async with asyncio.timeout(5):
        while files(tmp_path):
            await asyncio.sleep(0.01)
