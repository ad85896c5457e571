"""Alias files, as Postfix, Sendmail and Exim read them: aliases(5) `name: value, value`, and virtual(5) `address  value, value`. Pure.

A line says itself which of the two it is: a colon behind the key makes an alias. Quoted keys, comments, continuation lines and `:include:` files are
read as Postfix reads them. What a group cannot do (run a command, write a file, throw mail away, catch all of a domain) is told with its line, never
guessed at. The files decide nothing but the list: no path that they name is opened except for `:include:`, by the caller's `read`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from cli.migrate.found import Found, Raw, Refused, as_domain, checked
from shared.address import AddressError, key, parse
from shared.directory import NewMember

SETTINGS = {
    "reply_to_group": False,
    "remove_author": False,
    "remove_to_cc": False,
    "reject_automatic": False,
    "thread_author": False,
}
"""What makes a group behave as an alias did: replies go to the author, everybody in it gets a copy, and machines may write to it."""

MAX_DEPTH = 5
"""Files that name files that name files."""

Read = Callable[[str], str]
"""The text of an `:include:` file. Raises OSError."""

_KEY = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^\s:"])+')
_NAMED = re.compile(r'\s*(?P<name>"(?:[^"\\]|\\.)*"|[^<>"]*?)\s*<(?P<address>[^<>]*)>\s*')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_COMMENT = re.compile(r"\([^()]*\)")
_LISTS = re.compile(r"mailman|majordomo|sympa|listserv|mlmmj|ezmlm", re.IGNORECASE)


class Entry(msgspec.Struct, frozen=True):
    """One entry: where it stands, its address, and its values as written, each with its place."""

    where: str
    address: str
    values: tuple[tuple[str, str], ...]


class File(msgspec.Struct, frozen=True):
    """A file that was read: its name, as it is told, and its text."""

    name: str
    text: str


class NeedsDomain(Exception):
    """A name stands without its domain, and none was given; the text says where."""


def read(files: Sequence[File], *, domain: str = "", include: Read) -> Found:
    """What alias files ask for. `domain` is that of names without one. Raises `NeedsDomain`."""
    found = Found()
    entries: dict[str, Entry] = {}
    for file in files:
        for number, line in logical_lines(file.text):
            if entry := _entry(f"{file.name}:{number}", line, domain, found):
                first = entries.setdefault(key(entry.address), entry)
                if first is not entry:
                    why = f"stands at {first.where} already, and Postfix takes the first"
                    found.refused.append(Refused(entry.where, entry.address, why))
    reader = _Reader(domain, include, found)
    owned = dict(_owners(entries))
    for name, entry in entries.items():
        if name in owned.values():
            continue
        raw = reader.members(entry)
        if name.startswith("postmaster@"):
            _postmaster(raw, found)
        elif raw.members:
            if name in owned:
                owners = reader.members(entries[owned[name]]).members
                raw.settings = {**SETTINGS, "owners": [one.address for one in owners]}
            checked(raw, found)
    return found


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """The logical lines of a file with the numbers they begin at: comments and empty lines go, a line that begins with a space continues."""
    begun, parts = 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] in " \t" and parts:
            parts.append(line.strip())
            continue
        if parts:
            yield begun, " ".join(parts)
        begun, parts = number, [line.strip()]
    if parts:
        yield begun, " ".join(parts)


def split(text: str) -> list[str]:
    """Values with commas between; a comma in quotes, brackets or a comment parts nothing."""
    values, current, quoted, depth, escaped = [], "", False, 0, False
    for char in text:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif not quoted:
            depth += (char in "(<") - (char in ")>")
            if char == "," and depth <= 0:
                values.append(current.strip())
                current, depth = "", 0
                continue
        current += char
    return [value for value in (*values, current.strip()) if value]


# --- entries ----------------------------------------------------------------------------------------------------------
def _entry(where: str, line: str, domain: str, found: Found) -> Entry | None:
    match = _KEY.match(line)
    if match is None or line.startswith("/"):
        why = "a regular expression" if line.startswith("/") else "neither `name: values` nor `address values`"
        found.refused.append(Refused(where, line, f"{why}: a group has one address"))
        return None
    name, rest = match[0], line[match.end() :].lstrip()
    alias = rest.startswith(":") and not rest.startswith(":include:")
    values = split(rest[1:] if alias else rest)
    if not alias and _declares_domain(name, values):
        found.domains.setdefault(as_domain(name), "")
        return None
    if why := _no_group(name, values):
        found.refused.append(Refused(where, name, why))
        return None
    try:
        address = parse(_with_domain(name, domain, where))
    except AddressError as error:
        found.refused.append(Refused(where, name, str(error)))
        return None
    return Entry(where, str(address), tuple((value, where) for value in values))


def _declares_domain(name: str, values: Sequence[str]) -> bool:
    """`example.com  anything` of a virtual map: the domain is ours."""
    return "@" not in name and "." in name and len(values) == 1 and "@" not in values[0] and bool(as_domain(name))


def _no_group(name: str, values: Sequence[str]) -> str:
    if name.startswith("@"):
        return "catches all mail of a domain: a group has one address"
    return "" if values else "has no values"


def _with_domain(name: str, domain: str, where: str) -> str:
    """An address as written, or a bare name with the domain of such names."""
    if "@" in _QUOTED.sub("", name):
        return name
    if not domain:
        raise NeedsDomain(f"{where}: {name} has no domain")
    return f"{name}@{domain}"


def _owners(entries: dict[str, Entry]) -> Iterator[tuple[str, str]]:
    """Groups, each with the entry of its owners: `owner-NAME`, as Sendmail and Postfix have it, or `NAME-owner`."""
    for name in entries:
        local, _, domain = name.rpartition("@")
        for owner in (f"owner-{local}@{domain}", f"{local}-owner@{domain}"):
            if owner in entries:
                yield name, owner
                break


def _postmaster(raw: Raw, found: Found) -> None:
    """`postmaster:` is a setting of the domain, with one address."""
    domain = as_domain(raw.address.rpartition("@")[2])
    if len(raw.members) == 1:
        found.domains[domain] = raw.members[0].address
    elif raw.members:
        why = "postmaster@ of a domain has one address here: `horo domain set DOMAIN postmaster=ADDRESS`, perhaps of a group"
        found.refused.append(Refused(raw.where, raw.address, why))


# --- values -----------------------------------------------------------------------------------------------------------
class _Reader:
    """Values of entries into members; what can be none is told."""

    def __init__(self, domain: str, include: Read, found: Found) -> None:
        self._domain, self._include, self._found = domain, include, found

    def members(self, entry: Entry) -> Raw:
        """The entry as a group."""
        raw = Raw(where=entry.where, address=entry.address, settings=SETTINGS, members=[], places={})
        for value, where in entry.values:
            self._value(raw, value, where, ())
        return raw

    def _value(self, raw: Raw, value: str, where: str, through: tuple[str, ...]) -> None:
        text = _unquoted(value)
        if text.startswith(":include:"):
            self._included(raw, text.removeprefix(":include:").strip(), where, through)
            return
        why = _no_address(text, quoted=text != value)
        if not why:
            for new in self._addresses(value, where):
                raw.members.append(new)
                raw.places.setdefault(new.address, where)
            return
        self._found.refused.append(Refused(where, f"{raw.address}: {text}", why))

    def _addresses(self, value: str, where: str) -> Iterator[NewMember]:
        """The addresses of a value: one, or several with spaces between, as virtual maps often have them."""
        if match := _NAMED.fullmatch(value):
            name = _ESCAPED.sub(r"\1", match["name"].strip('"'))
            yield NewMember(address=_with_domain(match["address"].strip(), self._domain, where), name=name)
            return
        value = _COMMENT.sub("", value).strip().removeprefix("\\")
        words = value.split()
        several = words if len(words) > 1 and all("@" in word and '"' not in word for word in words) else [value]
        for word in several:
            if word:
                yield NewMember(address=_with_domain(word, self._domain, where))

    def _included(self, raw: Raw, path: str, where: str, through: tuple[str, ...]) -> None:
        if path in through or len(through) >= MAX_DEPTH:
            self._found.refused.append(
                Refused(where, f"{raw.address}: :include:{path}", "files name each other in a circle")
            )
            return
        try:
            text = self._include(path)
        except OSError as error:
            why = f"cannot be read ({error.strerror or error}); --root says below which folder such paths are"
            self._found.refused.append(Refused(where, f"{raw.address}: :include:{path}", why))
            return
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                for value in split(line):
                    self._value(raw, value, f"{path}:{number}", (*through, path))


def _unquoted(value: str) -> str:
    match = _QUOTED.fullmatch(value)
    return _ESCAPED.sub(r"\1", match[1]) if match else value


def _no_address(text: str, *, quoted: bool) -> str:
    """Why a value is no address; "" where it looks like one."""
    if text.startswith("|"):
        if _LISTS.search(text):
            return "a command of a list manager: import the list from there (`horo import mailman`)"
        return "a command: a group runs none. Put a mailbox in its place, and let its server run the command"
    if text == "/dev/null":
        return "throws mail away: a group has members"
    if text.startswith("/"):
        return "a file: a group writes none. Put a mailbox in its place"
    if text.startswith("@"):
        return "rewrites the domain alone: name each address"
    if text.startswith(":"):
        return "a special value that is no address"
    if " " in text and not quoted and "@" not in text and "<" not in text and "(" not in text:
        return "several words that are no address: put commas between names"
    return ""
