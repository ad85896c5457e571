"""`horo backup` and `horo restore`: all that the embedded profile keeps, in one file, of one instant, taken while it runs.

The order is what makes it whole (docs/design/0022-backup.md): bodies are pinned, then both databases are caught at one instant, then the bodies
that came meanwhile are pinned: each body that the databases name is there. A restore checks everything before it touches anything, and
throws nothing away: what was there before is renamed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from cyclopts import Parameter

from cli import access, archive
from cli.archive import DATABASE, QUEUE, SECRET, About, ArchiveError, sync_folder
from cli.output import CommandError, Exit, Json, print_json, say, when
from shared.bodies.keys import is_key
from shared.settings import Settings

PINS = ".backup-"
"""Start of the folder beside the bodies that holds links to those which are being backed up: what is deleted meanwhile stays readable."""


class Places(NamedTuple):
    """Where the embedded profile keeps its things."""

    database: Path
    queue: Path
    bodies: Path
    secret: Path


def backup(to: Path, /, *, json: Json = False) -> None:
    """Back up everything that Horo keeps on this machine into one file, while it runs. Mail that was delivered into a Maildir is not in it.

    Parameters
    ----------
    to
        The file to write, .tar.gz; or a folder, for a file in it that is named by the time.
    """
    settings = access.settings()
    places = _places(settings)
    target = to / time.strftime("horo-%Y%m%dT%H%M%SZ.tar.gz", time.gmtime()) if to.is_dir() else to
    if target.exists():
        raise CommandError(f"{target} is there already: name another file", Exit.CONFLICT)
    with _told(), _alone(settings.data_path / "backup.lock"):
        about, bodies = _write(target, places, with_secret=not settings.secret)
    size = target.stat().st_size
    if json:
        print_json({"file": str(target), "size": size, "bodies": bodies, **msgspec.structs.asdict(about)})
        return
    say(f"{target}: everything as it was at {when(about.taken_at)}, {bodies} bodies, {size} octets.")
    if about.secret:
        say("It holds the secret of this Horo and members' addresses: keep it as you keep passwords.")
    else:
        say("HORO_SECRET is not in it: keep it too, for a restore needs the same one.")


def restore(file: Path, /, *, force: Annotated[bool, Parameter(negative="")] = False, json: Json = False) -> None:
    """Put back what `horo backup` wrote. Horo must be stopped.

    Parameters
    ----------
    file
        The backup.
    force
        Put it back though there is data already, which is renamed to NAME.before-restore-TIME and kept.
    """
    from shared.bus import BusUnusable
    from shared.bus.embedded import locked

    settings = access.settings()
    places = _places(settings)
    with _told():
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = locked(places.queue)
    except BusUnusable as error:
        raise CommandError(f"Horo is running: {error.why}", Exit.CONFLICT) from error
    try:
        with _told():
            about, kept = _put_back(file, places, force)
    finally:
        os.close(lock)
    if json:
        print_json({"kept": [str(path) for path in kept], **msgspec.structs.asdict(about)})
        return
    say(
        f"Everything is as it was at {when(about.taken_at)}. Start Horo; it goes on with the mail that was on its way then."
    )
    if kept:
        say(f"What was there before is kept, delete it when you like: {', '.join(str(path) for path in kept)}")
    if not about.secret:
        say("The backup holds no secret: HORO_SECRET must be what it was when it was made.")
    elif settings.secret and settings.secret != places.secret.read_text().strip():
        say(
            "HORO_SECRET is set and is not the backup's: bounces of mail sent before are not recognised, channels cannot be read."
        )


def _places(settings: Settings) -> Places:
    """Raises `CommandError` where anything is kept on a server."""
    from shared.bus.open import EMBEDDED, FILE

    database, bodies = settings.effective_database_url, settings.bodies_url
    for key, url, scheme in (
        ("HORO_DATABASE_URL", database, "sqlite:///"),
        ("HORO_BROKER_URL", settings.broker_url, EMBEDDED),
        ("HORO_BODIES_URL", bodies, "file:"),
    ):
        if not url.startswith(scheme):
            raise CommandError(
                f"{key} names a server: back that up with its own tools (docs/how-to/back-up.md); this command is for files alone",
                Exit.USAGE,
            )
    queue, blobs = settings.broker_url.removeprefix(EMBEDDED), bodies.removeprefix("file:")
    blobs = blobs.removeprefix("//") if blobs.startswith("///") else blobs
    return Places(
        database=Path(database.removeprefix("sqlite:///")),
        queue=Path(queue) if queue else settings.data_path / FILE,
        bodies=Path(blobs) if blobs else settings.data_path / "bodies",
        secret=settings.data_path / "secret",
    )


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What a disk, an archive or a database has against it, as a sentence."""
    from shared.database.snapshot import SnapshotBusy, SnapshotError

    try:
        yield
    except SnapshotBusy as error:
        raise CommandError(str(error), Exit.UNAVAILABLE) from error
    except SnapshotError as error:
        raise CommandError(str(error), Exit.FAILED) from error
    except ArchiveError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    except OSError as error:
        raise CommandError(f"{error.filename or ''}: {error.strerror or error}", Exit.FAILED) from error


# --- backup ----------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One backup at a time, so that pins which are found belong to one that was killed."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise CommandError("another backup is under way", Exit.CONFLICT) from error
    finally:
        os.close(lock)


def _write(target: Path, places: Places, *, with_secret: bool) -> tuple[About, int]:
    """What the archive says of itself, and how many bodies it has."""
    from shared.database.snapshot import schema_version, snapshot, user_version

    with (
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder,
        _pins(places.bodies) as pins,
    ):
        database, queue = Path(folder) / DATABASE, Path(folder) / QUEUE
        _pin(places.bodies, pins)
        taken_at = snapshot([(places.database, database), (places.queue, queue)])
        _pin(places.bodies, pins)
        has_secret = with_secret and places.secret.exists()
        about = About(
            format=archive.FORMAT,
            horo=version("horo"),
            taken_at=taken_at,
            database=schema_version(database),
            queue=user_version(queue),
            secret=has_secret,
        )
        bodies = sorted(entry.name for entry in os.scandir(pins))
        with archive.written(target) as writer:
            writer.add_bytes(archive.ABOUT, msgspec.json.encode(about), taken_at)
            if has_secret:
                writer.add(SECRET, places.secret)
            writer.add(DATABASE, database)
            writer.add(QUEUE, queue)
            for key in bodies:
                writer.add(archive.body_name(key), pins / key)
            writer.finish(taken_at)
    return about, len(bodies)


@contextlib.contextmanager
def _pins(bodies: Path) -> Iterator[Path]:
    """A folder for links to bodies, on their disk; gone afterwards, and what a killed backup left goes too."""
    bodies.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left in bodies.glob(f"{PINS}*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=bodies, prefix=PINS) as folder:
        yield Path(folder)


def _pin(bodies: Path, pins: Path) -> None:
    """Link all bodies that are whole, and copy them where the disk knows no links. One that goes meanwhile was needed by nobody."""
    for path in bodies.glob("[0-9a-f][0-9a-f]/[0-9a-f][0-9a-f]/*"):
        pin = pins / path.name
        if not is_key(path.name) or pin.exists():
            continue
        with contextlib.suppress(FileNotFoundError):
            try:
                pin.hardlink_to(path)
            except FileNotFoundError:
                raise
            except OSError:
                shutil.copy2(path, pin)


# --- restore ---------------------------------------------------------------------------------------------------------
def _put_back(file: Path, places: Places, force: bool) -> tuple[About, list[Path]]:
    """Unpack beside the places, check, then rename; what the archive says of itself, and what is kept of what was there."""
    from shared.database.snapshot import renew_epoch

    there = [path for path in _all(places) if path.exists() and not (path.is_dir() and not any(path.iterdir()))]
    if there and not force:
        raise CommandError(
            f"there is data already: {', '.join(map(str, there))}. Name another HORO_DATA, or give --force: it is renamed then, and kept",
            Exit.CONFLICT,
        )
    token = secrets.token_hex(6)
    staged = Places(*(place.with_name(f".restore-{token}-{place.name}") for place in places))
    try:
        staged.bodies.mkdir(mode=0o700)
        about = archive.unpack(file, _known, lambda name: _staged(staged, name))
        renew_epoch(staged.database)
        for folder in (*staged.bodies.rglob("*"), staged.bodies):
            if folder.is_dir():
                sync_folder(folder)
        kept = _move_aside(places, there, time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()))
        _move_in(staged, places)
    finally:
        shutil.rmtree(staged.bodies, ignore_errors=True)
        for path in (staged.database, staged.queue, staged.secret):
            path.unlink(missing_ok=True)
    return about, kept


def _known(about: About) -> None:
    """Whether this Horo can work with what the archive holds. Raises `CommandError`."""
    from shared.bus.embedded_file import VERSION
    from shared.database.migrate import knows

    if about.format > archive.FORMAT or about.queue > VERSION or not knows(about.database):
        raise CommandError(
            f"the backup was made by Horo {about.horo}, which is newer than this one ({version('horo')}): restore it with that",
            Exit.USAGE,
        )


def _staged(staged: Places, name: str) -> Path:
    plain = {DATABASE: staged.database, QUEUE: staged.queue, SECRET: staged.secret}
    if name in plain:
        return plain[name]
    path = staged.bodies / name.removeprefix("bodies/")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _all(places: Places) -> dict[Path, str]:
    """Every path that a restore must find free, and what its name ends in: SQLite would read side files that are left into the new database."""
    sides = {Path(f"{path}{ending}"): ending for path in (places.database, places.queue) for ending in ("-wal", "-shm")}
    return {**dict.fromkeys(places, ""), **sides}


def _move_aside(places: Places, there: list[Path], stamp: str) -> list[Path]:
    """Rename what is there; a side file goes on belonging to its database."""
    kept = []
    for path in there:
        ending = _all(places)[path]
        kept.append(path.rename(path.with_name(f"{path.name.removesuffix(ending)}.before-restore-{stamp}{ending}")))
    return kept


def _move_in(staged: Places, places: Places) -> None:
    """Give everything its name, the queue last: what starts on half a restore has no mail to lose."""
    if places.bodies.is_dir():
        places.bodies.rmdir()  # empty, else it was moved aside
    for source, target in (
        (staged.bodies, places.bodies),
        (staged.secret, places.secret),
        (staged.database, places.database),
        (staged.queue, places.queue),
    ):
        if source.exists():
            source.rename(target)
            sync_folder(target.parent)
