"""Which bus: chosen by the scheme of HORO_BROKER_URL alone."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from shared.bus import Bus

EMBEDDED = "embedded:"
FILE = "queue.db"


async def open_bus(url: str, data: Path) -> Bus:
    """The bus of a URL: `embedded:` (a file in `data`), `embedded:PATH`, `amqp://` or `amqps://`.

    Raises `BusUnavailable` when it cannot be reached or used, ValueError for another URL; neither text holds a password.
    """
    if url.startswith(EMBEDDED):
        from shared.bus.embedded import Embedded  # noqa: PLC0415 - each profile loads its own bus only

        path = url.removeprefix(EMBEDDED)
        return await Embedded.open(Path(path) if path else data / FILE)
    if url.startswith(("amqp://", "amqps://")):
        from shared.bus.rabbitmq import Rabbitmq  # noqa: PLC0415

        return await Rabbitmq.connect(url)
    raise ValueError(
        f"{urlsplit(url).scheme or 'a URL without scheme'!r} is no bus: write embedded:, amqp://… or amqps://…"
    )
