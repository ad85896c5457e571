"""Mail to the people who look after a group: which members a post did not reach, and what their servers said. Pure.

Owners see members' addresses (P9 is about members and authors); the visible header names only the group's owner address, so that owners
do not learn each other's. One notice a failed attempt, however many recipients failed in it; a long table is cut, the trace has all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from services.reporter import mime
from services.reporter.dsn import reply
from shared.messages import Content, Fate

TABLE_LIMIT = 200
"""Rows of a notice's table (P10: a batch of a thousand long replies would make a megabyte for every owner)."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """All that a notice says. `to` is what stands in the To: header, `failed` the fates of one attempt."""

    id: str
    hostname: str
    to: str
    group: str
    at: float
    post_id: str
    accepted_at: float
    failed: tuple[Fate, ...]
    mail_from: str = ""
    subject: str = ""
    message_id: str = ""
    forward: bool = (
        False  # mail to an owner or postmaster address, which goes to those who answer for it, not to members
    )


def build(notice: Notice) -> Content:
    """The notice. Auto-generated, not a reply to the owners, who have written nothing (RFC 3834 5.1)."""
    headers = [
        f"From: Mail Delivery System <MAILER-DAEMON@{mime.clean(notice.hostname)}>",
        _to(notice.to),
        mime.header("Subject", f"{_people(notice)} of {notice.group} did not get a message"),
        f"Date: {mime.date(notice.at)}",
        f"Message-ID: <{notice.id}@{mime.clean(notice.hostname)}>",
        "Auto-Submitted: auto-generated",
        "Precedence: bulk",
    ]
    if original := mime.identifier(notice.message_id):
        headers += [f"In-Reply-To: {original}", f"References: {original}"]
    return mime.plain(headers, _text(notice))


def _to(address: str) -> str:
    """To: with an address in ASCII; for a UTF-8 one an empty group, so that the notice reaches owners without SMTPUTF8."""
    return f"To: <{address}>" if address.isascii() else "To: owners:;"


def _text(notice: Notice) -> str:
    """What happened, the table, the post."""
    rows = sorted(notice.failed, key=lambda fate: fate.address)
    lines = [
        f"A message to {'' if notice.forward else 'the group '}{mime.clean(notice.group)} could not be delivered to",
        f"{_people(notice)}. It will not be tried again for them.",
        "",
        *_table(rows[:TABLE_LIMIT]),
    ]
    if len(rows) > TABLE_LIMIT:
        lines += [f"  ... and {len(rows) - TABLE_LIMIT} more"]
    lines += ["", "The message:", *(f"  {name:<10}{value}" for name, value in _about(notice) if value), ""]
    whose = "" if notice.forward else "member's "
    lines += [f"What happened to every {whose}copy:  horo trace {notice.post_id}", ""]
    lines += [
        f"You get this because you look after the {'domain' if notice.forward else 'group'}. The author was not told.",
        "",
    ]
    return mime.CRLF.join(lines)


def _table(rows: Sequence[Fate]) -> list[str]:
    """Address and reply, aligned; an address that is too long for its column keeps its row."""
    width = min(max((len(mime.clean(fate.address)) for fate in rows), default=0), 50)
    return [f"  {mime.clean(fate.address):<{width}}  {reply(fate)}" for fate in rows]


def _about(notice: Notice) -> tuple[tuple[str, str], ...]:
    return (
        ("From:", mime.clean(notice.mail_from)),
        ("Subject:", mime.clean(notice.subject, 200)),
        ("Received:", mime.date(notice.accepted_at)),
        ("Message:", mime.identifier(notice.message_id)),
    )


def _people(notice: Notice) -> str:
    one, many = ("reader", "readers") if notice.forward else ("member", "members")
    number = len(notice.failed)
    return f"1 {one}" if number == 1 else f"{number} {many}"
