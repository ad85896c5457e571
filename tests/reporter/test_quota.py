"""So many reports an hour to one address, the same report once, memory bounded; and when what waits is looked at."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporter import quota, waiting
from services.reporter.quota import Quota
from services.reporter.waiting import FIRST, LONGEST, next_look


def test_so_many_in_any_hour_and_the_same_report_counts_once() -> None:
    limit = Quota(3)
    times = (0, 1000, 2000, 2500, 3599, 3601, 4601)
    assert [limit.allows("a@x", f"r{at}", at) for at in times] == [True, True, True, False, False, True, True]
    assert limit.allows("a@x", "r4601", 4602)
    assert limit.allows("b@x", "r", 4602)
    assert all(Quota(0).allows("a@x", str(number), 0) for number in range(1000))


def test_p10_addresses_are_forgotten_the_longest_unused_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "ADDRESSES", 2)
    limit = Quota(1)
    for address in ("a@x", "b@x", "a@x", "c@x"):
        limit.allows(address, address, 0)
    assert not limit.allows("a@x", "another", 1)
    assert limit.allows("b@x", "another", 1), "forgotten"


@given(since=st.floats(0, 1e9), age=st.floats(0, 1e7), until=st.floats(0, 2e9))
def test_looks_are_always_to_come_and_never_too_far(since: float, age: float, until: float) -> None:
    now = since + age
    following = next_look(since, now, until=until)
    assert now < following <= now + LONGEST
    assert following <= now + max(age, FIRST) + 1
    if until > now:
        assert following <= until


def test_a_post_that_takes_five_days_is_looked_at_little_more_than_hourly() -> None:
    now, looks = 0.0, 0
    while now < 5 * 86400:
        now = next_look(0.0, now)
        looks += 1
    assert looks < 140
    assert waiting.day_of(1_795_435_200.5) == 1_795_392_000.0
