"""Wiring: the sender as a process, `python -m services.sender`."""

from __future__ import annotations

import sys

from services.sender.story import Sender
from shared.parts import Parts
from shared.runtime import main


def build(parts: Parts) -> Sender:
    """A sender from its parts."""
    return Sender(
        parts.settings,
        bus=parts.bus,
        ledger=parts.ledger,
        bodies=parts.bodies,
        secret=parts.secret,
        hostname=parts.hostname,
        channels=parts.directory,
    )


if __name__ == "__main__":
    sys.exit(main("sender", build))
