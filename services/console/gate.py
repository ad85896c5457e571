"""The gate before every endpoint: a token that is known, good for it, and not asking too fast. What lies behind it never sees the token's text."""

from __future__ import annotations

import re
import time
from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from services.console import problems
from services.console.authority import Authority
from services.console.pace import Pace
from shared.access import Scope, Token

_BEARER = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE)
Asking = ASGIConnection[Any, Any, Any, Any]


class Gate:
    """Lets requests in."""

    def __init__(self, authority: Authority, pace: Pace) -> None:
        self._authority = authority
        self._pace = pace

    async def admit(self, headers: list[str], scope: Scope) -> Token:
        """The token of a request's `Authorization` headers. Raises `Refusal`, `AccessUnavailable`."""
        if not headers:
            raise problems.no_token()
        match = _BEARER.fullmatch(headers[0]) if len(headers) == 1 else None
        token = await self._authority.known(match[1]) if match else None
        if token is None:
            raise problems.bad_token()
        if wait := self._pace.wait(token.id, time.monotonic()):
            raise problems.too_many(wait)
        if scope not in token.scopes:
            raise problems.bad_scope(scope)
        return token


def needs(scope: Scope) -> Guard:
    """A guard: who comes here has a token that is good for `scope`."""

    async def guard(connection: Asking, _handler: BaseRouteHandler) -> None:
        gate: Gate = connection.app.state.gate
        connection.state.token = await gate.admit(connection.headers.getall("authorization", []), scope)

    return guard


def sends_json(connection: Asking, _handler: BaseRouteHandler) -> None:
    """A guard: a body of another type is not read as if it were JSON."""
    kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise problems.not_json()
