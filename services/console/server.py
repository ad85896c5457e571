"""The console as a service: it listens on HORO_CONSOLE_LISTEN, in the event loop that it shares with others, and drains when told to.

Behind it uvicorn, which here neither catches signals nor ends the process. TLS is the business of a proxy before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator, Sequence
from typing import Any

import uvicorn

from services.console.authority import Authority
from services.console.connection import Connection
from services.console.door import Door
from services.console.gate import Gate
from services.console.pace import Pace
from services.console.routes import application
from shared.access import Tokens
from shared.access.open import open_tokens
from shared.parts import Parts
from shared.runtime import address_error
from shared.settings import endpoint
from shared.starting import StartError

SETTING = "HORO_CONSOLE_LISTEN"
GRACE = 20
"""Seconds that requests under way get to end when the service is told to."""
KEEP_ALIVE = 30
BACKLOG = 256
CONNECTIONS = 500
"""Connections at one time; whoever comes after is told 503 by the server itself."""


class Console:
    """A running console, as the runtime sees a service."""

    def __init__(self, parts: Parts, *, tokens: Tokens | None = None) -> None:
        """`tokens` stand in for those that the settings name; they stay their owner's. Raises `StartError` where there is no address."""
        if not parts.settings.console_listen:
            raise StartError(f"{SETTING} is empty: there is no address to listen on")
        self._parts = parts
        self._listen = parts.settings.console_listen
        self._tokens = tokens or open_tokens(parts.settings)
        self._owned = tokens is None
        self._authority = Authority(self._tokens)
        gate = Gate(self._authority, Pace(parts.settings.max_requests_per_minute))
        self._server = _Server(_config(Door(application(parts, gate))))
        self.address = ("", 0)

    async def run(self) -> None:
        """Serve until told to stop, then drain. Raises `StartError` where it cannot listen."""
        try:
            listener = await self._bind()
            with contextlib.closing(listener):
                self.address = listener.getsockname()[:2]
                await self._server.serve(sockets=[listener])
        finally:
            await self._authority.close()
            if self._owned:
                await self._tokens.close()

    async def listening(self) -> None:
        """Returns once it listens."""
        await self._server.up.wait()

    def stop(self) -> None:
        """Begin to drain."""
        self._server.should_exit = True

    async def _bind(self) -> socket.socket:
        """The socket; uvicorn's own way to bind ends the process when it cannot."""
        host, port = endpoint(self._listen)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return _listener(found[0][0], found[0][4])
        except OSError as error:
            raise address_error(self._listen, SETTING, error) from error


def _listener(family: int, address: Any) -> socket.socket:
    """A socket that listens. Of the protocol TCP by name: else answers in two writes would wait for each other (Nagle), 40 ms."""
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


class _Server(uvicorn.Server):
    """uvicorn in somebody else's process."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the runtime's."""
        yield

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets=None if sockets is None else list(sockets))
        self.up.set()


def _config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        loop="none",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
