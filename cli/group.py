"""`horo group`: groups and their settings."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from cli import access, values
from cli.output import CommandError, Exit, Json, Limit, agreed, print_json, print_table, say
from shared.directory import NewMember
from shared.groups import Group

app = App(name="group", help="Groups: create, show, list, set, delete.")

Members = Annotated[
    list[str] | None,
    Parameter(name="--member", negative="", help="A member: an address, or a bare name of the same domain."),
]
Changes = Annotated[
    list[str] | None, Parameter(name="--set", negative="", help="A setting as key=value, e.g. reject_automatic=off.")
]


@app.command
async def create(address: str, /, *, member: Members = None, set_: Changes = None, json: Json = False) -> None:
    """Create a group; a domain that is missing is added.

    Parameters
    ----------
    address
        The group's address, e.g. office@example.com.
    """
    wanted = values.changes(set_ or ())
    async with access.registry() as registry:
        group = await registry.create_group(address, members=[NewMember(address=one) for one in member or ()], **wanted)
    print_json(_document(group)) if json else say(f"created {group.address} with {_people(group.members)}", "green")


@app.command
async def show(address: str, /, *, json: Json = False) -> None:
    """Show a group's settings and its first members.

    Parameters
    ----------
    address
        The group's address.
    """
    async with access.registry() as registry:
        group = await _find(registry, address)
        members = await registry.list_members(group.address, limit=20)
    if json:
        print_json({**_document(group), "first_members": [member.address for member in members]})
        return
    settings = msgspec.structs.asdict(group.settings)
    print_table(group.address, ("setting", "value"), [(name, values.shown(value)) for name, value in settings.items()])
    say("")
    rows = [(member.address, member.name, member_state(member)) for member in members]
    print_table(_people(group.members), ("member", "name", ""), rows)
    if group.members > len(members):
        say(f"... `horo member list {group.address}` lists them all", "dim")


@app.command(name="list")
async def list_(*, domain: str = "", search: str = "", after: str = "", limit: Limit = 100, json: Json = False) -> None:
    """List groups.

    Parameters
    ----------
    domain
        Only this domain's.
    search
        Part of an address or title.
    after
        Begin after this address (the last of the page before).
    limit
        At most so many.
    """
    async with access.registry() as registry:
        groups = await registry.groups(domain=domain, search=search, after=after, limit=limit)
    if json:
        print_json([_document(group) for group in groups])
        return
    rows = [
        (group.address, group.members, group.settings.title, "disabled" if group.settings.disabled else "")
        for group in groups
    ]
    print_table(
        "", ("group", "members", "title", ""), rows, empty="no groups; `horo group create office@example.com` makes one"
    )


@app.command(name="set")
async def set_(address: str, /, *changes: str, json: Json = False) -> None:
    """Change a group's settings.

    Parameters
    ----------
    address
        The group's address.
    changes
        Settings as key=value, e.g. disabled=on subject_prefix="[office] " owners=ana@example.com,boris@example.com.
    """
    if not changes:
        raise CommandError("nothing to set: name settings as key=value", Exit.USAGE)
    async with access.registry() as registry:
        group = await registry.set_group(address, **values.changes(changes))
    print_json(_document(group)) if json else say(f"changed {group.address}", "green")


@app.command
async def delete(address: str, /, *, yes: Annotated[bool, Parameter(negative="")] = False, json: Json = False) -> None:
    """Delete a group. Its members' mailboxes are not touched.

    Parameters
    ----------
    address
        The group's address.
    yes
        Do not ask.
    """
    if not yes and not json and not await agreed(f"Delete {address} and its member list?"):
        raise CommandError("not deleted")
    async with access.registry() as registry:
        await registry.delete_group(address)
    print_json({"deleted": address}) if json else say(f"deleted {address}", "green")


async def _find(registry: Any, address: str) -> Group:
    from shared.address import key

    group: Group | None = await registry.group(key(address))
    if group is None:
        raise CommandError(f"no group {address}; `horo group list` lists them", Exit.NOT_FOUND)
    return group


def member_state(member: Any) -> str:
    """The states of a member in words."""
    words = (
        "group" if member.group else "",
        "paused" if member.paused else "",
        "own copies" if member.own_copies else "",
    )
    return ", ".join(word for word in (*words, "" if member.bounce == "ok" else member.bounce) if word)


def _people(count: int) -> str:
    return "1 member" if count == 1 else f"{count:,} members"


def _document(group: Group) -> dict[str, Any]:
    return {"address": group.address, "members": group.members, "settings": msgspec.to_builtins(group.settings)}
