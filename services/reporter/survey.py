"""What the reporter finds out for the gauges: how much waits in the whole installation, on the bus and in the ledger.

The reporter alone asks, whenever `/metrics` is: one question a queue and one to the ledger. Several reporters show the same numbers.
"""

from __future__ import annotations

from shared import metrics
from shared.bus import Bus
from shared.ledger import Ledger
from shared.topology import Queue


async def survey(bus: Bus, ledger: Ledger, now: float) -> None:
    """Look, and set the gauges. Raises what the bus and the ledger raise; then those gauges show nothing, rather than what was so once."""
    for gauge in (metrics.DUE, metrics.DUE_LATE, metrics.PARKED_NOW):
        gauge.set(float("nan"))
    metrics.DEPTH.clear()
    backlog = await ledger.backlog(now)
    metrics.DUE.set(backlog.due)
    metrics.DUE_LATE.set(backlog.late)
    metrics.PARKED_NOW.set(backlog.parked)
    for queue in Queue:
        depth = await bus.depth(queue)
        metrics.DEPTH.labels(str(queue)).set(depth)
