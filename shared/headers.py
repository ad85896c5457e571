"""Header sections, spliced on bytes (P8): what is not changed leaves as it came, in its place, however ugly it is.

No library that parses and writes messages again is used: it changes one real message in three, and breaks signatures. A header section is
read by one regular expression that cannot backtrack, so time is linear in its octets.

Where a section ends: at its blank line, or at the first line that is neither a field nor a continuation, for that is where other
software ends it too. A leading mbox line (`From ana@example.org Mon ...`) stays the first line. Lines end in CRLF; a bare LF is understood.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

from shared import identity, rfc2047

MAX_LINE = 998
"""Octets of a line without its CRLF (RFC 5322 2.1.1)."""

LOOP_MARK = "X-Horo-Loop"
"""The field of our loop marks: the key of a group or role address, a space, its keyed digest."""

_MARK_SAFE = "@!#$&*+/=?^_`{|}~"
_FIELD = re.compile(rb"([!-9;-~\x80-\xff]++)[ \t]*+(:)[^\n]*+(?:\n[ \t][^\n]*+)*+(?:\n|\Z)")
_ENVELOPE_LINE = re.compile(rb">*+From [^\n]*+\n")
_BLANK = re.compile(rb"\r?\n")
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n|\x00")
_CONTROL = re.compile(rb"[\r\n\x00]")
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LINE = 78
_FEW = 300  # lines of such a head: each field costs memory beside its octets (P10)
_SMALL = 16 * 1024  # octets of a head that is one of many remembered


class HeaderError(ValueError):
    """Text that may not go into a header: it would end the line, or the line would be too long."""


class Field(NamedTuple):
    """One field: `name` in lower case (empty for a leading mbox line), `raw` with its line ending, `colon` the colon's offset in it."""

    name: str
    raw: bytes
    colon: int

    @property
    def value(self) -> bytes:
        """What follows the colon, unfolded, without the white space around it."""
        return _FOLD.sub(b"", self.raw[self.colon + 1 :]).strip(b" \t\r\n")

    @property
    def plain(self) -> bool:
        """Whether the name is followed by its colon at once, without a NUL or a bare CR anywhere: all software reads such a field alike."""
        return (
            self.colon == len(self.name) and self.name.isascii() and not _CONTROL.search(self.raw.replace(b"\r\n", b""))
        )


# --- reading ----------------------------------------------------------------------------------------------------------
def split(raw: bytes) -> tuple[bytes, bytes]:
    """(head, body): the head with the blank line that ends it, where there is one. Together they are `raw`, to the last octet."""
    position = _end_of_fields(raw)
    if blank := _BLANK.match(raw, position):
        position = blank.end()
    return raw[:position], raw[position:]


def find_end(start: bytes) -> int | None:
    """Where the head ends in the first octets of a message, as `split` would say of all of it; None while that is not known yet."""
    envelope = _ENVELOPE_LINE.match(start)
    if envelope and start.find(b"\n", envelope.end()) < 0:
        return None
    position = _end_of_fields(start)
    if blank := _BLANK.match(start, position):
        return blank.end()
    line = start.find(b"\n", position)
    return position if line >= 0 and position < len(start) else None


def fields(head: bytes) -> tuple[Field, ...]:
    """All fields, in order. The last heads are remembered, for a decision asks for many fields of one head, and several are in work at a time."""
    small = len(head) <= _SMALL and head.count(b"\n") <= _FEW
    return _fields_of_small(head) if small else _fields_of_large(head)


@lru_cache(maxsize=64)
def _fields_of_small(head: bytes) -> tuple[Field, ...]:
    return _fields(head)


@lru_cache(maxsize=2)  # P10
def _fields_of_large(head: bytes) -> tuple[Field, ...]:
    return _fields(head)


def _fields(head: bytes) -> tuple[Field, ...]:
    found: list[Field] = []
    position = 0
    if line := _envelope_line(head):
        found.append(Field("", line, -1))
        position = len(line)
    while match := _FIELD.match(head, position):
        found.append(Field(_name(match[1]), match[0], match.start(2) - position))
        position = match.end()
    return tuple(found)


def _end_of_fields(raw: bytes) -> int:
    position = len(_envelope_line(raw))
    while match := _FIELD.match(raw, position):
        position = match.end()
    return position


def _envelope_line(raw: bytes) -> bytes:
    """The mbox line in front of the first field, if there is one."""
    match = _ENVELOPE_LINE.match(raw)
    return match[0] if match and _FIELD.match(raw, match.end()) else b""


def first(head: bytes, name: str | bytes) -> bytes | None:
    """The unfolded value of the first field of that name, in any case; None where there is none."""
    wanted = _name(name)
    return next((field.value for field in fields(head) if field.name == wanted), None)


def values(head: bytes, name: str | bytes) -> list[bytes]:
    """The unfolded values of all fields of that name, in order."""
    wanted = _name(name)
    return [field.value for field in fields(head) if field.name == wanted]


def count(head: bytes, name: str | bytes) -> int:
    """How many fields of that name there are."""
    wanted = _name(name)
    return sum(field.name == wanted for field in fields(head))


@lru_cache(maxsize=512)
def _name(name: str | bytes) -> str:
    return (name if isinstance(name, str) else name.decode("latin-1")).lower()


_NO_EDITS: Mapping[str, Callable[[Field], bytes]] = {}


# --- changing ---------------------------------------------------------------------------------------------------------
def splice(
    head: bytes,
    *,
    prepend: Iterable[bytes] = (),
    edit: Mapping[str, Callable[[Field], bytes]] = _NO_EDITS,
    remove: Iterable[str] = (),
    append: Iterable[bytes] = (),
) -> bytes:
    """The head with whole fields added before or after its own, and its blank line added where it has none.

    `edit` gives, by name in lower case, what makes the octets to put in a field's place: `field.raw` to leave it, nothing to take it
    away. `remove` names fields to take away. Every other octet stays as and where it is. Raises `HeaderError` for an added field that is none.
    """
    gone = frozenset(map(_name, remove))
    before, own = [_checked(line) for line in prepend], fields(head)
    pieces: list[bytes] = [own[0].raw] if own and not own[0].name else []
    rest = own[len(pieces) :]
    pieces += before
    pieces += [edit[field.name](field) if field.name in edit else field.raw for field in rest if field.name not in gone]
    if pieces and pieces[-1] and not pieces[-1].endswith(b"\n"):
        pieces.append(b"\r\n")  # the last line of all had no ending
    pieces += [_checked(line) for line in append]
    end = head[sum(len(field.raw) for field in own) :]
    return b"".join((*pieces, end if _BLANK.match(end) else b"\r\n" + end))


def _checked(line: bytes) -> bytes:
    """One whole field of ours: the last guard against a header injected through a value."""
    if not _FIELD.fullmatch(line) or not line.endswith(b"\r\n") or _BARE.search(line):
        raise HeaderError("not one header field with its line ending")
    return line


# --- writing ----------------------------------------------------------------------------------------------------------
def check_text(text: str) -> str:
    """The text itself, if it may go into a header: a title, a display name, a subject prefix. Raises `HeaderError`."""
    if match := _FORBIDDEN.search(text):
        raise HeaderError(f"a header cannot hold the character U+{ord(match[0]):04X}")
    return text


def format_text(text: str) -> str:
    """Unstructured text for a header: as it is in ASCII, else in encoded words. What looks like an encoded word is encoded again."""
    check_text(text)
    return text if text.isascii() and "=?" not in text else rfc2047.encode(text)


def format_phrase(text: str) -> str:
    """A display name: atoms, a quoted string, or encoded words."""
    text = check_text(text).strip()
    if not text or (_ATOMS.fullmatch(text) and "=?" not in text):
        return text
    if text.isascii() and "=?" not in text:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return rfc2047.encode(text)


def format_address(display_name: str, address: str) -> str:
    """A mailbox for a header: `Title <address>`, or the address alone. Raises `HeaderError`."""
    if " " in check_text(address.partition('"')[0]) or any(c in check_text(address) for c in "<>,;"):
        raise HeaderError("not an address that a header can hold")
    phrase = format_phrase(display_name)
    return f"{phrase} <{address}>" if phrase else address


def field(name: str, value: str) -> bytes:
    """One whole field, folded at its spaces to 78 octets where they allow. Raises `HeaderError` for a line over 998 octets."""
    value = check_text(value).strip(" ")
    if len(whole := f"{name}: {value}".encode()) <= _LINE:
        return _checked(whole + b"\r\n")
    lines: list[bytes] = []
    line = f"{name}:".encode("ascii")
    start = len(line)
    for token in re.findall(r" [^ ]+| +(?= )", f" {value}"):
        piece = token.encode("utf-8")
        if token.strip() and len(line) > start and len(line) + len(piece) > _LINE:
            lines.append(line)
            line, start = b"", 0
        line += piece
    lines.append(line)
    if any(len(line) > MAX_LINE for line in lines):
        raise HeaderError(f"{name} would have a line of more than {MAX_LINE} octets")
    return _checked(b"\r\n".join(lines) + b"\r\n")


# --- loop marks -------------------------------------------------------------------------------------------------------
def loop_mark(key: str, secret: str) -> bytes:
    """The field that marks a copy made for the group or role address `key`: the key and a digest that outsiders cannot forge.

    A key beyond ASCII is percent-encoded, so that the mark alone never makes a message need SMTPUTF8; no key of ours has a "%".
    """
    return field(LOOP_MARK, f"{quote(key, safe=_MARK_SAFE)} {identity.loop_mark(secret, key)}")


def loops(head: bytes, secret: str) -> frozenset[str]:
    """The keys of the groups and role addresses that a message has been through, by marks that are truly ours."""
    return frozenset(key for value in values(head, LOOP_MARK) if (key := marked_by(value, secret)))


def marked_by(value: bytes, secret: str) -> str:
    """The key in a loop mark's value; empty where the mark is not ours."""
    text, _, digest = value.decode("ascii", "replace").partition(" ")
    key = unquote(text, errors="replace")
    return key if key and identity.same(digest.strip(), identity.loop_mark(secret, key)) else ""
