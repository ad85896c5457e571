"""The octets between 354 and the final dot: where they end, dots taken off, line endings checked. Pure; fed piece by piece.

Every byte is the client's. Only CRLF.CRLF ends a message (RFC 5321 4.1.1.4), whatever the pieces are that it comes in; a bare CR, a bare
LF or a NUL anywhere makes the whole message one that must never be passed on, for the next server may see two messages in it
(SMTP smuggling, CVE-2023-51764, CVE-2024-27305).
"""

from __future__ import annotations

import re

END = b"\r\n.\r\n"
MAX_LINE = 64 * 1024
"""Octets of a line without its CRLF. RFC 5321 says 998; longer lines are common, and pass opaque (P8) up to here."""

_DOT = re.compile(rb"\r\n\.")  # found faster than by `bytes.find`, which is slow for patterns this short


class Unstuffer:
    """Takes the dot-stuffed octets of one message and gives its own.

    `feed` returns message octets: each piece breaks neither inside a CRLF nor between a CRLF and a dot. Once `ended`, `rest` is what came after
    the final dot. `smuggled` and `overlong` say what was wrong with what was fed so far.
    """

    def __init__(self) -> None:
        self._held = b"\r\n"  # DATA begins at the beginning of a line: as if a CRLF had come, which is not given out
        self._skip = 2
        self._run = 0
        self.ended = False
        self.rest = b""
        self.smuggled = False
        self.overlong = False

    def feed(self, data: bytes) -> bytes:
        """Message octets that are certain now."""
        raw = self._held + data
        dot = _DOT.search(raw)  # in most messages there is one: the last
        end = raw.find(END, dot.start()) if dot else -1
        if end >= 0:
            self.ended = True
            self.rest = raw[end + len(END) :]
            raw, self._held = raw[: end + 2], b""
        else:
            keep = next((size for size in range(len(END) - 1, 0, -1) if raw.endswith(END[:size])), 0)
            raw, self._held = raw[: len(raw) - keep], raw[len(raw) - keep :]
        self._check(raw)
        octets = raw.replace(b"\r\n.", b"\r\n") if dot and dot.end() <= len(raw) else raw
        skipped = min(self._skip, len(octets))
        self._skip -= skipped
        return octets[skipped:]

    def _check(self, raw: bytes) -> None:
        """Counting and splitting are as fast as memory, a search for what is wrong is not: where there are as many CR as LF, and they are the ends
        of as many lines, of which each ends with CRLF, a CR or an LF, none of them is bare."""
        ends = raw.count(b"\n")
        if (
            raw.endswith(b"\r")  # held back, were it the beginning of a CRLF
            or raw.count(b"\r") != ends
            or b"\0" in raw
            or len(raw.splitlines()) != ends + (not raw.endswith(b"\n") and raw != b"")
        ):
            self.smuggled = True
        first = raw.find(b"\n")
        if first < 0:
            self._run += len(raw)
        else:
            self._run += first
            self.overlong = self.overlong or self._run > MAX_LINE + 1  # the CR
            self._run = len(raw) - raw.rfind(b"\n") - 1
        self.overlong = self.overlong or self._run > MAX_LINE + 1  # the CR
