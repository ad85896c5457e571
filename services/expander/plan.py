"""How a fan-out is cut: cells (what a sender claims) and slices (what an expander works on). Pure.

Both are ranges of slots, so a person falls into the same cell however often an expansion is repeated over edited members (P3). The plan is made
once, at the first expansion, and recorded; a repetition obeys the record.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.groups import SLOTS

FILL = 0.75
"""How full a cell is planned, of one batch: hashing spreads unevenly, and an overfull cell costs a second transaction."""


class Plan(NamedTuple):
    """`cells` in all, in `slices` equal shares (a multiple)."""

    cells: int
    slices: int


def plan(people: int, *, express_limit: int, slice_size: int, batch_size: int) -> Plan:
    """The plan for at most `people` memberships: one slice up to `express_limit`, else slices of about `slice_size`."""
    slices = 1 if people <= express_limit else max(2, -(-people // slice_size))  # two: what is cut is bulk (P7)
    share = -(-people // slices) if people else 0
    cells = 1 if share <= batch_size else int(-(-share // (batch_size * FILL)))
    return Plan(cells=slices * cells, slices=slices)


def bounds(index: int, plan: Plan) -> tuple[int, int]:
    """The slots [low, high) of slice `index`: those whose cells are its share."""
    share = plan.cells // plan.slices
    return _first_slot(index * share, plan.cells), _first_slot((index + 1) * share, plan.cells)


def _first_slot(cell: int, cells: int) -> int:
    """The first slot that `shared.groups.cell` puts into `cell`."""
    return -(-cell * SLOTS // cells)
