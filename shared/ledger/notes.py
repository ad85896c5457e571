"""Notes: what happened to a post beside its copies (a report that was sent, a bounce that came back). Told by `horo trace`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from shared.messages import Checked


class Note(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that happened to a post. `kind` is a word ("report", "bounce", ...), `detail` what is known of it, by name.

    `unique` makes it one note however often it is written: two notes of a post that have the same are the same.
    """

    post_id: str
    kind: str
    group: str
    at: float
    unique: str
    detail: Mapping[str, str] = {}


STOPPED = "stopped"
"""The kind of the note that stops a post."""


def stop_note(post_id: str, *, at: float, why: str) -> Note:
    """What stops a post, durably and once: no batch of it is claimed any more, and whoever has no copy by then gets none."""
    return Note(post_id=post_id, kind=STOPPED, group="", at=at, unique="", detail={"why": why} if why else {})


def check_note(post_id: str, at: float, checked: Checked) -> Note:
    """What a spam check said of a post."""
    detail = {"action": checked.action}
    if checked.required:
        detail |= {"score": f"{checked.score:g} of {checked.required:g}", "symbols": " ".join(checked.symbols)}
    return Note(post_id=post_id, kind="checked", group="", at=at, unique="", detail=detail)


class Notes(Protocol):
    """The part of the ledger that keeps notes."""

    async def note(self, note: Note) -> None:
        """Keep a note, insert-if-absent. A post that is not in the ledger keeps none for long: the next sweep takes it."""

    async def notes(self, post_id: str, *, limit: int = 200) -> Sequence[Note]:
        """The notes of a post, oldest first; `unique` is not told again and is empty."""
