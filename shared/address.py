"""Addresses: parse and normalise; nobody else does. Bytes in, strict RFC 5321; nothing is decoded, repaired or guessed.

A filter in front of us, or the next hop behind us, must never see another mailbox than we do: so source routes, address literals,
percent and bang routing, encoded words and look-alikes of ASCII are refused, and a quoted local part is unquoted only where RFC 5321
says that both are the same mailbox (4.1.2). The form in which two addresses are compared is `key`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import msgspec

from shared.idn import AddressError, check_characters, shown, to_ascii

__all__ = [
    "Address",
    "AddressError",
    "Role",
    "bounce_address",
    "check_group_name",
    "domain_key",
    "key",
    "keys",
    "parse",
    "parse_path",
    "person_key",
    "split_role",
]

Role = Literal["group", "owner", "bounces", "postmaster"]

MAX_LOCAL = 64
"""Octets of a local part (RFC 5321 4.5.3.1.1)."""

MAX_PATH = 256
"""Octets of a path with its brackets (RFC 5321 4.5.3.1.3)."""

MAX_GROUP_LOCAL = MAX_LOCAL - len("-owner")
"""Octets of a group's local part: its owner address must fit too."""

_CACHED_LENGTH = 512  # longer text is no address: it may not fill the cache (P10)
_ATEXT = r"[a-zA-Z0-9!#$%&'*+/=?^_`{|}~\x80-\U0010ffff-]"
_DOT_STRING = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*+)"')
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ESCAPED = re.compile(r"\\(.)")
_ENCODED_WORD = re.compile(r"=\?[^?]*\?[bBqQ]\?")
_ROUTING = frozenset("%!@")
_SUFFIXES: tuple[tuple[str, Role], ...] = (("-owner", "owner"), ("-bounces", "bounces"))


class Address(msgspec.Struct, frozen=True):
    """An address: `local` as written (quoted forms unquoted only where that is the same mailbox), `domain` as lower case A-label.

    `domain` is empty for the special `<postmaster>` of RFC 5321 4.1.1.3 alone.
    """

    local: str
    domain: str

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}" if self.domain else self.local

    @property
    def key(self) -> str:
        """The canonical form: what is compared, indexed and hashed."""
        return key(str(self))


# --- reading ----------------------------------------------------------------------------------------------------------
def parse_path(argument: bytes, *, utf8: bool) -> tuple[Address | None, bytes]:
    """Read the path at the start of a MAIL FROM: or RCPT TO: argument (after the colon): (address, the rest: ESMTP parameters).

    The address is None for `<>`, and `Address("postmaster", "")` for `<postmaster>` in any case, which only RCPT may take. `utf8` says
    whether SMTPUTF8 holds for the transaction. Spaces before the bracket are let pass, for too many clients write them.
    Raises `AddressError`.
    """
    argument = argument.lstrip(b" ")
    if not argument.startswith(b"<"):
        raise AddressError("the address must be in angle brackets")
    end = _closing_bracket(argument)
    path, rest = argument[1:end], argument[end + 1 :]
    if rest and not rest.startswith(b" "):
        raise AddressError("text after the address")
    if end + 1 > MAX_PATH:
        raise AddressError(f"the path is longer than {MAX_PATH} octets")
    rest = rest.strip(b" ")
    if not path:
        return None, rest
    if path.lower() == b"postmaster":
        return Address("postmaster", ""), rest
    return _mailbox(_text(path, utf8=utf8)), rest


def parse(text: str, *, default_domain: str = "") -> Address:
    """Read an address that a person or a file gave; a bare name is one of `default_domain`, where there is one. Raises `AddressError`."""
    text = text.strip()
    if len(text) > MAX_PATH:
        raise AddressError(f"the address is longer than {MAX_PATH} octets")
    if "@" not in text and default_domain and text:
        text = f"{text}@{default_domain}"
    address = _mailbox(text)
    if len(str(address).encode()) + 2 > MAX_PATH:
        raise AddressError(f"the address is longer than {MAX_PATH - 2} octets")
    return address


def _closing_bracket(argument: bytes) -> int:
    """Where the path ends: the first `>` outside a quoted string."""
    end = argument.find(b">")
    if end > 0 and b'"' not in argument[:end]:
        return end
    quoted = False
    position = 1
    while position < len(argument):
        octet = argument[position]
        if quoted and octet == 0x5C:
            position += 1
        elif octet == 0x22:
            quoted = not quoted
        elif octet == 0x3E and not quoted:
            return position
        position += 1
    raise AddressError("the closing angle bracket is missing")


def _text(path: bytes, *, utf8: bool) -> str:
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError as error:
        raise AddressError("the address is not valid UTF-8") from error
    if not utf8 and not text.isascii():
        raise AddressError("SMTPUTF8 is needed for this address", needs_utf8=True)
    return text


def _mailbox(text: str) -> Address:
    """`local@domain`, nothing before, between or after."""
    if _CONTROL.search(text):
        raise AddressError("control characters in the address")
    if text.startswith("@"):
        raise AddressError("source routes are not accepted")
    local, at, domain = text.rpartition("@")
    if not at:
        raise AddressError(f"{shown(text)} has no domain")
    if domain.startswith("["):
        raise AddressError("address literals are not accepted")
    return Address(_local(local), to_ascii(domain))


def _local(local: str) -> str:
    """A local part, unquoted where that is the same mailbox, else quoted with the fewest backslashes."""
    check_characters(local)
    if (content := _content(local)) is None:
        raise AddressError(f"{shown(local)} is no local part")
    if _ROUTING.intersection(content):
        raise AddressError("routing in the local part is not accepted")
    if _ENCODED_WORD.search(content):
        raise AddressError("encoded words are no addresses")
    canonical = content if _DOT_STRING.fullmatch(content) else _quote(content)
    if len(canonical.encode()) > MAX_LOCAL:
        raise AddressError(f"the local part is longer than {MAX_LOCAL} octets")
    return canonical


def _content(local: str) -> str | None:
    """What a local part stands for, without its quotes; None where it is none."""
    if match := _QUOTED.fullmatch(local):
        return _ESCAPED.sub(r"\1", match[1]) or None
    return local if _DOT_STRING.fullmatch(local) else None


def _quote(content: str) -> str:
    escaped = content.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# --- comparing --------------------------------------------------------------------------------------------------------
def key(address: str) -> str:
    """The canonical form: local NFC and lower case, domain lower case A-label. Never raises: what is no address is its own lower case."""
    return _cached_key(address) if len(address) <= _CACHED_LENGTH else _folded(address)


def keys(addresses: Sequence[str]) -> Sequence[str]:
    """The keys of many addresses, in their order. Plain lower-case ASCII, which nearly all are, costs one look at all of them together."""
    together = "\n".join(addresses)
    if together.isascii() and '"' not in together and together == together.lower():
        return addresses
    return [key(address) for address in addresses]


@lru_cache(maxsize=65536)
def _cached_key(address: str) -> str:
    if '"' not in address and address.isascii():
        return address.lower()
    local, _, domain = address.rpartition("@")
    try:
        domain = to_ascii(domain)
    except AddressError:
        return _folded(address)
    if local.startswith('"') and (content := _content(local)) is not None:
        local = content if _DOT_STRING.fullmatch(content) else _quote(content)
    return f"{_folded(local)}@{domain}"


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).lower())


def domain_key(name: str) -> str:
    """A domain name in the form in which two are compared: lower case A-label. Raises `AddressError`."""
    return to_ascii(name.strip())


def person_key(address: str) -> str:
    """The key without its +tag: who somebody is for the author filter, whichever of their tagged addresses is used."""
    local, at, domain = key(address).rpartition("@")
    base = local if local.startswith('"') else local.partition("+")[0]
    return f"{base or local}{at}{domain}"


# --- addresses of ours ------------------------------------------------------------------------------------------------
def split_role(key: str) -> tuple[Role, str, str]:
    """What a key stands for at a domain of ours: (role, the group's key, +tag); for postmaster the domain in the group's place.

    `office+x@d` is the group `office@d`, `office-bounces+TOKEN@d` its bounce address. Whether the group exists is not known here.
    """
    local, _, domain = key.rpartition("@")
    if not local:  # "postmaster" alone, or no address at all
        return ("postmaster", "", "") if key == "postmaster" else ("group", key, "")
    if local.startswith('"'):
        return "group", key, ""
    base, _, tag = local.partition("+")
    if not base:
        return "group", key, ""
    if base == "postmaster":
        return "postmaster", domain, tag
    for suffix, role in _SUFFIXES:
        if (name := base.removesuffix(suffix)) and name != base:
            return role, f"{name}@{domain}", tag
    return "group", f"{base}@{domain}", tag


def bounce_address(group_key: str, token: str) -> str:
    """The envelope sender of a group's copies. Where the group's own would be too long, or would need SMTPUTF8 of every next
    hop, the token travels to the domain's postmaster, which finds its group by it."""
    local, _, domain = group_key.rpartition("@")
    own = f"{local}-bounces+{token}"
    return f"{own if own.isascii() and len(own) <= MAX_LOCAL else f'postmaster+{token}'}@{domain}"


def check_group_name(local: str) -> None:
    """Refuse a local part that a new group may not have: reserved, tagged, or one that can be mistaken for another. Raises `AddressError`."""
    if not local or any(not (c.isalnum() or c in ".-_" or unicodedata.category(c) in ("Mn", "Mc")) for c in local):
        raise AddressError(f"{shown(local)}: a group's name has letters, digits, dots, hyphens and underscores only")
    if not unicodedata.is_normalized("NFKC", local) or not unicodedata.is_normalized("NFKC", local.lower()):
        raise AddressError(f"{shown(local)}: the name has characters that look like others; write it in plain letters")
    if not _DOT_STRING.fullmatch(local) or local[0] == "-":
        raise AddressError(f"{shown(local)}: dots stand between letters, and a hyphen is not the first")
    if len(local.lower().encode()) > MAX_GROUP_LOCAL:
        raise AddressError(f"a group's name is at most {MAX_GROUP_LOCAL} octets long")
    name = local.lower()
    if name == "postmaster" or name.endswith(tuple(suffix for suffix, _ in _SUFFIXES)):
        raise AddressError(f"{shown(local)} is reserved: postmaster, and names that end in -owner or -bounces")
    check_characters(local)
    if len(_scripts(local)) > 1:
        raise AddressError(f"{shown(local)}: letters of different alphabets in one name")


_TOGETHER = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HANGUL": "CJK", "BOPOMOFO": "CJK"}


def _scripts(text: str) -> set[str]:
    """The alphabets of a text's letters, of its marks, and of its digits beyond ASCII (a Bengali 4 looks like an 8), by the first
    word of each character's Unicode name; alphabets that are written together count as one. Marks of no alphabet
    ("COMBINING ...") count as one of their own: with a letter that they do not compose with, they make no name."""
    marked = [c for c in text if c.isalpha() or not c.isascii()]
    words = {re.split("[ -]", unicodedata.name(c, "UNKNOWN"), maxsplit=1)[0] for c in marked}
    return {_TOGETHER.get(word, word) for word in words}
