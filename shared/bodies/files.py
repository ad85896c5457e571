"""Bodies in local files: written aside, fsynced, renamed, and the folders fsynced, before anyone hears of them (P1).

ROOT/tmp holds what is being written, ROOT/ab/cd/abcd… what is whole. After a crash at any point a blob is there entirely or not at all; what
a crash leaves in tmp is removed a day later. An fsync that fails is not tried again on the same file, for the kernel may have dropped its
pages: the draft is thrown away, its writer hears `BodiesUnavailable`, and the next try is a new file. Blocking calls run in the store's own threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from shared.bodies import BodiesUnavailable, BodyMissing
from shared.bodies.keys import CHUNK, is_key, new_key
from shared.messages import BodyRef

T = TypeVar("T")

LEFTOVER_AGE = 86400.0
"""Seconds after which a file in tmp is a crash's leftover: no client takes a day to send a message."""
_THREADS = 8
_FULL = (errno.ENOSPC, errno.EDQUOT)


class FileBodies:
    """The store in the folder `root`, made when first needed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="bodies")

    @contextlib.asynccontextmanager
    async def create(self) -> AsyncIterator[FileWriter]:
        """Write a blob; leaving the context without a commit throws it away."""
        draft = await self._own(lambda: _Draft(self._root), _Draft.discard)
        try:
            yield FileWriter(self, draft)
        finally:
            await asyncio.shield(self.run(draft.discard))

    async def put(self, data: bytes) -> BodyRef:
        """Store `data` as one blob."""
        return await self.run(lambda: _store(self._root, data))

    async def get(self, ref: BodyRef) -> bytes:
        """The whole blob, checked."""
        return await self.run(lambda: _load(self._path(ref.key), ref), reading=True)

    async def stream(self, ref: BodyRef, offset: int = 0) -> AsyncIterator[bytes]:
        """The blob from `offset` on; its size is checked first, its SHA-256 at the end when all of it was read."""
        file = await self._own(lambda: _open_at(self._path(ref.key), ref, offset), os.close, reading=True)
        last: asyncio.Future[bytes] | None = None
        try:
            digest, left = hashlib.sha256(), ref.size - offset
            while left > 0:
                last = asyncio.ensure_future(self.run(functools.partial(os.read, file, min(CHUNK, left))))
                chunk = await asyncio.shield(last)
                if not chunk:
                    raise BodyMissing(f"{ref.key} ends {left} octets early")
                left -= len(chunk)
                digest.update(chunk)
                yield chunk
            if offset == 0 and digest.digest() != ref.sha256:
                raise BodyMissing(f"{ref.key} has another SHA-256 than was stored")
        finally:
            if last is None or last.done():
                os.close(file)
            else:  # cancelled: a thread still reads, and closes it when it is done
                last.add_done_callback(lambda done: _close_after(done, file))

    async def delete(self, key: str) -> None:
        """Forget a blob; not there is fine."""
        if is_key(key):
            await self.run(lambda: self._path(key).unlink(missing_ok=True))

    async def list(self, *, older_than: float) -> AsyncIterator[str]:
        """Keys of the blobs made before that time; removes what crashes left, on the way."""
        await self.run(lambda: _collect(self._root / "tmp", min(older_than, time.time() - LEFTOVER_AGE)))
        for folder in await self.run(lambda: _folders(self._root)):
            for key in await self.run(lambda: _keys(folder, older_than)):  # noqa: B023 - called at once
                yield key

    async def check(self) -> None:
        """Whether a blob can be made and removed."""
        ref = await self.put(b"check")
        await self.delete(ref.key)

    async def close(self) -> None:
        """Wait for what is being written, and let the threads go."""
        await asyncio.to_thread(self._threads.shutdown)

    async def _own(self, act: Callable[[], T], release: Callable[[T], None], *, reading: bool = False) -> T:
        """Do it in a thread; what it opens is released when its caller was cancelled meanwhile."""
        opening = asyncio.ensure_future(self.run(act, reading=reading))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: _release(done, release))
            raise

    def _path(self, key: str) -> Path:
        if not is_key(key):
            raise BodyMissing("that is no key of a body")
        return _place(self._root, key)

    async def run(self, act: Callable[[], T], *, reading: bool = False) -> T:
        """Do it in a thread; the disk's trouble becomes `BodiesUnavailable`, a file to read that is not there `BodyMissing`."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, act)
        except OSError as error:
            if reading and isinstance(error, FileNotFoundError):
                raise BodyMissing("the body is not there") from error
            raise BodiesUnavailable(f"{error.strerror or error}", full=error.errno in _FULL) from error


class FileWriter:
    """A blob in the making; holds at most a chunk in memory."""

    def __init__(self, store: FileBodies, draft: _Draft) -> None:
        self._store = store
        self._draft = draft
        self._buffer = bytearray()

    async def write(self, chunk: bytes) -> None:
        """Append octets."""
        self._buffer += chunk
        if len(self._buffer) >= CHUNK:
            await self._flush()

    async def commit(self) -> BodyRef:
        """Make it durable and name it."""
        await self._flush()
        return await self._store.run(self._draft.finish)

    async def _flush(self) -> None:
        data, self._buffer = self._buffer, bytearray()
        if data:
            await self._store.run(functools.partial(self._draft.append, data))


class _Draft:
    """The file behind a writer.

    A lock keeps its calls apart: a cancelled caller leaves a thread at work, and a file closed under it may be another's by then.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._key = new_key()
        self._path = root / "tmp" / self._key
        self._digest = hashlib.sha256()
        self._size = 0
        _make_folders(self._path.parent, root)
        self._file: int | None = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def append(self, data: bytes | bytearray) -> None:
        with self._lock:
            if self._file is None:
                raise OSError(errno.EBADF, "the body was committed or thrown away")
            _write_all(self._file, data)
            self._digest.update(data)
            self._size += len(data)

    def finish(self) -> BodyRef:
        """fsync the file, rename it, fsync the folder that holds it now."""
        with self._lock:
            if self._file is None:
                raise OSError(errno.EBADF, "the body was committed or thrown away")
            os.fsync(self._file)
            place = _place(self._root, self._key)
            _make_folders(place.parent, self._root)
            self._path.rename(place)
            _sync_folder(place.parent)
            file, self._file = self._file, None
            os.close(file)
            return BodyRef(key=self._key, size=self._size, sha256=self._digest.digest())

    def discard(self) -> None:
        """Nothing is left of it; after `finish` nothing happens."""
        with self._lock:
            if self._file is not None:
                file, self._file = self._file, None
                os.close(file)
                self._path.unlink(missing_ok=True)
                _place(self._root, self._key).unlink(missing_ok=True)  # renamed, but the folder's fsync failed


def _release(done: asyncio.Future[T], release: Callable[[T], None]) -> None:
    if not done.cancelled() and done.exception() is None:
        release(done.result())


def _close_after(done: asyncio.Future[bytes], file: int) -> None:
    os.close(file)
    if not done.cancelled():
        done.exception()  # nobody waits for it any more


def _place(root: Path, key: str) -> Path:
    return root / key[:2] / key[2:4] / key


def _write_all(file: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _make_folders(folder: Path, root: Path) -> None:
    """Make a folder and those above it, each fsynced into its parent: a file in a folder that a crash forgets is lost too."""
    if folder.is_dir():
        return
    if folder != root:
        _make_folders(folder.parent, root)
    else:
        folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _store(root: Path, data: bytes) -> BodyRef:
    draft = _Draft(root)
    try:
        draft.append(data)
        return draft.finish()
    finally:
        draft.discard()


def _open_at(path: Path, ref: BodyRef, offset: int) -> int:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check_size(os.fstat(file).st_size, ref)
        os.lseek(file, offset, os.SEEK_SET)
    except BaseException:
        os.close(file)
        raise
    return file


def _check_size(size: int, ref: BodyRef) -> None:
    if size != ref.size:
        raise BodyMissing(f"{ref.key} has {size} octets, {ref.size} were stored")


def _load(path: Path, ref: BodyRef) -> bytes:
    with os.fdopen(_open_at(path, ref, 0), "rb") as file:
        data = file.read(ref.size + 1)
    if len(data) != ref.size or hashlib.sha256(data).digest() != ref.sha256:
        raise BodyMissing(f"{ref.key} is not what was stored")
    return data


def _collect(folder: Path, before: float) -> None:
    for entry in _entries(folder):
        if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before:
            Path(entry.path).unlink(missing_ok=True)


def _folders(root: Path) -> list[Path]:
    return [
        Path(inner.path) for outer in _entries(root) if len(outer.name) == 2 for inner in _entries(Path(outer.path))
    ]


def _keys(folder: Path, older_than: float) -> list[str]:
    found = []
    for entry in _entries(folder):
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
            if is_key(entry.name) and entry.stat(follow_symlinks=False).st_mtime < older_than:
                found.append(entry.name)
    return found


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from entries
