"""A drain that cannot end by itself: a next hop that never answers the final dot. Real processes; HORO_DRAIN_TIMEOUT ends it in order."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from tests.e2e.client import compose
from tests.e2e.conftest import Starts
from tests.e2e.sinks import NextHop
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

TEAM = "team@example.test"
LEASE = 120
"""Seconds that the claim of a killed process would keep the next one waiting: longer than this test."""


def test_p3_what_a_drain_cuts_off_gives_its_claim_back_and_is_tried_again_at_once(
    embedded: Starts, hops: Callable[..., NextHop]
) -> None:
    hop = hops()
    system = embedded({"HORO_NEXT_HOP": hop.url, "HORO_DRAIN_TIMEOUT": "1s", "HORO_CLAIM_LEASE": f"{LEASE}s"})
    system.group(TEAM, ["hang-dot_ana@example.org"])
    system.accepted(compose(TEAM))
    wait_until(lambda: hop.commands.count("DATA") == 1, "the delivery to wait for its answer", 30)

    begun = time.monotonic()
    assert system.terminate() == [0]
    assert 1 <= time.monotonic() - begun < 15  # not ten times HORO_HOP_TIMEOUT
    assert re.search(r"cut_off .*service=sender", system.said("up"))

    begun = time.monotonic()
    system.restart("up")
    wait_until(lambda: hop.commands.count("DATA") == 2, "another try", 60)
    assert time.monotonic() - begun < LEASE / 2
    assert system.traces(TEAM)[0]["totals"]["expanded"] == 1
    system.kill("up")
