"""The file that `horo backup` writes and `horo restore` reads: a .tar.gz with a fixed set of names, checked to the last octet.

`about.json` comes first, so that a wrong version is told before gigabytes are read; `SHA256SUMS` comes last and names every other member, so that
an archive which ends early has none, and `sha256sum -c SHA256SUMS` says by hand what is whole. An archive may come from anywhere: only
the names below are taken, only as regular files, and no name is ever used as a path before it was looked at.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

FORMAT = 1
ABOUT, SUMS, DATABASE, QUEUE, SECRET = "about.json", "SHA256SUMS", "horo.db", "queue.db", "secret"
_BODY = re.compile(r"bodies/([0-9a-f]{2})/([0-9a-f]{2})/(\1\2[0-9a-f]{28})\Z")
_CHUNK = 1 << 20
_SMALL = 1 << 20
"""Octets that `about.json` may have."""
_LEVEL = 3
"""Of gzip: letters shrink hardly less than at 6, in half the time."""


class ArchiveError(Exception):
    """A file is no archive of ours, or not a whole one; the text says what is wrong with it."""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive says of itself. Times in seconds since the epoch; `secret`: whether it holds the secret."""

    format: int
    horo: str
    taken_at: float
    database: str
    queue: int
    secret: bool


def body_name(key: str) -> str:
    """The member that holds a body."""
    return f"bodies/{key[:2]}/{key[2:4]}/{key}"


class Writer:
    """An archive in the making; each member is hashed while it is written."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._sums: list[str] = []

    def add(self, name: str, path: Path) -> int:
        """Append a file; its size."""
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            self._append(name, file, found.st_size, found.st_mtime)
        return found.st_size

    def add_bytes(self, name: str, data: bytes, at: float) -> None:
        """Append octets as a file of that time."""
        self._append(name, io.BytesIO(data), len(data), at)

    def finish(self, at: float) -> None:
        """Append the sums: the archive is whole."""
        listed = "".join(self._sums).encode()
        self._append(SUMS, io.BytesIO(listed), len(listed), at)

    def _append(self, name: str, file: IO[bytes], size: int, at: float) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = size, int(at), 0o600
        hashed = _Hashed(file)
        self._tar.addfile(info, hashed)
        self._sums.append(f"{hashed.digest()}  {name}\n")


@contextmanager
def written(path: Path) -> Iterator[Writer]:
    """Write an archive to where none is: fsynced and given its name when the block ends well, else nothing is left of it."""
    draft = path.with_name(f".{path.name}.part")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as raw:
            with gzip.GzipFile("", "wb", _LEVEL, raw) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
                yield Writer(tar)
            raw.flush()
            os.fsync(raw.fileno())
        draft.rename(path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def unpack(path: Path, accept: Callable[[About], None], place: Callable[[str], Path]) -> About:
    """Write every member to `place(name)`, where nothing may be yet, fsynced; `accept` may refuse by an exception before any is read.

    Bodies are asked for by their name, `bodies/…`. Raises `ArchiveError` for what is no whole archive: then what was written is worth nothing.
    """
    sums: dict[str, str] = {}
    about: About | None = None
    try:
        with tarfile.open(path, "r|gz") as tar:
            for info in tar:
                file = _member(tar, info, sums)
                if info.name == SUMS:
                    _compare(file.read().decode(), sums)
                    return _complete(about, sums)
                if about is None:
                    about = _about(info, file)
                    accept(about)
                else:
                    _store(file, place(info.name), info.mtime)
                sums[info.name] = file.digest()
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError) as error:
        raise ArchiveError(
            f"{path} is no archive of horo backup, or is damaged ({error or 'it ends early'})"
        ) from error
    raise ArchiveError(f"{path} is not whole: it ends before its checksums")


def sync_folder(folder: Path) -> None:
    """Make what was created or renamed in a folder survive a power cut."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


class _Hashed:
    """A file that hashes what is read of it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data

    def digest(self) -> str:
        return self._digest.hexdigest()


def _member(tar: tarfile.TarFile, info: tarfile.TarInfo, seen: dict[str, str]) -> _Hashed:
    known = info.name in (ABOUT, SUMS, DATABASE, QUEUE, SECRET) or _BODY.match(info.name)
    file = tar.extractfile(info) if info.isreg() and known and info.name not in seen else None
    if file is None:
        raise ArchiveError(f"it holds {info.name!r}, which horo backup does not write")
    return _Hashed(file)


def _about(info: tarfile.TarInfo, file: _Hashed) -> About:
    if info.name != ABOUT or info.size > _SMALL:
        raise ArchiveError(f"it begins with {info.name!r}: horo backup did not write it")
    try:
        return msgspec.json.decode(file.read(), type=About)
    except msgspec.DecodeError as error:
        raise ArchiveError(f"its {ABOUT} cannot be read: {error}") from error


def _store(file: _Hashed, target: Path, at: float) -> None:
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as written:
        while chunk := file.read(_CHUNK):
            written.write(chunk)
        written.flush()
        os.utime(written.fileno(), (at, at))  # bodies are swept by their age
        os.fsync(written.fileno())


def _compare(listed: str, found: dict[str, str]) -> None:
    told = {name: digest for digest, _, name in (line.partition("  ") for line in listed.splitlines())}
    wrong = sorted(name for name in told.keys() | found.keys() if told.get(name) != found.get(name))
    if wrong:
        raise ArchiveError(f"{wrong[0]} is missing or not what was written: the archive is damaged")


def _complete(about: About | None, found: dict[str, str]) -> About:
    if about is None or not {DATABASE, QUEUE} <= found.keys() or about.secret != (SECRET in found):
        raise ArchiveError("the database, the queue or the secret is missing: horo backup did not write it")
    return about
