"""What a spam check means for a message: refused, put off, marked, or let pass. The check itself is `rspamd.py`'s.

Checked is what goes to members: posts for groups. Mail for the owners, postmasters and bounce addresses is not, for it is there to be read when
something is wrong, spam among it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from services.ingress.data import Received
from services.ingress.recipients import Transaction
from services.ingress.rspamd import MAX_RECIPIENTS, Rspamd, Unchecked
from shared import headers, journal
from shared.bodies import Bodies
from shared.messages import Checked, Content, Origin, TargetKind
from shared.replies import SPAM, SPAM_LATER, Reply
from shared.settings import Settings

MARK = headers.field("X-Spam", "Yes")
"""The one header field that a check adds, for the filters of the members. The subject stays as its author wrote and signed it (P8)."""

REFUSED = frozenset(("reject", "discard", "quarantine"))
"""Actions that mean that nobody is to get it. Nothing is dropped in silence (P5): the client hears of it."""
PUT_OFF = frozenset(("soft reject", "greylist"))
MARKED = frozenset(("add header", "rewrite subject"))


class Screened(msgspec.Struct, frozen=True):
    """What came of it: `reply` where posts are not accepted, and else the verdict for the trace, and whether it marks the message."""

    reply: Reply | None = None
    checked: Checked | None = None
    content: Content | None = None

    @property
    def marked(self) -> bool:
        """Whether copies say that it may be spam."""
        return self.checked is not None and self.checked.action in MARKED


UNSCREENED = Screened()
"""Nothing was asked."""


class Screen:
    """Has posts checked where HORO_RSPAMD_URL says by whom."""

    def __init__(self, settings: Settings, bodies: Bodies) -> None:
        self._rspamd = Rspamd(settings) if settings.rspamd_url else None
        self._closed = settings.rspamd_fail == "closed"
        self._bodies = bodies

    @property
    def active(self) -> bool:
        """Whether anything is checked at all."""
        return self._rspamd is not None

    async def screen(self, mail: Transaction, received: Received, origin: Origin, *, relayed: bool) -> Screened:
        """The verdict on a message. A large body is in the store afterwards: `content` is then the message's. Raises what the store raises."""
        assert self._rspamd is not None
        content = await received.commit()
        asked = _asked(mail, origin, relayed=relayed)
        try:
            checked = await self._rspamd.check(asked, content.size, self._octets(content))
        except Unchecked as error:
            journal.unchecked(str(error), ip=origin.ip)
            return Screened(SPAM_LATER if self._closed else None, Checked(action="unchecked"), content)
        if checked.action in REFUSED:
            return Screened(SPAM, checked, content)
        if checked.action in PUT_OFF:
            return Screened(SPAM_LATER, checked, content)
        return Screened(None, checked, content)

    async def _octets(self, content: Content) -> AsyncIterator[bytes]:
        yield content.head
        if content.ref is None:
            yield content.tail
            return
        async for chunk in self._bodies.stream(content.ref, content.offset):
            yield chunk


def _asked(mail: Transaction, origin: Origin, *, relayed: bool) -> list[tuple[str, str]]:
    """What rspamd is told of the envelope. A relay of ours is no client: of where the mail came from rspamd then reads what the relay wrote."""
    recipients = [each.target.recipient for each in mail.targets.values() if each.target.kind is TargetKind.GROUP]
    asked = [("From", mail.mail_from), *(("Rcpt", each) for each in recipients[:MAX_RECIPIENTS])]
    if not relayed:
        asked += [("IP", origin.ip), ("Helo", origin.helo)]
    return asked
