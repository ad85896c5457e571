"""When a recipient is tried again: tables and properties, no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.retry import Outlook, after_unknown, next_attempt, outlook
from shared.topology import DELAYS, delay_step

SCHEDULE = (60.0, 300.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0)
DAY = 86400.0


@pytest.mark.parametrize(
    ("attempt", "age", "step"),
    [
        (0, 0.0, 60.0),
        (1, 100.0, 300.0),
        (6, DAY, 14400.0),
        (40, 4 * DAY, 14400.0),  # the last step repeats
        (0, 9 * DAY, 60.0),  # F32: one attempt is not enough to expire, whatever the clock says
        (0, -DAY, 60.0),  # a clock that jumped back
        (1, 5 * DAY - 1, 300.0),
        (1, 5 * DAY, None),
        (50, 5 * DAY, None),
    ],
)
def test_next_attempt_follows_the_schedule_until_the_post_is_too_old(
    attempt: int, age: float, step: float | None
) -> None:
    delay = next_attempt(attempt, age, SCHEDULE, 5 * DAY)
    assert delay == step


@given(st.integers(0, 60), st.floats(0, 4 * DAY))
def test_the_default_schedule_is_made_of_steps_of_the_bus(attempt: int, age: float) -> None:
    delay = next_attempt(attempt, age, SCHEDULE, 5 * DAY)
    assert delay is not None
    assert delay_step(delay) in DELAYS
    assert delay_step(delay) == SCHEDULE[min(attempt, len(SCHEDULE) - 1)]


@pytest.mark.parametrize(
    ("attempt", "schedule", "delay"),
    [
        (0, SCHEDULE, 900.0),  # F28: not before 15 minutes
        (1, SCHEDULE, 900.0),
        (4, SCHEDULE, 3600.0),  # the schedule is slower by now
        (0, (1.0,), 1.0),  # a short schedule, as in tests, is not stretched beyond its longest step
        (0, (1.0, 5.0), 5.0),
    ],
)
def test_a_lost_reply_after_the_dot_is_not_hurried(attempt: int, schedule: tuple[float, ...], delay: float) -> None:
    assert after_unknown(attempt, 0.0, schedule, 5 * DAY) == delay


def test_a_lost_reply_expires_as_everything_does() -> None:
    assert after_unknown(1, 5 * DAY, SCHEDULE, 5 * DAY) is None
    assert after_unknown(0, 5 * DAY, SCHEDULE, 5 * DAY) == 900.0


@given(
    st.integers(1, 20),
    st.floats(0, 6 * DAY),
    st.lists(st.sampled_from(DELAYS[3:]), min_size=1, max_size=8),
    st.floats(60, 6 * DAY),
)
def test_the_outlook_is_what_the_sender_will_do(attempts: int, age: float, schedule: list[int], max_age: float) -> None:
    tries, now, attempt = 1, age, attempts
    while (delay := next_attempt(attempt, now, schedule, max_age)) is not None:
        tries, now, attempt = tries + 1, now + delay_step(delay), attempt + 1
    told = outlook(attempts, age, 0.0, schedule, max_age)
    assert told.tries == tries
    assert told.last == pytest.approx(now, abs=1e-3)


def test_the_outlook_of_many_tries_is_counted_not_walked() -> None:
    assert outlook(1, 60.0, 0.0, (1.0,), 1e9) == Outlook(1 + 10**9 - 60, 1e9)
