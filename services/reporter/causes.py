"""Why a copy did not arrive, in one of a dozen plain causes: what reports explain in words. Pure.

By the enhanced status (RFC 3463) where it says something, else by the words that servers commonly use. It decides which sentence people read, and
nothing else: whether a failure counts against a member is not decided here.
"""

from __future__ import annotations

import re
from enum import StrEnum

from shared.messages import Fate


class Cause(StrEnum):
    """A cause that people are told of."""

    UNKNOWN = "unknown"  # no such mailbox
    DOMAIN = "domain"  # no such domain, or it takes no mail
    DISABLED = "disabled"
    FULL = "full"
    TOO_LARGE = "too_large"
    REFUSED = "refused"  # policy, spam, authentication: not the address's fault
    EXPIRED = "expired"  # tried until HORO_RETRY_MAX_AGE
    UNREACHABLE = "unreachable"
    ALPHABET = "alphabet"  # an internationalised address or header, and a server that takes none
    LOOP = "loop"
    UNSURE = "unsure"  # nobody knows whether it arrived
    BUSY = "busy"  # the server asks for patience
    OTHER = "other"


_BY_STATUS: dict[str, Cause] = {
    "1.0": Cause.UNKNOWN,
    "1.1": Cause.UNKNOWN,
    "1.2": Cause.DOMAIN,
    "1.3": Cause.UNKNOWN,
    "1.4": Cause.UNKNOWN,
    "1.6": Cause.UNKNOWN,  # moved, and nobody knows where to
    "1.7": Cause.REFUSED,  # the sender's address
    "1.8": Cause.REFUSED,
    "1.10": Cause.DOMAIN,  # null MX, RFC 7505
    "2.1": Cause.DISABLED,
    "2.2": Cause.FULL,
    "2.3": Cause.TOO_LARGE,
    "3.1": Cause.FULL,
    "3.4": Cause.TOO_LARGE,
    "4.1": Cause.UNREACHABLE,
    "4.2": Cause.UNREACHABLE,
    "4.3": Cause.UNREACHABLE,
    "4.4": Cause.UNREACHABLE,
    "4.6": Cause.LOOP,
    "4.7": Cause.EXPIRED,
    "6.7": Cause.ALPHABET,
}
_BY_WORDS: tuple[tuple[re.Pattern[str], Cause], ...] = tuple(
    (re.compile(words, re.IGNORECASE), cause)
    for words, cause in (
        (r"quota|mailbox(?: is)? full|insufficient storage", Cause.FULL),
        (r"spam|blacklist|blocklist|blocked|dmarc|\bspf\b|\bdkim\b|policy|reputation", Cause.REFUSED),
        (
            r"user unknown|unknown user|no such (?:user|mailbox|recipient|account)|(?:user|mailbox|recipient|account|address) "
            r"(?:was |is )?(?:not found|unknown|does not exist|doesn't exist)|invalid (?:recipient|mailbox)",
            Cause.UNKNOWN,
        ),
        (r"disabled|inactive|suspended|deactivated", Cause.DISABLED),
        (r"too (?:large|big)|exceeds? .{0,20}size", Cause.TOO_LARGE),
    )
)
_LOST = "No reply after the final dot"
# What stands in a fate where no server answered: our own words, whose beginnings these are. A server that says the same changes nothing but a label.
_OURS = (
    "Cannot reach the next hop: ",
    "Connection lost ",
    "Time-out ",
    "Protocol error of the next hop: ",
    "TLS is required: ",
    "Cannot write to the mailbox: ",
    "Cannot look up the domain: ",
    "The next hop is busy: no connection was free",
    _LOST,
    "No room for the message",
    "The domain does not exist",
    "The domain is not one that mail can be sent to",
    "The domain accepts no mail (null MX)",
    "None of the domain's mail exchangers has an address",
    "The domain's mail exchanger is this very host",
    "The recipient address cannot be sent over SMTP",
    "The sender address cannot be sent over SMTP",
    "The next hop does not support internationalized mail",
    "The message is larger than the next hop takes",
    "Delivery time expired; ",
)


def ours(fate: Fate) -> bool:
    """Whether no server said this: no reply of SMTP or LMTP stands behind it."""
    return not fate.code or fate.text.startswith(_OURS)


def cause_of(fate: Fate) -> Cause:
    """The cause of a failure or a delay."""
    if fate.text.startswith(_LOST):
        return Cause.UNSURE
    klass, _, rest = fate.status.partition(".")
    temporary = klass == "4" or (not klass and fate.code // 100 == 4)
    if cause := _BY_STATUS.get(rest):
        waits = temporary and cause not in (Cause.FULL, Cause.UNREACHABLE, Cause.EXPIRED)
        return Cause.BUSY if waits else cause
    if rest.startswith("7."):
        return Cause.BUSY if temporary else Cause.REFUSED
    for words, cause in _BY_WORDS:
        if words.search(fate.text):
            return Cause.BUSY if temporary and cause is not Cause.FULL else cause
    return Cause.BUSY if temporary else Cause.OTHER
