"""Wiring: the ingress as a process, `python -m services.ingress`."""

from __future__ import annotations

import asyncio
import sys

from services.ingress.server import CannotListen, Ingress
from shared.parts import Parts
from shared.runtime import address_error, main


class IngressService:
    """The ingress as the runtime sees a service."""

    def __init__(self, ingress: Ingress) -> None:
        self.ingress = ingress
        self._listening = asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to stop, then drain. Raises `StartError` where it cannot listen."""
        try:
            await self.ingress.start()
        except CannotListen as error:
            raise address_error(error.address, error.setting, error.reason) from error
        self._listening.set()
        try:
            await self._stopping.wait()
        finally:
            await self.ingress.stop()

    async def listening(self) -> None:
        """Returns once it listens."""
        await self._listening.wait()

    def stop(self) -> None:
        """Begin to drain."""
        self._stopping.set()


def build(parts: Parts) -> IngressService:
    """An ingress from its parts."""
    return IngressService(
        Ingress(
            parts.settings,
            bus=parts.bus,
            directory=parts.directory,
            bodies=parts.bodies,
            days=parts.ledger,
            hostname=parts.hostname,
        )
    )


if __name__ == "__main__":
    sys.exit(main("ingress", build))
