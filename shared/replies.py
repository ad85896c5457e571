"""SMTP replies as values: every reply that Horo gives or understands is named here, and nowhere else.

The class digit of the enhanced code (RFC 3463) is derived from the reply code, so that the two cannot disagree.
Public text and private cause are kept apart: a client sees `Reply.text`, the journal sees `why`.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What a reply code asks of the one who receives it (RFC 5321 4.2.1, first digit)."""

    POSITIVE = "positive"
    INTERMEDIATE = "intermediate"
    TRANSIENT = "transient"
    PERMANENT = "permanent"


class Reply(msgspec.Struct, frozen=True):
    """One SMTP or LMTP reply.

    `code` is the three digit code, `detail` the subject and detail of the enhanced status ("1.1" for x.1.1; empty where
    RFC 2034 wants none, as in the greeting, EHLO and 354), `text` the human part, ASCII, one line, no CR or LF.
    """

    code: int
    detail: str
    text: str

    @property
    def kind(self) -> Kind:
        """The class of the reply; a code outside 2xx to 5xx counts as transient, for the unknown is temporary trouble."""
        match self.code // 100:
            case 2:
                return Kind.POSITIVE
            case 3:
                return Kind.INTERMEDIATE
            case 5:
                return Kind.PERMANENT
            case _:
                return Kind.TRANSIENT

    @property
    def status(self) -> str:
        """The enhanced status code, "5.1.1"; where the detail is unknown, "5.0.0"."""
        return f"{self.code // 100}.{self.detail or '0.0'}"

    def __str__(self) -> str:
        return (
            f"{self.code} {self.code // 100}.{self.detail} {self.text}" if self.detail else f"{self.code} {self.text}"
        )


class TransientError(Exception):
    """Trouble that may pass: the work is to be tried again. Carries the reply a client may see, and the private cause."""

    def __init__(self, reply: Reply, *, why: str = "") -> None:
        super().__init__(f"{reply} [{why}]" if why else str(reply))
        self.reply = reply
        self.why = why


class PermanentError(Exception):
    """A final refusal. Carries the reply a client may see, and the private cause."""

    def __init__(self, reply: Reply, *, why: str = "") -> None:
        super().__init__(f"{reply} [{why}]" if why else str(reply))
        self.reply = reply
        self.why = why


# --- accepted -------------------------------------------------------------------------------------------------------
OK = Reply(250, "0.0", "OK")
RESET = Reply(250, "0.0", "Flushed")
BYE = Reply(221, "0.0", "Bye")
HELP = Reply(214, "0.0", "This server takes mail for groups; RFC 5321 has the commands")
SENDER_OK = Reply(250, "1.0", "Sender OK")
RECIPIENT_OK = Reply(250, "1.5", "Recipient OK")
START_TLS = Reply(220, "0.0", "Ready to start TLS")
START_DATA = Reply(354, "", "End data with <CR><LF>.<CR><LF>")
CANNOT_VERIFY = Reply(252, "1.5", "Cannot verify; send the message and see")

# --- trouble of our own: always temporary, fixed text (threats.md 3.1, "error disclosure") ---------------------------
TROUBLE = Reply(451, "3.0", "Temporary failure, please try again later")
NO_ROOM = Reply(452, "3.1", "Insufficient system storage, please try again later")
SHUTTING_DOWN = Reply(421, "3.2", "Service is closing, please try again later")
TOO_BUSY = Reply(421, "7.0", "Too many connections, please try again later")
TOO_MANY_ERRORS = Reply(421, "7.0", "Too many errors on this connection")
TOO_MUCH_JUNK = Reply(421, "7.0", "Too many commands without mail on this connection")
TOO_SLOW = Reply(421, "4.2", "Timeout, closing connection")
NOT_HTTP = Reply(421, "7.0", "This is a mail server")
RATE_LIMITED = Reply(450, "7.1", "Too many messages, please try again later")

# --- groups ---------------------------------------------------------------------------------------------------------
GROUP_UNKNOWN = Reply(550, "1.1", "No such group here")
GROUP_DISABLED = Reply(550, "2.1", "This group does not accept messages")
FOREIGN_DOMAIN = Reply(550, "7.1", "Relaying denied")
NOT_ALLOWED = Reply(550, "7.1", "You are not allowed to post to this group")
AUTHOR_UNSURE = Reply(451, "7.0", "The author cannot be verified now, please try again later")
AUTOMATIC = Reply(550, "7.1", "Automatic messages are not accepted by this group")
TOO_LARGE = Reply(552, "3.4", "Message is too large")
LOOP = Reply(554, "4.6", "Too many hops, this looks like a mail loop")
SEPARATE_TRANSACTION = Reply(452, "5.3", "Please send to this recipient in a separate transaction")
TOO_MANY_RECIPIENTS = Reply(452, "5.3", "Too many recipients, please send the rest in another transaction")
SPAM = Reply(550, "7.1", "The message looks like spam and is not accepted")
SPAM_LATER = Reply(451, "7.1", "The message cannot be accepted now, please try again later")
DOMAIN_SUSPENDED = Reply(450, "2.1", "Mail for this domain is suspended, please try again later")
OVER_QUOTA = Reply(452, "2.2", "This domain has sent as much as it may today, please try again later")
OVER_QUOTA_EVER = Reply(552, "2.2", "The group has more members than its domain may write to in a day")
AMBIGUOUS_AUTHOR = Reply(550, "6.0", "The message must have exactly one From: address to post to this group")

TRACED = frozenset((SPAM_LATER, DOMAIN_SUSPENDED, OVER_QUOTA))
"""Replies that put mail off and are told like refusals: an administrator wants to know why mail for a group does not come."""

# --- syntax and sequence ----------------------------------------------------------------------------------------------
BAD_LINE_ENDING = Reply(521, "5.2", "Bare CR, bare LF or NUL is not allowed")
BAD_COMMAND_BYTES = Reply(500, "5.2", "Bare CR, bare LF or NUL is not allowed in a command")
LINE_TOO_LONG = Reply(500, "5.2", "Line too long")
UNKNOWN_COMMAND = Reply(500, "5.1", "Command not recognised")
NOT_IMPLEMENTED = Reply(502, "5.1", "Command not implemented")
BAD_SYNTAX = Reply(501, "5.4", "Syntax error in parameters")
BAD_SEQUENCE = Reply(503, "5.1", "Bad sequence of commands")
BAD_ADDRESS = Reply(501, "1.3", "Bad recipient address syntax")
BAD_SENDER = Reply(501, "1.7", "Bad sender address syntax")
UTF8_NEEDED = Reply(553, "6.7", "SMTPUTF8 is needed for this address")
UNKNOWN_PARAMETER = Reply(555, "5.4", "Parameter not recognised")
BAD_SIZE = Reply(501, "5.4", "Bad SIZE parameter")
OUT_OF_SYNC = Reply(554, "5.0", "SMTP protocol synchronization error")
HEADER_TOO_LARGE = Reply(554, "6.0", "Message header is too large")
TLS_REQUIRED = Reply(530, "7.0", "Must issue a STARTTLS command first")
