"""Identifiers: ordered, derived, keyed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared import identity
from shared.groups import SLOTS, cell, slot


def test_ids_sort_by_time_and_differ() -> None:
    ids = [identity.new_id(now) for now in (1.0, 2.0, 1_700_000_000.0, 4_000_000_000.0)]
    assert ids == sorted(ids)
    assert len({identity.new_id(5.0) for _ in range(1000)}) == 1000
    assert all(len(one) == 26 for one in ids)


def test_a_derived_id_is_the_same_for_the_same_parts_only() -> None:
    post = identity.new_id()
    assert identity.derive(post, "a", "bc") == identity.derive(post, "a", "bc")
    assert len({identity.derive(post, *parts) for parts in [("a", "bc"), ("ab", "c"), ("abc",), ()]}) == 4
    assert identity.derive(post, "x")[:10] == post[:10]


def test_tokens_depend_on_the_secret_and_fit_a_local_part() -> None:
    mine, other = "0123456789abcdef", "fedcba9876543210"
    token = identity.bounce_token(mine, "p", "office@example.test")
    assert len(token) == 12
    assert token != identity.bounce_token(other, "p", "office@example.test")
    assert len(identity.verp_token(mine, "p", "ana@example.test")) == identity.VERP_LENGTH
    assert identity.verp_token(mine, "p", "ana@example.test") != identity.verp_token(other, "p", "ana@example.test")
    assert identity.verp_token(mine, "p", "ana@example.test") != identity.verp_token(mine, "q", "ana@example.test")
    assert identity.same(identity.loop_mark(mine, "g"), identity.loop_mark(mine, "g"))
    assert not identity.same(identity.loop_mark(mine, "g"), identity.loop_mark(mine, "h"))


@given(st.text(min_size=1), st.integers(1, 100_000))
def test_p3_a_key_has_one_slot_and_its_cell_is_a_range_of_slots(key: str, cells: int) -> None:
    mine = slot(key)
    assert 0 <= mine < SLOTS
    assert mine == slot(key)
    assert 0 <= cell(mine, cells) < cells


def test_p3_slots_are_the_same_in_every_version() -> None:
    assert [slot(key) for key in ("ana@example.test", "борис@example.test")] == [1523875816, 118806662]


@given(st.text(min_size=1))
def test_a_verp_token_names_the_slot_of_its_recipient(key: str) -> None:
    assert identity.verp_slot(identity.verp_token("0123456789abcdef", "p", key)) == slot(key)


@given(st.text() | st.text(alphabet="0123456789abcdefghjkmnpqrstvwxyzilou", min_size=15, max_size=15))
def test_no_text_makes_a_slot_out_of_bounds(token: str) -> None:
    found = identity.verp_slot(token)
    assert found is None or 0 <= found < SLOTS


def test_what_is_no_verp_token_names_no_slot() -> None:
    assert [identity.verp_slot(text) for text in ("", "0" * 14, "0" * 16, "u" + "0" * 14, "z" * 15)] == [None] * 5
