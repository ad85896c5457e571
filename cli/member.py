"""`horo member`: who is in a group. Imports are all or nothing, and say which lines are wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import stat
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import msgspec
from cyclopts import App, Parameter

from cli import access
from cli.group import member_state
from cli.output import CommandError, Exit, Json, Limit, print_json, print_table, say
from cli.progress import meter
from shared.directory import NewMember
from shared.directory.rules import group_key
from shared.groups import Member
from shared.ledger.bounces import Suspension

app = App(name="member", help="Members of a group: add, remove, list, pause, restore, import, export.")

PAGE = 1000

Flag = Annotated[bool, Parameter(negative="")]
File = Annotated[Path, Parameter(allow_leading_hyphen=True)]  # "-", for standard input or output, is no option


@app.command
async def add(group: str, /, *members: str, name: str = "", own_copies: Flag = False, json: Json = False) -> None:
    """Add members; those who are there already stay as they are.

    Parameters
    ----------
    group
        The group's address.
    members
        Addresses; a bare name is of the group's own domain.
    name
        The member's name, where one is added.
    own_copies
        The member gets copies of what they write themselves.
    """
    if not members:
        raise CommandError("nobody to add: name one address or more", Exit.USAGE)
    async with access.registry() as registry:
        done = await registry.add_members(
            group, [NewMember(address=one, name=name, own_copies=own_copies) for one in members]
        )
    print_json(done) if json else say(f"added {done.added}, already there {done.present}", "green")


@app.command
async def remove(group: str, /, *members: str, json: Json = False) -> None:
    """Remove members. Their mailboxes are not touched.

    Parameters
    ----------
    group
        The group's address.
    members
        Addresses.
    """
    async with access.registry() as registry:
        removed = await registry.remove_members(group, members)
    print_json({"removed": removed}) if json else say(f"removed {removed}", "green" if removed else "yellow")
    if not removed:
        raise CommandError(f"none of these is a member of {group}", Exit.NOT_FOUND)


@app.command(name="list")
async def list_(
    group: str,
    /,
    *,
    search: str = "",
    suspended: Flag = False,
    after: str = "",
    limit: Limit = 100,
    json: Json = False,
) -> None:
    """List members.

    Parameters
    ----------
    group
        The group's address.
    search
        Part of an address or name.
    suspended
        Only those who get no mail because their address does not work.
    after
        Begin after this address (the last of the page before).
    limit
        At most so many.
    """
    async with access.registry() as registry:
        members = await registry.list_members(group, search=search, suspended=suspended, after=after, limit=limit)
    told = await _suspensions(group, members)
    if json:
        print_json([_listed(one, told.get(one.key)) for one in members])
        return
    rows = [(one.address, one.name, member_state(one), _why(told.get(one.key))) for one in members]
    print_table("", ("member", "name", "", ""), rows, empty="nobody is suspended" if suspended else "no members")
    if members and len(members) == limit:
        say(f"... more with --after {members[-1].address}", "dim")


async def _suspensions(group: str, members: Sequence[Member]) -> Mapping[str, Suspension]:
    """Since when and why members are suspended, where any is."""
    suspended = [one.key for one in members if one.bounce == "suspended"]
    if not suspended:
        return {}
    async with access.ledger() as ledger:
        return await ledger.suspensions(group_key(group), suspended)


def _listed(member: Member, told: Suspension | None) -> dict[str, Any]:
    """A member as JSON; of one who is suspended also since when and why."""
    listed: dict[str, Any] = msgspec.to_builtins(member)
    if member.bounce == "suspended":
        listed["suspended_at"] = None if told is None else told.at
        listed["suspended_reason"] = "" if told is None else told.reason
    return listed


def _why(told: Suspension | None) -> str:
    if told is None:
        return ""
    return f"since {datetime.fromtimestamp(told.at, UTC):%Y-%m-%d}: {told.reason}"


@app.command
async def pause(group: str, member: str, /, *, off: Flag = False, json: Json = False) -> None:
    """Pause delivery to a member, or go on with it.

    Parameters
    ----------
    group
        The group's address.
    member
        The member's address.
    off
        Go on: the member gets mail again.
    """
    async with access.registry() as registry:
        changed = await registry.set_member(group, member, paused=not off)
    print_json(changed) if json else say(
        f"{changed.address}: {'delivery goes on' if off else 'delivery paused'}", "green"
    )
    if off and changed.bounce == "suspended" and not json:
        say(f"still suspended, for the address did not work: horo member restore {group} {changed.address}", "yellow")


@app.command
async def restore(group: str, member: str, /, *, json: Json = False) -> None:
    """Bring a member back who was suspended because the address did not work. What was counted against it is forgotten.

    Parameters
    ----------
    group
        The group's address.
    member
        The member's address.
    """
    async with access.registry() as registry, access.ledger() as ledger:
        changed = await registry.set_member(group, member, bounce="ok")
        await ledger.bring_back(group_key(group), changed.key)
    if json:
        print_json(changed)
        return
    if changed.paused:
        say(f"{changed.address}: restored, but paused: horo member pause {group} {changed.address} --off", "yellow")
    else:
        say(f"{changed.address}: gets the group's mail", "green")


@app.command(name="import")
async def import_(group: str, file: File, /, *, replace: Flag = False, json: Json = False) -> None:
    """Import members from a CSV file (address, name, paused, own_copies), or from standard input for "-": all of it, or nothing.

    Parameters
    ----------
    group
        The group's address.
    file
        The file.
    replace
        Members who are not in the file are removed.
    """
    from shared.directory.csvfile import CsvErrors, read_members

    with _opened(file) as stream:
        total = None if json else await asyncio.to_thread(_lines, stream)
        with meter(f"members of {group}", total=total, hidden=json) as progress:

            async def pages() -> AsyncIterator[Sequence[NewMember]]:
                async for page in read_members(_chunks(stream), domain=group.rpartition("@")[2]):
                    yield page
                    progress.advance(len(page))
                progress.finish("writing them")

            async with access.registry() as registry:
                try:
                    done = await registry.import_members(group, pages(), replace=replace)
                except CsvErrors as error:
                    raise CommandError(f"{file}: {error}", Exit.USAGE) from error
    if json:
        print_json(done)
        return
    words = f"added {done.added}, already there {done.present}, changed {done.updated}, removed {done.removed}"
    say(words, "green")


@app.command
async def export(group: str, file: File = Path("-"), /, *, json: Json = False) -> None:
    """Export members as CSV, to a file or standard output.

    Parameters
    ----------
    group
        The group's address.
    file
        The file; "-" is standard output.
    """
    from shared.directory.csvfile import HEADER, write_members

    async with access.registry() as registry:
        page = await registry.list_members(group, limit=PAGE)  # an unknown group is told before a file is made
        count = 0
        with _made(file) as stream:
            await asyncio.to_thread(stream.write, HEADER)
            while page:
                await asyncio.to_thread(stream.write, write_members(page))
                count += len(page)
                page = await registry.list_members(group, after=page[-1].key, limit=PAGE)
    if str(file) == "-":
        return
    print_json({"exported": count, "file": str(file)}) if json else say(
        f"exported {count:,} members to {file}", "green"
    )


def _lines(stream: BinaryIO) -> int | None:
    """About how many rows are in a file: its line ends. None for what cannot be read twice."""
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return None
    start, found = stream.tell(), 0
    while chunk := stream.read(1 << 20):
        found += chunk.count(b"\n")
    stream.seek(start)
    return found


async def _chunks(stream: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(stream.read, 65536):
        yield chunk


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    if str(file) == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = file.open("rb")
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}", Exit.USAGE) from error
    with stream:
        yield stream


@contextlib.contextmanager
def _made(file: Path) -> Iterator[BinaryIO]:
    """The file to write; standard output for "-".

    A file appears under its name when it is whole: who reads it meanwhile, or after an export that broke off, has the one that was there before.
    """
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        target = file.resolve()
        if target.exists() and not target.is_file():  # a pipe, a device: written, not replaced
            with target.open("wb") as stream:
                yield stream
            return
        with _replaced(target) as stream:
            yield stream
    except OSError as error:
        raise CommandError(f"cannot write {file}: {error.strerror}", Exit.USAGE) from error


@contextlib.contextmanager
def _replaced(target: Path) -> Iterator[BinaryIO]:
    """A new file beside `target`, with its permissions, which takes its place when the block ends well."""
    made = target.with_name(f".horo-{secrets.token_hex(8)}.part")
    try:
        with made.open("xb") as stream:
            if target.exists():
                os.fchmod(stream.fileno(), stat.S_IMODE(target.stat().st_mode))
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        made.replace(target)
    except BaseException:
        made.unlink(missing_ok=True)
        raise
