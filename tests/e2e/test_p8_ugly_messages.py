"""P8 from the client's socket to the file in the Maildir: ugly messages, in pieces cut anywhere, inline and by way of the body store."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from tests.e2e.conftest import Starts
from tests.e2e.system import System
from tests.support.waiting import wait_until
from tests.unit.test_rendering import ALWAYS, MESSAGES, REMOVED, is_ours, naive, name_of

pytestmark = pytest.mark.e2e

PLAIN = "plain@example.test"
TURNED_OFF = [f"{name}=off" for name in ("reply_to_group", "remove_author", "remove_to_cc", "reject_automatic")]


def send(port: int, content: bytes, seed: int) -> str:
    """Send the octets as they are, dots stuffed, in pieces of any size; the post's id."""
    cut = random.Random(seed)
    stuffed = (b"\r\n" + content).replace(b"\r\n.", b"\r\n..")[2:]
    wire = stuffed + (b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n")
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client, client.makefile("rb") as replies:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies.readline()
        client.sendall(b"EHLO client.example.net\r\n")
        while replies.readline()[3:4] == b"-":
            pass
        client.sendall(f"MAIL FROM:<x@example.net> BODY=8BITMIME\r\nRCPT TO:<{PLAIN}>\r\nDATA\r\n".encode())
        assert [replies.readline()[:3] for _ in range(3)] == [b"250", b"250", b"354"]
        position = 0
        while position < len(wire):
            size = cut.choice((1, 2, 3, 7, 100, 4000))
            client.sendall(wire[position : position + size])
            position += size
        reply = replies.readline().decode()
        assert reply.startswith("250 2.0.0"), reply
        return reply.split()[-1]


def copy_of(system: System, post: str) -> bytes:
    """The one file of a post, without the two lines that a Maildir's delivery adds."""
    folder = system.folder / "var" / "maildir" / "example.test" / "ana" / "new"
    (path,) = wait_until(lambda: list(folder.glob(f"*{post}*")), f"a copy of {post}", 60.0)
    path_line, to_line, rest = path.read_bytes().split(b"\r\n", 2)
    assert path_line.startswith(b"Return-Path: <plain-bounces+")
    assert to_line == b"Delivered-To: ana@example.test"
    return rest


def expected(raw: bytes, copy: bytes) -> bytes:
    """What the copy must be, by the slow second opinion on the message; our own fields are taken from the copy."""
    mbox, fields, rest = naive(raw)
    known = {name_of(field) for field in fields}
    added = len(ALWAYS) + sum(name not in known for name in (b"message-id", b"date"))
    kept = b"".join(field for field in fields if name_of(field) not in REMOVED and not is_ours(field))
    ending = b"" if kept.endswith(b"\r\n") or not kept else b"\r\n"
    blank = b"" if rest.startswith(b"\r\n") else b"\r\n"
    return mbox + b"".join(naive(copy)[1][:added]) + kept + ending + blank + rest


@pytest.mark.parametrize("inline", ["131072", "0"], ids=["inline", "by-reference"])
def test_p8_every_octet_from_the_socket_to_the_maildir(embedded: Starts, inline: str) -> None:
    system = embedded({"HORO_INLINE_LIMIT": inline, "HORO_MAX_HEADER_SIZE": str(1 << 20)})
    system.group(PLAIN, ["ana@example.test"], *TURNED_OFF)
    sent: dict[Path, str] = {path: send(system.smtp, path.read_bytes(), seed) for seed, path in enumerate(MESSAGES)}
    for path, post in sent.items():
        raw = path.read_bytes()
        raw += b"" if raw.endswith(b"\r\n") else b"\r\n"  # SMTP ends the last line
        copy = copy_of(system, post)
        assert copy == expected(raw, copy), path.name
