"""Keeps one hostile message from closing the connection for everybody, for ever.

pamqp decodes a message's properties in the connection's reader, and what it cannot decode ends the connection: a timestamp of the year
291132810, headers nested ten thousand deep, a content type that is no UTF-8 (all of them pass through RabbitMQ). The broker then delivers the
message again, to the next connection, which ends. `install` puts a second way beside three of pamqp's decoders: a value that cannot be decoded
is skipped, by the length that AMQP gives it, and the message arrives without it. We use no property but our own headers, and those are not
believed anyway.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from pamqp import decode

Decoder = Callable[[bytes], tuple[int, Any]]


def _tolerant(decoder: Decoder, length: Callable[[bytes], int], instead: Callable[[], Any]) -> Decoder:
    """`decoder`, but for a value that it cannot decode: `length` octets are skipped then."""

    def decoded(value: bytes) -> tuple[int, Any]:
        try:
            return decoder(value)
        except (
            Exception
        ):  # ValueError, OverflowError, OSError, RecursionError, struct.error: whatever hostile bytes lead to
            return length(value), instead()

    decoded.tolerant = True  # type: ignore[attr-defined]
    return decoded


def install() -> None:
    """Make pamqp tolerant, once; harmless when repeated."""
    lengths: dict[str, tuple[Callable[[bytes], int], Callable[[], Any]]] = {
        "timestamp": (lambda value: 8, lambda: None),
        "shortstr": (lambda value: 1 + value[0], str),
        "table": (lambda value: 4 + int(struct.unpack(">I", value[:4])[0]), dict),
    }
    for name, (length, instead) in lengths.items():
        decoder = decode.METHODS[name]
        if not hasattr(decoder, "tolerant"):
            decode.METHODS[name] = _tolerant(decoder, length, instead)
