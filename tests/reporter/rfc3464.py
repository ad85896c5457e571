"""An RFC 3464 reader of its own, for tests: it shares no code with the reporter and refuses what the RFC refuses."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import Message
from email.utils import parsedate_to_datetime

PER_MESSAGE = {"original-envelope-id", "reporting-mta", "dsn-gateway", "received-from-mta", "arrival-date"}
PER_RECIPIENT = {
    "original-recipient",
    "final-recipient",
    "action",
    "status",
    "remote-mta",
    "diagnostic-code",
    "last-attempt-date",
    "final-log-id",
    "will-retry-until",
}
ACTIONS = {"failed", "delayed", "delivered", "relayed", "expanded"}
STATUS_TYPES = {"message/delivery-status", "message/global-delivery-status"}
ORIGINAL_TYPES = {"text/rfc822-headers", "message/rfc822", "message/global-headers", "message/global"}


class Status:
    """A checked report: the text, the two kinds of groups as dicts of lower case names, the original's type and octets."""

    def __init__(self, octets: bytes) -> None:
        assert octets.replace(b"\r\n", b"").count(b"\n") == 0, "bare LF"
        assert octets.replace(b"\r\n", b"").count(b"\r") == 0, "bare CR"
        assert all(len(line) <= 998 for line in octets.split(b"\r\n")), "a line over 998 octets"
        self.message: Message = email.message_from_bytes(octets, policy=email.policy.compat32)
        assert self.message.get_content_type() == "multipart/report"
        assert self.message.get_param("report-type") == "delivery-status"
        for name in ("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Auto-Submitted", "Content-Type"):
            assert len(self.message.get_all(name, [])) == 1, f"{name} once"
        assert parsedate_to_datetime(self.message["Date"])
        parts = _split(octets)
        assert 2 <= len(parts) <= 3
        kinds = [part_type for part_type, _, _ in parts]
        assert kinds[0] == "text/plain"
        assert kinds[1] in STATUS_TYPES
        assert len(kinds) == 2 or kinds[2] in ORIGINAL_TYPES
        self.text = parts[0][2].decode("utf-8")
        self.language = self.message.get_payload()[0]["Content-Language"]  # type: ignore[index]
        self.kind = kinds[1]
        self.per_message, *self.recipients = _groups(parts[1][2], utf8=kinds[1] == "message/global-delivery-status")
        self.original_kind = kinds[2] if len(kinds) == 3 else ""
        self.original = parts[2][2] if len(kinds) == 3 else b""
        self._check()

    def _check(self) -> None:
        assert set(self.per_message) <= PER_MESSAGE
        assert re.fullmatch(r"dns; \S+", self.per_message["reporting-mta"])
        assert self.recipients
        for fields in self.recipients:
            assert set(fields) <= PER_RECIPIENT
            assert fields["action"] in ACTIONS
            assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", fields["status"])
            kind, _, address = fields["final-recipient"].partition("; ")
            assert address
            assert kind == ("rfc822" if address.isascii() else "utf-8")
            klass = {"failed": "45", "delayed": "4"}.get(fields["action"], "2")
            assert fields["status"][0] in klass
            if "remote-mta" in fields:
                assert re.fullmatch(r"dns; \S+", fields["remote-mta"])
                assert "diagnostic-code" in fields
            if "will-retry-until" in fields:
                assert fields["action"] == "delayed"
            for name in ("last-attempt-date", "will-retry-until"):
                assert name not in fields or parsedate_to_datetime(fields[name])


def _groups(payload: bytes, *, utf8: bool) -> list[dict[str, str]]:
    """Groups of fields, separated by blank lines; each field once; ASCII unless it is the global kind."""
    text = payload.decode("utf-8" if utf8 else "ascii")
    assert text.isascii() != utf8, "the global kind exactly where it is needed"
    groups = []
    for block in text.strip("\r\n").split("\r\n\r\n"):
        fields: dict[str, str] = {}
        for line in block.split("\r\n"):
            name, colon, value = line.partition(":")
            assert colon and re.fullmatch(r"[A-Za-z-]+", name), line
            assert name.lower() not in fields, f"{name} twice"
            fields[name.lower()] = value.strip()
        groups.append(fields)
    return groups


def _split(octets: bytes) -> list[tuple[str, str, bytes]]:
    """(type, transfer encoding, decoded octets) of each part, by RFC 2046's own rules, for the stdlib knows no message/global-*."""
    import quopri

    head, _, body = octets.partition(b"\r\n\r\n")
    boundary = re.search(rb'boundary="([^"]{1,70})"', head)
    assert boundary
    delimiter = b"--" + boundary[1]
    assert body.rstrip(b"\r\n").endswith(delimiter + b"--")
    parts = []
    for raw in (b"\r\n" + body).split(b"\r\n" + delimiter)[1:-1]:
        part_head, _, payload = raw.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        headers = email.message_from_bytes(part_head + b"\r\n\r\n")
        encoding = headers["Content-Transfer-Encoding"]
        assert encoding in ("7bit", "8bit", "quoted-printable")
        assert encoding != "7bit" or payload.isascii()
        if not payload.isascii():
            assert re.search(rb"(?mi)^content-transfer-encoding: 8bit\r?$", head), "the whole is 8bit if a part is"
        if encoding == "quoted-printable":
            assert payload.isascii()
            assert headers.get_content_type() != "message/rfc822", "RFC 2045 6.4"
            payload = quopri.decodestring(payload)
        parts.append((headers.get_content_type(), encoding, payload))
    return parts
