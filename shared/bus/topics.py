"""AMQP topic patterns, for the bus that has no broker to match them. Pure."""

from __future__ import annotations


def matches(pattern: str, routing_key: str) -> bool:
    """Whether a routing key matches: words between dots, `*` is exactly one word, `#` is any number of them, none included.

    Word by word with the set of positions in the pattern that are still possible: no pattern takes more than words x words steps.
    """
    wanted = pattern.split(".")
    positions = _open({0}, wanted)
    for word in routing_key.split("."):
        stepped = set()
        for position in positions:
            if position == len(wanted):
                continue
            if wanted[position] == "#":
                stepped.add(position)
            elif wanted[position] in ("*", word):
                stepped.add(position + 1)
        positions = _open(stepped, wanted)
    return len(wanted) in positions or (routing_key == "" and len(wanted) in _open({0}, wanted))


def _open(positions: set[int], wanted: list[str]) -> set[int]:
    """The positions and those behind a `#` that may stand for nothing."""
    found = set(positions)
    for position in sorted(positions):
        while position < len(wanted) and wanted[position] == "#":
            position += 1  # noqa: PLW2901
            found.add(position)
    return found
