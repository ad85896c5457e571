"""The pace, pure: windows, rates, circuits and the sharing between lanes, beside naive models of them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sender.answers import unreachable
from services.sender.pacing import (
    CALM,
    DOWN_FIRST,
    DOWN_LONGEST,
    EXPRESS_RUN,
    START,
    Circuit,
    Meter,
    Window,
    next_lane,
    room,
)
from shared.messages import Lane

WHY = unreachable("refused")


# --- the window --------------------------------------------------------------------------------------------------------
def test_a_window_starts_small_grows_fast_and_stays_within_the_limit() -> None:
    window = Window(20)
    sizes = []
    for _ in range(30):
        sizes.append(window.size)
        window.succeeded(0.0, used_up=True)
    assert sizes[:5] == [START, START + 1, START + 2, START + 3, START + 4]
    assert sizes[-1] == 20


def test_a_window_that_is_not_used_up_does_not_grow() -> None:
    window = Window(20)
    for _ in range(100):
        window.succeeded(0.0, used_up=False)
    assert window.size == START


def test_push_back_halves_and_growth_is_slow_after_it() -> None:
    window = Window(20)
    for _ in range(30):
        window.succeeded(0.0, used_up=True)
    window.pushed_back(begun=0.0, now=1.0)
    assert window.size == 10
    for _ in range(10):
        window.succeeded(1.1, used_up=True)
    assert window.size == 10  # one more takes about ten transactions, and not one
    for _ in range(3):
        window.succeeded(1.1, used_up=True)
    assert window.size == 11


def test_many_who_were_on_their_way_push_back_once() -> None:
    window = Window(16)
    for _ in range(30):
        window.succeeded(0.0, used_up=True)
    for moment in range(8):
        window.pushed_back(begun=0.5, now=1.0 + moment / 10)
    assert window.size == 8
    window.pushed_back(begun=1.05, now=3.0)
    assert window.size == 4


def test_after_a_calm_time_growth_is_fast_again() -> None:
    window = Window(20)
    window.pushed_back(begun=0.0, now=0.0)
    small = window.size
    for _ in range(4):
        window.succeeded(CALM + 1, used_up=True)
    assert window.size == small + 4


def test_a_next_hop_that_is_back_gets_one_connection_first() -> None:
    window = Window(20)
    window.restart()
    assert window.size == 1


_steps = st.lists(st.tuples(st.sampled_from(["good", "idle", "bad", "back"]), st.floats(0, 50)), max_size=200)


@given(st.integers(1, 50), _steps)
def test_whatever_happens_the_window_is_within_its_bounds(limit: int, steps: list[tuple[str, float]]) -> None:
    window, now = Window(limit), 0.0
    for what, later in steps:
        now += later
        before = window.size
        match what:
            case "bad":
                window.pushed_back(begun=now, now=now)
                assert window.size == max(1, int(before / 2)) or window.size <= before / 2 + 0.5
            case "back":
                window.restart()
            case _:
                window.succeeded(now, used_up=what == "good")
                assert before <= window.size <= before + 1
        assert 1 <= window.size <= limit


# --- lanes (P7) ------------------------------------------------------------------------------------------------------------
@given(st.integers(1, 50), st.integers(1, 50))
def test_p7_express_always_finds_a_connection_that_bulk_cannot_hold(window: int, limit: int) -> None:
    window = min(window, limit)
    bulk, everybody = room(window, limit)
    assert 1 <= bulk <= everybody <= limit
    if limit > 1:
        assert bulk < everybody


@pytest.mark.parametrize("limit", [1, 2, 3, 8])
@given(steps=st.lists(st.sampled_from(["express", "bulk", "end express", "end bulk"]), max_size=120))
def test_p7_connections_are_shared_as_a_naive_queue_says(limit: int, steps: list[str]) -> None:
    """Each step somebody comes or leaves. Whoever waits must not find room that another could have had, nor wait for ever."""
    waiting, used, run, bulk_waited = [0, 0], [0, 0], 0, 0
    for step in steps:
        lane = 0 if step.endswith("express") else 1
        if step.startswith("end"):
            used[lane] = max(0, used[lane] - 1)
        else:
            waiting[lane] += 1
        while (given := next_lane((waiting[0] > 0, waiting[1] > 0), used, limit, limit, run)) is not None:
            number = 0 if given is Lane.EXPRESS else 1
            assert waiting[number] > 0
            waiting[number] -= 1
            used[number] += 1
            run = run + 1 if number == 0 else 0
            bulk_waited = bulk_waited + 1 if number == 0 and waiting[1] and not used[1] else 0
            assert bulk_waited <= EXPRESS_RUN
        bulk_room, all_room = room(limit, limit)
        assert sum(used) <= all_room
        assert used[1] <= bulk_room
        assert not waiting[0] or sum(used) == all_room
        assert not waiting[1] or sum(used) == all_room or used[1] == bulk_room


# --- rates -----------------------------------------------------------------------------------------------------------------
@given(st.integers(1, 100), st.lists(st.tuples(st.integers(1, 150), st.floats(0, 3)), min_size=1, max_size=60))
def test_a_rate_holds_over_any_stretch_of_time(rate: int, sends: list[tuple[int, float]]) -> None:
    """Naive model: in any stretch of t seconds no more than a second's allowance + rate x t, and the one that went over it."""
    meter, now = Meter(rate), 0.0
    sent: list[tuple[float, int]] = []
    for wish, later in sends:
        amount = min(wish, meter.most or wish)
        now += later
        now += meter.wait(now)
        assert meter.wait(now) <= 1e-6
        meter.spend(amount, now)
        sent.append((now, amount))
    for first in range(len(sent)):
        total = 0
        for moment, amount in sent[first:]:
            total += amount
            assert total <= rate * (moment - sent[first][0] + 1) + 2 * rate + 1e-3


def test_without_a_rate_nobody_waits() -> None:
    meter = Meter(0)
    meter.spend(1_000_000, 0.0)
    assert meter.wait(0.0) == 0.0
    assert meter.most is None


# --- circuits --------------------------------------------------------------------------------------------------------------
def test_a_circuit_opens_for_longer_each_time_and_closes_at_once() -> None:
    circuit, now, pauses = Circuit(), 100.0, []
    for _ in range(8):
        circuit.failed(WHY, now)
        assert circuit.state(now) == "down"
        pauses.append(circuit.until - now)
        now = circuit.until
        assert circuit.state(now) == "unsure"
    assert pauses[:3] == [DOWN_FIRST, DOWN_FIRST * 2, DOWN_FIRST * 4]
    assert pauses[-1] == DOWN_LONGEST
    assert circuit.connected()
    assert circuit.state(now) == "up"
    assert not circuit.connected()


def test_dials_that_fail_together_count_once() -> None:
    circuit = Circuit()
    for moment in (0.0, 0.1, 0.2):
        circuit.failed(WHY, moment)
    assert circuit.failures == 1
    assert math.isclose(circuit.until, DOWN_FIRST)
