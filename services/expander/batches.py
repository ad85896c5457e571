"""Cuts the recipients of one target into deliveries: same cell, same next hop, at most a batch. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from shared.address import key
from shared.groups import cell, slot
from shared.messages import Delivery, Recipient
from shared.routes import Routes


def cut(
    template: Delivery, addresses: Iterable[str], *, cells: int, routes: Routes, batch_size: int
) -> Iterator[Delivery]:
    """Deliveries like `template` for the addresses; its one recipient's `notify` and `orcpt` are every recipient's.

    Recipients are sorted by key, so that repeating an expansion makes the same batches.
    """
    like = template.recipients[0] if template.recipients else Recipient(address="")
    boxes: dict[tuple[int, str], list[tuple[str, str]]] = {}
    for address in addresses:
        who = key(address)
        hop = str(routes.hop(who.rpartition("@")[2]))
        boxes.setdefault((cell(slot(who), cells), hop), []).append((who, address))
    for (number, hop), box in sorted(boxes.items()):
        box.sort()
        for start in range(0, len(box), batch_size):
            recipients = tuple(
                Recipient(address=address, notify=like.notify, orcpt=like.orcpt)
                for _, address in box[start : start + batch_size]
            )
            yield msgspec.structs.replace(template, cell=number, hop=hop, recipients=recipients)
