"""POST a signal to a group. `shared.signals` decides what a signal is and puts it on the bus; here it is decided whether this token may."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from litestar import post
from litestar.params import FromPath, HeaderParameter, JSONBody
from msgspec import Meta

from services.console import problems
from services.console.asked import Asked
from services.console.gate import needs, sends_json
from services.console.openapi import refusals, secured
from shared import signals
from shared.access import Scope, Token
from shared.address import AddressError, key, parse

KEY_LIMIT = 150
"""Characters of an Idempotency-Key: with the token's id it is the signal's id of its origin."""


class SignalBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signal: `text` is what to say, not markup. What else it may be is `shared.signals.SignalRequest`'s to say."""

    text: Annotated[str, Meta(description="What to say: text, not markup", min_length=1, max_length=10_000)]
    title: Annotated[str, Meta(description="A heading, one line", max_length=200)] = ""
    link: Annotated[str, Meta(description="A link to more: http or https", max_length=2000)] = ""
    origin: Annotated[str, Meta(description="Who or what sends it; empty for the token's name", max_length=200)] = ""


class SignalTaken(msgspec.Struct, frozen=True, kw_only=True):
    """A signal that is durable. `refused`: the group takes none; then a `signal.suppressed` event is all that comes of it."""

    id: str
    group: str
    refused: bool


IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="A repeated request with the same key and token is the same signal, with the same id within the same ten minutes",
        min_length=1,
        max_length=KEY_LIMIT,
    ),
]


@post(
    "/groups/{address:str}/signals",
    operation_id="sendSignal",
    summary="Send a signal to a group",
    tags=["signals"],
    status_code=HTTPStatus.ACCEPTED,
    guards=[needs(Scope.SIGNAL_SEND), sends_json],
    security=secured(Scope.SIGNAL_SEND),
    responses=refusals(404, 413, 415),
    response_description="It is durable, and on its way",
)
async def send_signal(
    request: Asked,
    address: FromPath[str],
    data: JSONBody[SignalBody],
    idempotency_key: IdempotencyKey = None,
) -> SignalTaken:
    """A real-time message to everybody in the group: events for other systems, and a message to each chat channel of the group and its members."""
    parts, token = request.parts, request.token
    group = _group(address)
    asked = _asked(group, data, token, idempotency_key)
    wanted = signals.signal_of(asked, origin=_origin(token)).group
    found = await parts.directory.group(wanted) if token.reaches(wanted) else None
    if found is None:
        raise problems.not_here("group")
    sent = await signals.accept(parts.bus, asked, origin=_origin(token))
    return SignalTaken(id=sent.id, group=sent.group, refused=found.settings.disable_signals)


def _group(address: str) -> str:
    """The key of an address; what is no address is no group of ours. Raises `Refusal`."""
    try:
        return key(str(parse(address)))
    except AddressError as error:
        raise problems.not_here("group") from error


def _asked(group: str, data: SignalBody, token: Token, idempotency_key: str | None) -> signals.SignalRequest:
    """The request as all ways in make it. A token's keys are its own: nobody else's requests are taken for repetitions of them."""
    own = f"{token.id}:{idempotency_key}" if idempotency_key else ""
    try:
        asked = signals.request(group=group, id=own, **msgspec.structs.asdict(data))
        signals.signal_of(asked, origin=_origin(token))
    except signals.SignalError as error:
        raise problems.unfit(_fault(error)) from error
    return asked


def _fault(error: signals.SignalError) -> problems.Fault:
    """What is wrong, and where: the library tells the place at the end, our own words at the beginning."""
    told, _, place = str(error).partition(" - at `$.")
    name, colon, rest = told.partition(": ")
    return problems.Fault(rest, name) if colon and name.isidentifier() else problems.Fault(told, place.rstrip("`"))


def _origin(token: Token) -> str:
    return f"token:{token.name}"
