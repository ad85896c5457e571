"""Command lines: split, checked byte by byte, and clients of other protocols told apart. Pure.

Every byte is the client's. A command ends with CRLF and nothing else; a bare CR, a bare LF or a NUL makes it no command, for the next
program to read it might see two where we saw one (CVE-2023-51764 and its kin).
"""

from __future__ import annotations

import re

import msgspec

MAX_LINE = 512
"""Octets of a command line with its CRLF (RFC 5321 4.5.3.1.4)."""

MAX_EXTENDED_LINE = 2048
"""The same for MAIL and RCPT, which the extensions offered make longer (RFC 1870, 3461, 6531: 26 + 500 + 28 + 107 + 10 + a longer path)."""

MAX_PENDING = 65536
"""Octets that may come without a line's end before the client is hung up on."""

_OTHER_PROTOCOL = re.compile(
    rb"\A(?:(?:GET|HEAD|POST|PUT|DELETE|CONNECT|OPTIONS|TRACE|PATCH|PRI) [^\n]|PROXY |\r\n\r\n\0\r\nQUIT\n)",
    re.IGNORECASE,
)
_HTTP_LINE = re.compile(rb" HTTP/\d(?:\.\d)?\r?\n?\Z")
_TLS_HELLO = b"\x16\x03"
_VERB = re.compile(rb"\A[A-Za-z]{1,20}\Z")
_HELO_NAME = re.compile(rb"\A[!#-'*-;=?-\[\]-~]{1,255}\Z")


class Command(msgspec.Struct, frozen=True):
    """A command: `verb` in upper case ("" where there is none), `argument` without the spaces around it, None where there is none."""

    verb: str
    argument: bytes | None


def is_other_protocol(data: bytes) -> bool:
    """Whether these first bytes of a line are HTTP, TLS or a PROXY header: a browser may be made to speak to us (cross-protocol attacks)."""
    return data.startswith(_TLS_HELLO) or bool(_OTHER_PROTOCOL.match(data[:64]) or _HTTP_LINE.search(data[-16:]))


def has_bad_bytes(line: bytes) -> bool:
    """Whether a line (with the LF that ended it) has a bare CR, a bare LF or a NUL."""
    return not line.endswith(b"\r\n") or line.count(b"\r") != 1 or line.count(b"\n") != 1 or b"\0" in line


def parse(line: bytes) -> Command:
    """The command of a line with good bytes."""
    verb, _, argument = line.rstrip(b"\r\n").strip(b" ").partition(b" ")
    if not _VERB.match(verb):
        return Command("", None)
    return Command(verb.decode("ascii").upper(), argument.strip(b" ") or None)


def is_too_long(line: bytes, verb: str) -> bool:
    """Whether a line is longer than its command may be."""
    return len(line) > (MAX_EXTENDED_LINE if verb in ("MAIL", "RCPT") else MAX_LINE)


def after_keyword(argument: bytes | None, keyword: bytes) -> bytes | None:
    """What follows "FROM:" or "TO:", None where the argument does not begin so."""
    if argument is None or argument[: len(keyword)].upper() != keyword:
        return None
    return argument[len(keyword) :]


def helo_name(argument: bytes | None) -> str | None:
    """The name in HELO, EHLO or LHLO: what the client claims, printable ASCII that cannot break out of a Received header; else None."""
    if argument is None or not _HELO_NAME.match(argument):
        return None
    return argument.decode("ascii")
