"""`key=value` of the command line into settings of a group or domain. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from cli.output import CommandError, Exit
from shared.groups import Settings

_SWITCH = {"on": True, "yes": True, "true": True, "1": True, "off": False, "no": False, "false": False, "0": False}


def changes(pairs: Iterable[str], kind: type[msgspec.Struct] = Settings) -> dict[str, Any]:
    """The changes that `key=value` words ask for, typed as `kind` declares its fields. Raises `CommandError`."""
    hints = get_type_hints(kind)
    result: dict[str, Any] = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found:
            raise CommandError(f"{pair!r} is no setting: write key=value, as in reject_automatic=off", Exit.USAGE)
        if name not in hints:
            raise CommandError(f"{name}: no such setting; there are {', '.join(sorted(hints))}", Exit.USAGE)
        result[name] = _typed(name, value.strip(), hints[name])
    return result


def _typed(name: str, value: str, hint: Any) -> Any:
    if hint is bool:
        if value.lower() not in _SWITCH:
            raise CommandError(f"{name}: {value!r} is neither on nor off", Exit.USAGE)
        return _SWITCH[value.lower()]
    if hint is int:
        return _octets(name, value)
    if get_origin(hint) is tuple:
        return tuple(part.strip() for part in value.split(",") if part.strip())
    choices = get_args(hint)
    if choices and value not in choices:
        raise CommandError(f"{name}: {value!r} is not one of {', '.join(choices)}", Exit.USAGE)
    return value


def _octets(name: str, value: str) -> int:
    """A number of octets: 5000000, 5000k, 25M."""
    factor = {"k": 1024, "m": 1024 * 1024, "g": 1024**3}.get(value[-1:].lower(), 1)
    digits = value[:-1] if factor > 1 else value
    if not digits.isascii() or not digits.isdigit():
        raise CommandError(f"{name}: {value!r} is no size: write 5000000, 5000k or 25M", Exit.USAGE)
    return int(digits) * factor


def shown(value: object) -> str:
    """A setting's value as `key=value` takes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    return str(value)
