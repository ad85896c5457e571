"""Mail to the people who look after a group: which members a post did not reach, how a post ended, what a day brought. Pure.

Owners see members' addresses (P9 is about members and authors); the visible header names only the group's owner address, so that owners
do not learn each other's. Tables are cut (`letters.ROWS`), the counts are not; the trace has all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from services.reporter import letters, mime
from services.reporter.texts import Texts, texts
from shared.messages import Content, Fate, Reason


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What every such mail has: `to` is what stands in the To: header, `at` its date, `group` the address it is about."""

    id: str
    hostname: str
    to: str
    group: str
    at: float
    language: str


class About(msgspec.Struct, frozen=True, kw_only=True):
    """The post that a mail is about, as the ledger knows it."""

    post_id: str
    accepted_at: float
    mail_from: str = ""
    subject: str = ""
    message_id: str = ""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """Failures of one post. `failures` is how many in all, `failed` those that are named; `waiting` are still tried, `until` then at the latest.

    `again`: a notice about this post went out before. `forward`: mail to an owner or postmaster address, which goes to those who answer for it,
    not to members.
    """

    head: Head
    about: About
    failures: int
    failed: Sequence[Fate]
    waiting: int = 0
    until: float = 0.0
    again: bool = False
    forward: bool = False


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Copies by their fate, and how many addresses were left out."""

    delivered: int = 0
    failed: int = 0
    waiting: int = 0
    left_out: int = 0

    @property
    def copies(self) -> int:
        """All who get a copy."""
        return self.delivered + self.failed + self.waiting


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """A post that is finished. `reasons`: who was left out and why, by `Reason`; `verdict` is the ledger's."""

    head: Head
    about: About
    verdict: str
    counts: Counts
    reasons: Mapping[str, int]
    failed: Sequence[Fate]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """A post of a day."""

    about: About
    counts: Counts


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A day of a group. `posts` and `failed` may be cut, `count`, `counts` and `failures` are of all; `day` is a time within it."""

    head: Head
    day: float
    count: int
    counts: Counts
    posts: Sequence[Line]
    failures: int
    failed: Sequence[Fate]
    suspended: int = 0
    suspended_named: Sequence[str] = ()


def notice(of: Notice) -> Content:
    """A notice of failures."""
    words, group = texts(of.head.language), mime.clean(of.head.group)
    subject = words.forward_subject if of.forward else words.notice_subject
    story = words.forward if of.forward else words.notice_again if of.again else words.notice
    lines = letters.paragraph(words.count(story, of.failures, group=group))
    if of.waiting:
        still = words.count(words.notice_waiting, of.waiting)
        lines += letters.paragraph(f"{still} {words.notice_until.format(when=words.time(of.until))}")
    reader: letters.Reader = "author" if of.forward else "owners"  # an owner stands in no list of members
    lines += letters.by_cause(words, of.failed, reader, more=of.failures - len(of.failed))
    lines += _message(words, of.about)
    lines += letters.paragraph(words.author_not_told)
    lines += [words.why_forward] if of.forward else _why(words, of.head)
    return _mail(of.head, of.about, words.count(subject, of.failures, group=group), lines)


def ended(of: Ended) -> Content:
    """The summary of one post."""
    words, group, counts = texts(of.head.language), mime.clean(of.head.group), of.counts
    story = words.post_waiting if counts.waiting else words.post_ended if counts.copies else words.post_nobody
    lines = letters.paragraph(words.verdicts.get(of.verdict, story.format(group=group)))
    lines += [*letters.facts(_counted(words, counts)), *_reasons(words, of.reasons), ""]
    lines += letters.by_cause(words, of.failed, "owners", more=counts.failed - len(of.failed))
    lines += [*_message(words, of.about), *_why(words, of.head)]
    subject = words.post_subject.format(group=group, delivered=counts.delivered, all=counts.copies)
    return _mail(of.head, of.about, subject, lines)


def day(of: Day) -> Content:
    """The summary of one day."""
    words, group = texts(of.head.language), mime.clean(of.head.group)
    named = words.time(of.day).rpartition(",")[0]
    if of.count:
        lines = letters.paragraph(words.count(words.day_posts, of.count, group=group, day=named))
        lines += [*letters.heading(words.day_copies), *letters.facts(_counted(words, of.counts)), ""]
        lines += [*letters.heading(words.day_list), *_posts(words, of), ""]
    else:
        lines = letters.paragraph(words.day_none.format(group=group, day=named))
    if of.failures:
        lines += [words.count(words.day_failures, of.failures) + ":", ""]
        lines += letters.by_cause(words, of.failed, "owners", more=of.failures - len(of.failed))
    lines += [*_suspended(words, of), *_why(words, of.head)]
    return _mail(of.head, None, words.day_subject.format(group=group, day=named), lines)


# --- parts -----------------------------------------------------------------------------------------------------------
def _mail(head: Head, about: About | None, subject: str, lines: Sequence[str]) -> Content:
    """The mail. Auto-generated, not a reply to the owners, who have written nothing (RFC 3834 5.1)."""
    words = texts(head.language)
    headers = [
        mime.mailbox("From", words.sender, f"MAILER-DAEMON@{mime.clean(head.hostname)}"),
        # a UTF-8 address is an empty group, so that the mail reaches owners without SMTPUTF8
        f"To: <{head.to}>" if head.to.isascii() else "To: owners:;",
        mime.header("Subject", subject),
        f"Date: {mime.date(head.at)}",
        f"Message-ID: <{head.id}@{mime.clean(head.hostname)}>",
        "Auto-Submitted: auto-generated",
        "Precedence: bulk",
    ]
    if about is not None and (original := mime.identifier(about.message_id)):
        headers += [f"In-Reply-To: {original}", f"References: {original}"]
    return mime.plain(headers, mime.CRLF.join((*lines, "")), language=words.language)


def _message(words: Texts, about: About) -> list[str]:
    rows = (
        (words.label_from, mime.clean(about.mail_from)),
        (words.label_subject, mime.clean(about.subject, 200)),
        (words.label_received, words.time(about.accepted_at)),
        (words.label_id, mime.identifier(about.message_id)),
    )
    command = f"  horo trace {mime.clean(about.post_id)}"
    return [*letters.heading(words.the_message), *letters.facts(rows), "", words.trace, command, ""]


def _why(words: Texts, head: Head) -> list[str]:
    group = mime.clean(head.group)
    lines = letters.paragraph(f"{words.why_owner.format(group=group)} {words.setting}")[:-1]
    return [*lines, f"  horo group set {group} notify_owners=failures"]


def _counted(words: Texts, counts: Counts) -> list[tuple[str, str]]:
    return [
        (words.count_delivered, str(counts.delivered)),
        (words.count_failed, str(counts.failed)),
        (words.count_waiting, str(counts.waiting) if counts.waiting else ""),
        (words.count_left_out, str(counts.left_out) if counts.left_out else ""),
    ]


def _reasons(words: Texts, reasons: Mapping[str, int]) -> list[str]:
    """Who was left out and why; a reason that a later version wrote stands in its own word."""
    known = {reason.value: words.reasons.get(reason, reason.value) for reason in Reason}
    ordered = [*(name for name in known if name in reasons), *sorted(reasons.keys() - known.keys())]
    return [f"    {reasons[name]}  {known.get(name, mime.clean(name))}" for name in ordered]


def _posts(words: Texts, of: Day) -> list[str]:
    lines: list[str] = []
    for line in of.posts:
        about, counts = line.about, line.counts
        title = mime.clean(about.subject, 100) or words.no_subject
        lines += [f"  {words.time(about.accepted_at).rpartition(', ')[2]}  {title}"]
        lines += [f"      {words.label_from} {mime.clean(about.mail_from) or words.nobody}"]
        told = "  ".join(f"{label} {value}" for label, value in _counted(words, counts) if value)
        lines += [f"      {told}", f"      horo trace {mime.clean(about.post_id)}"]
    if more := of.count - len(of.posts):
        lines += [f"  {words.count(words.more, more)}"]
    return lines


def _suspended(words: Texts, of: Day) -> list[str]:
    if not of.suspended:
        return []
    lines = [words.count(words.day_suspended, of.suspended) + ":", ""]
    lines += [f"  {mime.clean(address)}" for address in of.suspended_named]
    if more := of.suspended - len(of.suspended_named):
        lines += [f"  {words.count(words.more, more)}"]
    restore = f"  horo member restore {mime.clean(of.head.group)} {mime.clean(next(iter(of.suspended_named), ''))}"
    return [*lines, "", words.day_suspended_do, restore, ""]
