"""Wiring: the console as a process, `python -m services.console`."""

from __future__ import annotations

import sys

from services.console.server import Console
from shared.parts import Parts
from shared.runtime import main


def build(parts: Parts) -> Console:
    """A console from its parts. Raises `StartError` where HORO_CONSOLE_LISTEN is empty."""
    return Console(parts)


if __name__ == "__main__":
    sys.exit(main("console", build))
