"""`/livez`, `/readyz` and `/metrics`, served by threads of their own, so that a blocked event loop cannot answer for itself.

Says nothing about messages or people: the answer names the parts that do not work, why is in the journal. However many ask, the parts are looked at
once in `FRESH` seconds by one check at a time: a probe must not be load. Whoever can reach the port controls paths and headers.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from http.server import HTTPServer
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from shared import journal
from shared.replies import TransientError
from shared.settings import endpoint

LIVE_WITHIN = 5.0
READY_WITHIN = 10.0
FRESH = 3.0
"""Seconds for which an answer about the parts is given again, and for which the gauges that have to be asked for stand."""
SURVEY_WITHIN = 5.0
"""Seconds that `/metrics` waits for those gauges; then it answers without."""
CLIENT_LIMIT = 10.0
"""Seconds that a client may take for its request; a thread waits for it."""

Look = Callable[[], Awaitable[Mapping[str, str]]]
"""Looks at the parts of the process: those that do not work, each with its cause."""


Survey = Callable[[], Awaitable[None]]
"""Finds out what gauges show, and sets them."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        """Without the look-up of the host's name that the library makes: it may take as long as a name server is silent."""
        super(HTTPServer, self).server_bind()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or sent nonsense is no news."""


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Quiet(WSGIRequestHandler):
    timeout = CLIENT_LIMIT

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Probes come every few seconds; they are no news."""

    def address_string(self) -> str:
        """Without asking a name server."""
        return str(self.client_address[0])


class Health:
    """The health server of one process. It says "starting" until `up`, then what `look` finds, "draining" after `drain`."""

    def __init__(self, listen: str, *, look: Look, surveys: Sequence[Survey] = ()) -> None:
        """`surveys` run when `/metrics` is asked for, not more often than once in `FRESH` seconds."""
        self._listen = listen
        self._look = look
        self._state = "starting"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: WSGIServer | None = None
        self._looking: asyncio.Task[str] | None = None
        self._looked_at = 0.0
        self._last = ""
        self._surveys = surveys
        self._surveying: asyncio.Task[str] | None = None
        self._surveyed_at = -FRESH

    @property
    def address(self) -> str:
        """Where it listens, host:port, or an empty string."""
        if self._server is None:
            return ""
        name = self._server.server_name
        return f"[{name}]:{self._server.server_port}" if ":" in name else f"{name}:{self._server.server_port}"

    def start(self) -> None:
        """Listen. Raises OSError when the address is in use or is none."""
        if not self._listen:
            return
        self._loop = asyncio.get_running_loop()
        host, port = endpoint(self._listen)
        kind = _Server6 if ":" in host else _Server
        self._server = make_server(host, port, self._answer, server_class=kind, handler_class=_Quiet)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="health", daemon=True).start()

    def up(self) -> None:
        """Everything listens: ready, as far as the parts work."""
        self._state = "up"

    def drain(self) -> None:
        """Not ready any more, so that no new work is sent here; still alive."""
        self._state = "draining"

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        for task in (self._looking, self._surveying):
            if task is not None:
                task.cancel()

    # --- in a thread of the server -------------------------------------------------------------------------------------
    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            if self._surveys:
                # with what was found or without: counters are told in any case
                self._within(self._survey, SURVEY_WITHIN + 1.0)
            start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST)])
            return [generate_latest()]
        checks = {"/livez": (_nothing, LIVE_WITHIN), "/readyz": (self._ready, READY_WITHIN + 1.0)}
        if path not in checks:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not here: /livez, /readyz, /metrics\n"]
        problem = self._within(*checks[path])
        start_response("503 Service Unavailable" if problem else "200 OK", [("Content-Type", "text/plain")])
        return [f"{problem or 'ok'}\n".encode()]

    def _within(self, check: Callable[[], Awaitable[str]], limit: float) -> str:
        """Run a check in the event loop; an empty string when all is well."""
        assert self._loop is not None

        async def run() -> str:
            return await check()

        try:
            future = asyncio.run_coroutine_threadsafe(run(), self._loop)
        except RuntimeError:  # the loop is closed
            return "draining"
        try:
            return future.result(limit)
        except TimeoutError:
            future.cancel()
            return "timeout"

    # --- in the loop ---------------------------------------------------------------------------------------------------
    async def _ready(self) -> str:
        if self._state != "up":
            return self._state
        if self._looking is None or (self._looking.done() and time.monotonic() - self._looked_at > FRESH):
            self._looking = asyncio.create_task(self._looked())
        return await asyncio.shield(self._looking)

    async def _survey(self) -> str:
        old = self._surveying is None or self._surveying.done()
        if self._state == "up" and old and time.monotonic() - self._surveyed_at > FRESH:
            self._surveying = asyncio.create_task(self._surveyed())
        return await asyncio.shield(self._surveying) if self._surveying is not None else ""

    async def _surveyed(self) -> str:
        for survey in self._surveys:
            try:
                async with asyncio.timeout(SURVEY_WITHIN):
                    await survey()
            except TimeoutError:
                journal.survey_failed(f"no answer within {SURVEY_WITHIN:.0f} s")
            except TransientError as error:
                journal.survey_failed(error.why or str(error))
            except Exception as error:
                journal.crashed("survey", error)
        self._surveyed_at = time.monotonic()
        return ""

    async def _looked(self) -> str:
        """One look at the parts, in words for the answer; the journal hears of it when it is another than before."""
        why = ""
        try:
            async with asyncio.timeout(READY_WITHIN):
                troubles = await self._look()
        except TimeoutError:
            found, why = "timeout", f"no answer within {READY_WITHIN:.0f} s"
        except Exception as error:
            found = "unavailable"
            journal.crashed("readiness", error)
        else:
            found = f"unavailable: {', '.join(sorted(troubles))}" if troubles else ""
            why = "; ".join(f"{name}: {cause}" for name, cause in sorted(troubles.items()))
        self._looked_at = time.monotonic()
        if found != self._last:
            journal.unavailable("ready", why or found) if found else journal.available("ready")
            self._last = found
        return found


async def _nothing() -> str:
    """What the loop runs to show that it does."""
    return ""
