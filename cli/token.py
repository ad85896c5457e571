"""`horo token`: tokens with which other systems use the API."""

from __future__ import annotations

from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from cli import access
from cli.output import CommandError, Exit, Json, Limit, clean, print_json, print_table, say, when
from shared.access import Scope
from shared.settings import seconds

app = App(name="token", help="Tokens with which other systems use the API: create, list, revoke.")

WORDS = ", ".join(Scope)
Scopes = Annotated[
    list[str], Parameter(name="--scope", negative="", help=f"What it is good for, once for each: {WORDS}.")
]


@app.command
async def create(name: str, /, *, scope: Scopes, domain: str = "", expires: str = "", json: Json = False) -> None:
    """Make a token. It is shown this once: what is kept cannot be turned back into it.

    Parameters
    ----------
    name
        What it is for; lists and the log show it.
    domain
        The only domain that it is good for; empty for all of them.
    expires
        When it ends, counted from now: 12h, 90d. Empty for when it is revoked.
    """
    lifetime = _lifetime(expires)
    async with access.tokens() as tokens:
        token, text = await tokens.create(name, [_scope(word) for word in scope], domain=domain, lifetime=lifetime)
    if json:
        print_json({**msgspec.to_builtins(token), "token": text})
        return
    say(f"created {clean(token.name)} ({token.id}), good for {', '.join(token.scopes)}", "green")
    say(f"  in {token.domain or 'every domain'}, until {_end(token.expires_at)}")
    say("It is shown this once; a program sends it as `Authorization: Bearer TOKEN`:")
    say(text, "bold")


@app.command(name="list")
async def list_(*, after: str = "", limit: Limit = 100, json: Json = False) -> None:
    """List tokens.

    Parameters
    ----------
    after
        Begin after this name (the last of the page before).
    limit
        At most so many.
    """
    async with access.tokens() as tokens:
        found = await tokens.list(after=after, limit=limit)
    if json:
        print_json(found)
        return
    rows = [
        (each.name, each.id, " ".join(each.scopes), each.domain or "-", _end(each.expires_at), when(each.used_at))
        for each in found
    ]
    columns = ("name", "id", "good for", "domain", "until", "last used")
    print_table("", columns, rows, empty=f"no tokens; `horo token create NAME --scope {Scope.SIGNAL_SEND}` makes one")


@app.command
async def revoke(name: str, /, *, json: Json = False) -> None:
    """End a token: within a second it is refused everywhere.

    Parameters
    ----------
    name
        Its name, or its id.
    """
    async with access.tokens() as tokens:
        token = await tokens.revoke(name)
    print_json({"revoked": token.id, "name": token.name}) if json else say(f"revoked {clean(token.name)}", "green")


def _scope(word: str) -> Scope:
    try:
        return Scope(word)
    except ValueError as error:
        raise CommandError(f"--scope: {word!r} is not one of {WORDS}", Exit.USAGE) from error


def _lifetime(text: str) -> float | None:
    try:
        return seconds(text) if text else None
    except ValueError as error:
        raise CommandError(f"--expires: {error}", Exit.USAGE) from error


def _end(at: float | None) -> str:
    return "it is revoked" if at is None else when(at)
