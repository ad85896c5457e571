"""Encoded words (RFC 2047): written for what we add to a header, read for people's eyes alone.

No identity and no decision is ever taken from a decoded word (an encoded word in an address is refused elsewhere). Reading is bounded in
input and output, and knows a closed list of charsets: Python's codec registry remembers every unknown name that it was ever
asked for, and has codecs that are no charsets at all.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata

MAX_INPUT = 8192
"""Octets of a header value that are looked at."""

_WORD = re.compile(r"=\?([A-Za-z0-9_:-]{1,40})(?:\*[A-Za-z0-9-]{0,20})?\?([bBqQ])\?([^?\s]*+)\?=")
_HEX = re.compile(rb"=([0-9A-Fa-f]{2})")
_CHUNK = 45  # octets of text in one word: 60 of base64, 72 with the frame, under the limit of 75
_NAMES = (
    "utf-8 us-ascii ascii koi8-r koi8-u gb2312 gbk gb18030 big5 shift_jis iso-2022-jp iso-2022-kr euc-jp euc-kr tis-620 "
    "windows-874 cp866 ks_c_5601-1987 "
)
_CHARSETS = frozenset(
    [*_NAMES.split(), *(f"iso-8859-{n}" for n in range(1, 17) if n != 12), *(f"windows-{n}" for n in range(1250, 1259))]
)
_ALIASES = {"windows-874": "cp874", "ks_c_5601-1987": "cp949"}


def encode(text: str) -> str:
    """The text as encoded words in UTF-8, each at most 75 characters, separated by single spaces."""
    words: list[str] = []
    chunk = b""
    for character in text:
        octets = character.encode("utf-8")
        if len(chunk) + len(octets) > _CHUNK:
            words.append(_word(chunk))
            chunk = b""
        chunk += octets
    return " ".join([*words, _word(chunk)])


def _word(chunk: bytes) -> str:
    return f"=?utf-8?b?{base64.b64encode(chunk).decode('ascii')}?="


def decode(value: bytes, *, limit: int) -> str:
    """An unfolded header value as at most `limit` printable characters. Never raises: what cannot be read stays as it is written."""
    text = value[:MAX_INPUT].decode("utf-8", "replace")
    pieces: list[str] = []
    pending, charset, position = b"", "", 0
    for match in _WORD.finditer(text):
        gap = text[position : match.start()]
        octets, name = _octets(match[2], match[3]), match[1].lower()
        adjacent = bool(charset) and (not gap or gap.isspace())
        if not (
            adjacent and name == charset
        ):  # a character may be split between words of one charset: joined before decoding
            pieces.append(_characters(pending, charset))
            pending = b""
        if not adjacent:
            pieces.append(gap)
        if octets is None or name not in _CHARSETS:
            pieces += [_characters(pending, charset), match[0]]
            pending, charset = b"", ""
        else:
            pending, charset = pending + octets, name
        position = match.end()
    pieces += [_characters(pending, charset), text[position:]]
    return printable("".join(pieces))[:limit]


def _octets(form: str, content: str) -> bytes | None:
    """The octets of one word; None for broken ones."""
    raw = content.encode("utf-8", "replace")
    if form in "qQ":
        return _HEX.sub(lambda match: bytes([int(match[1], 16)]), raw.replace(b"_", b" "))
    try:
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except binascii.Error:
        return None


def _characters(octets: bytes, charset: str) -> str:
    return octets.decode(_ALIASES.get(charset, charset), "replace") if octets else ""


def printable(text: str) -> str:
    """The text without control, formatting (bidi overrides), surrogate and private characters; white space becomes single spaces."""
    if text.isprintable():  # then there is none of them, and nothing to look at one by one
        return " ".join(text.split())
    shown = ("" if unicodedata.category(c)[0] == "C" and not c.isspace() else c for c in text)
    return " ".join("".join(shown).split())
