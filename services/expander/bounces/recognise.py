"""What mail to a bounce address is: a notification, a bounce in a server's own words, an automatic answer, or something for people to read.

Only mail that a machine may have sent is looked at by its words: with the null sender, or from an address that stands for a mail system. Nothing
here says whether it is to be believed. An attacker controls every octet.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from services.expander.bounces import guess, status
from services.expander.bounces.status import Told
from shared import headers, policy
from shared.address import key

_SYSTEMS = frozenset(
    (
        "mailer-daemon",
        "mailerdaemon",
        "mail-daemon",
        "postmaster",
        "mailer",
        "mail-delivery-subsystem",
        "mdaemon",
        "mta",
    )
)
_AWAY = re.compile(
    r"\s*(?:re:\s*)?(?:auto(?:matic)?[ -]?reply|out of (?:the )?office|auto:|autoreply|автоматичен отговор|извън офиса|отсъствам|в отпуск)",
    re.IGNORECASE,
)


_SAID = frozenset(
    ("Auto-Submitted", "Content-Identifier", "X400-Content-Identifier", "Precedence", "X-Autoreply", "X-Autorespond")
)
"""Reasons of `policy.automatic` that make an answer; of a list's mail, or a robot's, people decide."""


class Recognised(NamedTuple):
    """`kind` is "bounce" or "auto_reply"; `told` is what it says of whom. A bounce to somebody's own address may name nobody."""

    kind: str
    told: list[Told]


async def recognise(message: bytes, mail_from: str, *, own: bool) -> Recognised | None:
    """What the message is; None where people have to look at it. `own`: it came to one member's own bounce address, so it need not name anybody."""
    if told := status.told(message):
        return Recognised("bounce", told)
    head, _ = headers.split(message)
    system = _from_a_system(head)
    if not system and _automatic_answer(head, mail_from):
        return Recognised("auto_reply", [])
    if system or not mail_from:
        if guessed := await guess.guessed(message):
            return Recognised("bounce", guessed)
        if own and (words := guess.own_words(message))[1]:
            return Recognised("bounce", [Told((), "failed", *words)])
    return None


def _from_a_system(head: bytes) -> bool:
    """Whether the author is a mail system, or says which addresses failed as Exim and Gmail do."""
    if headers.first(head, "x-failed-recipients") is not None:
        return True
    return any(key(author).rpartition("@")[0].partition("+")[0] in _SYSTEMS for author in policy.authors(head))


def _automatic_answer(head: bytes, mail_from: str) -> bool:
    """Whether a machine answered for a person (RFC 3834): by a field that says so, or a subject that does in mail with the null sender."""
    kind = headers.first(head, "content-type") or b""
    if kind.lower().startswith(b"multipart/report"):  # a read receipt, an abuse report: not an answer
        return False
    if policy.automatic(head, mail_from or "somebody@somewhere.invalid") in _SAID:
        return True
    return not mail_from and bool(_AWAY.match(policy.subject_text(head)))
