"""What a sender shows of its next hops: their state, their windows and who uses them, under labels that the settings name (`metrics.Named`)."""

from __future__ import annotations

from collections.abc import Sequence

from services.sender.site import HopState
from shared import metrics
from shared.metrics import Named

STATES = ("up", "down", "unsure")


def show(hops: Sequence[HopState], named: Named) -> None:
    """Set the gauges from a snapshot. What is not there any more is shown no more."""
    for gauge in (metrics.HOP_UP, metrics.HOP_WINDOW, metrics.HOP_USED, metrics.HOP_WAITING):
        gauge.clear()
    states = dict.fromkeys(STATES, 0)
    up: dict[str, bool] = {}
    for hop in hops:
        states[hop.state] += 1
        label = named.label(hop.hop)
        up[label] = up.get(label, True) and hop.state == "up"
        metrics.HOP_WINDOW.labels(label).inc(hop.window)
        metrics.HOP_USED.labels(label, "express").inc(hop.express)
        metrics.HOP_USED.labels(label, "bulk").inc(hop.bulk)
        metrics.HOP_WAITING.labels(label).inc(hop.waiting)
    for state, count in states.items():
        metrics.HOPS.labels(state).set(count)
    for label, reachable in up.items():
        metrics.HOP_UP.labels(label).set(reachable)
