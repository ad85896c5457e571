"""A delivery as transactions: cut by sender and by what the server takes, and their answers put together again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import msgspec

from services.sender.answers import UTF8_NEEDED, Answer
from services.sender.connection import Connection
from services.sender.mail import Mail
from services.sender.payload import Payload
from shared.messages import Lane, Recipient


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """Who a content goes to. `senders` has one envelope sender for each recipient; equal neighbours share a transaction."""

    post_id: str
    accepted_at: float
    recipients: tuple[Recipient, ...]
    senders: tuple[str, ...]
    lane: Lane = Lane.EXPRESS
    smtputf8: bool = False
    envid: str | None = None
    ret: str | None = None


class Sent(msgspec.Struct):
    """What came of it: an answer for each recipient, None where `trouble` (of ours) came before it was sent."""

    answers: list[Answer | None]
    trouble: Exception | None = None


def cut(
    envelope: Envelope,
    payload: Payload,
    waiting: Sequence[int],
    connection: Connection,
    sent: Sent,
    *,
    limit: int | None,
) -> list[Mail]:
    """The transactions for those who wait: one for each run of equal senders, of `limit` recipients at most; those whom the server cannot take
    without SMTPUTF8 are answered in `sent`."""
    mails: list[Mail] = []
    for sender, indexes in _by_sender(envelope, waiting):
        for start in range(0, len(indexes), limit or len(indexes)):
            part = indexes[start : start + (limit or len(indexes))]
            recipients: Sequence[Recipient] = envelope.recipients
            if len(part) != len(recipients):
                recipients = [recipients[index] for index in part]
            mails += _mail(envelope, payload, sender, part, recipients, connection, sent)
    return mails


def _by_sender(envelope: Envelope, waiting: Sequence[int]) -> list[tuple[str, Sequence[int]]]:
    senders = envelope.senders
    if senders.count(senders[0]) == len(senders):
        return [(senders[0], waiting)]
    return [(sender, list(group)) for sender, group in groupby(waiting, key=senders.__getitem__)]


def _mail(
    envelope: Envelope,
    payload: Payload,
    sender: str,
    indexes: Sequence[int],
    recipients: Sequence[Recipient],
    connection: Connection,
    sent: Sent,
) -> list[Mail]:
    """One transaction, or none where nobody of it can be sent to."""
    head_needs = envelope.smtputf8 and payload.utf8_head
    utf8 = head_needs or not (sender.isascii() and "".join([each.address for each in recipients]).isascii())
    if utf8 and "SMTPUTF8" not in connection.offers:
        able = []
        for index in indexes:
            if head_needs or not (sender + envelope.recipients[index].address).isascii():
                sent.answers[index] = Answer(UTF8_NEEDED, connection.shown)
            else:
                able.append(index)
        indexes, recipients, utf8 = able, [envelope.recipients[index] for index in able], False
    if not indexes:
        return []
    return [Mail(sender, recipients, payload, indexes=indexes, utf8=utf8, envid=envelope.envid, ret=envelope.ret)]


def affordable(mails: list[Mail], messages: int | None, recipients: int | None) -> list[Mail]:
    """As many of the first transactions as may be sent at once: the rates that are set for messages and recipients allow so many."""
    if messages is None and recipients is None:
        return mails
    count = total = 0
    for mail in mails:
        total += len(mail.recipients)
        if count == messages or (count and recipients is not None and total > recipients):
            break
        count += 1
    return mails[:count]


def collect(mails: Sequence[Mail], sent: Sent) -> None:
    """Put what the transactions were answered into `sent`."""
    for mail in mails:
        if len(mail.indexes) == len(sent.answers) and mail.answers.count(None) == 0:
            sent.answers = mail.answers
            continue
        for index, answer in zip(mail.indexes, mail.answers, strict=True):
            if answer is not None:
                sent.answers[index] = answer
