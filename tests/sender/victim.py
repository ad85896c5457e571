"""A sender as a process of its own on embedded parts, for tests that kill it: `python -m tests.sender.victim DATA HOP`."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from services.sender.story import Sender
from shared.bus.open import open_bus
from shared.database.engine import open_engine
from shared.ledger.open import open_ledger
from shared.settings import Settings
from tests.sender.making import ShelfOfBodies


async def main(data: Path, hop: str) -> None:
    settings = Settings(
        data=str(data), next_hop=hop, workers=4, claim_lease="1s", hop_timeout="10s", retry_schedule="1s"
    )
    engine = open_engine(settings.effective_database_url)
    ledger, bus = open_ledger(settings, engine), await open_bus("embedded:", data)
    sender = Sender(settings, bus=bus, ledger=ledger, bodies=ShelfOfBodies(), hostname="horo.example.test")  # type: ignore[arg-type]
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sender.stop)
    print("ready", flush=True)
    await sender.run()
    await bus.close()
    await ledger.close()
    await engine.dispose()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
