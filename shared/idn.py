"""Domain names: one comparable form, the lower case A-label (IDNA 2008, UTS 46 non-transitional). Pure.

Python's own `idna` codec is never used: it is IDNA 2003 and turns faß.de into fass.de, which is somebody else's domain. What Unicode
normalises *into* ASCII (full width letters, U+212A KELVIN SIGN, U+2024 ONE DOT LEADER, U+3002 as a dot) is refused rather than mapped:
software in front of us may read such a name in another way than we do.
"""

from __future__ import annotations

import re
import unicodedata

import idna

MAX_DOMAIN = 255
"""Octets of a domain (RFC 5321 4.5.3.1.2)."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_DOTS = frozenset("\u3002\uff0e\uff61\u2024\ufe52")
_IGNORABLE = frozenset(  # shown as nothing, though Unicode files them as letters and marks
    [
        0x034F,
        0x115F,
        0x1160,
        0x17B4,
        0x17B5,
        0x3164,
        0xFFA0,
        *range(0x180B, 0x1810),
        *range(0xFE00, 0xFE10),
        *range(0xE0100, 0xE01F0),
    ]
)
_FORBIDDEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zs", "Zl", "Zp"))


class AddressError(ValueError):
    """Not an address or domain in the grammar asked for; the text says what is wrong, without the input's control characters.

    `needs_utf8` is set where only SMTPUTF8 is missing (RFC 6531): the client's answer is 553 5.6.7, not 501.
    """

    def __init__(self, text: str = "not an address", *, needs_utf8: bool = False) -> None:
        super().__init__(text)
        self.needs_utf8 = needs_utf8


def shown(text: str) -> str:
    """Input for an error message: escaped to printable ASCII and cut, so that it can write no line of its own."""
    return ascii(text if len(text) <= 80 else text[:77] + "...")


def check_characters(text: str) -> None:
    """Refuse characters beyond ASCII that cannot be seen, or that normalise into ASCII. Raises `AddressError`."""
    if text.isascii():
        return
    for character in text:
        if character < "\x80":
            continue
        if unicodedata.category(character) in _FORBIDDEN or ord(character) in _IGNORABLE:
            raise AddressError(f"invisible or unassigned character U+{ord(character):04X}")
        if character in _DOTS or any(part < "\x80" for part in unicodedata.normalize("NFKC", character)):
            raise AddressError(f"U+{ord(character):04X} only looks like an ASCII character")


def to_ascii(domain: str) -> str:
    """The domain as lower case A-label. Raises `AddressError` for what is no host name: empty labels, a final dot, IP addresses."""
    if not domain:
        raise AddressError("the domain is missing")
    if len(domain) > MAX_DOMAIN:
        raise AddressError(f"the domain is longer than {MAX_DOMAIN} octets")
    # An A-label in the input is taken as it is: registries have sold names (emoji) that IDNA 2008 does not allow.
    name = domain.lower() if domain.isascii() else _encode(domain)
    if len(name) > MAX_DOMAIN or not _DOMAIN.fullmatch(name):
        raise AddressError(f"{shown(domain)} is no domain name")
    if name.rpartition(".")[2].isdigit():
        raise AddressError("an IP address is no domain name")
    return name


def _encode(domain: str) -> str:
    check_characters(domain)
    try:
        encoded = idna.encode(unicodedata.normalize("NFC", domain), uts46=True, transitional=False, std3_rules=True)
    except (UnicodeError, ValueError, IndexError) as error:
        raise AddressError(
            f"{shown(domain)} is no domain name: {str(error)[:120].encode('ascii', 'backslashreplace').decode()}"
        ) from error
    return encoded.decode("ascii")
