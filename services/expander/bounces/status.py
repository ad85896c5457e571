"""Delivery status notifications by RFC 3464 and RFC 6533: who, what became of the message, and why. Pure, linear, bounded.

An attacker controls every octet: whether it may be believed is decided elsewhere. What servers write by their own taste is understood where its
meaning is plain: one block for all, comments, a missing Action, "error" for "failed", the true code in the diagnosis alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from services.expander.bounces.mime import parts
from shared import headers, rfc2047
from shared.address import AddressError, parse

MAX_RECIPIENTS = 100
MAX_TEXT = 400
"""Characters kept of a diagnosis."""
_KINDS = frozenset(("message/delivery-status", "message/global-delivery-status"))
_ACTIONS = frozenset(("failed", "delayed", "delivered", "relayed", "expanded"))
_BY_CLASS = {"2": "delivered", "4": "delayed", "5": "failed"}
_BLANK = re.compile(rb"(?:^[ \t]*\r?\n)+", re.MULTILINE)
_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)")
_WORD = re.compile(rb"[A-Za-z]+")
_TYPED = re.compile(
    r"\s*(?:(rfc822|utf-8|smtp|x400|unknown|x-[\w.-]+|dns|lmtp)\s*;)?\s*(.*)", re.IGNORECASE | re.DOTALL
)
_ESCAPED = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_XTEXT = re.compile(r"\+([0-9A-F]{2})")
_COMMENT = re.compile(r"\([^()]*\)")


class Told(NamedTuple):
    """What a notification says of one recipient. `addresses` are the original and the final one, as text, either or both."""

    addresses: tuple[str, ...]
    action: str
    status: str
    text: str


def told(message: bytes) -> list[Told]:
    """What a message says as a delivery status notification; nothing where it is none."""
    found: list[Told] = []
    for part in parts(message):
        if part.kind in _KINDS:
            for block in _blocks(part.octets):
                if (one := _told(block)) is not None:
                    found.append(one)
                if len(found) >= MAX_RECIPIENTS:
                    return found
    return found


def codes(text: str) -> list[str]:
    """The enhanced status codes in a text, each once; parts of IP addresses are none."""
    return list(dict.fromkeys(_STATUS.findall(text)))


def _blocks(octets: bytes) -> Iterator[bytes]:
    for block in _BLANK.split(octets.lstrip())[: MAX_RECIPIENTS + 1]:
        if block.strip():
            yield block


def _told(block: bytes) -> Told | None:
    """One recipient's fields; None for a block that names no recipient, such as the first, which is about the message."""
    named = [_address(value) for name in ("original-recipient", "final-recipient") for value in _all(block, name)]
    if not named:
        return None
    text = _text(block)
    status = _status(block, text)
    return Told(tuple(dict.fromkeys(filter(None, named))), _action(block, status), status, text)


def _all(block: bytes, name: str) -> list[str]:
    return [value.decode("utf-8", "replace") for value in headers.values(block, name)[:2]]


def _address(value: str) -> str:
    """The address in a recipient field: with or without its type, in brackets or not, a comment after it; "" for none."""
    match = _TYPED.fullmatch(value)
    kind, address = (match[1] or "").lower(), match[2] if match else value  # type: ignore[index]
    if kind == "utf-8":
        address = _ESCAPED.sub(lambda code: _character(int(code[1], 16)), address)
    address = _COMMENT.sub("", address).strip().removeprefix("<").removesuffix(">").strip()
    for candidate in (address, _XTEXT.sub(lambda code: chr(int(code[1], 16)), address)):
        try:
            return str(parse(candidate))
        except AddressError:
            continue
    return ""


def _character(number: int) -> str:
    return chr(number) if number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF else "\ufffd"


def _action(block: bytes, status: str) -> str:
    word = _WORD.search(headers.first(block, "action") or b"")
    action = word[0].decode("ascii").lower() if word else ""
    action = {"error": "failed", "failure": "failed", "delay": "delayed"}.get(action, action)
    return action if action in _ACTIONS else _BY_CLASS.get(status[:1], "")


def _status(block: bytes, text: str) -> str:
    """The Status field; where it says nothing (5.0.0), what the diagnosis says."""
    stated = codes((headers.first(block, "status") or b"").decode("ascii", "replace"))
    status = stated[0] if stated else ""
    if not status or status.endswith(".0.0"):
        return next((code for code in codes(text) if not code.endswith(".0.0")), status)
    return status


def _text(block: bytes) -> str:
    """The diagnosis, on one line."""
    for name in ("diagnostic-code", "x-diagnostic-code", "x-smtp-response"):
        if values := _all(block, name):
            match = _TYPED.fullmatch(values[0])
            return printable(match[2] if match else values[0])
    return ""


def printable(text: str) -> str:
    """A stranger's text on one line of at most `MAX_TEXT` characters."""
    return rfc2047.printable(" ".join(text[: MAX_TEXT * 4].split()))[:MAX_TEXT]
