"""A tiny dialogue runner: tests are tables of what the client says and what the server must answer, over a real socket.

    await talk(smtp, '''
        s: 220
        c: EHLO client.example
        s: 250
        c: MAIL FROM:<ana@example.net>
        s: 250 2.1.0
    ''')

`c:` sends a line with CRLF; two `c:` lines without an `s:` between them leave in one write. `b:` sends a Python bytes literal as it is.
`s:` reads one reply (all its lines) and compares the beginning of its last line; `s: eof` waits for the end of the connection.
"""

from __future__ import annotations

import ast
import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds after which a reply that does not come fails the test."""


class Client:
    """One connection to a server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.heard: list[str] = []

    @classmethod
    async def connect(cls, address: tuple[str, int]) -> Client:
        async with asyncio.timeout(PATIENCE):
            return cls(*await asyncio.open_connection(*address))

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            self.writer.write(data)
            await self.writer.drain()

    async def reply(self) -> list[str]:
        """All lines of the next reply; an empty list at the end of the connection."""
        lines: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    line = await self.reader.readline()
                except ConnectionError:
                    return lines
                if not line:
                    return lines
                assert line.endswith(b"\r\n"), f"a reply that does not end with CRLF: {line!r}"
                text = line[:-2].decode("ascii")
                lines.append(text)
                self.heard.append(text)
                if text[3:4] != "-":
                    return lines

    async def expect(self, wanted: str) -> str:
        """The last line of the next reply, which must begin with `wanted`."""
        lines = await self.reply()
        got = lines[-1] if lines else "eof"
        assert got.startswith(wanted), f"wanted {wanted!r}, got {got!r} after {self.heard[-5:]}"
        return got

    async def ask(self, line: str) -> str:
        """Send a command, and give the last line of its reply."""
        await self.send(line.encode() + b"\r\n")
        lines = await self.reply()
        return lines[-1] if lines else "eof"

    async def start_tls(self, context: ssl.SSLContext, name: str) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.writer.start_tls(context, server_hostname=name)

    async def talk(self, script: str) -> None:
        """Play a table."""
        unsent = b""
        for line in script.splitlines():
            kind, _, rest = line.strip().partition(":")
            match kind:
                case "c":
                    unsent += rest.removeprefix(" ").encode() + b"\r\n"
                case "b":
                    unsent += ast.literal_eval(rest.strip())
                case "s":
                    if unsent:
                        await self.send(unsent)
                        unsent = b""
                    await self.expect(rest.strip())
                case "" | "#":
                    continue
                case _:
                    raise AssertionError(f"not a line of a dialogue: {line!r}")
        if unsent:
            await self.send(unsent)


async def talk(address: tuple[str, int], script: str) -> list[str]:
    """Play a table on a connection of its own; everything that was heard."""
    async with await Client.connect(address) as client:
        await client.talk(script)
        return client.heard


async def eventually(condition: Callable[[], T], what: str) -> T:
    """The first true value of `condition`. Raises AssertionError after `PATIENCE` seconds, naming `what`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while not (value := condition()):
        assert loop.time() < deadline, f"waited {PATIENCE:g} s for {what}"
        await asyncio.sleep(0.005)
    return value
