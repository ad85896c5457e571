"""What the command line prints: rich tables for people, JSON for programs (`--json`), errors that say what to do, and exit codes.

Addresses and subjects come from outside: control characters are shown escaped, so that no message can draw on a terminal.
"""

from __future__ import annotations

import asyncio
import os
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import IntEnum
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter, validators
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON, for programs.")]

Limit = Annotated[int, Parameter(validator=validators.Number(gte=1, lte=100_000))]
"""How many of a list are shown."""


class Exit(IntEnum):
    """Exit codes, for scripts; `horo --help` lists them."""

    OK = 0
    FAILED = 1  # it was tried and did not succeed: a refusal, a check that fails
    USAGE = 2  # the command, a setting or an input is wrong
    NOT_FOUND = 3
    CONFLICT = 4  # it is there already, or in use
    UNAVAILABLE = 75  # a server does not answer: try again later (EX_TEMPFAIL of sysexits.h)


class CommandError(Exception):
    """A command cannot do what it was asked; `text` tells a person what to do."""

    def __init__(self, text: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(text)
        self.code = code


PIPE_WIDTH = 500
"""Columns of what goes into a pipe or file: a line is a row there, for `grep`. COLUMNS overrides it, as it does a terminal's."""


def _width(terminal: bool) -> int | None:
    return None if terminal or "COLUMNS" in os.environ else PIPE_WIDTH


console = Console(highlight=False, soft_wrap=not sys.stdout.isatty(), width=_width(sys.stdout.isatty()))
errors = Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


def clean(text: str) -> str:
    """Text from outside, made safe to show: control and direction characters as escapes."""
    return "".join(
        char
        if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else char.encode("unicode_escape").decode()
        for char in text
    )


def say(text: str, style: str = "") -> None:
    """One line for people; never used under --json."""
    console.print(Text(text, style=style))


def print_json(value: Any) -> None:
    """One JSON document on standard output; bytes as base64, times as they are (seconds since the epoch)."""
    document = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    sys.stdout.buffer.write(document + b"\n")
    sys.stdout.buffer.flush()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str = "") -> None:
    """A table, or the line `empty` where there are no rows."""
    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(clean(str(cell))) for cell in row))
    if table.row_count or not empty:
        console.print(table)
    else:
        say(empty, "dim")


def when(at: float | None) -> str:
    """A time for people: local, to the second; a dash for none."""
    return "-" if at is None else datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


async def agreed(question: str) -> bool:
    """Whether the person at the terminal agrees; who is no terminal has agreed by calling."""
    if not sys.stdin.isatty():
        return True
    return (await asyncio.to_thread(input, f"{question} [y/N] ")).lower() in ("y", "yes")


def fail(error: str) -> None:
    """An error for people, on standard error."""
    lines = "\n".join(clean(line) for line in error.splitlines())
    errors.print(Text("horo: ", style="bold red") + Text(lines))
