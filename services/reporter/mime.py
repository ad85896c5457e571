"""Messages of our own, put together by hand on bytes, so that the same facts give the same bytes. Pure.

A report may be published many times, and every copy has to be the same message: boundaries and Message-IDs come from the content, the date
from what is reported. What outsiders wrote (addresses, replies, subjects) enters a header or a line through `clean` alone: one line, no
control or direction characters. Nothing here fails on strange text.
"""

from __future__ import annotations

import binascii
import hashlib
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from email.header import Header
from email.utils import format_datetime

from shared.messages import Content

CRLF = "\r\n"
LINE_LIMIT = 998
"""Octets of a line without CRLF (RFC 5321 4.5.3.1.6)."""


def clean(text: str, limit: int = 300) -> str:
    """`text` on one line of at most `limit` characters: line breaks, controls, direction marks and lone surrogates are spaces."""
    safe = "".join(
        " " if unicodedata.category(char)[0] == "C" or char in "\u2028\u2029" else char for char in text[: limit * 4]
    )
    joined = " ".join(safe.split())
    return joined if len(joined) <= limit else joined[: limit - 3] + "..."


def date(at: float) -> str:
    """A time as RFC 5322 wants it, in UTC."""
    return format_datetime(datetime.fromtimestamp(int(at), UTC))


def header(name: str, text: str) -> str:
    """An unstructured header line. What is not ASCII, or looks like an encoded word already, is encoded (RFC 2047)."""
    text = clean(text)
    if text.isascii() and "=?" not in text:
        return f"{name}: {text}"
    return f"{name}: {Header(text, 'utf-8', header_name=name).encode(linesep=CRLF)}"


def identifier(message_id: str) -> str:
    """A Message-ID of somebody else's as it may stand in In-Reply-To, or "" where it may not."""
    inner = message_id.strip().removeprefix("<").removesuffix(">")
    fine = inner.isascii() and inner.isprintable() and not any(char in ' <>",;()' for char in inner)
    return f"<{inner}>" if inner and fine and len(inner) <= 900 else ""


def fits(payload: bytes) -> bool:
    """Whether octets may travel without an encoding that breaks lines: lines that are short enough, no NUL, no bare CR or LF."""
    bare = payload.replace(b"\r\n", b"")
    return (
        b"\0" not in payload
        and not (b"\r" in bare or b"\n" in bare)
        and all(len(line) <= LINE_LIMIT for line in payload.split(b"\r\n"))
    )


def quoted(payload: bytes) -> bytes:
    """Quoted-printable; only CRLF is a line break, a bare CR or LF is an octet like any other."""
    lines = (binascii.b2a_qp(line, istext=False).replace(b"=\n", b"=\r\n") for line in payload.split(b"\r\n"))
    return b"\r\n".join(lines)


def mailbox(name: str, display: str, address: str) -> str:
    """A header line with one mailbox: a display name of our own words, and an address that may stand in a header."""
    shown = display if display.isascii() else Header(display, "utf-8", header_name=name).encode(linesep=CRLF)
    return f"{name}: {shown} <{address}>"


def part(
    content_type: str, payload: bytes, *, description: str, eight_bit: bool, opaque: bool = False, language: str = ""
) -> bytes:
    """One body part with its headers.

    `eight_bit`: the message may go as 8bit. Otherwise octets over 127 are quoted-printable, so that a report reaches any server. `opaque` is a
    part that must not be encoded at all (message/rfc822, RFC 2045 6.4): the caller has checked that it `fits`.
    """
    if opaque or (fits(payload) and (eight_bit or payload.isascii())):
        encoding, body = ("7bit" if payload.isascii() else "8bit"), payload
    else:
        encoding, body = "quoted-printable", quoted(payload)
    lines = [
        header("Content-Description", description),
        f"Content-Type: {content_type}",
        *([f"Content-Language: {language}"] if language else []),
        f"Content-Transfer-Encoding: {encoding}",
        "",
        "",
    ]
    return CRLF.join(lines).encode() + body + (b"" if body.endswith(b"\r\n") else b"\r\n")


def multipart(headers: Sequence[str], parameters: str, parts: Sequence[bytes]) -> Content:
    """A multipart message; `parameters` is its type without the boundary, as "multipart/report; report-type=delivery-status".

    The boundary is a hash of the parts: no author can put it into a part, for that would change it.
    """
    boundary = f"=_{hashlib.sha256(b''.join(parts)).hexdigest()[:40]}"
    lines = [*headers, "MIME-Version: 1.0", f'Content-Type: {parameters};{CRLF} boundary="{boundary}"']
    lines += (
        [] if all(each.isascii() for each in parts) else ["Content-Transfer-Encoding: 8bit"]
    )  # RFC 2045 6.4: not less than its parts
    lines += ["", ""]
    opening = f"--{boundary}{CRLF}".encode()
    tail = b"".join(opening + each + b"\r\n" for each in parts) + f"--{boundary}--{CRLF}".encode()
    return Content(head=CRLF.join(lines).encode(), tail=tail)


def plain(headers: Sequence[str], text: str, *, language: str) -> Content:
    """A message of one plain text in one language (RFC 3282), quoted-printable where it is not ASCII."""
    payload = text.encode("utf-8", "replace")
    encoding, body = ("7bit", payload) if payload.isascii() and fits(payload) else ("quoted-printable", quoted(payload))
    lines = [
        *headers,
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Language: {language}",
        f"Content-Transfer-Encoding: {encoding}",
        "",
        "",
    ]
    return Content(head=CRLF.join(lines).encode(), tail=body)
