"""Authentication-Results (RFC 8601) of a relay that is trusted: does it vouch for the author?

Only ask for a message that a relay in HORO_TRUSTED_RELAYS handed over itself. Such a relay must take away fields that bear its own
name (RFC 8601 5). What an outsider wrote stands below the relay's own Received; so the fields above it count, where they bear the topmost
one's name (a relay of several filters writes one for each), and of those below it the topmost alone.

Where a relay has looked (DKIM, SPF, DMARC, AUTH) and nothing that it found is for the author, the author is not vouched for, and that is a "fail":
else whoever signs for a domain of his own, or for none, could write as anybody whose domain has no DMARC policy.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Literal

from shared import headers
from shared.address import AddressError, domain_key, person_key
from shared.policy import author

MAX_VALUE = 16 * 1024
"""Octets of the field; a longer one says nothing."""

MAX_FIELDS = 20
"""Fields of one relay; more say nothing."""

Verdict = Literal["pass", "fail", "unsure"]

_TOKEN = re.compile(
    r"""(?P<space>[\s]++)|(?P<quoted>"(?:[^"\\]|\\.)*+")|(?P<end>;)|(?P<open>\()|(?P<word>[^\s";()]++)|(?P<junk>.)""",
    re.DOTALL,
)
_RESULT = re.compile(r"([a-z0-9-]+)(?:/[0-9]+)?=([a-z]+)")
_Result = tuple[str, str, dict[str, str]]
_METHODS = frozenset(("dmarc", "dkim", "spf"))
_ALIGNED = {"dkim": ("header.d", "header.i"), "spf": ("smtp.mailfrom", "smtp.mail")}


def trusted_author(head: bytes, *, authserv: Collection[str] = ()) -> Verdict | None:
    """What the relay's Authentication-Results say of the author: "pass", "fail", "unsure" where it could not find out for now, or None
    where it did not look.

    Its own AUTH decides where it names an address, then DMARC; else DKIM or SPF that passed for the author's domain or one above it.
    `authserv` names the authserv-ids that are believed, any where it is empty.
    """
    sender, parsed = author(head), [_parse(value) for value in _of_the_relay(head)]
    if sender is None or not parsed:
        return None
    name = parsed[0][0]
    if authserv and name not in {wanted.lower() for wanted in authserv}:
        return None
    return _judge(sender, [result for other, results in parsed if other == name for result in results])


def _of_the_relay(head: bytes) -> list[str]:
    """The values of the fields that the relay itself must have written; none where one of them is too long."""
    found: list[str] = []
    hops = 0
    for field in headers.fields(head):
        if field.name == "received":
            hops += 1
            if found:
                return found  # the relay's own Received: what stands above it is the relay's
        elif field.name == "authentication-results" and hops <= 1:
            if len(field.raw) > MAX_VALUE or len(found) == MAX_FIELDS:
                return []
            found.append(field.value.decode("utf-8", "replace"))
            if hops:
                return found
    return found[:1]


def _judge(sender: str, results: list[_Result]) -> Verdict | None:
    domain = sender.rpartition("@")[2]
    logins = [
        properties.get("smtp.auth", "").strip('"')
        for method, result, properties in results
        if (method, result) == ("auth", "pass")
    ]
    if addresses := [login for login in logins if "@" in login]:
        return "pass" if all(person_key(address) == person_key(sender) for address in addresses) else "fail"
    for method, result, properties in results:
        if method == "dmarc" and _domain(properties.get("header.from", "")) == domain and result in ("pass", "fail"):
            return "pass" if result == "pass" else "fail"
    found = {result for method, result, _ in results if method in _METHODS}
    if any(result == "pass" and _is_for(domain, method, properties) for method, result, properties in results):
        return "pass"
    if (
        not found or logins
    ):  # a login that is a bare name: somebody known to the relay, and by what address is not known to us
        return None
    return "unsure" if "temperror" in found else "fail"


def _is_for(domain: str, method: str, properties: dict[str, str]) -> bool:
    """Whether DKIM or SPF looked at the domain or one above it."""
    claimed = [_domain(properties[name]) for name in _ALIGNED.get(method, ()) if name in properties]
    return any(name and (domain == name or domain.endswith(f".{name}")) for name in claimed)


def _domain(text: str) -> str:
    """The domain of a property's value, which may be a domain, `@domain` or an address."""
    try:
        return domain_key(text.strip('"').rpartition("@")[2])
    except AddressError:
        return ""


def _parse(value: str) -> tuple[str, list[_Result]]:
    """(authserv-id, [(method, result, properties)]), all names in lower case. Whatever cannot be read is left out."""
    parts = [" ".join(part.split()).replace(" =", "=").replace("= ", "=").split() for part in _without_comments(value)]
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
