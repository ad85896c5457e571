"""SMTP and LMTP as bytes: replies read, capabilities understood, commands written, bodies dot-stuffed. Pure.

An attacker may control the replies (a hostile next hop), and the addresses (a member's entry, an envelope sender): an address with a
control character, a space or a bracket outside quotes would end its command and start another one, so it is never written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from services.sender.answers import Broken, clean, garbled
from shared.messages import Recipient
from shared.replies import Reply

MAX_LINE = 2048
"""Octets of a reply line; RFC 5321 4.5.3.1.5 says 512, some servers write more."""

MAX_LINES = 100
"""Lines of one reply."""

_STATUS = re.compile(r"([245])\.(\d{1,3}\.\d{1,3})(?:\s+|$)")
_LOCAL = re.compile(r"""(?:[^\s<>()\[\]\\,;:@"]+|"(?:[^"\\]|\\.)*")""")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9._-]+|\[[A-Za-z0-9.:-]+\])")
_PLAIN = re.compile(r"(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,128}@[A-Za-z0-9._-]{1,255}\n)+")
_NOTIFY = frozenset(("NEVER", "SUCCESS", "FAILURE", "DELAY"))
_MAX_PATH = 512


# --- replies ---------------------------------------------------------------------------------------------------------
def line_ends(line: bytes) -> bool:
    """Whether this line (without its line ending) is a reply's last. Raises `Broken` where it is no reply line at all."""
    if len(line) < 3 or not line[:3].isdigit() or not 50 <= line[0] <= 53 or line[3:4] not in (b"", b" ", b"-"):
        raise Broken(garbled(repr(line[:60])))
    return line[3:4] != b"-"


def parse_reply(lines: Sequence[bytes]) -> Reply:
    """The reply that these lines (at least one, each checked by `line_ends`) make; the enhanced status of the first line counts.

    Raises `Broken` where the lines do not agree about the code.
    """
    code = int(lines[0][:3])
    if any(int(line[:3]) != code for line in lines[1:]):
        raise Broken(garbled("the lines of one reply have different codes"))
    detail, texts = "", []
    for line in lines:
        text = line[4:].decode("utf-8", "replace")
        if (match := _STATUS.match(text)) and int(match[1]) == code // 100:
            detail = detail or match[2]
            text = text[match.end() :]
        texts.append(text)
    return Reply(code, detail, clean(" ".join(texts).strip()))


@lru_cache(maxsize=1024)
def one_line(line: bytes) -> Reply | None:
    """The reply that a single line is, with or without its CR; None where it takes more to say: a line that is continued, or 421.

    A next hop says the same to every recipient: an equal line is the same object, and costs nothing to read again. Raises `Broken`.
    """
    line = line.removesuffix(b"\r")
    if len(line) > MAX_LINE:
        raise Broken(garbled("reply too long"))
    if not line_ends(line) or line.startswith(b"421"):
        return None
    return parse_reply((line,))


def capabilities(lines: Sequence[bytes]) -> dict[str, str]:
    """What an EHLO or LHLO reply offers: keyword in upper case -> its parameters."""
    offers: dict[str, str] = {}
    for line in lines[1:]:
        keyword, _, parameters = line[4:].decode("ascii", "replace").strip().partition(" ")
        offers[keyword.upper()] = parameters.strip()
    return offers


# --- commands --------------------------------------------------------------------------------------------------------
def sendable(address: str) -> bool:
    """Whether an address can be written into a command: local@domain, no control characters, nothing that ends the path."""
    local, at, domain = address.rpartition("@")
    return bool(
        at
        and len(address.encode("utf-8", "replace")) <= _MAX_PATH
        and address.isprintable()  # no C0, C1, bidi override, line separator, surrogate
        and _LOCAL.fullmatch(local)
        and _DOMAIN.fullmatch(domain)
    )


def all_sendable(addresses: Sequence[str]) -> bool:
    """Whether all of these are plain addresses, found out in one pass; where not, `sendable` tells which can be sent and which cannot."""
    lines = "\n".join(addresses) + "\n"
    return lines.count("\n") == len(addresses) and _PLAIN.fullmatch(lines) is not None


def sendable_sender(address: str) -> bool:
    """As `sendable`; the null sender is fine."""
    return not address or sendable(address)


def mail_parameters(
    offers: Mapping[str, str], *, size: int, eight_bit: bool, utf8: bool, envid: str | None, ret: str | None
) -> str:
    """What follows the address of MAIL: the parameters that the next hop understands, each behind a space."""
    parts = [""]
    if "SIZE" in offers:
        parts.append(f"SIZE={size}")
    if eight_bit and "8BITMIME" in offers:
        parts.append("BODY=8BITMIME")
    if utf8:
        parts.append("SMTPUTF8")
    if "DSN" in offers:
        if ret in ("FULL", "HDRS"):
            parts.append(f"RET={ret}")
        if envid and _token(envid):
            parts.append(f"ENVID={envid}")
    return " ".join(parts)


def mail_command(sender: str, parameters: str) -> str:
    """MAIL, with what `mail_parameters` gave."""
    return f"MAIL FROM:<{sender}>{parameters}\r\n"


def rcpt_commands(recipients: Sequence[Recipient], offers: Mapping[str, str]) -> str:
    """RCPT for each."""
    if "DSN" in offers and any(recipient.notify or recipient.orcpt for recipient in recipients):
        return "".join([rcpt_command(recipient, offers) for recipient in recipients])
    between = ">\r\nRCPT TO:<".join([recipient.address for recipient in recipients])
    return f"RCPT TO:<{between}>\r\n"


def rcpt_command(recipient: Recipient, offers: Mapping[str, str]) -> str:
    """RCPT with what RFC 3461 lets pass on, where the next hop understands it."""
    if "DSN" not in offers or not (recipient.notify or recipient.orcpt):
        return f"RCPT TO:<{recipient.address}>\r\n"
    parts = [f"RCPT TO:<{recipient.address}>"]
    if recipient.notify and _NOTIFY.issuperset(recipient.notify):
        parts.append(f"NOTIFY={','.join(recipient.notify)}")
    if recipient.orcpt and _token(recipient.orcpt):
        parts.append(f"ORCPT={recipient.orcpt}")
    return " ".join(parts) + "\r\n"


def _token(value: str) -> bool:
    """Whether a parameter's value can stand in a command: printable ASCII without spaces, of a bearable length."""
    return len(value) <= 500 and value.isascii() and value.isprintable() and " " not in value


# --- content ---------------------------------------------------------------------------------------------------------
class Stuffer:
    """Dot-stuffs a stream (RFC 5321 4.5.2): a line that begins with a dot gets one more, also where a chunk ends within CRLF."""

    def __init__(self) -> None:
        self._last = b"\r\n"  # the start of the message is the start of a line

    def feed(self, chunk: bytes) -> bytes:
        """The chunk as it goes on the wire."""
        if not chunk:
            return b""
        if chunk[:1] != b"." and b"\n." not in chunk:  # as with most messages
            self._last = (self._last + chunk[-2:])[-2:]
            return chunk
        # A chunk's first dot is at a line start when what came before it, with what the chunk brings, ends in CRLF.
        stuffed = (self._last + chunk).replace(b"\r\n.", b"\r\n..")[len(self._last) :]
        self._last = (self._last + chunk[-2:])[-2:]
        return stuffed

    def end(self) -> bytes:
        """What ends the message: the final dot on a line of its own."""
        return b".\r\n" if self._last == b"\r\n" else b"\r\n.\r\n"
