"""What a reader of the documentation would do: its pages, their blocks of code, the commands in them and the output that they show."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_ANY_LINES = r"(?:[^\n]*\n)*?"


class Block(NamedTuple):
    """A block of code."""

    page: str
    language: str
    text: str


class Step(NamedTuple):
    """A command of a `console` block, and what the page shows of its output: `…` stands for anything."""

    command: str
    shown: str


def written() -> list[Path]:
    """The pages that people write for people; not design pages, which tell of their time, nor what is generated."""
    return [
        DOCS / "index.md",
        DOCS / "getting-started.md",
        DOCS / "security.md",
        *sorted((DOCS / "how-to").glob("*.md")),
    ]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    for indent, language, text in _BLOCK.findall(page.read_text(encoding="utf-8")):
        lines = [line.removeprefix(indent) for line in text.splitlines()]
        yield Block(str(page.relative_to(DOCS)), language, "\n".join(lines))


def steps(page: Path) -> Iterator[Step]:
    """The commands of a page's `console` blocks, in order."""
    for block in blocks(page):
        if block.language == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, _, shown = part.partition("\n")
                yield Step(command, shown)


def commands(page: Path) -> Iterator[str]:
    """Every line of a page's code that calls `horo`, without the prompt and joined where it goes on."""
    for block in blocks(page):
        if block.language in ("", "console"):
            for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
                for call in line.removeprefix("$ ").split(" | "):
                    if call.startswith("horo "):
                        yield call


def shows(shown: str, output: str) -> bool:
    """Whether the output is what the page shows; runs of spaces count as one."""
    pattern = "".join(_ANY_LINES if line == "…" else _line(line) + r"\n" for line in _plain(shown))
    return re.fullmatch(pattern, "".join(line + "\n" for line in _plain(output))) is not None


def _line(line: str) -> str:
    """`…` is anything, and with a space before it nothing too."""
    return re.escape(line).replace(r"\ …", ".*").replace("…", ".*")


def _plain(text: str) -> list[str]:
    lines = (" ".join(line.split()) for line in text.splitlines())
    return [line for line in lines if line]
