"""Delivery into Maildirs: PATH/<domain>/<local part>/{tmp,new,cur}, one file a recipient, fsynced with its folder before it counts.

The file's name is made from the post and the recipient, so that a repeated delivery finds its own file and makes no second one, even
when the crash came before any record. An attacker controls addresses: every folder name is escaped, and none can leave PATH.
Trouble is temporary: a full disk may get room.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from services.sender.answers import MAILBOX_FULL, local_trouble
from services.sender.payload import Payload
from shared import address as addresses
from shared.replies import OK, Reply

_SAFE = re.compile(r"[\w+=~-]", re.ASCII)
SPOOLED = 1 << 20
"""Octets of a message that is held in memory while its copies are written."""

_LONGEST_NAME = 200
"""Octets of a folder's name; file systems allow 255, and a local part of 64 characters may be escaped to 768."""


def folder_of(root: Path, recipient: str) -> Path:
    """The Maildir of a recipient: case does not matter, and whatever could be a path trick is escaped as %XX."""
    local, _, domain = addresses.key(recipient).rpartition("@")
    return root / _name(domain) / _name(local)


def file_name(post_id: str, recipient: str, accepted_at: float) -> str:
    """The file's name in Maildir form (time.unique.host), the same for every delivery of this post to this recipient."""
    digest = hashlib.blake2b(addresses.key(recipient).encode("utf-8", "surrogatepass"), digest_size=10).hexdigest()
    return f"{max(int(accepted_at), 0)}.{_name(post_id)}-{digest}.horo"


def _name(text: str) -> str:
    """Text as one path component: letters, digits and a few marks stay, a dot stays inside, the rest is escaped octet by octet."""
    escaped = "".join(
        character
        if _SAFE.match(character)
        or (character.isalnum() and character.isprintable())
        or (character == "." and index > 0)
        else "".join(f"%{octet:02X}" for octet in character.encode("utf-8", "surrogatepass"))
        for index, character in enumerate(text)
    )
    if not escaped:
        return "%"
    if len(escaped.encode()) > _LONGEST_NAME:
        return f"%{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=20).hexdigest()}"
    return escaped


async def deliver(
    root: Path, post_id: str, accepted_at: float, senders: Sequence[str], recipients: Sequence[str], payload: Payload
) -> list[Reply]:
    """Deliver to every recipient; `senders` are the envelope senders, one for each. One reply a recipient, in order.

    Raises `BodyMissing` and `BodiesUnavailable`, before anything was delivered.
    """
    try:
        with await asyncio.to_thread(_spool, root) as spool:
            async for chunk in payload.raw():
                await asyncio.to_thread(spool.write, chunk)
            return await asyncio.to_thread(_deliver_all, root, post_id, accepted_at, senders, recipients, spool)
    except OSError as error:
        return [_trouble(error)] * len(recipients)


def _spool(root: Path) -> BinaryIO:
    """A file without a name for the message, on the disk only where it is large; beside the mailboxes, for a container may have no
    other folder to write to."""
    _make_folder(root)
    return cast(BinaryIO, tempfile.SpooledTemporaryFile(max_size=SPOOLED, dir=str(root)))


def _trouble(error: OSError) -> Reply:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return MAILBOX_FULL if full else local_trouble(error.strerror or type(error).__name__)


def _deliver_all(
    root: Path, post_id: str, accepted_at: float, senders: Sequence[str], recipients: Sequence[str], spool: BinaryIO
) -> list[Reply]:
    replies = []
    for sender, recipient in zip(senders, recipients, strict=True):
        try:
            _deliver_one(
                folder_of(root, recipient), file_name(post_id, recipient, accepted_at), sender, recipient, spool
            )
            replies.append(OK)
        except OSError as error:
            replies.append(_trouble(error))
    return replies


def _deliver_one(folder: Path, name: str, sender: str, recipient: str, spool: BinaryIO) -> None:
    """Write into tmp, fsync, link into new, fsync the folder. Link never replaces: what is there already is this very message."""
    _make(folder)
    if _is_there(folder, name):
        _sync(folder / "new")  # its own delivery may have ended before it got this far
        return
    handle, temporary = tempfile.mkstemp(prefix=f"{name}.", dir=folder / "tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(_trace(sender, recipient))
            spool.seek(0)
            shutil.copyfileobj(spool, file, 256 * 1024)
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):  # another sender was faster with this very message
            os.link(temporary, folder / "new" / name)
    finally:
        Path(temporary).unlink()
    _sync(folder / "new")


def _trace(sender: str, recipient: str) -> bytes:
    """The lines that final delivery adds (RFC 5321 4.4); the addresses were checked, but a line of a file is a line."""
    shown = [" ".join(text.split()) for text in (sender, recipient)]
    return f"Return-Path: <{shown[0]}>\r\nDelivered-To: {shown[1]}\r\n".encode("utf-8", "replace")


def _is_there(folder: Path, name: str) -> bool:
    """Whether the message was delivered before: in new, or in cur with a reader's flags behind its name."""
    if (folder / "new" / name).exists():
        return True
    with os.scandir(folder / "cur") as entries:
        return any(entry.name.partition(":")[0] == name for entry in entries)


def _make(folder: Path) -> None:
    """Make a Maildir."""
    for part in ("tmp", "new", "cur"):
        _make_folder(folder / part)


def _make_folder(folder: Path) -> None:
    """Make a folder with its parents, each made durable in its own parent."""
    if folder.is_dir():
        return
    made = []
    for part in (*reversed(folder.parents), folder):
        try:
            part.mkdir(mode=0o700)
            made.append(part)
        except FileExistsError:
            continue
    for part in made:
        _sync(part.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
