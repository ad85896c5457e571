"""What a head says, and what follows from it: who wrote it, whether a human did, whether they may post. Pure, bounded, linear.

Nothing here decodes an encoded word to take a decision, and every identity is read by the one strict parser of `shared.mailboxes`. What is
asked of the author's name stands in one `From:` field with one address; whatever else, and be it common, gives no permission.
"""

from __future__ import annotations

import re
from collections.abc import Hashable

from shared import headers, rfc2047
from shared.address import key, person_key
from shared.groups import Group
from shared.mailboxes import Mailbox, addresses, mailboxes
from shared.replies import AMBIGUOUS_AUTHOR, AUTHOR_UNSURE, NOT_ALLOWED, Reply

MAX_AUTHORS = 100
MAX_FROM = 64 * 1024
"""Octets of all From: fields together that are looked at."""

MAX_RECIPIENTS = 10_000
MAX_REFERENCES = 100
MAX_SUBJECT = 200
MAX_LINE = headers.MAX_LINE

_ROBOTS = frozenset(("mailer-daemon", "sympa", "listserv", "majordomo", "smartlist", "mailman"))
_PRECEDENCES = frozenset((b"bulk", b"junk", b"auto_reply"))
_AUTOMATIC_FIELDS = frozenset(
    (
        "auto-submitted",
        "content-identifier",
        "content-type",
        "precedence",
        "x-autoreply",
        "x-autorespond",
        "x-mailing-list",
        "x400-content-identifier",
    )
)
_RECIPIENT_FIELDS = frozenset(("to", "cc", "resent-to", "resent-cc"))
_FIRST_WORD = re.compile(rb"(?:\s++|\([^()]*+\))*+([^\s;(]*+)")
_MESSAGE_ID = re.compile(rb"<[^<>\s\x00-\x1f\x7f]{1,996}+>")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


# --- who wrote it -----------------------------------------------------------------------------------------------------
def authors(head: bytes) -> tuple[str, ...]:
    """All addresses in From: fields as keys, each once, at most 100. Enough to leave somebody out of a copy; never to let somebody in."""
    return tuple(
        dict.fromkeys(box.key for value in _from_values(head) for box in mailboxes(value, limit=MAX_AUTHORS)[0])
    )[:MAX_AUTHORS]


def author(head: bytes) -> str | None:
    """The key of the author, where one From: field with one address leaves no doubt; else None (two fields, NUL, group syntax, ...)."""
    box = _author(head)
    return box.key if box is not None else None


def author_address(head: bytes) -> str | None:
    """The same as it is spelled: what mail is sent to, for the case of a local part is its server's business (RFC 5321 2.4)."""
    box = _author(head)
    return box.address if box is not None else None


def _author(head: bytes) -> Mailbox | None:
    found = [field for field in headers.fields(head) if field.name == "from"]
    if len(found) != 1 or not found[0].plain or len(found[0].raw) > MAX_FROM or _CONTROL.search(found[0].value):
        return None
    boxes, well_formed = mailboxes(found[0].value, limit=2)
    return boxes[0] if well_formed and len(boxes) == 1 else None


def _from_values(head: bytes) -> list[bytes]:
    found, octets = [], 0
    for value in headers.values(head, "from"):
        octets += len(value)
        if octets > MAX_FROM:
            break
        found.append(value)
    return found


def recipients_in_header(head: bytes) -> frozenset[str]:
    """The keys of the addresses in To:, Cc:, Resent-To: and Resent-Cc:, among the first 10,000 elements of them all."""
    return addresses(
        (field.value for field in headers.fields(head) if field.name in _RECIPIENT_FIELDS), limit=MAX_RECIPIENTS
    )


# --- whether a human did ------------------------------------------------------------------------------------------------
def automatic(head: bytes, mail_from: str) -> str | None:
    """Why a message counts as not written by a human, or None. Asking others not to answer (X-Auto-Response-Suppress), List-* fields and
    `Precedence: list` do not count: people write such mail, and our own sub-groups get it."""
    if not mail_from:
        return "null sender"
    for address in (mail_from, *authors(head)):
        if key(address).rpartition("@")[0] in _ROBOTS:
            return "sender is a mail robot"
    told = (field for field in headers.fields(head) if field.name in _AUTOMATIC_FIELDS)
    return next((reason for field in told if (reason := _automatic_field(field.name, field.value))), None)


def _automatic_field(name: str, value: bytes) -> str | None:
    match name:
        case "auto-submitted":
            return None if _keyword(value) == b"no" else "Auto-Submitted"
        case "content-identifier":
            return "Content-Identifier" if value.lower().startswith(b"auto-replied") else None
        case "x400-content-identifier":
            return "X400-Content-Identifier" if value.lower().startswith(b"auto reply to") else None
        case "precedence":
            return "Precedence" if _keyword(value) in _PRECEDENCES else None
        case "x-mailing-list" | "x-autoreply" | "x-autorespond":
            return {"x-mailing-list": "X-Mailing-List", "x-autoreply": "X-Autoreply"}.get(name, "X-Autorespond")
        case "content-type":
            return "multipart/report" if _keyword(value) == b"multipart/report" else None
    return None


def _keyword(value: bytes) -> bytes:
    """The word before the first `;`, white space or comment, in lower case; comments in front of it are skipped."""
    match = _FIRST_WORD.match(value)
    return match[1].lower() if match else b""


# --- what the trace keeps -------------------------------------------------------------------------------------------------
def message_id(head: bytes) -> str:
    """The Message-ID with its brackets; without brackets what stands there; empty where there is none."""
    value = headers.first(head, "message-id") or b""
    match = _MESSAGE_ID.search(value)
    return rfc2047.printable((match[0] if match else value[:MAX_LINE]).decode("utf-8", "replace"))


def references(head: bytes) -> tuple[str, ...]:
    """The Message-IDs that the message answers, nearest last: References, then In-Reply-To; each once, the last 100."""
    found = [
        match
        for name in ("references", "in-reply-to")
        for value in headers.values(head, name)
        for match in _MESSAGE_ID.findall(value)
    ]
    nearest = dict.fromkeys(match.decode("utf-8", "replace") for match in reversed(found))
    return tuple(reversed(list(nearest)[:MAX_REFERENCES]))


def subject_text(head: bytes) -> str:
    """The first Subject, decoded for people's eyes: at most 200 printable characters."""
    return rfc2047.decode(headers.first(head, "subject") or b"", limit=MAX_SUBJECT)


def received_count(head: bytes) -> int:
    """How many hops the message has behind it."""
    return headers.count(head, "received")


# --- whether they may post --------------------------------------------------------------------------------------------------
def may_post(
    group: Group, *, author: str | None, mail_from: str, authenticated: str | None, verdict: str | None, is_member: bool
) -> Reply | None:
    """The refusal of a post, or None. `author` is this file's, `verdict` that of `shared.authresults`, `authenticated` is the address
    of SMTP AUTH, `is_member` says whether the author is a member of the group. Where nobody vouches for the author, From: is believed
    (and shown as forgeable), but not of a message without a return path, which no person sends."""
    settings = group.settings
    if settings.who_can_post == "anyone":
        return None
    if author is None:
        return AMBIGUOUS_AUTHOR
    if authenticated is not None:
        if person_key(authenticated) != person_key(author):
            return NOT_ALLOWED
    elif verdict == "fail" or not mail_from:
        return NOT_ALLOWED
    elif verdict == "unsure":
        return AUTHOR_UNSURE
    if author in {key(owner) for owner in settings.owners}:
        return None
    match settings.who_can_post:
        case "domain":
            allowed = author.rpartition("@")[2] == group.domain
        case "members":
            allowed = is_member
        case _:
            allowed = False
    return None if allowed else NOT_ALLOWED


def data_policy(group: Group) -> Hashable:
    """What decides the group's answer to DATA: two groups whose values are equal are sure to answer alike (else 452 4.5.3 at RCPT, P5)."""
    settings = group.settings
    same_for_all = (settings.reject_automatic, settings.max_size)
    match settings.who_can_post:
        case "anyone":
            return same_for_all
        case "domain":
            return (*same_for_all, "domain", group.domain, frozenset(key(owner) for owner in settings.owners))
        case _:
            return (*same_for_all, settings.who_can_post, group.address)
