"""Addresses: parse and normalise; nobody else does. Bytes in, strict RFC 5321; nothing is decoded, repaired or guessed.

STUB OF THE INTERFACE, to be implemented (see docs/design/0001-pipeline.md, "Identity").
"""

from __future__ import annotations

from typing import Literal

import msgspec

Role = Literal["group", "owner", "bounces", "postmaster"]


class AddressError(ValueError):
    """Not an address in the grammar asked for; the text says what is wrong, without the input's control characters."""

    needs_utf8: bool = False


class Address(msgspec.Struct, frozen=True):
    """An address: `local` as written (quoted forms unquoted only where that is the same mailbox), `domain` as lower case A-label."""

    local: str
    domain: str


def parse_path(argument: bytes, *, utf8: bool) -> tuple[Address | None, bytes]:
    """Read the path at the start of a MAIL FROM: or RCPT TO: argument (after the colon): (address, the rest: ESMTP parameters)."""
    raise AddressError


def parse(text: str, *, default_domain: str = "") -> Address:
    """Read an address that a person or a file gave."""
    raise AddressError


def key(address: str) -> str:
    """The canonical form: local NFC and lower case, domain lower case A-label. Never raises: what is no address is its own lower case."""
    return address.lower()
