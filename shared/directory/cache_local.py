"""The cache inside the process: least recently used goes first, bounded by weight, because one entry may be a list of members. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, NamedTuple, TypeVar

V = TypeVar("V")


class Entry(NamedTuple, Generic[V]):
    """A value, and the change that it was read at."""

    value: V
    stamp: int


class LocalCache(Generic[V]):
    """Entries by kind and name. `most` is the sum of their weights: 1, or more for lists."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._entries: OrderedDict[tuple[str, str], tuple[Entry[V], int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, kind: str, name: str) -> Entry[V] | None:
        """The entry, now the most recently used."""
        found = self._entries.get((kind, name))
        if found is None:
            return None
        self._entries.move_to_end((kind, name))
        return found[0]

    def put(self, kind: str, name: str, entry: Entry[V], weight: int) -> None:
        """Keep an entry, unless a newer one is there already; forget the least recently used beyond the bound."""
        there = self._entries.get((kind, name))
        if there is not None and there[0].stamp > entry.stamp:
            return
        self._weight += weight - (there[1] if there else 0)
        self._entries[kind, name] = (entry, weight)
        self._entries.move_to_end((kind, name))
        while self._weight > self._most and self._entries:
            _, (_, gone) = self._entries.popitem(last=False)
            self._weight -= gone

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._weight = 0
