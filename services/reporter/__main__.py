"""Wiring: the reporter as a process, `python -m services.reporter`."""

from __future__ import annotations

import sys

from services.reporter.story import Reporter
from shared.parts import Parts
from shared.runtime import main


def build(parts: Parts) -> Reporter:
    """A reporter from its parts."""
    return Reporter(
        parts.settings,
        bus=parts.bus,
        ledger=parts.ledger,
        bodies=parts.bodies,
        directory=parts.directory,
        registry=parts.registry,
        secret=parts.secret,
        hostname=parts.hostname,
    )


if __name__ == "__main__":
    sys.exit(main("reporter", build))
