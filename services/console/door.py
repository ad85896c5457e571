"""The outermost layer of the application: a limit of time, headers that keep browsers safe, and a line in the journal for every request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import msgspec
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from services.console import problems
from shared import journal

REQUEST_LIMIT = 40.0
"""Seconds for a request, its body and its answer; a search of the ledger may take thirty."""
PATH_SHOWN = 300

HEADERS: Mapping[bytes, bytes] = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}
"""What an answer says where it does not say it itself."""


_BODY = frozenset((b"content-length", b"transfer-encoding"))


class Door:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, *, limit: float = REQUEST_LIMIT) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != ScopeType.HTTP:
            return  # no lifespan and no websockets here
        await _Visit(scope, receive, send).run(self._app, self._limit)


class _Visit:
    """One request: what has come of it, and what has gone out."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope: Any = scope
        self._receive = receive
        self._send = send
        self._complete = not _BODY.intersection(name for name, _ in self._scope["headers"])
        self._status = 0
        self._begun = time.monotonic()

    async def run(self, app: ASGIApp, limit: float) -> None:
        try:
            async with asyncio.timeout(limit) as patience:
                await app(self._scope, self._receiving, self._sending)
        except TimeoutError:
            if not patience.expired() or self._status:
                raise  # half an answer: the server ends the connection
            await self._refuse(problems.unavailable() if self._complete else problems.too_slow())
        finally:
            self._tell()

    async def _receiving(self) -> Any:
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            self._complete = True
        return message

    async def _sending(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            said = {name.lower() for name, _ in message["headers"]}
            more = [(name, value) for name, value in HEADERS.items() if name not in said]
            message = {**message, "headers": [*message["headers"], *more]}
        await self._send(message)

    async def _refuse(self, refusal: problems.Refusal) -> None:
        body = msgspec.json.encode(refusal.problem)
        headers = {**refusal.headers, "Content-Type": problems.MEDIA_TYPE, "Content-Length": str(len(body))}
        lines = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        start: Any = {"type": "http.response.start", "status": refusal.problem.status, "headers": lines}
        await self._sending(start)
        end: Any = {"type": "http.response.body", "body": body, "more_body": False}
        await self._send(end)

    def _tell(self) -> None:
        token = self._scope.get("state", {}).get("token")
        template = self._scope.get("path_template")
        journal.requested(
            f"{self._scope['method']} {template}" if template else "other",
            path=str(self._scope["path"])[:PATH_SHOWN],
            status=int(self._status),
            token=f"{token.name} ({token.id})" if token else "",
            ip=(self._scope.get("client") or ("",))[0],
            took=time.monotonic() - self._begun,
        )
