"""`horo import`: groups from alias files and from Mailman 3. What would change is shown; `--apply` changes it."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter

from cli import access, values
from cli.migrate import aliases as alias_files
from cli.migrate import change, mailman, mailman_rest
from cli.migrate.found import Found, Refused, Wanted, matches, only
from cli.output import CommandError, Exit, Json, clean, console, print_json, say
from shared.directory import DirectoryError, Registry, rules
from shared.groups import Settings
from shared.settings import shown_url

app = App(name="import", help="Groups from alias files or from Mailman 3: shown first, made with --apply.")

SHOWN = 10
"""Addresses of one group that are shown; --json has them all."""
PASSWORD = "MAILMAN_REST_PASSWORD"  # noqa: S105 -- the name of a variable
MAX_FILE = 256 << 20

Flag = Annotated[bool, Parameter(negative="")]
Patterns = Annotated[
    list[str] | None, Parameter(name="--only", negative="", help="Groups whose address matches, e.g. '*@example.com'.")
]
Changes = Annotated[
    list[str] | None,
    Parameter(name="--set", negative="", help="A setting of all groups as key=value, before the source's."),
]
Apply = Annotated[bool, Parameter(negative="", help="Make the changes; without it they are only shown.")]
Replace = Annotated[
    bool,
    Parameter(
        negative="",
        help="Groups that are here become as the source has them; else they only get the members they lack.",
    ),
]


@app.command
async def aliases(
    files: Annotated[list[str], Parameter(negative="", allow_leading_hyphen=True)],
    /,
    *,
    domain: str = "",
    root: Path = Path("/"),
    only_: Annotated[Patterns, Parameter(name="--only")] = None,
    set_: Changes = None,
    replace: Replace = False,
    apply: Apply = False,
    json: Json = False,
) -> None:
    """Groups from alias files: /etc/aliases, or a virtual alias map of Postfix. "-" is standard input.

    Parameters
    ----------
    files
        The files.
    domain
        The domain of names that have none (Postfix's $myorigin).
    root
        Folder below which the paths of :include: files are: the copy of another machine's files.
    """
    texts = [alias_files.File(name, _text(name)) for name in files]
    try:
        found = alias_files.read(texts, domain=domain, include=lambda path: _included(root, path))
    except alias_files.NeedsDomain as error:
        raise CommandError(f"{error}; say which with --domain (Postfix: `postconf -h myorigin`)", Exit.USAGE) from error
    await _import(found, only_, set_, replace=replace, apply=apply, json=json)


@app.command(name="mailman")
async def mailman_(
    source: str,
    /,
    *,
    user: str = "restadmin",
    password_file: Path | None = None,
    save: Path | None = None,
    only_: Annotated[Patterns, Parameter(name="--only")] = None,
    set_: Changes = None,
    replace: Replace = False,
    apply: Apply = False,
    json: Json = False,
) -> None:
    """Groups from the lists of Mailman 3, by its REST API or a file that --save wrote.

    The password is read from --password-file, from MAILMAN_REST_PASSWORD, or asked for.

    Parameters
    ----------
    source
        The API's URL (http://localhost:8001/3.1), or the file.
    user
        The API's user (admin_user in mailman.cfg).
    password_file
        File with the API's password (admin_pass in mailman.cfg).
    save
        Write what Mailman says to this file, and do nothing else.
    """
    export = await asyncio.to_thread(_export, source, user, password_file, only_ or [], quiet=json)
    if save:
        _save(save, export)
        print_json({"saved": str(save), "lists": len(export.lists)}) if json else say(
            f"saved {len(export.lists)} lists of {export.mailman} to {save}", "green"
        )
        return
    await _import(mailman.groups(export.lists), only_, set_, replace=replace, apply=apply, json=json)


# --- sources ----------------------------------------------------------------------------------------------------------
def _text(name: str) -> str:
    try:
        data = sys.stdin.buffer.read(MAX_FILE) if name == "-" else Path(name).read_bytes()
        return data.decode("utf-8")
    except OSError as error:
        raise CommandError(f"cannot read {name}: {error.strerror}", Exit.USAGE) from error
    except UnicodeDecodeError as error:
        raise CommandError(
            f"{name} is no text in UTF-8 (octet {error.start}): is it the .db file? Name the text file", Exit.USAGE
        ) from error


def _included(root: Path, path: str) -> str:
    """A file that another machine's file names: read below `root`, and nowhere else."""
    below = (root / path.lstrip("/")).resolve()
    if not below.is_relative_to(root.resolve()):
        raise PermissionError(1, f"leads out of {root}")
    try:
        return below.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise OSError(1, "is no text in UTF-8") from error


def _export(source: str, user: str, password_file: Path | None, patterns: list[str], *, quiet: bool) -> mailman.Export:
    if "://" not in source:
        return _saved(Path(source))
    try:
        rest = mailman_rest.Rest(source, user, _password(password_file))
        return mailman_rest.read(
            rest, lambda address: matches(address, patterns), lambda *_: None if quiet else _progress(*_)
        )
    except mailman_rest.MailmanError as error:
        raise CommandError(str(error), Exit.UNAVAILABLE) from error
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        why = f"{shown_url(source)}: is that Mailman's REST API? Its answer has not the fields of one ({error!r})"
        raise CommandError(why, Exit.UNAVAILABLE) from error
    finally:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")  # the line that _progress wrote


def _progress(address: str, members: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[Kread {clean(address)}: {members:,} members")
        sys.stderr.flush()


def _saved(path: Path) -> mailman.Export:
    try:
        return msgspec.json.decode(path.read_bytes(), type=mailman.Export)
    except OSError as error:
        raise CommandError(
            f"cannot read {path}: {error.strerror}; a URL begins with http:// or https://", Exit.USAGE
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CommandError(f"{path} is no file that `horo import mailman --save` wrote: {error}", Exit.USAGE) from error


def _save(path: Path, export: mailman.Export) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(export), indent=1))
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}", Exit.USAGE) from error


def _password(file: Path | None) -> str:
    if file:
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise CommandError(f"cannot read {file}: {error.strerror}", Exit.USAGE) from error
    if PASSWORD in os.environ:
        return os.environ[PASSWORD]
    if not sys.stdin.isatty():
        raise CommandError(f"Mailman's password: give --password-file or set {PASSWORD}", Exit.USAGE)
    return getpass.getpass("Password of Mailman's REST API (admin_pass in mailman.cfg): ")


# --- the import ---------------------------------------------------------------------------------------------------------
async def _import(
    found: Found, patterns: list[str] | None, pairs: list[str] | None, *, replace: bool, apply: bool, json: bool
) -> None:
    only(found, patterns or ())
    _overridden(found, values.changes(pairs or ()))
    failed: list[Refused] = []
    async with access.registry() as registry:
        domains = await change.compare_domains(registry, found)
        steps = [await change.compare(registry, wanted, replace=replace) for wanted in found.groups]
        if apply:
            for domain in domains:
                await change.apply_domain(registry, domain)
            failed = await _apply(registry, steps, found.groups)
    if json:
        print_json(
            {
                "applied": apply,
                "domains": domains,
                "groups": steps,
                "notes": found.notes,
                "refused": found.refused + failed,
            }
        )
    else:
        _show(domains, steps, found, failed, applied=apply)
    if failed:
        raise CommandError(f"{len(failed)} of {len(steps)} groups could not be changed: run it again", Exit.FAILED)


def _overridden(found: Found, wanted: dict[str, Any]) -> None:
    """Settings that the person gave for all groups come before the source's."""
    made = []
    for group in found.groups:
        checked = rules.settings(Settings(), wanted, group.domain)
        settings = {**group.settings, **{name: getattr(checked, name) for name in wanted}}
        made.append(msgspec.structs.replace(group, settings=settings))
    found.groups = made


async def _apply(registry: Registry, steps: list[change.Step], groups: list[Wanted]) -> list[Refused]:
    """Do the steps; what one group's step met holds up no other. A server that does not answer ends it all."""
    failed = []
    for step, wanted in zip(steps, groups, strict=True):
        try:
            await change.apply(registry, step, wanted)
        except DirectoryError as error:
            failed.append(Refused(step.address, step.action, str(error)))
    return failed


# --- telling ------------------------------------------------------------------------------------------------------------
def _show(
    domains: list[change.DomainStep], steps: list[change.Step], found: Found, failed: list[Refused], *, applied: bool
) -> None:
    for domain in domains:
        if domain.action != "keep":
            postmaster = f"  postmaster={domain.postmaster}" if domain.postmaster else ""
            say(f"{'+' if domain.action == 'create' else '~'} domain {domain.name}{postmaster}", "green")
    for step in steps:
        _show_step(step)
    _list("Comes along in another way", found.notes, between=" ->")
    _list("Does not come along", found.refused, "yellow")
    _list("Could not be changed", failed, "red")
    counts = {action: sum(step.action == action for step in steps) for action in ("create", "change", "keep")}
    done = ("made", "changed") if applied else ("to make", "to change")
    told = f"groups: {counts['create']} {done[0]}, {counts['change']} {done[1]}, {counts['keep']} as they should be"
    say(f"{told}; entries that do not come along: {len(found.refused)}", "bold")
    if not applied and (counts["create"] or counts["change"] or any(one.action != "keep" for one in domains)):
        say("Nothing was changed: --apply does it", "dim")


def _show_step(step: change.Step) -> None:
    mark, style = {"create": ("+", "green"), "change": ("~", "yellow"), "keep": ("=", "dim")}[step.action]
    say(f"{mark} {step.address}", style)
    default = msgspec.structs.asdict(Settings())
    shown = {name: value for name, value in step.settings.items() if step.action != "create" or value != default[name]}
    if shown:
        say("    " + " ".join(f"{name}={_quoted(value)}" for name, value in shown.items()))
    for sign, addresses in (("+", step.add), ("-", step.remove), ("~", step.change)):
        for address in addresses[:SHOWN]:
            say(f"    {sign} {_plain(address)}")
        if len(addresses) > SHOWN:
            say(f"    {sign} ... and {len(addresses) - SHOWN:,} more", "dim")
    for name, (here, there) in step.kept.items():
        say(f"    {name} stays {_quoted(here)} ({_quoted(there)} there; --replace takes it)", "dim")


def _quoted(value: object) -> str:
    text = values.shown(value)
    return f'"{text}"' if not text or " " in text else text


def _list(title: str, entries: list[Refused], style: str = "", between: str = ":") -> None:
    """Entries below a title, those of one place below its name."""
    if not entries:
        return
    console.print()
    say(title, "bold")
    for place, several in groupby(entries, key=lambda one: one.where):
        say(f"  {_plain(place)}")
        for one in several:
            say(f"    {_plain(one.what)}{between} {one.why}", style)


def _plain(text: str) -> str:
    return rules.shown(text)[1:-1]
