"""What a recipient's transaction ended with, as values: the remote reply, or our own verdict where no reply came. Pure.

Remote text is the next hop's word: bounded, one line, printable ASCII, because it goes into logs, the ledger and reports.
"""

from __future__ import annotations

import msgspec

from shared.replies import Reply

MAX_TEXT = 500
"""Octets kept of a remote reply's text: enough for the URL that large providers put there."""


class Answer(msgspec.Struct, frozen=True):
    """What became of one recipient in one transaction. `host` answered (or did not); `unknown`: lost between final dot and reply.

    `common`: a refusal of the transaction, said of its sender, its message or several recipients at once, so of no address in particular.
    """

    reply: Reply
    host: str
    unknown: bool = False
    common: bool = False


class Broken(Exception):
    """The conversation cannot go on; `reply` is what that means for the recipients that have no answer of their own yet."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def clean(text: str) -> str:
    """Text from outside as one line of printable ASCII, at most MAX_TEXT long."""
    if not text.isprintable():
        text = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    if not text.isascii():
        text = text.encode("ascii", "backslashreplace").decode("ascii")
    return text[:MAX_TEXT]


def unreachable(why: str) -> Reply:
    """No connection could be made; tried again later."""
    return Reply(451, "4.1", clean(f"Cannot reach the next hop: {why}"))


def lost(when: str) -> Reply:
    """The connection ended before the final dot was sent: nothing was delivered."""
    return Reply(451, "4.2", clean(f"Connection lost {when}"))


def timed_out(when: str) -> Reply:
    """The next hop did not answer in time."""
    return Reply(451, "4.2", clean(f"Time-out {when}"))


def garbled(what: str) -> Reply:
    """The next hop does not speak the protocol; it may have recovered at the next attempt."""
    return Reply(451, "5.0", clean(f"Protocol error of the next hop: {what}"))


def tls_trouble(why: str) -> Reply:
    """TLS is required and cannot be had; never sent in the clear instead."""
    return Reply(454, "7.0", clean(f"TLS is required: {why}"))


def local_trouble(why: str) -> Reply:
    """A Maildir that cannot be written now."""
    return Reply(451, "3.0", clean(f"Cannot write to the mailbox: {why}"))


def dns_trouble(why: str) -> Reply:
    """DNS did not answer: the domain may well exist."""
    return Reply(451, "4.3", clean(f"Cannot look up the domain: {why}"))


BUSY = Reply(451, "4.5", "The next hop is busy: no connection was free for it in time")
UNKNOWN = Reply(451, "4.2", "No reply after the final dot: it is not known whether the message was taken")
GIVEN_UP = Reply(
    554, "4.2", "No reply after the final dot, again and again: the message may have been taken more than once"
)
MAILBOX_FULL = Reply(452, "3.1", "No room for the message")
NO_DOMAIN = Reply(550, "1.2", "The domain does not exist")
BAD_DOMAIN = Reply(550, "1.2", "The domain is not one that mail can be sent to")
NO_MAIL = Reply(556, "1.10", "The domain accepts no mail (null MX)")
NO_EXCHANGER = Reply(550, "4.4", "None of the domain's mail exchangers has an address")
LOOP_TO_SELF = Reply(554, "4.6", "The domain's mail exchanger is this very host")
BAD_RECIPIENT = Reply(553, "1.3", "The recipient address cannot be sent over SMTP")
BAD_SENDER = Reply(553, "1.7", "The sender address cannot be sent over SMTP")
UTF8_NEEDED = Reply(550, "6.7", "The next hop does not support internationalized mail (SMTPUTF8)")
TOO_LARGE = Reply(552, "3.4", "The message is larger than the next hop takes")
