"""Letters about addresses that do not work: to the owners, that a member was suspended; to a member, whether this arrives. Pure.

What servers said goes through `mime.clean`. A letter to a member names nobody but the member (P9).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from services.reporter import mime
from services.reporter.bounces.words import EN, WORDS
from services.reporter.letters import paragraph
from services.reporter.texts import texts
from shared.ledger.bounces import Failure
from shared.messages import Content


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """What both kinds have: `to` stands in the To: header, `member` is the address that it is about."""

    id: str
    hostname: str
    to: str
    group: str
    member: str
    at: float
    language: str


def suspension(letter: Letter, failures: Sequence[Failure], probe: str) -> Content:
    """The letter to the owners; `probe` is what a probe was answered, empty where none was sent."""
    words = WORDS.get(letter.language, EN)
    names = {"member": mime.clean(letter.member), "group": mime.clean(letter.group)}
    lines = paragraph(words.suspended.format(**names))
    lines += [words.why, ""]
    for failure in failures:
        day = texts(letter.language).day(datetime.fromtimestamp(failure.at, UTC).date())
        lines.append("  " + words.answered.format(day=day, reply=reply(failure)))
    lines.append("")
    if probe:
        lines += paragraph(words.probe_failed.format(reply=mime.clean(probe, 500)))
    lines += [*paragraph(words.restore)[:-1], "", f"  {command(letter.group, letter.member)}", ""]
    lines += paragraph(words.still)
    return _mail(letter, words.subject.format(**names), lines)


def probe(letter: Letter) -> Content:
    """The letter that asks a member whether it arrives."""
    words = WORDS.get(letter.language, EN)
    local, _, domain = letter.group.rpartition("@")
    names = {
        "member": mime.clean(letter.member),
        "group": mime.clean(letter.group),
        "owner": mime.clean(f"{local}-owner@{domain}"),
    }
    lines = paragraph(words.probe.format(**names))
    lines += [*paragraph(words.probe_nothing), *paragraph(words.probe_else.format(**names))]
    return _mail(letter, words.probe_subject.format(**names), lines)


def reply(failure: Failure) -> str:
    """What was answered, on one line, its status in front where it does not stand there already."""
    text = mime.clean(failure.reply, 300)
    return text if not failure.status or failure.status in text else f"{failure.status} {text}".strip()


def command(group: str, member: str) -> str:
    """The one command that brings a member back; what is no plain word for a shell is quoted."""
    words = [mime.clean(word) for word in (group, member)]
    return "horo member restore " + " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    plain = all(character.isalnum() or character in "@.+-_=%" for character in word)
    return word if plain and not word.startswith("-") else "'" + word.replace("'", "'\\''") + "'"


def _mail(letter: Letter, subject: str, lines: Sequence[str]) -> Content:
    headers = [
        mime.mailbox("From", texts(letter.language).sender, f"MAILER-DAEMON@{mime.clean(letter.hostname)}"),
        f"To: <{letter.to}>" if letter.to.isascii() else "To: undisclosed-recipients:;",
        mime.header("Subject", subject),
        f"Date: {mime.date(letter.at)}",
        f"Message-ID: <{letter.id}@{mime.clean(letter.hostname)}>",
        "Auto-Submitted: auto-generated",
        "Precedence: bulk",
    ]
    return mime.plain(headers, mime.CRLF.join(lines), language=texts(letter.language).language)
