"""`horo domain`: the mail domains whose groups are ours."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from cli import access, values
from cli.output import Json, Limit, print_json, print_table, say
from shared.directory import NotFound, rules
from shared.groups import Domain
from shared.ledger.days import day_of

app = App(name="domain", help="Mail domains: create, list, show, set, delete.")

Changes = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="A setting as key=value, as for `horo domain set`."),
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
    rows = [(domain.name, domain.postmaster or "-", _state(domain), _quotas(domain) or "-") for domain in domains]
    empty = "no domains; `horo group create office@example.com` adds one"
    print_table("", ("domain", "postmaster", "", "quotas"), rows, empty=empty)


def _state(domain: Domain) -> str:
    return ", ".join(name for name in ("disabled", "suspended") if getattr(domain, name))


def _quotas(domain: Domain) -> str:
    names = ("max_groups", "max_members", "messages_per_day", "recipients_per_day")
    return ", ".join(f"{name}={getattr(domain, name)}" for name in names if getattr(domain, name))


@app.command
async def show(name: str, /, *, json: Json = False) -> None:
    """Show a domain: its settings, and what of its quotas is used today (UTC).

    Parameters
    ----------
    name
        The domain.
    """
    async with access.registry() as registry:
        domain = await registry.domain(rules.domain_name(name))
    if domain is None:
        raise NotFound(f"there is no domain {name}")
    async with access.ledger() as ledger:
        today = await ledger.spent(domain.name, day_of(time.time()))
    if json:
        print_json({**msgspec.to_builtins(domain), "today": msgspec.to_builtins(today) if domain.metered else None})
        return
    rows = [(key, values.shown(value)) for key, value in msgspec.structs.asdict(domain).items() if key != "name"]
    if domain.metered:
        rows.append(("accepted today", f"{today.messages} messages, {today.recipients} recipients"))
    print_table(domain.name, ("setting", "value"), rows)


@app.command(name="set")
async def set_(name: str, /, *changes: str, json: Json = False) -> None:
    """Change a domain's settings.

    postmaster=ADDRESS; disabled=on (its mail is refused for good) or suspended=on (it is put off until off); quotas, 0 for none: max_groups,
    max_members (of all its groups together), messages_per_day, recipients_per_day (UTC; over them mail is put off, and told in `horo trace --group`).

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
