"""The rule that P6 rests on: which values hold, how long an answer is fresh, and how much is remembered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.directory.cache_local import Entry, LocalCache
from shared.directory.cache_log import FRESH, ChangeLog
from shared.directory.store_read import Progress


def log(*changes: tuple[int, str], after: int = 0, seq: int = 0, most: int = 1000) -> ChangeLog:
    made = ChangeLog(most)
    made.learn(Progress("epoch", max([seq, *(number for number, _ in changes)]), after, changes), None, at=100.0)
    return made


def test_p6_nothing_is_fresh_before_sql_has_spoken_nor_long_after() -> None:
    assert not ChangeLog().fresh(0.0)
    assert log().fresh(100.0 + FRESH)
    assert not log().fresh(100.0 + FRESH + 0.01)


def test_p6_a_value_holds_until_its_key_changes() -> None:
    made = log((5, "group:a"), (7, "group:b"), after=3)
    assert [made.holds("group:a", stamp) for stamp in (4, 5, 6)] == [False, True, True]
    assert [made.holds("group:c", stamp) for stamp in (2, 3)] == [False, True]
    made.learn(Progress("epoch", 8, 7, [(8, "group:a")]), 7, at=101.0)
    assert not made.holds("group:a", 7)
    assert made.holds("group:b", 7)


def test_p6_a_gap_in_the_log_raises_the_floor() -> None:
    made = log((5, "group:a"), after=0)
    made.learn(Progress("epoch", 60, 50, [(55, "group:b")]), 5, at=101.0)
    assert not made.holds("group:a", 49)
    assert made.holds("group:a", 50)
    assert not made.holds("group:b", 54)


def test_p6_another_database_or_a_restored_one_starts_afresh() -> None:
    for found in (Progress("other", 90, 80, []), Progress("epoch", 4, 4, [])):
        made = log((5, "group:a"), seq=50)
        before = made.generation
        made.learn(found, 50, at=101.0)
        assert made.generation == before + 1
        assert made.seq == found.seq
        assert not made.holds("group:a", found.after - 1)


def test_p6_a_late_answer_is_no_restored_database() -> None:
    made = log((5, "group:a"), seq=5)
    made.learn(Progress("epoch", 9, 5, [(9, "group:b")]), 5, at=101.0)
    before = made.generation
    made.learn(Progress("epoch", 7, 5, [(7, "group:c")]), 5, at=100.5)
    assert (made.generation, made.seq) == (before, 9)
    assert not made.holds("group:b", 8)
    assert not made.holds("group:c", 6)


def test_a_change_of_ones_own_counts_at_once() -> None:
    made = log(seq=5)
    made.note(7, ["group:a"])
    assert not made.holds("group:a", 6)
    made.learn(Progress("epoch", 6, 5, [(6, "group:b")]), 5, at=101.0)
    assert not made.holds("group:a", 6)
    made.learn(Progress("epoch", 7, 6, [(7, "group:a")]), 6, at=101.0)
    assert not made.holds("group:a", 6)
    assert made.holds("group:a", 7)


def test_p6_a_witness_who_knows_less_is_not_heard() -> None:
    made = log(seq=5)
    assert not made.hear(Progress("epoch", 4, 0, []), at=200.0)
    assert not made.hear(Progress("other", 40, 0, []), at=200.0)
    assert not made.fresh(200.0)
    assert made.hear(Progress("epoch", 6, 5, [(6, "group:a")]), at=200.0)
    assert made.fresh(200.0)
    assert not made.holds("group:a", 5)


CHANGES = st.lists(st.tuples(st.integers(1, 40), st.sampled_from("abcdefgh")), max_size=40).map(
    lambda found: sorted(set(found))
)


@given(CHANGES, st.integers(1, 5), st.integers(1, 6), st.data())
def test_p6_whatever_is_forgotten_or_told_on_no_old_value_holds(
    changes: list[tuple[int, str]], most: int, told: int, data: st.DataObject
) -> None:
    """A log that remembers few keys, fed in parts, and the log of somebody who has its word alone."""
    made = log(most=most)
    rest = list(changes)
    while rest:
        end = data.draw(st.integers(1, len(rest)))
        while end < len(rest) and rest[end][0] == rest[end - 1][0]:
            end += 1
        part, rest = rest[:end], rest[end:]
        made.learn(Progress("epoch", part[-1][0], made.seq or 0, part), made.seq, at=101.0)
    heard = log(seq=data.draw(st.integers(0, made.seq or 0)))
    assert heard.hear(made.since(told), at=101.0)
    fresh = ChangeLog()
    fresh.hear(made.since(told), at=101.0)
    known = heard.seq
    assert known == made.seq
    for key in "abcdefgh":
        last = max((seq for seq, one in changes if one == key), default=0)
        for stamp in range(last):
            assert not made.holds(key, stamp)
            assert not fresh.holds(key, stamp)
        assert made.holds(key, made.seq or 0)


def test_p10_the_cache_in_the_process_is_bounded_by_weight() -> None:
    cache: LocalCache[str] = LocalCache(10)
    for number in range(8):
        cache.put("group", str(number), Entry("x", 1), 1)
    cache.get("group", "0")
    cache.put("members", "big", Entry("y", 1), 6)
    assert cache.get("group", "0") is not None, "the most recently used stays"
    assert [number for number in range(8) if cache.get("group", str(number)) is None] == [1, 2, 3, 4]
    cache.put("members", "huge", Entry("z", 1), 11)
    assert len(cache) == 0
    cache.put("group", "a", Entry("new", 5), 1)
    cache.put("group", "a", Entry("old", 4), 1)
    assert cache.get("group", "a") == Entry("new", 5)
