"""Delivery status notifications: RFC 3464 in RFC 6522's multipart/report, with the types of RFC 6533 where an address is UTF-8. Pure.

A report goes to the envelope sender of a post, who is anybody: it names the group, and a member only in the failures of an `envelope=alias` group,
which are the author's own bounces (P9; RFC 3461 5.2.7.4 says that who wants to hide members uses a list envelope). ENVID, ORCPT and the
original's header are the client's words: they are decoded, checked, and left out where they are not what they claim to be.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from services.reporter import letters, mime
from services.reporter.causes import ours
from services.reporter.decide import Action
from services.reporter.letters import reply
from services.reporter.texts import Texts, texts
from shared.messages import Content, Fate

POSITIVE_STATUS = "2.1.5"
"""RFC 3463: destination address valid, the status of positive reports."""

GONE_STATUS = "5.1.1"

_STATUS = re.compile(r"^[245]\.\d{1,3}\.\d{1,3}$")
# A peer as the sender writes it, "mx1.example.org[192.0.2.1]:25" or "mx1.example.org:25"; a name whose last label is no number.
_PEER = re.compile(
    r"^(?=.{1,300}$)((?:[a-zA-Z0-9_](?:[a-zA-Z0-9_-]*[a-zA-Z0-9])?\.)+(?![0-9]+(?:[\[:]|$))[a-zA-Z0-9-]{1,63})"
    r"(?:\[[0-9a-fA-F.:]+\])?(?::[0-9]{1,5})?$"
)
_HEX = re.compile(r"\+([0-9A-F]{2})")
_UNICODE = re.compile(r"\\x\{([0-9A-Fa-f]{2,6})\}")
_TYPE = re.compile(r"^[A-Za-z][A-Za-z0-9.-]{0,30}$")


class Returned(msgspec.Struct, frozen=True, kw_only=True):
    """What comes back of the original: its header section, and all of it where `whole` is not empty (RET=FULL, failures only)."""

    head: bytes = b""
    whole: bytes = b""


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of one recipient (RFC 3464 2.3). `final` is the address exactly as received, `orcpt` as it came in RCPT, `fate` for people."""

    final: str
    action: Action
    status: str
    orcpt: str | None = None
    fate: Fate | None = None
    diagnostic: str = ""
    remote: str = ""
    last_attempt: float | None = None
    retry_until: float | None = None


class Dsn(msgspec.Struct, frozen=True, kw_only=True):
    """All that a report says. `id` makes its Message-ID, `address` is the group as the author wrote it, times are seconds since the epoch.

    `settled`: it is told when all copies had come to their end. `waiting`: for how many others delivery is still tried.
    `unnamed`: how many more have failed than have a block.
    """

    id: str
    hostname: str
    to: str
    address: str
    action: Action
    at: float
    arrived_at: float
    blocks: tuple[Block, ...]
    message_id: str = ""
    subject: str = ""
    envid: str | None = None
    returned: Returned = Returned()
    language: str = "en"
    settled: bool = False
    waiting: int = 0
    unnamed: int = 0


def block_of_fate(fate: Fate, *, action: Action, orcpt: str | None, retry_until: float | None = None) -> Block:
    """The fields of a member behind an alias.

    Diagnostic-Code is a reply of SMTP (RFC 3464 2.3.6; LMTP's are of that form) where a server gave one, and then Remote-MTA is its name, if it
    has one: an address or a path of ours is none. What only we can say is of a type of our own.
    """
    answered = not ours(fate)
    return Block(
        final=fate.address,
        action=action,
        status=fate.status if _STATUS.match(fate.status) else _status_of(fate.code),
        orcpt=orcpt,
        fate=fate,
        diagnostic=f"{'smtp' if answered else 'x-horo'}; {reply(fate)}" if fate.text or fate.code else "",
        remote=peer[1] if answered and (peer := _PEER.match(fate.hop)) else "",
        last_attempt=fate.at,
        retry_until=retry_until,
    )


def _status_of(code: int) -> str:
    return f"{code // 100}.0.0" if code // 100 in (4, 5) else "5.0.0"


def build(dsn: Dsn) -> Content:
    """The report. The same facts give the same octets."""
    words = texts(dsn.language)
    # a UTF-8 address is reached through SMTPUTF8 alone, which has 8BITMIME (RFC 6531 3.1)
    eight_bit = not dsn.to.isascii()
    parts = [
        mime.part(
            "text/plain; charset=utf-8",
            _text(dsn, words).encode("utf-8", "replace"),
            description=words.part_report,
            eight_bit=eight_bit,
            language=words.language,
        ),
        _status_part(dsn, words, eight_bit),
    ]
    if (returned := _returned_part(dsn.returned, words, eight_bit)) is not None:
        parts.append(returned)
    return mime.multipart(_headers(dsn, words), "multipart/report; report-type=delivery-status", parts)


def _headers(dsn: Dsn, words: Texts) -> list[str]:
    """The header, ASCII but for a UTF-8 `To`. Auto-Submitted keeps other programs from answering (RFC 3834 5)."""
    headers = [
        mime.mailbox("From", words.sender, f"MAILER-DAEMON@{mime.clean(dsn.hostname)}"),
        f"To: <{dsn.to}>",
        mime.header("Subject", words.subject[dsn.action].format(group=dsn.address)),
        f"Date: {mime.date(dsn.at)}",
        f"Message-ID: <{dsn.id}@{mime.clean(dsn.hostname)}>",
        "Auto-Submitted: auto-replied",
    ]
    if original := mime.identifier(dsn.message_id):
        headers += [f"In-Reply-To: {original}", f"References: {original}"]
    return headers


# --- for people ------------------------------------------------------------------------------------------------------
def _text(dsn: Dsn, words: Texts) -> str:
    people = [block.fate for block in dsn.blocks if block.fate is not None]
    lines = letters.paragraph(_story(dsn, words, len(people)))
    if dsn.waiting and dsn.action is Action.FAILED:
        lines += letters.paragraph(words.count(words.still_tried, dsn.waiting))
    if dsn.action in (Action.DELIVERED, Action.EXPANDED, Action.RELAYED):
        lines += letters.paragraph(words.nothing_to_do)
    lines += letters.by_cause(words, people, "author", more=dsn.unnamed)
    lines += [*letters.heading(words.your_message), *letters.facts(_about(dsn, words)), ""]
    return mime.CRLF.join((*lines, *letters.paragraph(words.footer.format(host=mime.clean(dsn.hostname)))))


def _story(dsn: Dsn, words: Texts, people: int) -> str:
    """What happened, in a sentence or two."""
    group = mime.clean(dsn.address)
    if dsn.action is Action.FAILED:
        return words.count(words.failed, people, group=group) if people else words.gone.format(group=group)
    if dsn.action is Action.DELAYED:
        until = next((block.retry_until for block in dsn.blocks if block.retry_until is not None), dsn.at)
        return words.count(words.delayed, people, group=group, until=words.time(until))
    if dsn.action is Action.DELIVERED:
        return (words.settled if dsn.settled else words.delivered).format(group=group)
    return (words.expanded if dsn.action is Action.EXPANDED else words.relayed).format(group=group)


def _about(dsn: Dsn, words: Texts) -> tuple[tuple[str, str], ...]:
    return (
        (words.label_subject, mime.clean(dsn.subject, 200)),
        (words.label_to, mime.clean(dsn.address)),
        (words.label_received, words.time(dsn.arrived_at)),
        (words.label_id, mime.identifier(dsn.message_id)),
    )


# --- for programs ----------------------------------------------------------------------------------------------------
def _status_part(dsn: Dsn, words: Texts, eight_bit: bool) -> bytes:
    """message/delivery-status, or message/global-delivery-status (RFC 6533 4) where it holds anything but ASCII."""
    groups = [_message_fields(dsn), *(_recipient_fields(block) for block in dsn.blocks)]
    payload = mime.CRLF.join(mime.CRLF.join((*group, "")) for group in groups).encode("utf-8", "replace")
    kind = "message/delivery-status" if payload.isascii() else "message/global-delivery-status"
    return mime.part(kind, payload, description=words.part_status, eight_bit=eight_bit)


def _message_fields(dsn: Dsn) -> list[str]:
    fields = []
    if dsn.envid:
        fields.append(f"Original-Envelope-Id: {decode_xtext(dsn.envid)}")
    return [*fields, f"Reporting-MTA: dns; {mime.clean(dsn.hostname)}", f"Arrival-Date: {mime.date(dsn.arrived_at)}"]


def _recipient_fields(block: Block) -> list[str]:
    fields = []
    if original := original_recipient(block.orcpt):
        fields.append(f"Original-Recipient: {original}")
    final = mime.clean(block.final, 600)
    fields += [
        f"Final-Recipient: {'rfc822' if final.isascii() else 'utf-8'}; {final}",
        f"Action: {block.action.value}",
        f"Status: {block.status}",
    ]
    if block.remote:
        fields.append(f"Remote-MTA: dns; {block.remote}")
    if block.diagnostic:
        fields.append(f"Diagnostic-Code: {mime.clean(block.diagnostic, 520)}")
    if block.last_attempt is not None:
        fields.append(f"Last-Attempt-Date: {mime.date(block.last_attempt)}")
    if block.retry_until is not None:
        fields.append(f"Will-Retry-Until: {mime.date(block.retry_until)}")
    return fields


def decode_xtext(value: str) -> str:
    """xtext (RFC 3461 4) in plain. What would decode to anything but printable ASCII stays encoded: "+0D+0A" writes no header of its own."""
    decoded = _HEX.sub(lambda match: chr(int(match[1], 16)), value)
    return decoded if decoded.isascii() and decoded.isprintable() else mime.clean(value)


def original_recipient(orcpt: str | None) -> str:
    """ "type; address" for Original-Recipient from ORCPT as received, or "" where there was none or it is malformed."""
    kind, semicolon, encoded = (orcpt or "").partition(";")
    if not semicolon or not encoded or not _TYPE.match(kind):
        return ""
    address = decode_xtext(encoded) if kind.lower() != "utf-8" else _UNICODE.sub(_character, encoded)
    return f"{kind}; {address}" if address.isprintable() and len(address) <= 600 else ""


def _character(match: re.Match[str]) -> str:
    """A character of RFC 6533's utf-8-addr-xtext; one that is none, or no text, makes the address unprintable and is so left out."""
    number = int(match[1], 16)
    return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "\0"


# --- the original ----------------------------------------------------------------------------------------------------
def _returned_part(returned: Returned, words: Texts, eight_bit: bool) -> bytes | None:
    """The original, where it may travel as it is; else its header section; else nothing (the part is optional, RFC 6522 3)."""
    whole = returned.whole
    if whole and mime.fits(whole) and (eight_bit or whole.isascii() or not _is_utf8_head(whole)):
        kind = "message/global" if _is_utf8_head(whole) else "message/rfc822"
        return mime.part(kind, whole, description=words.part_message, eight_bit=True, opaque=True)
    if not returned.head:
        return None
    kind = "message/global-headers" if _is_utf8_head(returned.head) else "text/rfc822-headers"
    return mime.part(kind, returned.head, description=words.part_header, eight_bit=eight_bit)


def _is_utf8_head(message: bytes) -> bool:
    """Whether the header section is of the kind of RFC 6532: more than ASCII, and UTF-8 (old 8-bit headers are not)."""
    head = message.partition(b"\r\n\r\n")[0]
    if head.isascii():
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def head_from_fields(*, message_id: str, subject: str, author: str) -> bytes:
    """A header section made of what the ledger keeps, for originals whose octets are no longer at hand."""
    lines = [f"From: {mime.clean(author)}"] if author else []
    lines += [mime.header("Subject", subject)] if subject else []
    lines += [f"Message-ID: {known}"] if (known := mime.identifier(message_id)) else []
    return (mime.CRLF.join((*lines, ""))).encode("utf-8", "replace") if lines else b""


def blocks_of_fates(
    fates: Sequence[Fate], *, action: Action, orcpt: str | None, retry_until: float | None = None
) -> tuple[Block, ...]:
    """One block a member, in the order of their addresses, so that repeats are identical."""
    return tuple(
        block_of_fate(fate, action=action, orcpt=orcpt, retry_until=retry_until)
        for fate in sorted(fates, key=lambda each: each.address)
    )
