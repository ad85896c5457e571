"""Wiring: the expander as a process, `python -m services.expander`."""

from __future__ import annotations

import sys

from services.expander.story import Expander
from shared.parts import Parts
from shared.runtime import main


def build(parts: Parts) -> Expander:
    """An expander from its parts."""
    return Expander(
        parts.settings,
        bus=parts.bus,
        directory=parts.directory,
        ledger=parts.ledger,
        bodies=parts.bodies,
        secret=parts.secret,
        hostname=parts.hostname,
    )


if __name__ == "__main__":
    sys.exit(main("expander", build))
