"""As much of MIME as a bounce needs: the parts of a message that speak for it, read from octets. Pure, linear, bounded.

A message inside (message/rfc822, text/rfc822-headers) is not entered: what it says was said by somebody else, a bounce of a bounce among that.
An attacker controls every octet. Nothing here raises; what cannot be read is a part with fewer or stranger octets.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import NamedTuple

from shared import headers

MAX_PARTS = 100
MAX_DEPTH = 5
_TYPE = re.compile(rb"[ \t]*([!-.0-~]{1,100}/[!-.0-:<-~]{1,100})")
_BOUNDARY = re.compile(rb';[ \t]*boundary[ \t]*=[ \t]*(?:"([^"]{1,200})"|([^\s;"]{1,200}))', re.IGNORECASE)
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")


class Part(NamedTuple):
    """A part that is no multipart. `kind` is its type in lower case, "text/plain" where none is named; `octets` are decoded."""

    kind: str
    head: bytes
    octets: bytes


def parts(message: bytes, *, depth: int = 0) -> Iterator[Part]:
    """The parts of a message, in their order, at most `MAX_PARTS` a multipart."""
    head, body = headers.split(message)
    value = headers.first(head, "content-type") or b""
    match = _TYPE.match(value)
    kind = match[1].decode("ascii", "replace").lower() if match else "text/plain"
    boundary = _boundary(value) if kind.startswith("multipart/") else b""
    if not boundary or depth >= MAX_DEPTH:
        yield Part(kind, head, _decoded(head, body))
        return
    for piece in _pieces(body, boundary):
        yield from parts(piece, depth=depth + 1)


def _boundary(value: bytes) -> bytes:
    match = _BOUNDARY.search(value)
    return (match[1] or match[2] or b"").rstrip() if match else b""


def _pieces(body: bytes, boundary: bytes) -> list[bytes]:
    """What lies between the lines that begin with the boundary; a last one that has no end counts, for bounces are cut off."""
    delimiter = re.compile(rb"^--" + re.escape(boundary) + rb"(--)?[ \t]*\r?(?:\n|\Z)", re.MULTILINE)
    found: list[bytes] = []
    start: int | None = None
    for match in delimiter.finditer(body):
        if start is not None:
            found.append(body[start : match.start()])
        start = None if match[1] else match.end()
        if start is None or len(found) >= MAX_PARTS:
            return found
    return found if start is None else [*found, body[start:]]


def _decoded(head: bytes, body: bytes) -> bytes:
    encoding = (headers.first(head, "content-transfer-encoding") or b"").strip().lower()
    if encoding == b"quoted-printable":
        return binascii.a2b_qp(body)
    if encoding == b"base64":
        plain = _NOT_BASE64.sub(b"", body)
        try:
            return binascii.a2b_base64(plain[: len(plain) // 4 * 4] + _rest(plain))
        except binascii.Error:
            return body
    return body


def _rest(plain: bytes) -> bytes:
    """The last group of base 64, filled up; one letter alone means nothing."""
    rest = plain[len(plain) // 4 * 4 :]
    return rest.ljust(4, b"=") if len(rest) > 1 else b""
