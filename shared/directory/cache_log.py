"""What a cache knows of changes, and which of its answers still hold. Pure: the caller gives the time.

The whole of P6 rests on one rule. A value carries the change it was read at (its stamp); it holds while no later change of its key is known, and
may be given as an answer only while it is certain, by SQL or by a witness, that all changes up to a moment ago are known.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from shared.directory.store_read import Progress

FRESH = 0.75
"""Seconds for which knowing all changes is good enough: with an answer's own way, a change holds within one second."""
MOST = 100_000
"""Keys whose last change is remembered."""


class ChangeLog:
    """The last change of each key, as far back as `floor`: of a key that is not in the log, no change after the floor is known."""

    def __init__(self, most: int = MOST) -> None:
        self.epoch = ""
        self.seq: int | None = None
        self.generation = 0
        self._floor = 0
        self._confirmed = float("-inf")
        self._most = most
        self._last: OrderedDict[str, int] = OrderedDict()  # in the order of changes, the oldest first
        self._own: dict[str, int] = {}  # changes of this process that no poll has told of yet

    def fresh(self, now: float) -> bool:
        """Whether all changes up to a moment before `now` are known."""
        return now - self._confirmed <= FRESH

    def holds(self, key: str, stamp: int) -> bool:
        """Whether a value of `key` that was read at change `stamp` is what SQL would say, as far as changes are known."""
        return stamp >= self._last.get(key, self._floor) and stamp >= self._own.get(key, 0)

    def learn(self, found: Progress, asked: int | None, at: float) -> None:
        """Take in what SQL said at the time `at`, when it was asked for the changes after `asked` (`self.seq` then).

        Another epoch, or a counter that went backwards, is another database or a restored one: nothing that was known counts.
        """
        if found.epoch != self.epoch or asked is None or found.seq < asked:
            self._start(found)
        elif found.after > asked:
            self._last.clear()
            self._floor = found.after
        self._take(found)
        self._confirmed = max(self._confirmed, at)

    def hear(self, found: Progress, at: float) -> bool:
        """Take in a witness's word of what SQL said at the time `at`; False where it knows less than we do."""
        if self.seq is not None and (found.epoch != self.epoch or found.seq < self.seq):
            return False
        self.learn(found, self.seq, at)
        return True

    def note(self, seq: int, keys: Iterable[str]) -> None:
        """Take in a change of our own, before the next poll sees it."""
        self._own.update(dict.fromkeys(keys, seq))

    def since(self, most: int) -> Progress:
        """What a witness tells: the newest changes, `most` of them at most, and from where on they are complete."""
        known = self.seq or 0
        told: list[tuple[int, str]] = []
        for key in reversed(self._last):
            if len(told) == most:
                after = told[-1][0]  # others of the same change may be among those left out
                return Progress(self.epoch, known, after, [one for one in reversed(told) if one[0] > after])
            told.append((self._last[key], key))
        return Progress(self.epoch, known, min(self._floor, known), told[::-1])

    def _start(self, found: Progress) -> None:
        self.generation += 1
        self.epoch = found.epoch
        self.seq = found.after
        self._floor = found.after
        self._last.clear()
        self._own.clear()

    def _take(self, found: Progress) -> None:
        for seq, key in found.changes:
            self._set(key, seq)
        self.seq = reached = max(self.seq or 0, found.seq)
        if self._own:
            self._own = {key: seq for key, seq in self._own.items() if seq > reached}

    def _set(self, key: str, seq: int) -> None:
        """In the order of changes: what is forgotten first is the oldest, and the floor rises to it."""
        if self._last.get(key, -1) < seq:
            self._last[key] = seq
            self._last.move_to_end(key)
        while len(self._last) > self._most:
            _, forgotten = self._last.popitem(last=False)
            self._floor = max(self._floor, forgotten)
