"""What the letters of reports and notices have in common: paragraphs, lines about a message, people by what kept their copy from them. Pure.

A letter is lines of text for people who do not read SMTP; what a server said stands below in its own words, labelled as such. Everything from outside
goes through `mime.clean`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Literal

from services.reporter import mime
from services.reporter.causes import Cause, cause_of, ours
from services.reporter.texts import Texts
from shared.messages import Fate

WIDTH = 72
ROWS = 200
"""People named in one letter (P10: a batch of a thousand long replies would make a megabyte for every owner)."""

Reader = Literal["author", "owners"]


def paragraph(text: str, *, indent: str = "") -> list[str]:
    """A paragraph in lines, and the blank line after it."""
    lines = textwrap.wrap(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return [*lines, ""]


def heading(text: str) -> list[str]:
    """A line with a rule under it."""
    return [text, "-" * min(len(text), WIDTH)]


def facts(rows: Sequence[tuple[str, str]]) -> list[str]:
    """Labels and values, aligned; rows without a value are left out."""
    shown = [(label, value) for label, value in rows if value]
    width = max((len(label) for label, _ in shown), default=0)
    return [f"  {label:<{width}}  {value}" for label, value in shown]


def by_cause(words: Texts, fates: Sequence[Fate], reader: Reader, *, more: int = 0) -> list[str]:
    """People under the cause that they share: what it means, what to do, and for each what was answered. `more` are not among the fates."""
    groups: dict[Cause, list[Fate]] = {}
    for fate in sorted(fates, key=lambda each: each.address)[:ROWS]:
        groups.setdefault(cause_of(fate), []).append(fate)
    lines: list[str] = []
    for cause in Cause:
        if people := groups.get(cause):
            told = words.causes[cause]
            lines += heading(told.title)
            lines += paragraph(told.to_author if reader == "author" else told.to_owners)
            for fate in people:
                lines += _person(words, fate)
            lines.append("")
    unnamed = more + max(0, len(fates) - ROWS)
    return lines if not unnamed else [*lines, words.count(words.more, unnamed), ""]


def _person(words: Texts, fate: Fate) -> list[str]:
    label = words.detail if ours(fate) else words.answer
    return [f"  {mime.clean(fate.address)}", f"      {label} {reply(fate)}"]


def reply(fate: Fate) -> str:
    """A reply as one reads it, "550 5.1.1 No such user"."""
    text = fate.text if not fate.status or fate.text.startswith(fate.status) else f"{fate.status} {fate.text}"
    return mime.clean(f"{fate.code} {text}" if fate.code else text, 500)
