"""A mail client that keeps a ledger of what it was told, and repeats a message for which it got no 250. Own code on a socket, for SMTP and LMTP."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

AUTHOR = "visitor@example.net"
TIMEOUT = 30.0
_serial = itertools.count(1)


class Reply(NamedTuple):
    """One reply; code 0 for a connection that was lost or refused."""

    code: int
    text: str

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


@dataclass(frozen=True)
class Message:
    """What a client sends, and to whom. `id` is the Message-ID without brackets."""

    id: str
    to: tuple[str, ...]
    mail_from: str
    content: bytes
    mail_parameters: str = ""
    rcpt_parameters: str = ""

    @property
    def body(self) -> bytes:
        """All after the first empty line."""
        return self.content.partition(b"\r\n\r\n")[2]


def compose(
    *to: str,
    mail_from: str = AUTHOR,
    author: str | None = None,
    subject: str = "A test",
    body: bytes = "Здравей,\r\n.точка в началото\r\n".encode(),
    headers: Iterable[str] = (),
    notify: str = "",
    mail_parameters: str = " BODY=8BITMIME",
) -> Message:
    """A message of its own identity; `author` is the one in From:, by default the envelope sender."""
    number = next(_serial)
    identity = f"{number}.{threading.get_ident()}.{id(to)}@client.example.net"
    lines = [
        f"From: <{author or mail_from}>",
        f"To: {', '.join(to)}",
        f"Subject: {subject} {number}",
        "Date: Mon, 23 Nov 2026 12:00:00 +0000",
        f"Message-ID: <{identity}>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        *headers,
    ]
    content = "\r\n".join([*lines, "", ""]).encode() + body
    parameters = f" NOTIFY={notify}" if notify else ""
    return Message(identity, to, mail_from, content, mail_parameters, parameters)


class Session:
    """One connection: `with Session(port) as session`. Raises OSError when it is lost."""

    def __init__(self, port: int, *, lmtp: bool = False, timeout: float = TIMEOUT) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._file = self._socket.makefile("rb")
        self.greeting = self.reply()
        self.hello = self.command("LHLO client.example.net" if lmtp else "EHLO client.example.net")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._socket.close()

    def reply(self) -> Reply:
        """The next reply; the lines of a long one are joined."""
        texts = []
        while True:
            line = self._file.readline()
            if not line.endswith(b"\n"):
                raise ConnectionResetError("the server closed the connection")
            texts.append(line[4:].decode().strip())
            if line[3:4] != b"-":
                return Reply(int(line[:3]), "\n".join(texts))

    def command(self, line: str) -> Reply:
        """Send one command."""
        self._socket.sendall(line.encode() + b"\r\n")
        return self.reply()

    def envelope(self, message: Message) -> list[Reply]:
        """MAIL and all RCPTs; their replies, as many as were asked."""
        replies = [self.command(f"MAIL FROM:<{message.mail_from}>{message.mail_parameters}")]
        if replies[0].code == 250:
            replies += [self.command(f"RCPT TO:<{to}>{message.rcpt_parameters}") for to in message.to]
        return replies

    def content(self, message: Message) -> None:
        """DATA and the message with its final dot; the reply is left to be read."""
        go = self.command("DATA")
        if go.code != 354:
            raise ConnectionAbortedError(str(go))
        stuffed = message.content.replace(b"\r\n.", b"\r\n..")
        self._socket.sendall(stuffed + (b".\r\n" if stuffed.endswith(b"\r\n") else b"\r\n.\r\n"))


def send(port: int, message: Message) -> Reply:
    """Send over SMTP as one transaction: the first reply that refuses, or the one to the message. A lost connection is code 0."""
    try:
        with Session(port) as session:
            for reply in (session.greeting, session.hello, *session.envelope(message)):
                if reply.code // 100 != 2:
                    return reply
            session.content(message)
            return session.reply()
    except OSError as error:
        return Reply(0, f"{type(error).__name__}: {error}")


@dataclass
class Attempt:
    """A line of the client's ledger."""

    message: Message
    reply: Reply


@dataclass
class Ledger:
    """All that a client tried. Threads may share it: a list's append is atomic."""

    attempts: list[Attempt] = field(default_factory=list)

    @property
    def accepted(self) -> dict[str, Message]:
        """The messages that got their 250, by Message-ID."""
        return {one.message.id: one.message for one in self.attempts if one.reply.code == 250}

    @property
    def tried(self) -> dict[str, Message]:
        """All messages that were tried, whatever was answered."""
        return {one.message.id: one.message for one in self.attempts}

    def refusals(self) -> list[str]:
        """The final refusals, as text."""
        return [str(one.reply) for one in self.attempts if one.reply.code // 100 == 5]

    def send(self, port: int, message: Message, *, stop: threading.Event | None = None, tries: int = 400) -> Reply:
        """Send until 250 or a final refusal, as a mail server does; between tries wait a little. Gives up after `tries`."""
        reply = Reply(0, "not tried")
        pause = stop or threading.Event()
        for _ in range(tries):
            reply = send(port, message)
            self.attempts.append(Attempt(message, reply))
            if reply.code == 250 or reply.code // 100 == 5:
                return reply
            pause.wait(0.25)
        return reply


class Flow:
    """Threads that send message after message to one group until `stop`, which lets each finish the one in hand; `limit` in all at most."""

    def __init__(
        self, ledger: Ledger, port: int, to: str, *, threads: int = 2, limit: int = 400, pause: float = 0.4
    ) -> None:
        self._ledger, self._port, self._to, self._pause = ledger, port, to, pause
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(limit // threads,)) for _ in range(threads)]

    def __enter__(self) -> Flow:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def count(self) -> int:
        """Messages accepted so far, of the whole ledger."""
        return len(self._ledger.accepted)

    def stop(self) -> None:
        """End, once every message begun has its 250."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a client does not get its message accepted"

    def _run(self, limit: int) -> None:
        for _ in range(limit):
            if self._stopping.is_set():
                return
            self._ledger.send(self._port, compose(self._to))
            self._stopping.wait(self._pause)


def received_body(content: bytes) -> bytes:
    """The body of a copy at a next hop."""
    return content.partition(b"\r\n\r\n")[2]


def header(content: bytes, name: str) -> list[str]:
    """The values of a header field, unfolded."""
    head = content.partition(b"\r\n\r\n")[0].decode("utf-8", "replace").replace("\r\n\t", " ").replace("\r\n ", " ")
    prefix = name.lower() + ":"
    return [line[len(prefix) :].strip() for line in head.split("\r\n") if line.lower().startswith(prefix)]


def message_id(content: bytes) -> str:
    """The Message-ID of a copy without its brackets; empty where there is none."""
    return next(iter(header(content, "Message-ID")), "").strip("<>")


def addresses(names: Sequence[str], domain: str = "example.test") -> tuple[str, ...]:
    """name@domain for each."""
    return tuple(f"{name}@{domain}" for name in names)
