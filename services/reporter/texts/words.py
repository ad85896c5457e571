"""The words of reports and notices, in the languages that groups may have. Pure: tables, plurals and dates.

One table a language (`en.py`, `bg.py`), each with every text. A text is plain: it tells somebody who has never heard of SMTP what happened, what it
means and what to do. Names in braces are filled in by `str.format`, with text that was cleaned before: nothing here knows outsiders.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from functools import cache
from typing import NamedTuple

import msgspec
from babel import Locale
from babel.dates import format_date

from services.reporter.causes import Cause
from services.reporter.decide import Action
from shared.messages import Reason


class Plural(NamedTuple):
    """A text for one, and one for any other number, which is `{n}`."""

    one: str
    other: str


class Explained(NamedTuple):
    """A cause in words: a headline, and what to do about it, as owners and as authors are told."""

    title: str
    to_owners: str
    to_author: str


class Texts(msgspec.Struct, frozen=True, kw_only=True):
    """All words of one language. `{group}` is the address that was written to, `{host}` our name, `{when}` a date and time."""

    language: str
    sender: str  # the name beside the address that reports come from
    # labels of the lines about a message
    label_subject: str
    label_from: str
    label_to: str
    label_received: str
    label_id: str
    your_message: str
    the_message: str
    # labels under an address
    answer: str  # what its server said
    detail: str  # what we say where no server did
    tried: str  # {when} of the last attempt
    # to authors
    subject: Mapping[Action, str]
    delivered: str
    settled: str  # delivered, told when all was over
    expanded: str
    relayed: str
    failed: Plural
    gone: str
    delayed: Plural  # {until}
    nothing_to_do: str
    still_tried: Plural
    footer: str
    # names of the parts of a report, for mail programs that show them
    part_report: str
    part_status: str
    part_header: str
    part_message: str
    # to owners
    notice_subject: Plural
    notice: Plural
    notice_again: Plural
    notice_waiting: Plural
    notice_until: str
    forward_subject: Plural
    forward: Plural
    more: Plural  # rows that a table leaves out
    author_not_told: str
    trace: str
    why_owner: str
    why_forward: str
    setting: str
    # a post summed up
    post_subject: str  # {delivered}, {all}
    post_ended: str
    post_nobody: str
    post_waiting: str
    count_delivered: str
    count_failed: str
    count_waiting: str
    count_left_out: str
    reasons: Mapping[Reason, str]
    verdicts: Mapping[str, str]
    # a day summed up
    day_subject: str  # {day}
    day_posts: Plural  # {day}
    day_none: str
    day_copies: str
    day_list: str
    day_failures: Plural
    day_suspended: Plural
    day_suspended_do: str
    nobody: str
    no_subject: str
    causes: Mapping[Cause, Explained]

    def count(self, plural: Plural, number: int, **names: object) -> str:
        """The text for that number of things, by the language's own rule (CLDR)."""
        form = _locale(self.language).plural_form(number)
        return (plural.one if form == "one" else plural.other).format(n=number, **names)

    def day(self, when: date) -> str:
        """A day, "23 November 2026"; in plain spaces, for not every font has the narrow ones."""
        return str(format_date(when, format="long", locale=_locale(self.language))).replace("\u202f", " ")

    def time(self, at: float) -> str:
        """A time, with its zone named: "23 November 2026, 12:00 UTC"."""
        moment = datetime.fromtimestamp(int(at), UTC)
        return f"{self.day(moment.date())}, {moment:%H:%M} UTC"


@cache
def _locale(language: str) -> Locale:
    return Locale.parse("en_GB" if language == "en" else language)
