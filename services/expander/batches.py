"""Cuts the recipients of one target into deliveries: same cell, same next hop, at most a batch. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from shared.groups import cell, slot
from shared.messages import Delivery, Recipient
from shared.routes import Routes

REMEMBERED = 50_000
"""Domains whose next hop is remembered."""


class Copies(NamedTuple):
    """Who gets a copy in one cell: keys in order, and the address of each."""

    cell: int
    keys: Sequence[str]
    addresses: Sequence[str]


def by_cell(wide: Iterable[Copies], cells: int) -> list[Copies]:
    """Copies that were judged over ranges of many cells, each in its own of `cells`."""
    found: dict[int, tuple[list[str], list[str]]] = {}
    for _, keys, addresses in wide:
        for key, address in zip(keys, addresses, strict=True):
            mine = found.setdefault(cell(slot(key), cells), ([], []))
            mine[0].append(key)
            mine[1].append(address)
    return [Copies(number, *found[number]) for number in sorted(found)]


class Batch(NamedTuple):
    """The recipients of one delivery, in the order of their keys, so that repeating an expansion makes the same batches."""

    cell: int
    hop: str
    addresses: Sequence[str]


class Hops:
    """The next hop of each domain as text, found once."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._known: dict[str, str] = {}
        everywhere = not routes.exact and not routes.suffix and (routes.default.kind != "mx" or routes.default.host)
        self.only = str(routes.default) if everywhere else ""
        """The one next hop of all domains, where there is but one."""

    def of(self, domain: str) -> str:
        """The next hop of a domain."""
        found = self._known.get(domain)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[domain] = str(self._routes.hop(domain))
        return found


def cut(copies: Iterable[Copies], hops: Hops, *, batch_size: int) -> list[Batch]:
    """The batches of one target: by cell, in a cell by next hop."""
    return [
        Batch(here.cell, hop, addresses[start : start + batch_size])
        for here in copies
        for hop, addresses in _by_hop(here, hops)
        for start in range(0, len(addresses), batch_size)
    ]


def _by_hop(here: Copies, hops: Hops) -> Iterable[tuple[str, Sequence[str]]]:
    if hops.only:
        return ((hops.only, here.addresses),)
    found: dict[str, list[str]] = {}
    for key, address in zip(here.keys, here.addresses, strict=True):
        found.setdefault(hops.of(key.rpartition("@")[2]), []).append(address)
    return sorted(found.items())


def deliveries(template: Delivery, batches: Iterable[Batch]) -> Iterator[Delivery]:
    """Deliveries like `template`, made as they are asked for; its one recipient's `notify` and `orcpt` are every recipient's."""
    like = template.recipients[0]
    for batch in batches:
        if like.notify is None and like.orcpt is None:
            recipients = tuple([Recipient(address=address) for address in batch.addresses])
        else:
            recipients = tuple([msgspec.structs.replace(like, address=address) for address in batch.addresses])
        yield msgspec.structs.replace(template, cell=batch.cell, hop=batch.hop, recipients=recipients)
