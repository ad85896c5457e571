"""Chats and webhooks as channels meet them, on loopback: what they are told is kept, what they answer is chosen by a word of the path.

The words: `redirect`, `drip` (a header line every tenth of a second, for ever), `huge` (a megabyte), `silent` (an open connection without an
answer), `sulk` (200, and then a broken document), and `status` followed by a number. Anything else is taken, as Slack, Mattermost, Matrix and ntfy
would take it.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.support.ports import free_port, release_port

ANSWER = {"ok": True, "access_token": "t", "user_id": "@horo:chat.test", "device_id": "D", "room_id": "!room:chat.test"}
ANSWER |= {"event_id": "$1", "id": "1", "joined_rooms": ["!room:chat.test"], "result": {"message_id": 1}}


class Told(NamedTuple):
    """One request."""

    method: str
    host: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its document."""
        return json.loads(self.body)


class Chat:
    """A server on a free port of loopback; close it. `answers` are given first, one a request: HTTP statuses."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.told: list[Told] = []
        self.connections = 0
        self.answers: list[int] = []
        self.open = threading.Event()
        self.port = free_port()
        chat = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                chat.connections += 1
                super().setup()

            def log_message(self, *_: object) -> None:
                """Nothing on standard error."""

            def do_POST(self) -> None:
                chat.take(self)

            do_GET = do_PUT = do_DELETE = do_POST  # noqa: N815 - the names of http.server

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that hangs up is what some tests are about."""

        self._server = Server(("127.0.0.1", self.port), Handler)
        if context is not None:
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def take(self, request: BaseHTTPRequestHandler) -> None:
        """Keep a request and answer it."""
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.told.append(Told(request.command, headers.get("host", ""), request.path, headers, body))
        word = next((part for part in re.split("[/?]", request.path) if part), "")
        if self.answers:
            self._answer(request, self.answers.pop(0), b"{}")
        elif word == "redirect":
            self._answer(request, 302, b"", ("Location", f"http://127.0.0.1:{self.port}/elsewhere"))
        elif word == "drip":
            self._drip(request)
        elif word == "silent":
            self.open.wait(30)
        elif word == "huge":
            self._answer(request, 200, b"x" * 1_000_000)
        elif word == "sulk":
            self._answer(request, 200, b"<html>")
        elif number := re.fullmatch(r"status(\d+)", word):
            self._answer(request, int(number[1]), b'{"secret of the network": 1}')
        else:
            self._answer(request, 200, json.dumps(ANSWER).encode())

    def _answer(self, request: BaseHTTPRequestHandler, status: int, body: bytes, *more: tuple[str, str]) -> None:
        request.send_response(status)
        for name, value in (("Content-Type", "application/json"), ("Content-Length", str(len(body))), *more):
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(body)

    def _drip(self, request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not self.open.is_set():
            request.wfile.write(b"X-More: x\r\n")
            request.wfile.flush()
            time.sleep(0.1)

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for."""
        return [told.path for told in self.told]

    def close(self) -> None:
        """End it and give the port back."""
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        release_port(self.port)
