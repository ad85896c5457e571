"""`key=value` of the command line into settings of a group or domain. Pure."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import datetime, timedelta
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


_AGO = re.compile(r"(\d{1,6})([smhdw])")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def moment(name: str, value: str, *, end: bool = False) -> float | None:
    """A time as people write it, in seconds since the epoch: RFC 3339, a date (its beginning, or with `end` its end), or "3d" ago; None for "".

    Without an offset it is this machine's time. Raises `CommandError` that names the option.
    """
    text = value.strip()
    if not text:
        return None
    if (ago := _AGO.fullmatch(text.removesuffix(" ago"))) is not None:
        return time.time() - int(ago[1]) * _SECONDS[ago[2]]
    try:
        found = datetime.fromisoformat(text)
        if _DATE.fullmatch(text) and end:
            found += timedelta(days=1)
        return found.timestamp()
    except (ValueError, OverflowError, OSError) as error:
        told = "write 2026-11-23T10:00:00+02:00, 2026-11-23, 2h or 3d"
        raise CommandError(f"{name}: {value!r} is no time: {told}", Exit.USAGE) from error
