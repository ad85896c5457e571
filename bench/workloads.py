"""The workloads as data: who is in which group, what is sent, and exactly which copies must arrive. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.programs import Load, message_id
from bench.systems import Group

DOMAIN = "example.test"
PEOPLE = "people.example.org"


@dataclass(frozen=True)
class Expected:
    """Copies that must arrive: every message of the load, to everybody in the group that it was sent to."""

    load: Load
    people: Sequence[Sequence[str]]
    """For each group of the load, its people, each once."""

    @property
    def copies(self) -> int:
        """How many."""
        return sum(len(self.people[number % len(self.people)]) for number in range(self.load.messages))


@dataclass(frozen=True)
class Workload:
    """One fan-out: `groups` exist, `load` is sent, `expected` arrives."""

    name: str
    title: str
    groups: Sequence[Group]
    expected: Expected
    delay: float = 0.0
    """Answer time of the next hop, seconds."""
    single: bool = False
    """One recipient a transaction."""
    bus: bool = False
    """What the broker receives is counted: the body must not be in it."""
    runs: int = 1
    timeout: float = 300.0
    beside: Expected | None = None
    """A second load that runs while the first one does: its latency is what is asked for."""
    load: Load = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "load", self.expected.load)


def people(count: int, first: int = 0, label: str = "member") -> list[str]:
    """That many addresses, numbered from `first`."""
    return [f"{label}.{number:07d}@{PEOPLE}" for number in range(first, first + count)]


def flat(name: str, sizes: Sequence[int], *, label: str = "member") -> list[Group]:
    """Groups of these sizes, nobody in two of them."""
    groups, first = [], 0
    for number, size in enumerate(sizes):
        groups.append(Group(f"{name}-{number:03d}@{DOMAIN}", people(size, first, label)))
        first += size
    return groups


def nested(name: str, distinct: int, *, children: int = 100, overlap: float = 0.1) -> list[Group]:
    """A group of groups with so many different people: each child holds its share and `overlap` of the next one's. The parent comes last."""
    share = distinct // children
    shared = int(share * overlap)
    everybody = people(share * children)
    groups = []
    for number in range(children):
        after = ((number + 1) % children) * share
        members = everybody[number * share : (number + 1) * share] + everybody[after : after + shared]
        groups.append(Group(f"{name}-{number:03d}@{DOMAIN}", members))
    return [*groups, Group(f"{name}@{DOMAIN}", [group.address for group in groups])]


def fan_out(
    groups: Sequence[Group],
    messages: int,
    *,
    connections: int = 1,
    size: int = 10240,
    rate: float = 0,
    prefix: str = "load",
) -> Expected:
    """Messages to groups of people, in turn."""
    load = Load([group.address for group in groups], messages, connections, size, rate=rate, prefix=prefix)
    return Expected(load, [group.members for group in groups])


def expected_lines(every: Sequence[Expected]) -> Iterator[str]:
    """The file by which the sink checks what has come (native/counting.h)."""
    first = 0
    for expected in every:
        for members in expected.people:
            yield "G\n"
            yield from (f"R {address}\n" for address in members)
        for number in range(expected.load.messages):
            yield f"M {first + number % len(expected.people)} {message_id(expected.load.prefix, number)}\n"
        first += len(expected.people)


def _scaled(number: int, scale: float, least: int = 1) -> int:
    return max(least, int(number * scale))


def many(scale: float) -> Workload:
    groups = flat("team", [10] * 200)
    return Workload(
        "many",
        "2,000 posts to 200 groups of ten members, 20 connections",
        groups,
        fan_out(groups, _scaled(2000, scale), connections=20),
        runs=3,
    )


def big(scale: float) -> Workload:
    groups = flat("big", [_scaled(10_000, scale)])
    return Workload("big", "one post to 10,000 members", groups, fan_out(groups, 1), runs=3)


def verp(scale: float) -> Workload:
    groups = flat("verp", [_scaled(10_000, scale)])
    return Workload(
        "verp",
        "one post to 10,000 members, one recipient a transaction",
        groups,
        fan_out(groups, 1),
        single=True,
        runs=3,
    )


def huge(scale: float) -> Workload:
    groups = nested("all", _scaled(1_000_000, scale))
    everybody = list(dict.fromkeys(member for group in groups[:-1] for member in group.members))
    expected = Expected(Load([groups[-1].address], 1, 1), [everybody])
    return Workload(
        "huge", "one post to 1,000,000 people in 100 nested groups, 10 % of them in two", groups, expected, timeout=900
    )


def mixed(scale: float) -> Workload:
    whole = huge(scale)
    teams = flat("team", [10] * 200, label="small")
    small = fan_out(teams, _scaled(1500, scale), connections=10, rate=50, prefix="small")
    return Workload(
        "mixed",
        "50 posts a second to groups of ten members while `huge` runs",
        [*teams, *whole.groups],
        whole.expected,
        timeout=900,
        beside=small,
    )


def wan(scale: float) -> Workload:
    # Nested, because Postfix needs more than a minute for an alias of 100,000 addresses that stand in one line.
    groups = nested("wan", _scaled(100_000, scale), overlap=0)
    everybody = [member for group in groups[:-1] for member in group.members]
    return Workload(
        "wan",
        "one post to 100,000 people in 100 nested groups, the next hop 50 ms a round trip away",
        groups,
        Expected(Load([groups[-1].address], 1, 1), [everybody]),
        delay=0.05,
    )


def large(scale: float) -> Workload:
    groups = flat("large", [1000])
    return Workload(
        "large",
        "one message of 25 MiB to 1,000 members",
        groups,
        fan_out(groups, 1, size=_scaled(25 << 20, scale)),
        bus=True,
    )


def ceiling(scale: float) -> Sequence[Expected]:
    """What the sink takes from the source with nothing between them: the same messages with 1, 10, 50 and 100 recipients a transaction."""
    everybody = people(5000)
    return [
        Expected(
            Load(
                everybody,
                _scaled(transactions, scale),
                connections=20,
                recipients=recipients,
                prefix=f"direct{recipients}",
            ),
            [],
        )
        for recipients, transactions in ((1, 40_000), (10, 20_000), (50, 8_000), (100, 4_000))
    ]


PEER_SCALE: Mapping[tuple[str, str], float] = {("many", "mailman"): 0.1, ("wan", "mailman"): 0.1}
"""Where a peer is so slow that it gets a part of the load: rates are compared, not times."""

LEFT_OUT: Mapping[tuple[str, str], str] = {
    ("huge", "mailman"): "a million members: at its rate of adding members and of sending this takes hours",
    ("mixed", "mailman"): "as for huge",
}
"""What is not run, and why."""

FAN_OUTS = {workload.__name__: workload for workload in (many, big, verp, huge, mixed, wan, large)}
"""Name -> function of the scale (1.0: full size)."""
