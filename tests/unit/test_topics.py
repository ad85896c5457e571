"""AMQP topic patterns, as the broker matches them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bus.topics import matches


@pytest.mark.parametrize(
    ("pattern", "key", "wanted"),
    [
        ("#", "", True),
        ("#", "a.b.c", True),
        ("*", "a", True),
        ("*", "a.b", False),
        ("*", "", True),  # one word, which is empty
        ("", "", True),
        ("", "a", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "b.a", False),
        ("#.c", "c", True),
        ("#.c", "a.b.c", True),
        ("#.c", "a.c.b", False),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.*", "a", False),
        ("#.#", "a", True),
        ("signal.suppressed", "signal.suppressed", True),
        ("signal.suppressed", "signal.suppressed.x", False),
        ("signal.sup*", "signal.suppressed", False),
    ],
)
def test_patterns(pattern: str, key: str, wanted: bool) -> None:
    assert matches(pattern, key) is wanted


def naive(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return naive(pattern[1:], words) or (bool(words) and naive(pattern, words[1:]))
    return bool(words) and pattern[0] in ("*", words[0]) and naive(pattern[1:], words[1:])


@given(
    st.lists(st.sampled_from("ab#*"), min_size=1, max_size=6), st.lists(st.sampled_from("abc"), min_size=1, max_size=6)
)
def test_any_pattern_matches_as_the_definition_says(pattern: list[str], words: list[str]) -> None:
    assert matches(".".join(pattern), ".".join(words)) is naive(pattern, words)


def test_a_hostile_pattern_takes_no_time() -> None:
    assert not matches(".".join(["#"] * 500 + ["x"]), ".".join(["a"] * 500))
