"""What may stand in the directory: names, settings and members are checked here, before any of it reaches SQL. Pure.

People and other systems write every value that comes in; some of them end in headers, so a control character is refused, never repaired.
All errors are `DirectoryError`s that name the value and say what would do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from shared.address import (
    MAX_LOCAL,
    MAX_PATH,
    AddressError,
    check_group_name,
    domain_key,
    key,
    parse,
    split_role,
)
from shared.directory import Conflict, DirectoryError, NewMember
from shared.groups import BounceState, Domain, Settings, slot
from shared.idn import to_ascii

MAX_OWNERS = 100
MAX_NEST_FROM = 1000
MAX_NAME = 200
"""Characters of a member's name."""
_LENGTHS = {"title": 200, "description": 4000, "subject_prefix": 100}
_MAX_SIZE = 1 << 40

_FORBIDDEN = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode categories that no value has: controls (CR, LF, NUL, NEL), lone surrogates, line and paragraph separators."""
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What turns the direction of the text after it, and so what a reader sees."""
_PLAIN = re.compile(r"[a-zA-Z0-9_-]+(?:\.[a-zA-Z0-9_-]+)*")
_WORDS = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
_TYPES: Mapping[str, Any] = get_type_hints(Settings)
_BOUNCE: tuple[str, ...] = get_args(BounceState)


class Prepared(NewMember, frozen=True):
    """A member checked and ready for SQL. `base` is the group that the address would be, were there one: `board+x@` is `board@`."""

    key: str
    slot: int
    search: str
    base: str


# --- names -----------------------------------------------------------------------------------------------------------
def domain_name(text: str) -> str:
    """A domain's name, lower case A-label."""
    try:
        return domain_key(text)
    except AddressError as error:
        raise DirectoryError(f"{shown(text)} is no domain: {error}") from error


def group_key(text: str) -> str:
    """The key of a group that is asked for by its address."""
    try:
        return key(str(parse(text)))
    except AddressError as error:
        raise DirectoryError(f"{shown(text)} is no group's address: {error}") from error


def new_group_key(text: str) -> str:
    """The key of a group to be made. Raises `Conflict` for a reserved name."""
    made = group_key(text)
    if split_role(made)[0] != "group":
        raise Conflict(f"{made} is reserved: Horo itself answers postmaster@, …-owner@ and …-bounces@")
    try:
        check_group_name(made.rpartition("@")[0])
    except AddressError as error:
        raise DirectoryError(f"{shown(text)} is no name for a group: {error}") from error
    return made


def member_key(text: str, domain: str) -> str:
    """The key of a member that is asked for; what is no address is nobody's."""
    try:
        return key(str(parse(text, default_domain=domain)))
    except AddressError:
        return key(text)


def member(new: NewMember, domain: str) -> Prepared:
    """A member checked: a bare name is one of the group's own `domain`. One that was checked before is not checked again."""
    if isinstance(new, Prepared):
        return new
    return prepare(new.address, new.name, new.paused, new.own_copies, domain)


def prepare(text: str, name: str, paused: bool | None, own_copies: bool | None, domain: str) -> Prepared:
    """The member that `member` gives for these values."""
    plain = _plain_address(text)
    address = plain or _member_address(text, domain)
    made = plain.lower() or key(address)
    role, base, _ = split_role(made)
    name = member_name(name) if name else ""
    return Prepared(
        made,
        slot(made),
        name.casefold(),
        base if role == "group" else "",
        address=address,
        name=name,
        paused=paused,
        own_copies=own_copies,
    )


def _member_address(text: str, domain: str) -> str:
    try:
        return str(parse(text, default_domain=domain))
    except AddressError as error:
        raise DirectoryError(f"{shown(text)} is no member's address: {error}") from error


def _plain_address(text: str) -> str:
    """What `parse` makes of an address of letters, digits, dots, hyphens and underscores, as nearly all are; "" for what it has to look at.

    A million members are imported in half the time so.
    """
    local, at, host = text.rpartition("@")
    if not at or len(local) > MAX_LOCAL or len(text) > MAX_PATH - 2 or not _PLAIN.fullmatch(local):
        return ""
    name = _known_domain(host)
    return f"{local}@{name}" if name else ""


@lru_cache(maxsize=4096)
def _known_domain(host: str) -> str:
    """A domain in its one form; "" for what is none, or has other letters than ASCII."""
    try:
        return to_ascii(host) if host.isascii() else ""
    except AddressError:
        return ""


def members(new: Iterable[NewMember], domain: str) -> list[Prepared]:
    """Members checked, the first of those with one key."""
    found: dict[str, Prepared] = {}
    for one in new:
        row = member(one, domain)
        found.setdefault(row.key, row)
    return list(found.values())


def member_name(text: str) -> str:
    """A member's name."""
    return _line("name", text.strip(), MAX_NAME)


def member_changes(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Columns for a change of `name`, `paused`, `own_copies`, `bounce`."""
    columns: dict[str, Any] = {}
    for name, value in changes.items():
        match name:
            case "name":
                columns["name"] = member_name(_as_text("name", value))
                columns["search"] = columns["name"].casefold()
            case "paused" | "own_copies":
                columns[name] = _as_bool(name, value)
            case "bounce":
                columns[name] = _one_of(name, value, _BOUNCE)
            case _:
                raise DirectoryError(
                    f"{shown(name)}: no such property of a member; there are name, paused, own_copies, bounce"
                )
    return columns


def domain(current: Domain, changes: Mapping[str, Any]) -> Domain:
    """A domain with its settings changed, its name apart."""
    made = current
    for name, value in changes.items():
        match name:
            case "postmaster":
                text = _as_text(name, value).strip()
                made = msgspec.structs.replace(made, postmaster=_address(name, text, current.name) if text else "")
            case "disabled" | "suspended":
                made = msgspec.structs.replace(made, **{name: _as_bool(name, value)})
            case "max_groups" | "max_members" | "messages_per_day" | "recipients_per_day":
                made = msgspec.structs.replace(made, **{name: _as_count(name, value)})
            case _:
                there = ", ".join(Domain.__struct_fields__[1:])
                raise DirectoryError(f"{shown(name)}: no such setting of a domain; there are {there}")
    return made


# --- a group's settings ----------------------------------------------------------------------------------------------
def settings(current: Settings, changes: Mapping[str, Any], domain: str) -> Settings:
    """A group's settings with some changed: values of their own type, or text as the command line has it (`off`, `a@x, b@y`)."""
    made = {name: _setting(name, value, domain) for name, value in changes.items()}
    return msgspec.structs.replace(current, **made)


def _setting(name: str, value: Any, domain: str) -> Any:
    if name not in _TYPES:
        raise DirectoryError(f"{shown(name)}: no such setting; there are {', '.join(_TYPES)}")
    expected = _TYPES[name]
    if expected is bool:
        return _as_bool(name, value)
    if expected is int:
        return _as_size(name, value)
    if get_origin(expected) is Literal:
        return _one_of(name, value, get_args(expected))
    if name == "owners":
        return _several(name, value, MAX_OWNERS, lambda text: _address(name, text, domain))
    if name == "nest_from":
        return _several(name, value, MAX_NEST_FROM, lambda text: _domain(name, text))
    return _line(name, _as_text(name, value), _LENGTHS[name], lines=name == "description")


def _as_bool(name: str, value: Any) -> bool:
    found = _WORDS.get(value.strip().lower()) if isinstance(value, str) else value
    if isinstance(found, int) and found in (0, 1):
        return bool(found)
    raise DirectoryError(f"{name}: {shown(value)} is neither on nor off")


def _as_size(name: str, value: Any) -> int:
    try:
        found = msgspec.convert(value, int, strict=False)
    except msgspec.ValidationError:
        found = -1
    if isinstance(value, bool) or not 0 <= found <= _MAX_SIZE:
        raise DirectoryError(f"{name}: {shown(value)} is no number of octets from 0 (no limit of its own) on")
    return found


def _as_count(name: str, value: Any) -> int:
    try:
        found = msgspec.convert(value, int, strict=False)
    except msgspec.ValidationError:
        found = -1
    if isinstance(value, bool) or not 0 <= found <= _MAX_SIZE:
        raise DirectoryError(f"{name}: {shown(value)} is no number from 0 (no quota) on")
    return found


def _one_of(name: str, value: Any, choices: tuple[str, ...]) -> str:
    found = value.strip().lower() if isinstance(value, str) else value
    if found not in choices:
        raise DirectoryError(f"{name}: {shown(value)} is not one of {', '.join(choices)}")
    return str(found)


def _several(name: str, value: Any, most: int, read: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple | set | frozenset):
        raise DirectoryError(f"{name}: write a list, or text with commas between")
    made = tuple(
        dict.fromkeys(read(_as_text(name, part).strip()) for part in parts if not isinstance(part, str) or part.strip())
    )
    if len(made) > most:
        raise DirectoryError(f"{name}: {len(made)} are too many, at most {most}")
    return made


def _address(name: str, text: str, domain: str) -> str:
    try:
        return str(parse(text, default_domain=domain))
    except AddressError as error:
        raise DirectoryError(f"{name}: {shown(text)} is no address: {error}") from error


def _domain(name: str, text: str) -> str:
    try:
        return domain_key(text)
    except AddressError as error:
        raise DirectoryError(f"{name}: {shown(text)} is no domain: {error}") from error


def _as_text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise DirectoryError(f"{name}: {shown(value)} is no text")
    return value


def _line(name: str, text: str, most: int, *, lines: bool = False) -> str:
    """Text that may stand in a header (`lines`: that may not, and may have several lines)."""
    if len(text) > most:
        raise DirectoryError(f"{name}: {len(text)} characters are too many, at most {most}")
    for character in () if text.isprintable() else text:  # all that is refused is unprintable
        if lines and character in "\n\r\t":
            continue
        if unicodedata.category(character) in _FORBIDDEN or character in _BIDI:
            raise DirectoryError(f"{name}: the character U+{ord(character):04X} may not stand in it")
    if not lines and "=?" in text and "?=" in text:
        raise DirectoryError(f"{name}: encoded words (=?…?=) may not stand in it; write the text itself")
    return text


def shown(value: Any) -> str:
    """A value in a message: short, on one line, with nothing that a terminal obeys."""
    text = value if isinstance(value, str) else repr(value)
    safe = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:80])
    return f"'{safe}{'…' if len(text) > 80 else ''}'"
