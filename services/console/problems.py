"""What a client is told when it does not get what it asked for: problem details (RFC 9457), all of them in this file.

Public text only: causes go to the journal. A client cannot tell what it may not see from what is not there: both are 404.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from shared import journal
from shared.replies import TransientError

MEDIA_TYPE = "application/problem+json"
_MISSING = re.compile(r"missing required field `(\w+)`")
_NAMES = {"data": "", "only": "state", "idempotency_key": "Idempotency-Key"}
"""What a handler's own names are for clients, where these are others."""
RETRY_AFTER = 5
"""Seconds after which a client may come again when a server of ours does not answer."""


class Fault(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a request: `name` is the field, parameter or header."""

    detail: str
    name: str = ""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Problem details. `type` is about:blank: the status says what kind of problem it is."""

    title: str
    status: int
    detail: str = ""
    errors: Sequence[Fault] = ()


class Refusal(Exception):
    """A request that is answered with a problem."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str = "",
        *,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status}: {detail}")
        self.problem = Problem(title=status.phrase, status=status, detail=detail, errors=errors)
        self.headers = dict(headers or {})

    def response(self) -> Response[bytes]:
        """The answer."""
        return Response(
            msgspec.json.encode(self.problem),
            status_code=self.problem.status,
            headers=self.headers,
            media_type=MEDIA_TYPE,
        )


# --- the refusals ------------------------------------------------------------------------------------------------------
def no_token() -> Refusal:
    """No token was shown (RFC 6750 3.1: without an error code)."""
    challenge = {"WWW-Authenticate": 'Bearer realm="horo"'}
    return Refusal(HTTPStatus.UNAUTHORIZED, "A token is needed: Authorization: Bearer TOKEN", headers=challenge)


def bad_token() -> Refusal:
    """A token was shown that is none: wrong, expired or revoked; which one of these is nobody's business."""
    challenge = {"WWW-Authenticate": 'Bearer realm="horo", error="invalid_token"'}
    return Refusal(HTTPStatus.UNAUTHORIZED, "The token is wrong, or has expired, or was revoked", headers=challenge)


def bad_scope(scope: str) -> Refusal:
    """The token is good, but not for this."""
    challenge = {"WWW-Authenticate": f'Bearer realm="horo", error="insufficient_scope", scope="{scope}"'}
    return Refusal(HTTPStatus.FORBIDDEN, f"The token is not good for this: it needs {scope}", headers=challenge)


def too_many(seconds: float) -> Refusal:
    """More requests than a token may make; `seconds` until the next one is answered."""
    after = {"Retry-After": str(max(1, -int(-seconds // 1)))}
    return Refusal(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests with this token", headers=after)


def not_here(what: str) -> Refusal:
    """It is not there, or not for this token."""
    return Refusal(HTTPStatus.NOT_FOUND, f"There is no such {what}")


def unfit(*errors: Fault) -> Refusal:
    """The request is understood, and what is in it cannot be used."""
    return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "The request cannot be used as it is", errors=errors)


def not_json() -> Refusal:
    """A body of another kind than the one that is read here."""
    return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send a body of the type application/json")


def too_slow() -> Refusal:
    """The client did not send its request in time."""
    return Refusal(HTTPStatus.REQUEST_TIMEOUT, "The request did not come in time", headers={"Connection": "close"})


def unavailable() -> Refusal:
    """Trouble of our own that will pass."""
    after = {"Retry-After": str(RETRY_AFTER)}
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "Temporary failure, please try again later", headers=after)


# --- exceptions into answers -------------------------------------------------------------------------------------------
def on_refusal(_request: Request[Any, Any, Any], error: Refusal) -> Response[bytes]:
    """A refusal is its answer."""
    return error.response()


def on_trouble(request: Request[Any, Any, Any], error: TransientError) -> Response[bytes]:
    """A server of ours does not answer: the client comes again, and never hears of a 500 for that."""
    journal.unavailable(f"api {request.scope.get('path_template', '')}", error.why or str(error))
    return unavailable().response()


def on_http(_request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What the framework refuses: no such path or method, too large, or input that does not fit its type."""
    status = HTTPStatus(error.status_code)
    if status == HTTPStatus.BAD_REQUEST:  # its word for input that does not fit
        return unfit(*_faults(error)).response()
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() == "allow"}
    return Refusal(status, headers=headers).response()


def _faults(error: HTTPException) -> list[Fault]:
    """What is wrong, as far as the framework says it in words for others."""
    told: Any = error.extra if isinstance(error, ValidationException) else None
    if isinstance(told, list):
        return [_fault(str(each.get("message", "")), str(each.get("key", ""))) for each in told]
    return [Fault("The body is no JSON in UTF-8", "body")]


def _fault(message: str, name: str) -> Fault:
    """A fault; of a field that is missing the name stands in the message alone."""
    missing = _MISSING.search(message)
    return Fault(message, missing[1] if missing else _NAMES.get(name, name))


def on_crash(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Something nobody foresaw."""
    journal.crashed(f"api {request.scope.get('path_template', '')}", error)
    return Refusal(HTTPStatus.INTERNAL_SERVER_ERROR).response()


HANDLERS: dict[Any, Any] = {
    Refusal: on_refusal,
    TransientError: on_trouble,
    HTTPException: on_http,
    Exception: on_crash,
}
