"""ESMTP parameters of MAIL and RCPT (RFC 1870, 3461, 6152, 6531): strict, and pure.

Every byte is the client's. A parameter that is unknown is 555, one that is malformed or there twice is 501 (RFC 3461 6.1, 6.2);
a valid one never changes the reply. Values travel on as they came; they are checked here once, so that nothing in them can break
out of a header or a command later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec

from shared.replies import BAD_SIZE, BAD_SYNTAX, UNKNOWN_PARAMETER, PermanentError, Reply

MAX_ENVID = 100
"""Characters of an ENVID value (RFC 3461 4.4)."""

MAX_ORCPT = 500
"""Characters of an ORCPT value (RFC 3461 4.2)."""

_PARAMETER = re.compile(r"\A([A-Za-z0-9][A-Za-z0-9-]*)(?:=([!-<>-~\x80-\U0010ffff]+))?\Z")
_XTEXT = re.compile(r"\A(?:[!-*,-<>-~]|\+[0-9A-F]{2})*\Z")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_UTF8_XTEXT = re.compile(r"\A(?:[!-*,-<>-\[\]-~\x80-\U0010ffff]|\\x\{[0-9A-F]{1,6}\})+\Z")
_UTF8_HEX = re.compile(r"\\x\{([0-9A-F]{1,6})\}")
_ADDRESS_TYPE = re.compile(r"\A[A-Za-z0-9!#$%&'*/?^_`{|}~-]{1,64}\Z")
_NOTIFY = ("SUCCESS", "FAILURE", "DELAY")

Value = str | None


class MailParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of MAIL. `size` is what the client declared, None where it did not."""

    size: int | None = None
    body: Literal["7BIT", "8BITMIME"] | None = None
    smtputf8: bool = False
    ret: Literal["FULL", "HDRS"] | None = None
    envid: str | None = None


class RcptParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of RCPT, as `shared.messages.Target` keeps them."""

    notify: tuple[str, ...] | None = None
    orcpt: str | None = None


def _wrong(reply: Reply, why: str) -> PermanentError:
    return PermanentError(reply, why=why)


def _size(value: Value) -> int:
    if value is None or not value.isascii() or not value.isdigit() or len(value) > 20:
        raise _wrong(BAD_SIZE, "SIZE")
    return int(value)


def _body(value: Value) -> str:
    if value is None or value.upper() not in ("7BIT", "8BITMIME"):
        raise _wrong(BAD_SYNTAX, "BODY")
    return value.upper()


def _smtputf8(value: Value) -> bool:
    if value is not None:
        raise _wrong(BAD_SYNTAX, "SMTPUTF8")
    return True


def _ret(value: Value) -> str:
    if value is None or value.upper() not in ("FULL", "HDRS"):
        raise _wrong(BAD_SYNTAX, "RET")
    return value.upper()


def _envid(value: Value) -> str:
    if value is None or len(value) > MAX_ENVID or not _is_xtext(value):
        raise _wrong(BAD_SYNTAX, "ENVID")
    return value


def _notify(value: Value) -> tuple[str, ...]:
    words = (value or "").upper().split(",")
    if words == ["NEVER"]:
        return ("NEVER",)
    if not set(words) <= set(_NOTIFY):
        raise _wrong(BAD_SYNTAX, "NOTIFY")
    return tuple(dict.fromkeys(words))


def _orcpt(value: Value) -> str:
    kind, semicolon, address = (value or "").partition(";")
    if not semicolon or not address or len(value or "") > MAX_ORCPT or not _ADDRESS_TYPE.match(kind):
        raise _wrong(BAD_SYNTAX, "ORCPT")
    if not (_is_utf8_xtext(address) if kind.lower() == "utf-8" else _is_xtext(address)):
        raise _wrong(BAD_SYNTAX, "ORCPT")
    return value or ""


def _is_xtext(value: str) -> bool:
    """Whether a value is xtext (RFC 3461 4) of printable ASCII: an encoded line break would come out in a report's header."""
    return bool(_XTEXT.match(value)) and all(" " <= chr(int(octet, 16)) <= "~" for octet in _HEX.findall(value))


def _is_utf8_xtext(value: str) -> bool:
    """Whether a value is the xtext of an internationalized address (RFC 6533 3), of printable characters."""
    if not _UTF8_XTEXT.match(value):
        return False
    points = [int(point, 16) for point in _UTF8_HEX.findall(value)]
    return all(point <= 0x10FFFF and not 0xD800 <= point <= 0xDFFF and chr(point).isprintable() for point in points)


Reader = Callable[[Value], Any]
_MAIL: dict[str, Reader] = {"SIZE": _size, "BODY": _body, "SMTPUTF8": _smtputf8, "RET": _ret, "ENVID": _envid}
_RCPT: dict[str, Reader] = {"NOTIFY": _notify, "ORCPT": _orcpt}

Params = TypeVar("Params", MailParams, RcptParams)


def mail_params(rest: bytes, *, extended: bool) -> MailParams:
    """The parameters after a MAIL path; `extended` says whether the client said EHLO or LHLO. Raises `PermanentError` with the reply."""
    params = _read(rest, _MAIL, MailParams, extended=extended)
    if not params.smtputf8 and not rest.isascii():
        raise _wrong(BAD_SYNTAX, "8-bit parameters without SMTPUTF8")
    return params


def rcpt_params(rest: bytes, *, extended: bool, utf8: bool) -> RcptParams:
    """The parameters after a RCPT path; `utf8` says whether SMTPUTF8 holds. Raises `PermanentError` with the reply."""
    if not utf8 and not rest.isascii():
        raise _wrong(BAD_SYNTAX, "8-bit parameters without SMTPUTF8")
    return _read(rest, _RCPT, RcptParams, extended=extended)


def _read(rest: bytes, readers: dict[str, Reader], kind: type[Params], *, extended: bool) -> Params:
    values: dict[str, Any] = {}
    try:
        text = rest.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _wrong(BAD_SYNTAX, "parameters are not UTF-8") from error
    for part in text.split(" "):
        if not part:
            continue
        match = _PARAMETER.match(part)
        if match is None:
            raise _wrong(BAD_SYNTAX, "parameter syntax")
        name = match[1].upper()
        if name not in readers or not extended:
            raise _wrong(UNKNOWN_PARAMETER, "unknown parameter")
        if name.lower() in values:
            raise _wrong(BAD_SYNTAX, f"{name} twice")
        values[name.lower()] = readers[name](match[2])
    return kind(**values)
