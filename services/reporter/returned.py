"""What a report gives back of the original: its header section, or all of it where RET=FULL asked and it is small.

The ledger keeps no message. A large one is in the body store, octet for octet as it came, for as long as somebody may still need it; of any
other there are the fields that the ledger keeps. Reads are bounded; a blob that has gone is no reason to hold a report back.
"""

from __future__ import annotations

from services.reporter.dsn import Returned, head_from_fields
from shared.bodies import Bodies, BodyMissing
from shared.ledger import PostRecord
from shared.messages import BodyRef

FULL_LIMIT = 50 * 1024
"""Octets of an original that comes back whole: backscatter is not to carry large things."""

HEAD_LIMIT = 64 * 1024
"""Octets of a header section that comes back."""


async def original_of(record: PostRecord, bodies: Bodies, *, full: bool) -> Returned:
    """What there is. RET=FULL counts for failures alone (RFC 3461 4.3), so the caller says `full`. Raises `BodiesUnavailable`."""
    ref = record.body
    if (
        ref is not None and ref.size == record.size
    ):  # the blob is the whole message; otherwise it is a body without its header
        try:
            octets = await _first_octets(bodies, ref)
        except BodyMissing:
            octets = b""
        if head := _head(octets):
            return Returned(head=head, whole=octets if full and ref.size <= FULL_LIMIT else b"")
    return Returned(head=head_from_fields(message_id=record.message_id, subject=record.subject, author=record.author))


async def _first_octets(bodies: Bodies, ref: BodyRef) -> bytes:
    """The start of a blob: at most `HEAD_LIMIT` octets and a chunk are held."""
    octets = bytearray()
    stream = bodies.stream(ref)
    async for chunk in stream:
        octets += chunk
        if len(octets) >= HEAD_LIMIT:
            break
    return bytes(octets[:HEAD_LIMIT])


def _head(octets: bytes) -> bytes:
    """The header section in `octets`, whole lines of it where it is longer than that; b"" where this begins with no header."""
    head, blank, _ = octets.partition(b"\r\n\r\n")
    lines = head if blank else head.rpartition(b"\r\n")[0]
    return lines + b"\r\n" if b":" in lines.partition(b"\r\n")[0] else b""
