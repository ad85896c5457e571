"""Bar charts as SVG, written by hand: small, the same for the same numbers, readable without a script. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = {
    **{"cluster": "#2b6cb0", "embedded": "#63b3ed", "up": "#63b3ed", "postfix": "#c53030", "mailman": "#d69e2e"},
    **{"ingress": "#2b6cb0", "expander": "#38a169", "sender": "#d69e2e", "reporter": "#805ad5"},
    **{"rabbitmq": "#ed8936", "postgresql": "#319795", "redis": "#b83280"},
    **{"p50": "#63b3ed", "p95": "#2b6cb0", "p99": "#1a365d"},
}
"""The same name is the same colour in every plot."""
PLAIN = "#718096"
BAR, GAP, LEFT, RIGHT, WIDTH, TOP = 18, 14, 190, 110, 860, 56

Bars = Mapping[str, Mapping[str, float]]
"""Group of bars -> bar -> value."""


def bars(title: str, unit: str, values: Bars, *, digits: int = 0, logarithmic: bool = False) -> str:
    """Horizontal bars in groups, one colour for each name, the value beside each. `logarithmic`: a decade is a fixed length."""
    names = _names(values)
    most = max((value for group in values.values() for value in group.values()), default=1) or 1
    least = min((value for group in values.values() for value in group.values() if value > 0), default=1)
    parts, y = [], TOP
    for label, group in values.items():
        parts.append(_text(LEFT - 8, y + len(group) * BAR / 2 + 4, label, "end"))
        for name, value in group.items():
            length = _length(value, least, most, logarithmic)
            parts.append(_bar(LEFT, y, length, COLOURS.get(name, PLAIN)))
            parts.append(_text(LEFT + length + 6, y + 13, f"{value:,.{digits}f} {unit}"))
            y += BAR
        y += GAP
    return _page(title, names, parts, y)


def stacks(title: str, unit: str, values: Bars, *, digits: int = 2) -> str:
    """One horizontal bar a group, its parts side by side, the sum beside it."""
    names = _names(values)
    most = max((sum(group.values()) for group in values.values()), default=1) or 1
    parts, y = [], TOP
    for label, group in values.items():
        parts.append(_text(LEFT - 8, y + 13, label, "end"))
        x = float(LEFT)
        for name, value in group.items():
            length = _length(value, 0, most, logarithmic=False)
            parts.append(_bar(x, y, length, COLOURS.get(name, PLAIN)))
            x += length
        parts.append(_text(x + 6, y + 13, f"{sum(group.values()):,.{digits}f} {unit}"))
        y += BAR + GAP
    return _page(title, names, parts, y)


def _names(values: Bars) -> list[str]:
    return list(dict.fromkeys(name for group in values.values() for name in group))


def _length(value: float, least: float, most: float, logarithmic: bool) -> float:
    room = WIDTH - LEFT - RIGHT
    if not logarithmic:
        return room * value / most
    floor = math.floor(math.log10(least))
    span = math.log10(most) - floor or 1
    return room * max(0.0, math.log10(value) - floor) / span if value > 0 else 0.0


def _bar(x: float, y: float, length: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.0f}" width="{max(length, 0.5):.1f}" height="{BAR - 3}" fill="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _page(title: str, names: Sequence[str], parts: Sequence[str], height: float) -> str:
    legend, x = [], 12.0
    for name in names:
        legend.append(f'<rect x="{x:.0f}" y="32" width="11" height="11" fill="{COLOURS.get(name, PLAIN)}"/>')
        legend.append(_text(x + 16, 42, name))
        x += 30 + 7.2 * len(name)
    style = "<style>text{font:12px sans-serif;fill:#1a202c}.title{font-size:15px;font-weight:bold}</style>"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">',
            style,
            f'<rect width="{WIDTH}" height="{height:.0f}" fill="#ffffff"/>',
            f'<text class="title" x="12" y="20">{escape(title)}</text>',
            *legend,
            *parts,
            "</svg>",
            "",
        ]
    )
