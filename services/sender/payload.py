"""The content of a delivery as it goes on the wire: stuffed once where it is inline, streamed from the body store where it is large.

Memory is bounded: an inline message is within HORO_INLINE_LIMIT, a large one is read chunk by chunk, for each transaction anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from services.sender.wire import Stuffer
from shared.bodies import Bodies
from shared.messages import Content


class Payload:
    """A message to send. `whole` is the message on the wire with its final dot, or None where it has to be streamed.

    `size` is in octets before stuffing. `eight_bit` says whether it may hold 8-bit octets; a next hop without 8BITMIME gets them all
    the same: RFC 6152 wants a conversion that would break signatures (P8), and practically every server takes 8-bit content.
    """

    def __init__(self, content: Content, bodies: Bodies) -> None:
        self._content = content
        self._bodies = bodies
        self.size = content.size
        self.utf8_head = not content.head.isascii()
        self.eight_bit = content.ref is not None or self.utf8_head or not content.tail.isascii()
        self.whole: bytes | None = None
        if content.ref is None:
            stuffer = Stuffer()
            self.whole = b"".join((stuffer.feed(content.head), stuffer.feed(content.tail), stuffer.end()))

    async def stuffed(self) -> AsyncIterator[bytes]:
        """The wire form in chunks; the last one is the final dot alone, so that it is never sent for a body that broke off.

        Raises `BodyMissing` and `BodiesUnavailable` as the body store does.
        """
        stuffer = Stuffer()
        async for chunk in self.raw():
            yield stuffer.feed(chunk)
        yield stuffer.end()

    async def raw(self) -> AsyncIterator[bytes]:
        """The message as it is, in chunks. Raises as `stuffed` does."""
        yield self._content.head
        if self._content.ref is None:
            yield self._content.tail
            return
        async for chunk in self._bodies.stream(self._content.ref, self._content.offset):
            yield chunk
