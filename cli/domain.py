"""`horo domain`: the mail domains whose groups are ours."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

from cli import access, values
from cli.output import Json, Limit, print_json, print_table, say
from shared.groups import Domain

app = App(name="domain", help="Mail domains: create, list, set, delete.")

Changes = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="A setting as key=value: postmaster=ADDRESS, disabled=on|off."),
]


@app.command
async def create(name: str, /, *, set_: Changes = None, json: Json = False) -> None:
    """Add a domain.

    Parameters
    ----------
    name
        The domain, in Unicode or as A-label.
    """
    async with access.registry() as registry:
        domain = await registry.create_domain(name, **values.changes(set_ or (), Domain))
    print_json(domain) if json else say(f"created {domain.name}", "green")


@app.command(name="list")
async def list_(*, search: str = "", after: str = "", limit: Limit = 100, json: Json = False) -> None:
    """List domains.

    Parameters
    ----------
    search
        Part of a name.
    after
        Begin after this name (the last of the page before).
    limit
        At most so many.
    """
    async with access.registry() as registry:
        domains = await registry.domains(search=search, after=after, limit=limit)
    if json:
        print_json(domains)
        return
    rows = [(domain.name, domain.postmaster or "-", "disabled" if domain.disabled else "") for domain in domains]
    print_table(
        "", ("domain", "postmaster", ""), rows, empty="no domains; `horo group create office@example.com` adds one"
    )


@app.command(name="set")
async def set_(name: str, /, *changes: str, json: Json = False) -> None:
    """Change a domain's settings: postmaster=ADDRESS, disabled=on|off.

    Parameters
    ----------
    name
        The domain.
    changes
        Settings as key=value.
    """
    async with access.registry() as registry:
        domain = await registry.set_domain(name, **values.changes(changes, Domain))
    print_json(domain) if json else say(f"changed {domain.name}", "green")


@app.command
async def delete(name: str, /, *, json: Json = False) -> None:
    """Delete a domain that has no groups.

    Parameters
    ----------
    name
        The domain.
    """
    async with access.registry() as registry:
        await registry.delete_domain(name)
    print_json({"deleted": name}) if json else say(f"deleted {name}", "green")
