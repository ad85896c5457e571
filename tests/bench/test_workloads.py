"""What is sent, and exactly who must get it."""

from __future__ import annotations

import pytest

from bench.workloads import FAN_OUTS, LEFT_OUT, PEER_SCALE, ceiling, expected_lines, fan_out, flat, nested


@pytest.mark.parametrize("name", FAN_OUTS)
def test_members_of_the_groups_are_the_people_expected(name: str) -> None:
    workload = FAN_OUTS[name](0.01)
    people = {one for group in workload.groups for one in group.members} - {group.address for group in workload.groups}
    expected = [workload.expected, *([workload.beside] if workload.beside else [])]
    assert {one for each in expected for members in each.people for one in members} == people
    assert all(len(set(members)) == len(members) for each in expected for members in each.people)
    assert set(workload.expected.load.groups) <= {group.address for group in workload.groups}


def test_the_full_sizes_are_those_that_were_promised() -> None:
    sizes = {name: make(1.0).expected for name, make in FAN_OUTS.items() if name != "mixed"}
    assert {name: expected.copies for name, expected in sizes.items()} == {
        "many": 20_000,
        "big": 10_000,
        "verp": 10_000,
        "huge": 1_000_000,
        "wan": 100_000,
        "large": 1000,
    }
    assert (sizes["many"].load.messages, sizes["many"].load.connections) == (2000, 20)
    assert sizes["large"].load.size == 25 << 20


def test_a_tenth_of_a_nested_group_is_in_two_of_its_children() -> None:
    groups = nested("all", 10_000, children=100)
    *children, parent = groups
    memberships = [member for child in children for member in child.members]
    assert parent.members == [child.address for child in children]
    assert len(memberships) == 11_000
    assert len(set(memberships)) == 10_000


def test_the_file_for_the_sink_names_every_group_and_message() -> None:
    one, two = fan_out(flat("a", [2, 1]), 3, prefix="one"), fan_out(flat("b", [1], label="x"), 1, prefix="two")
    assert list(expected_lines([one, two])) == [
        "G\n",
        "R member.0000000@people.example.org\n",
        "R member.0000001@people.example.org\n",
        "G\n",
        "R member.0000002@people.example.org\n",
        "M 0 one.0@source.example.test\n",
        "M 1 one.1@source.example.test\n",
        "M 0 one.2@source.example.test\n",
        "G\n",
        "R x.0000000@people.example.org\n",
        "M 2 two.0@source.example.test\n",
    ]


def test_the_ceiling_never_sends_one_message_to_an_address_twice() -> None:
    assert all(expected.load.recipients <= len(expected.load.groups) for expected in ceiling(1.0))


def test_exceptions_are_of_workloads_that_exist() -> None:
    assert {workload for workload, _ in [*LEFT_OUT, *PEER_SCALE]} <= set(FAN_OUTS)
