"""AMQP topic patterns, for the bus that has no broker to match them. Pure."""

from __future__ import annotations


def matches(pattern: str, routing_key: str) -> bool:
    """Whether a routing key matches: words between dots, `*` is exactly one word, `#` is any number of them, none included.

    Word by word with the set of positions in the pattern that are still possible: no pattern takes more than words x words steps.
    """
    wanted: list[str] = []
    for part in pattern.split("."):
        if part != "#" or wanted[-1:] != ["#"]:  # two in a row mean no more than one
            wanted.append(part)
    positions = _open({0}, wanted)
    if routing_key == "" and len(wanted) in positions:
        return True
    for word in routing_key.split("."):
        stepped = set()
        for position in positions:
            if position < len(wanted) and wanted[position] == "#":
                stepped.add(position)
            elif position < len(wanted) and wanted[position] in ("*", word):
                stepped.add(position + 1)
        positions = _open(stepped, wanted)
    return len(wanted) in positions


def _open(positions: set[int], wanted: list[str]) -> set[int]:
    """The positions, and those behind a `#`, which may stand for nothing."""
    return positions | {position + 1 for position in positions if wanted[position : position + 1] == ["#"]}
