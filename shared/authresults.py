"""Authentication-Results (RFC 8601) of a relay that is trusted: does it vouch for the author's domain?

Only ask for a message that a relay in HORO_TRUSTED_RELAYS handed over itself. Such a relay must take away fields that bear its own
name (RFC 8601 5); what an outsider wrote stands below the relay's own fields, so the topmost field alone counts, and only where at most the
relay's own Received stands above it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from shared import headers
from shared.address import AddressError, domain_key
from shared.policy import author

MAX_VALUE = 16 * 1024
"""Octets of the field; a longer one says nothing."""

Verdict = Literal["pass", "fail"]

_TOKEN = re.compile(
    r"""(?P<space>[\s]++)|(?P<quoted>"(?:[^"\\]|\\.)*+")|(?P<end>;)|(?P<open>\()|(?P<word>[^\s";()]++)|(?P<junk>.)""",
    re.DOTALL,
)
_RESULT = re.compile(r"([a-z0-9-]+)(?:/[0-9]+)?=([a-z]+)")
_ALIGNED = {"dkim": ("header.d", "header.i"), "spf": ("smtp.mailfrom", "smtp.mail")}


def trusted_author(head: bytes, *, authserv: Collection[str] = ()) -> Verdict | None:
    """What the topmost Authentication-Results says of the author's domain: "pass", "fail", or None where it says nothing.

    DMARC decides where it is there; else DKIM or SPF that passed for the author's domain or one above it. `authserv` names the
    authserv-ids that are believed, any where it is empty.
    """
    sender, value = author(head), _topmost(head)
    if sender is None or value is None:
        return None
    name, results = _parse(value)
    if authserv and name not in {wanted.lower() for wanted in authserv}:
        return None
    return _judge(sender.rpartition("@")[2], results)


def _topmost(head: bytes) -> str | None:
    hops = 0
    for field in headers.fields(head):
        if field.name == "received":
            hops += 1
        elif field.name == "authentication-results":
            return field.value.decode("utf-8", "replace") if hops <= 1 and len(field.raw) <= MAX_VALUE else None
    return None


def _judge(domain: str, results: list[tuple[str, str, dict[str, str]]]) -> Verdict | None:
    for method, result, properties in results:
        if method == "dmarc" and _domain(properties.get("header.from", "")) == domain and result in ("pass", "fail"):
            return "pass" if result == "pass" else "fail"
    failed = False
    for method, result, properties in results:
        claimed = [_domain(properties[name]) for name in _ALIGNED.get(method, ()) if name in properties]
        if any(name and (domain == name or domain.endswith(f".{name}")) for name in claimed):
            if result == "pass":
                return "pass"
            failed = failed or result == "fail"
    return "fail" if failed else None


def _domain(text: str) -> str:
    """The domain of a property's value, which may be a domain, `@domain` or an address."""
    try:
        return domain_key(text.strip('"').rpartition("@")[2])
    except AddressError:
        return ""


def _parse(value: str) -> tuple[str, list[tuple[str, str, dict[str, str]]]]:
    """(authserv-id, [(method, result, properties)]), all names in lower case. Whatever cannot be read is left out."""
    parts = [re.sub(r"\s*=\s*", "=", part).split() for part in _without_comments(value)]
    name = parts[0][0].lower() if parts[0] else ""
    results = []
    for words in parts[1:]:
        if words and (match := _RESULT.fullmatch(words[0].lower())):
            pairs = (word.partition("=") for word in words[1:])
            results.append((match[1], match[2], {left.lower(): right for left, _, right in reversed(list(pairs))}))
    return name, results


def _without_comments(value: str) -> list[str]:
    """The parts between semicolons, without comments; quoted strings lose the characters that mean something here."""
    parts, depth = [""], 0
    for match in _TOKEN.finditer(value):
        if match[0] in "()":
            depth = max(depth + (1 if match[0] == "(" else -1), 0)
        elif depth:
            continue
        elif match.lastgroup == "end":
            parts.append("")
        elif match.lastgroup == "quoted":
            parts[-1] += re.sub(r"[\s=;]", "_", match[0])
        else:
            parts[-1] += match[0]
    return parts
