"""What a report gives back of the original: the header section of what failed, or all of it where RET=FULL asked and it is small.

The ledger keeps no message. A failure brings its message with it (`Attempted.content`), whose body may be in the body store; for any other
report there are the fields that the ledger keeps. Reads are bounded; a blob that has gone is no reason to hold a report back.
"""

from __future__ import annotations

from services.reporter.dsn import Returned, head_from_fields
from shared.bodies import Bodies, BodyMissing
from shared.ledger import PostRecord
from shared.messages import Content

FULL_LIMIT = 50 * 1024
"""Octets of an original that comes back whole: backscatter is not to carry large things."""

HEAD_LIMIT = 64 * 1024
"""Octets of a header section that comes back."""


async def original_of(record: PostRecord, content: Content | None, bodies: Bodies, *, full: bool) -> Returned:
    """What there is. RET=FULL counts for failures alone (RFC 3461 4.3), so the caller says `full`. Raises `BodiesUnavailable`."""
    head = _head(content.head) if content is not None else b""
    if content is None or not head:
        return Returned(
            head=head_from_fields(message_id=record.message_id, subject=record.subject, author=record.author)
        )
    fits = content.size <= FULL_LIMIT and (
        content.ref is not None or content.tail
    )  # a head alone may be all that was kept
    return Returned(head=head, whole=await _whole(content, bodies) if full and fits else b"")


def kept(content: Content | None, *, full: bool) -> Content | None:
    """As much of a message that failed as a report made later may need: its head, and with RET=FULL all of it where it is small."""
    if content is None:
        return None
    if full and content.size <= FULL_LIMIT:
        return content
    return Content(head=content.head[: HEAD_LIMIT + 4])


async def _whole(content: Content, bodies: Bodies) -> bytes:
    """The message, which is small; nothing where its body has gone."""
    if content.ref is None:
        return content.head + content.tail
    try:
        return content.head + b"".join([chunk async for chunk in bodies.stream(content.ref, content.offset)])
    except BodyMissing:
        return b""


def _head(octets: bytes) -> bytes:
    """The header section in `octets` without its blank line, as many whole lines as may come back; b"" where this is no header."""
    head, blank, _ = octets[:HEAD_LIMIT].partition(b"\r\n\r\n")
    lines = head if blank else head.rpartition(b"\r\n")[0]
    return lines + b"\r\n" if b":" in lines.partition(b"\r\n")[0] else b""
