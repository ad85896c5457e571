"""Members as CSV: read as a stream, all or nothing, with the numbers of the lines that are wrong; written so that it can be read again.

A file is `address[,name[,paused[,own_copies]]]`, or lines of `Name <address>`; UTF-8, with or without a BOM, with a header row or none,
commas, semicolons (Excel in Bulgaria) or tabs between. A line ends a record: no field of ours has a line break. Pure: bytes in, members
out.

A cell that a spreadsheet would take for a formula (`=cmd|…`) is written with an apostrophe before it, which is taken off again when read.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from operator import itemgetter

from shared.directory import DirectoryError
from shared.directory.rules import Prepared, prepare, shown
from shared.groups import Member

MAX_LINE = 4096
"""Octets of a line; an address and a name are far shorter."""
MAX_ERRORS = 20
"""Errors that are told one by one; the others are counted."""
_TOO_LONG = b" " * (MAX_LINE + 1)
PAGE = 1000
COLUMNS = ("address", "name", "paused", "own_copies")
HEADER = ",".join(COLUMNS).encode() + b"\r\n"

_TITLES = {
    "address": "address", "email": "address", "e-mail": "address", "адрес": "address", "имейл": "address",
    "name": "name", "име": "name", "paused": "paused", "own_copies": "own_copies", "own copies": "own_copies",
}  # fmt: skip
_WORDS: dict[str, bool | None] = {
    "": None, "on": True, "yes": True, "true": True, "1": True, "да": True,
    "off": False, "no": False, "false": False, "0": False, "не": False,
}  # fmt: skip
_FORMULA = "=+-@\t\r'"
_NAMED = re.compile(r"""\s*("(?:[^"\\]|\\.)*"|[^"<>]*?)\s*<([^<>]*)>\s*""")
_ESCAPED = re.compile(r"\\(.)")
_MARK = re.compile(r"""["'<]""")
"""What makes a row other than fields with separators between."""


class CsvErrors(DirectoryError):
    """Lines that cannot be read: `errors` are the first of them as (line number, what is wrong), `total` counts them all."""

    def __init__(self, errors: Sequence[tuple[int, str]], total: int) -> None:
        self.errors = tuple(errors)
        self.total = total
        told = "\n".join(f"line {number}: {what}" for number, what in errors)
        more = f"\nand {total - len(errors)} more" if total > len(errors) else ""
        super().__init__(
            f"{total} {'line' if total == 1 else 'lines'} cannot be read, nothing was imported:\n{told}{more}"
        )


class _Wrong(Exception):
    """A line that cannot be read, and why."""


# --- reading ---------------------------------------------------------------------------------------------------------
async def read_members(source: AsyncIterator[bytes], *, domain: str) -> AsyncIterator[Sequence[Prepared]]:
    """The members of a CSV file that comes as chunks of bytes, checked, in pages, for `Registry.import_members`.

    `domain` is the group's, for bare names. Raises `CsvErrors` at the end of a file that has errors; no page follows the first error.
    """
    reader = _Reader(domain)
    lines = _Lines()
    async for chunk in source:
        for start in range(0, len(chunk), 65536):
            reader.take(*lines.feed(chunk[start : start + 65536]))
            if len(reader.page) >= PAGE:
                yield reader.turn()
    reader.take(*lines.end())
    if reader.total:
        raise CsvErrors(reader.errors, reader.total)
    if reader.page:
        yield reader.turn()


class _Lines:
    """Cuts chunks into lines, without their LF; of one that is too long no more is ever kept than shows that it is."""

    def __init__(self) -> None:
        self._rest = b""
        self._number = 1
        self._skipping = False

    def feed(self, chunk: bytes) -> tuple[int, list[bytes]]:
        """The number of the first line that is complete now, and these lines."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if whole and self._skipping:
            whole[0] = _TOO_LONG
            self._skipping = False
        if len(self._rest) > MAX_LINE:
            self._rest = b""
            self._skipping = True
        first = self._number
        self._number += len(whole)
        return first, whole

    def end(self) -> tuple[int, list[bytes]]:
        """The last line, where no line ending follows it."""
        return self._number, [_TOO_LONG] if self._skipping else [self._rest] if self._rest else []


class _Reader:
    """Lines to members. The first line with something in it decides about the header and the separator."""

    def __init__(self, domain: str) -> None:
        self.page: list[Prepared] = []
        self.errors: list[tuple[int, str]] = []
        self.total = 0
        self._domain = domain
        self._columns: Sequence[str] = ()
        self._separator = ","
        self._pick: Callable[[Sequence[str]], tuple[str, str, str, str]] = itemgetter(0, 1, 2, 3)

    def turn(self) -> list[Prepared]:
        """The page that is full, and a new one begun."""
        page, self.page = self.page, []
        return page

    def take(self, first: int, lines: Iterable[bytes]) -> None:
        """Read lines, the first of which has the number `first`, or note what is wrong with them."""
        for number, line in enumerate(lines, first):
            try:
                new = self._read(_text(number, line))
                if new is not None and not self.total:
                    self.page.append(new)
            except (_Wrong, DirectoryError) as error:
                self.total += 1
                self.page.clear()
                if len(self.errors) < MAX_ERRORS:
                    self.errors.append((number, str(error)))

    def _read(self, text: str) -> Prepared | None:
        marked = _MARK.search(text) is not None
        if not marked and self._columns:
            return self._record(text.split(self._separator)) if text and not text.isspace() else None
        if not text.strip():
            return None
        named = _named(text)
        if not self._columns:
            self._separator = "," if named else _separator(text)
            titles = None if named else self._header(_cells(text, self._separator))
            self._have(titles or COLUMNS)
            if titles:
                return None
        if named:
            return prepare(*named, None, None, self._domain)
        return self._record([_plain(cell) for cell in _cells(text, self._separator)])

    def _header(self, cells: Sequence[str]) -> Sequence[str] | None:
        """The columns that a header row names, None where the row is none."""
        found = [_TITLES.get(cell.strip().casefold(), "") for cell in cells]
        if "address" not in found or any("@" in cell for cell in cells):
            return None
        for cell, column in zip(cells, found, strict=True):
            if not column or found.count(column) > 1:
                raise _Wrong(f"the column {shown(cell)} is unknown or twice there; columns are {', '.join(COLUMNS)}")
        return found

    def _have(self, columns: Sequence[str]) -> None:
        """These are the file's columns: one that it does not have is picked from beyond its cells, where nothing is."""
        self._columns = columns
        self._pick = itemgetter(*(columns.index(name) if name in columns else len(columns) for name in COLUMNS))

    def _record(self, cells: list[str]) -> Prepared:
        known = len(self._columns)
        if len(cells) > known:
            if any(cell.strip() for cell in cells[known:]):
                raise _Wrong(f"{len(cells)} fields, at most {known} are known: {', '.join(self._columns)}")
            del cells[known:]
        address, name, paused, own_copies = self._pick([*cells, "", "", "", ""])
        address, name = address.strip(), name.strip()
        if "<" in address and (named := _named(address)):
            address, name = named[0], name or named[1]
        if not address:
            raise _Wrong("no address")
        return prepare(address, name, _word("paused", paused), _word("own_copies", own_copies), self._domain)


def _text(number: int, line: bytes) -> str:
    """A line without its line ending."""
    if len(line) > MAX_LINE:
        raise _Wrong(f"longer than {MAX_LINE} octets")
    if number == 1:
        if line.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise _Wrong("this is UTF-16: save the file as “CSV UTF-8”")
        line = line.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in line:
        raise _Wrong("a NUL character")
    try:
        return line.removesuffix(b"\r").decode()
    except UnicodeDecodeError as error:
        raise _Wrong("not UTF-8: save the file as “CSV UTF-8”") from error


def _named(text: str) -> tuple[str, str] | None:
    """(address, name) of `Name <address>`, with the name in quotes or not."""
    match = _NAMED.fullmatch(text)
    if match is None or ("@" in match[1] and not match[1].startswith('"')):
        return None
    name = match[1].strip()
    if name.startswith('"'):
        name = _ESCAPED.sub(r"\1", name[1:-1])
    return match[2].strip(), name.strip()


def _separator(text: str) -> str:
    """What stands between fields: the first of the three that is found outside quotes."""
    quoted = False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif not quoted and character in ",;\t":
            return character
    return ","


def _cells(text: str, separator: str) -> list[str]:
    """The fields of a record (RFC 4180: quotes double inside quotes)."""
    if '"' not in text:
        return text.split(separator)
    cells: list[str] = []
    position = 0
    while True:
        cell, position = _cell(text, position, separator)
        cells.append(cell)
        if position > len(text):
            return cells


def _cell(text: str, start: int, separator: str) -> tuple[str, int]:
    """The field at `start`, and where the next begins (beyond the end, where there is none)."""
    opening = start
    while opening < len(text) and text[opening] == " ":
        opening += 1
    if not text.startswith('"', opening):
        end = text.find(separator, start)
        end = len(text) if end < 0 else end
        return text[start:end], end + 1
    parts: list[str] = []
    position = opening + 1
    while True:
        closing = text.find('"', position)
        if closing < 0:
            raise _Wrong("a quotation mark is not closed on its line")
        parts.append(text[position:closing])
        if not text.startswith('""', closing):
            break
        parts.append('"')
        position = closing + 2
    end = text.find(separator, closing + 1)
    end = len(text) if end < 0 else end
    if text[closing + 1 : end].strip(" "):
        raise _Wrong("text after a closing quotation mark")
    return "".join(parts), end + 1


def _word(column: str, text: str) -> bool | None:
    try:
        return _WORDS[text.strip().casefold()] if text else None
    except KeyError:
        raise _Wrong(f"{column}: {shown(text)} is neither on nor off") from None


def _plain(cell: str) -> str:
    """A cell without the apostrophe that keeps a spreadsheet from computing it."""
    return cell[1:] if len(cell) > 1 and cell[0] == "'" and cell[1] in _FORMULA else cell


# --- writing ---------------------------------------------------------------------------------------------------------
def write_members(members: Iterable[Member]) -> bytes:
    """Rows for these members, in the columns of `HEADER`, which the caller writes first."""
    return "".join(_row(one) for one in members).encode()


def _row(one: Member) -> str:
    cells = (one.address, one.name, "on" if one.paused else "off", "on" if one.own_copies else "off")
    return ",".join(_quoted(cell) for cell in cells) + "\r\n"


def _quoted(cell: str) -> str:
    if cell and cell[0] in _FORMULA:
        cell = f"'{cell}"
    return (
        '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',;"\t<') or cell != cell.strip() else cell
    )
