"""Answers a mail server in front (Postfix) which domains and group addresses are ours: the socketmap protocol, requests and answers as netstrings.

    16:groups office@x.test,   ->   16:OK office@x.test,      or 9:NOTFOUND ,      or 32:TEMP please try again later, ...

Two maps: `domains` (is it a domain of ours) and `groups` (does the address take mail: a group's, an owner, bounce or postmaster address). What the
directory cannot say now is TEMP, never NOTFOUND: the server in front then puts the mail off, and refuses nobody (P6). What is refused for good here
(a disabled group) is NOTFOUND, so that the server in front refuses it in the session instead of taking it and sending a bounce to whoever
may not have written it. An attacker chooses the addresses that are asked for, and could reach the port were it open to him.
"""

from __future__ import annotations

import asyncio

from shared import journal
from shared.address import AddressError, domain_key, parse, split_role
from shared.directory import Directory
from shared.replies import TransientError

MAX_REQUEST = 1000
"""Octets of a request: an address has 254, in A-labels and with a tag perhaps more."""
MAX_DIGITS = 4
IDLE = 300.0
"""Seconds that a connection may be silent; Postfix lets go of its own sooner, and comes back when it needs one."""
ANSWER = 10.0
"""Seconds for the directory; Postfix waits for 100."""

NOT_FOUND = "NOTFOUND "
TROUBLE = "TEMP please try again later"
BAD = "PERM no such map, or a bad request"


class Socketmap:
    """The listener's connections. `most`: how many at a time; those beyond it are closed, and the server in front puts its mail off."""

    def __init__(self, directory: Directory, *, most: int) -> None:
        self._directory = directory
        self._most = most
        self._tasks: set[asyncio.Task[None]] = set()

    def protocol(self) -> asyncio.BaseProtocol:
        """The protocol of one connection."""
        reader = asyncio.StreamReader(limit=MAX_REQUEST + 16)
        return asyncio.StreamReaderProtocol(reader, self._connected)

    async def stop(self) -> None:
        """Let go of all connections: whoever asked comes again, to another process or to the next one."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if len(self._tasks) <= self._most:
                await self._serve(reader, writer)
        except (OSError, EOFError, TimeoutError):
            pass  # it went away, stopped in the middle, or said nothing for long: there is nobody to tell
        except asyncio.CancelledError:
            pass  # by `stop` alone; raised on, asyncio's own callback would complain of it
        except Exception as error:
            journal.crashed("ingress.socketmap", error)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(IDLE):
                request = await _request(reader)
            if request is None:  # no netstring: where the next one begins nobody knows
                return
            answer = (await self._answer(request)).encode()
            writer.write(b"%d:%s," % (len(answer), answer))
            async with asyncio.timeout(IDLE):
                await writer.drain()

    async def _answer(self, request: bytes) -> str:
        name, _, asked = request.decode("utf-8", "replace").partition(" ")
        if name not in ("groups", "domains"):
            return BAD
        try:
            async with asyncio.timeout(ANSWER):
                found = await (self._domain(asked) if name == "domains" else self._address(asked))
        except (TransientError, TimeoutError) as error:
            journal.unavailable("directory", getattr(error, "why", "") or "no answer in time")
            found = TROUBLE
        except AddressError:
            found = NOT_FOUND
        journal.asked_for(name, found.partition(" ")[0])
        return found

    async def _domain(self, asked: str) -> str:
        """A domain of ours takes mail, suspended or not: what is put off is told of addresses."""
        domain = await self._directory.domain(domain_key(asked))
        return NOT_FOUND if domain is None or domain.disabled else f"OK {domain.name}"

    async def _address(self, asked: str) -> str:
        """As RCPT would answer it. Postfix asks for `@domain` too, which would stand for every address: there is none such."""
        local, at, _ = asked.rpartition("@")
        if not (local and at):
            return NOT_FOUND
        address = parse(asked)
        domain = await self._directory.domain(address.domain)
        if domain is None:
            return NOT_FOUND
        role, key, _ = split_role(address.key)
        if role == "postmaster":
            return f"OK {asked}"
        group = await self._directory.group(key)
        if group is None or domain.disabled or (group.settings.disabled and role == "group"):
            return NOT_FOUND
        return TROUBLE if domain.suspended else f"OK {asked}"


async def _request(reader: asyncio.StreamReader) -> bytes | None:
    """The next request; None for what is no netstring of at most `MAX_REQUEST` octets. Raises `EOFError` at the end."""
    digits = b""
    while (octet := await reader.readexactly(1)) != b":":
        digits += octet
        if not digits.isdigit() or len(digits) > MAX_DIGITS:
            return None
    if not digits or int(digits) > MAX_REQUEST:
        return None
    request = await reader.readexactly(int(digits) + 1)
    return request[:-1] if request.endswith(b",") else None
