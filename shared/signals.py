"""Signals as other systems send them: one request type, one check, one way onto the bus (AMQP, REST and the command line all come here).

What comes over AMQP was written by anybody with access to the broker: every field is bounded, nothing in it is believed beyond its type, and
the `origin` is its own word. `docs/design/0015-signals.md` tells how each way in behaves when a request is repeated.
"""

from __future__ import annotations

import time
import unicodedata
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from shared.address import AddressError, key, parse, split_role
from shared.bus import Bus, Outgoing
from shared.identity import derive, new_id
from shared.messages import Signal, Undecodable, encode
from shared.topology import Queue

MOST_OCTETS = 128 * 1024
"""Octets of one request: ten thousand characters in any writing, and all the rest."""
SAME = 600
"""Seconds for which a repetition has the same id. No longer: an id's time is what a signal is found and sorted by."""
MAX_AGE = 86400.0
"""Seconds after which a signal is no news any more: a channel that could not be told by then is not tried again."""

_LINE = r"^[^\x00-\x1f\x7f\u2028\u2029]*$"


class SignalRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signal as another system asks for it; as JSON, the body of a message to the exchange `signals`."""

    group: Annotated[str, Meta(description="The group's address", min_length=3, max_length=320, pattern=_LINE)]
    text: Annotated[str, Meta(description="What to say: text, not markup", min_length=1, max_length=10_000)]
    title: Annotated[str, Meta(description="A heading, one line", max_length=200, pattern=_LINE)] = ""
    link: Annotated[
        str, Meta(description="A link to more: http or https", max_length=2000, pattern=r"^(https?://[!-~]+)?$")
    ] = ""
    origin: Annotated[
        str, Meta(description="Who or what sends it; empty for the name of the way in", max_length=200, pattern=_LINE)
    ] = ""
    id: Annotated[
        str,
        Meta(
            description="The origin's own id: of requests of one origin for one group with the same id the first counts, for a week",
            max_length=200,
            pattern=_LINE,
        ),
    ] = ""


class SignalError(ValueError):
    """A request that is none, in words for whoever made it."""


def schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of a request."""
    return msgspec.json.schema(SignalRequest)


def read(payload: bytes) -> SignalRequest:
    """The request in a JSON document. Raises `SignalError`, whatever the bytes."""
    if len(payload) > MOST_OCTETS:
        raise SignalError(f"{len(payload)} octets are more than the {MOST_OCTETS} that a signal may have")
    try:
        return msgspec.json.decode(payload, type=SignalRequest)
    except (msgspec.MsgspecError, RecursionError, UnicodeError, ValueError) as error:
        raise SignalError(_words(error)) from error


def request(**fields: str) -> SignalRequest:
    """A request of these fields, checked as one that comes as JSON is. Raises `SignalError`."""
    try:
        return msgspec.convert(fields, SignalRequest)
    except msgspec.MsgspecError as error:
        raise SignalError(_words(error)) from error


def signal_of(asked: SignalRequest, *, origin: str, now: float | None = None) -> Signal:
    """The signal that a request asks for. `origin` stands in where the request names none. Raises `SignalError`.

    With an `id` of the origin's the signal's own id is made of it and of the ten minutes it comes in: a repetition within them is the same
    signal, a later one is recognised by the ledger (`Signal.once`). An id must begin with its time, for the ledger keeps and drops posts by that.
    """
    at = time.time() if now is None else now
    group = _group(asked.group)
    _printable(asked)
    sender = asked.origin or origin
    begun = new_id(at - at % SAME)
    return Signal(
        id=derive(begun[:10], "signal", sender, group, asked.id) if asked.id else new_id(at),
        group=group,
        text=asked.text,
        title=asked.title,
        link=asked.link,
        origin=sender,
        sent_at=at,
        once=asked.id,
    )


async def accept(bus: Bus, asked: SignalRequest, *, origin: str) -> Signal:
    """Make a request durable on the bus: the signal that it became. Raises `SignalError`, `BusUnavailable`.

    Whether there is such a group, and whether it takes signals, is decided when it is worked; whoever wants to tell at once asks the directory.
    """
    signal = signal_of(asked, origin=origin)
    await bus.publish(Outgoing(queue=Queue.SIGNALS, payload=encode(signal)))
    return signal


def decode_request(payload: bytes) -> Signal:
    """A message of the exchange `signals`. Raises `Undecodable`: it is parked with that reason."""
    try:
        return signal_of(read(payload), origin="amqp")
    except SignalError as error:
        raise Undecodable(str(error)) from error


def _group(address: str) -> str:
    try:
        name = key(str(parse(address)))
    except AddressError as error:
        raise SignalError(f"group: {error}") from error
    role, base, _ = split_role(name)
    return base if role == "group" else name


def _printable(asked: SignalRequest) -> None:
    """A text may have lines and tabs; what else controls a terminal or hides itself has no place in it, nor have halves of characters."""
    for name in ("group", "text", "title", "link", "origin", "id"):
        for char in getattr(asked, name):
            category = unicodedata.category(char)
            if category == "Cs" or (category == "Cc" and not (name == "text" and char in "\n\r\t")):
                raise SignalError(f"{name}: the character U+{ord(char):04X} has no place in a signal")


def _words(error: Exception) -> str:
    """What is wrong, without what was sent: msgspec tells types, limits and places, not values."""
    return " ".join(str(error).split())[:300] or type(error).__name__
