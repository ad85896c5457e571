"""`/livez`, `/readyz` and `/metrics`, served by a thread of its own, so that a blocked event loop cannot answer for itself.

Says nothing about messages or people; what is wrong is in the journal, the answer is one word per part.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared import journal
from shared.settings import endpoint

LIVE_WITHIN = 5.0
READY_WITHIN = 10.0


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Probes come every few seconds; they are no news."""


class Health:
    """The health server of one process. `ready` raises when the process should get no work; None of it runs before `start`."""

    def __init__(self, listen: str, *, ready: Callable[[], Awaitable[None]]) -> None:
        self._listen = listen
        self._ready = ready
        self._draining = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: WSGIServer | None = None

    @property
    def address(self) -> str:
        """Where it listens, host:port, or an empty string."""
        return f"{self._server.server_name}:{self._server.server_port}" if self._server else ""

    def start(self) -> None:
        """Listen. Raises OSError when the address is in use."""
        if not self._listen:
            return
        self._loop = asyncio.get_running_loop()
        host, port = endpoint(self._listen)
        self._server = make_server(host, port, self._answer, server_class=_Server, handler_class=_Quiet)
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def drain(self) -> None:
        """Not ready any more, so that no new work is sent here; still alive."""
        self._draining = True

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
            return [generate_latest()]
        checks = {"/livez": (_nothing, LIVE_WITHIN), "/readyz": (self._check_ready, READY_WITHIN)}
        if path not in checks:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not here: /livez, /readyz, /metrics\n"]
        problem = self._within(*checks[path])
        start_response("503 Service Unavailable" if problem else "200 OK", [("Content-Type", "text/plain")])
        return [f"{problem or 'ok'}\n".encode()]

    async def _check_ready(self) -> None:
        if self._draining:
            raise RuntimeError("draining")
        await self._ready()

    def _within(self, check: Callable[[], Awaitable[None]], limit: float) -> str:
        """Run a check in the event loop; an empty string when all is well, else one word. The reason is in the journal."""
        assert self._loop is not None

        async def run() -> None:
            await check()

        future = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            future.result(limit)
        except TimeoutError:
            future.cancel()
            return "timeout"
        except Exception as error:
            if not self._draining:
                journal.unavailable("ready", f"{type(error).__name__}: {error}")
            return "draining" if self._draining else "unavailable"
        return ""


async def _nothing() -> None:
    """What the loop runs to show that it does."""
