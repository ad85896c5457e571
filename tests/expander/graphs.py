"""Random towns of groups for the property tests: all switches, several domains, cycles, diamonds, self-membership, spellings of one address."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import strategies as st

from shared.groups import Member
from tests.expander.naive import Circle, Person, Town
from tests.expander.world import World

DOMAINS = ("a.test", "b.test", "xn--e1afmkfd.test")  # the last is пример.test
SPELLINGS = (
    "p{n}@x.test",
    "P{n}@X.test",
    "p{n}+work@x.test",
    "p{n}@пример.org",
    "P{n}@xn--e1afmkfd.org",
    "p{n}",  # a bare name: of the group's own domain
    "п{n}@x.test",
)


class Scene(NamedTuple):
    """A town, and a post to some of its groups."""

    town: Town
    targets: list[str]
    authors: list[str]
    to_cc: list[str]


def person_address(people: int) -> st.SearchStrategy[str]:
    """Somebody, spelled in one of many ways."""
    return st.builds(lambda form, n: form.format(n=n), st.sampled_from(SPELLINGS), st.integers(0, people - 1))


def state(address: str, paused: bool, own: bool, suspended: bool) -> Person:
    return Person(address, paused, own, suspended)


def _rarely() -> st.SearchStrategy[bool]:
    return st.integers(0, 5).map(lambda number: number == 0)


def _mostly() -> st.SearchStrategy[bool]:
    return _rarely().map(lambda value: not value)


@st.composite
def towns(draw: st.DrawFn, *, in_place: bool = False, groups: int = 6, people: int = 6) -> Town:
    """Groups `g0@...` on. With `in_place` all sub-groups are expanded in place, whatever their domain."""
    names = [f"g{n}@{draw(st.sampled_from(DOMAINS))}" for n in range(draw(st.integers(1, groups)))]
    nested = st.sampled_from(names).flatmap(
        lambda name: st.sampled_from([name, name.upper().replace("XN--", "xn--"), name.replace("@", "+tag@"), name])
    )
    members = st.lists(
        st.builds(
            state, st.one_of(person_address(people), person_address(people), nested), _rarely(), _rarely(), _rarely()
        ),
        max_size=8,
    ).map(tuple)
    town = {}
    for name in names:
        town[name] = Circle(
            name,
            members=draw(members),
            expand_groups=in_place or draw(_mostly()),
            remove_author=draw(st.booleans()),
            remove_to_cc=draw(st.booleans()),
            disabled=draw(_rarely()),
            closed=not in_place and draw(_rarely()),
            nest_from=DOMAINS if in_place else tuple(draw(st.lists(st.sampled_from(DOMAINS), unique=True, max_size=2))),
        )
    return town


@st.composite
def scenes(draw: st.DrawFn, *, in_place: bool = False, targets: int = 3) -> Scene:
    """A town and a post to up to `targets` of its groups."""
    town = draw(towns(in_place=in_place))
    aims = draw(st.lists(st.sampled_from(sorted(town)), min_size=1, max_size=targets, unique=True))
    full = person_address(6).map(lambda one: one if "@" in one else f"{one}@a.test")
    return Scene(town, aims, draw(st.lists(full, max_size=2)), draw(st.lists(full, max_size=2)) + aims)


def build(world: World, town: Town) -> None:
    """Put a town into a world's directory."""
    for circle in town.values():
        world.directory.add(
            circle.address,
            expand_groups=circle.expand_groups,
            remove_author=circle.remove_author,
            remove_to_cc=circle.remove_to_cc,
            disabled=circle.disabled,
            who_can_post="owners" if circle.closed else "anyone",
            nest_from=circle.nest_from,
            reject_automatic=False,
        )
    for circle in town.values():
        for one in circle.members:
            world.directory.put(circle.address, member(one))


def member(one: Person) -> Member:
    """A member for the directory."""
    bounce = "suspended" if one.suspended else "ok"
    return Member(address=one.address, key="", paused=one.paused, own_copies=one.own_copies, bounce=bounce)
