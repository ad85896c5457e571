"""Bounces that are no delivery status notification: flufl.bounce finds the address, this file the words about it. Bounded, and never raises.

flufl.bounce is given a small message of short lines, because its patterns are searched line by line and an attacker writes the lines; it runs in a
thread of its own. Whatever it raises means that nothing was recognised: such mail goes to people.
"""

from __future__ import annotations

import asyncio
import email
import logging
import re
from collections.abc import Iterator

from flufl.bounce import all_failures

from services.expander.bounces.mime import parts
from services.expander.bounces.status import Told, codes, printable
from shared import headers, journal
from shared.address import AddressError, key, parse

MAX_LOOKED_AT = 64 * 1024
MAX_LINE = 500
MAX_DASHES = 200
"""Lines that may be boundaries: the library's parser takes seconds for a message of nothing else."""
_REPLY = re.compile(r"(?<![\d.])5\d\d(?![\d.])")
_NAMED = re.compile(r"<([^<>\s]{1,254}@[^<>\s]{1,254})>[^<>]{1,200}?(?<![\d.])5\d\d[ -]")
_SENTENCE = re.compile(r"\n\s*\n")
_LONG = re.compile(rb"[^\n]{%d,}" % MAX_LINE)

logging.getLogger("flufl.bounce").setLevel(
    logging.CRITICAL
)  # it logs each of its detectors; what it raises is logged below


async def guessed(message: bytes) -> list[Told]:
    """What a message says of addresses that failed or are late, by its looks; nothing where it looks like no bounce."""
    return await asyncio.to_thread(guess, message)


def guess(message: bytes) -> list[Told]:
    """The same, here and now."""
    small = _LONG.sub(lambda line: line[0][:MAX_LINE], message[:MAX_LOOKED_AT])
    text = _text(small)
    late, failed = _found(small) if small.count(b"\n--") <= MAX_DASHES else ([], [])
    if not late and not failed:
        failed = _named(text)
    found = [Told((address,), "failed", *diagnosis(text, address)) for address in failed]
    return found + [Told((address,), "delayed", "", "") for address in late if address not in failed]


def _found(message: bytes) -> tuple[list[str], list[str]]:
    """The addresses that are late and those that failed."""
    try:
        temporary, permanent = all_failures(email.message_from_bytes(message))
    except Exception as error:  # a library over an attacker's octets: anything may come, and it means "not recognised"
        journal.unreadable("flufl.bounce", f"{type(error).__name__}: {error}")
        return [], []
    return _addresses(temporary), _addresses(permanent)


def _named(text: str) -> list[str]:
    """The addresses that a text in any language names as failed: in brackets, with a code of failure soon after."""
    return _addresses(frozenset(match[1].encode("utf-8", "replace") for match in _NAMED.finditer(text)))


def _addresses(found: frozenset[bytes]) -> list[str]:
    return sorted(filter(None, (_address(octets) for octets in found)))[:100]


def _address(octets: bytes) -> str:
    try:
        return str(parse(octets.decode("utf-8", "replace").strip("<>'\" ")))
    except AddressError:
        return ""


# --- words ------------------------------------------------------------------------------------------------------------
def _text(message: bytes) -> str:
    """What the message says in words, without a copy of the original at its end."""
    said = [_decoded(part.head, part.octets) for part in parts(message) if part.kind in ("text/plain", "text/html")]
    return "\n\n".join(said[:3])[:MAX_LOOKED_AT]


def _decoded(head: bytes, octets: bytes) -> str:
    match = re.search(rb'charset="?([\w.:-]{1,40})', headers.first(head, "content-type") or b"", re.IGNORECASE)
    try:
        return octets.decode(match[1].decode("ascii") if match else "utf-8", "replace")
    except (LookupError, ValueError, UnicodeError):  # a charset nobody knows, or one that is no text at all
        return octets.decode("utf-8", "replace")


def diagnosis(text: str, address: str = "") -> tuple[str, str]:
    """(status, words) about an address: the paragraph that names it, and the next where that one holds no code; or the first with a code."""
    paragraphs = [paragraph for paragraph in _SENTENCE.split(text[:MAX_LOOKED_AT]) if paragraph.strip()]
    about = list(_about(paragraphs, address)) if address else paragraphs
    told = next((words for words in about if _has_code(words)), about[0] if address and about else "")
    found = codes(told)
    return (found[0] if found else ""), printable(told)


def _about(paragraphs: list[str], address: str) -> Iterator[str]:
    name = key(address)
    for number, paragraph in enumerate(paragraphs):
        at = paragraph.lower().find(name)
        if at >= 0:
            own = paragraph[at : at + 800]  # of a long list, what follows the address
            yield own
            if number + 1 < len(paragraphs):
                yield f"{own} {paragraphs[number + 1]}"


def _has_code(words: str) -> bool:
    return bool(codes(words) or _REPLY.search(words))


def own_words(message: bytes) -> tuple[str, str]:
    """(status, words) of a message that names nobody, where it holds a code of failure; ("", "") where it holds none."""
    return diagnosis(_text(message[:MAX_LOOKED_AT]))
