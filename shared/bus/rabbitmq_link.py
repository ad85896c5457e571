"""Connections to the broker: made on demand, shared by everyone who asks, replaced when they die.

Own recovery on plain connections instead of the library's robust ones: what is retried, when, and who is told is decided here. A failed attempt fails
everyone who waits for it, at once; the next caller starts the next attempt. Must never put a password into an error's text, and never
let the library's own `CancelledError` through: aio-pika raises it out of a publish when a connection dies by heartbeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection

from shared import journal
from shared.bus import BusUnavailable
from shared.bus.rabbitmq_decoding import install

CONNECT_TIMEOUT = 10.0
PREPARE_TIMEOUT = 60.0
"""Seconds for the topology: a new quorum queue takes up to a second on a busy broker, and there are twenty."""
ALARM_LOOK = 1.0
"""Seconds between two looks whether the connection that an alarm has blocked still lives."""
FAILURE_HOLDS = 0.2
"""Seconds for which a failed attempt answers all who ask: a thousand sessions must not make a thousand attempts."""
HEARTBEAT = "10"
"""Seconds; the library notices a dead peer after three. Its default of 60 means three minutes."""

T = TypeVar("T")

install()


def with_heartbeat(url: str) -> str:
    """The URL with our heartbeat, unless it names its own."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query.setdefault("heartbeat", HEARTBEAT)
    return urlunsplit(parts._replace(query=urlencode(query)))


def shown(url: str) -> str:
    """The broker's name for people: scheme, host, port and vhost; neither user nor password nor query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


class Translation:
    """Turns every failure of the client library into `BusUnavailable`, without the password of the URL."""

    def __init__(self, url: str) -> None:
        password = urlsplit(url).password or ""
        self._secrets = tuple(secret for secret in {password, unquote(password)} if secret)
        self._shown = shown(url)

    def text(self, what: str, error: BaseException) -> str:
        """What failed and why, in one bounded line, for the journal."""
        cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        for secret in self._secrets:
            cause = cause.replace(secret, "***")
        return f"{what} at {self._shown}: {' '.join(cause.split())[:300]}"

    @contextlib.contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Whatever is raised inside leaves as `BusUnavailable`, but for a cancellation that somebody asked for."""
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        try:
            yield
        except BusUnavailable:
            raise
        except asyncio.CancelledError as error:
            if task is None or task.cancelling() > before:
                raise
            raise BusUnavailable(self.text(what, ConnectionError("the connection was lost"))) from error
        except TimeoutError as error:
            raise BusUnavailable(self.text(what, TimeoutError("no answer in time"))) from error
        except Exception as error:  # whatever a client library raises: our caller holds the message and tries again
            raise BusUnavailable(self.text(what, error)) from error


class Single(Generic[T]):
    """One living value, made by one task at a time for all who ask for it."""

    def __init__(self, make: Callable[[], Awaitable[T]], alive: Callable[[T], bool]) -> None:
        self._make = make
        self._alive = alive
        self._value: T | None = None
        self._making: asyncio.Task[T] | None = None
        self._failed_at = -FAILURE_HOLDS

    @property
    def value(self) -> T | None:
        """The value as it is, dead or alive."""
        return self._value

    async def get(self) -> T:
        """The living value; raises what making it raised."""
        if self._value is not None and self._alive(self._value):
            return self._value
        if self._making is None or (self._making.done() and not self._holds()):
            self._making = asyncio.create_task(self._remake())
            self._making.add_done_callback(_seen)
        return await asyncio.shield(self._making)

    def forget(self) -> None:
        """The next caller makes a new one."""
        self._value = None

    async def close(self) -> None:
        """Stop making one."""
        if self._making is not None and not self._making.done():
            self._making.cancel()
            await asyncio.wait((self._making,))

    def _holds(self) -> bool:
        return time.monotonic() - self._failed_at < FAILURE_HOLDS

    async def _remake(self) -> T:
        try:
            self._value = await self._make()
        except BaseException:
            self._failed_at = time.monotonic()
            raise
        return self._value


def _seen(task: asyncio.Task[T]) -> None:
    """Whoever waited may have gone: an error that nobody reads is not worth asyncio's complaint."""
    if not task.cancelled():
        task.exception()


class Link:
    """One connection to the broker. `prepare` is run on every new one, before anybody gets it."""

    def __init__(self, url: str, role: str, prepare: Callable[[AbstractConnection], Awaitable[None]]) -> None:
        self.failing = Translation(url)
        self._url = with_heartbeat(url)
        self._role = role
        self._prepare = prepare
        self._single = Single(self._connect, lambda connection: connection.connected.is_set())
        self._down = False
        self._closed = False

    async def connection(self) -> AbstractConnection:
        """The living connection. Raises `BusUnavailable` at once when the broker refuses, else after CONNECT_TIMEOUT."""
        with self.failing("connect"):
            return await self._single.get()

    async def channel(self, *, confirms: bool = False) -> AbstractChannel:
        """A new channel; with `confirms`, unroutable messages are errors too. Raises `BusUnavailable`."""
        connection = await self.connection()
        with self.failing("open a channel"):
            async with asyncio.timeout(CONNECT_TIMEOUT):
                channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
                await channel.initialize()
                return channel

    async def unblocked(self) -> None:
        """Wait while the broker's memory or disk alarm blocks us: what is not sent now cannot turn up later."""
        while True:
            connection = await self.connection()  # a new one once the old one is dead
            if connection.transport is None:
                return
            with contextlib.suppress(
                TimeoutError
            ):  # the library waits for an end of the alarm that a dead connection never hears of
                async with asyncio.timeout(ALARM_LOOK):
                    await connection.transport.ready()
                    return

    async def renew(self) -> None:
        """Close the connection so that the next caller prepares a new one: something of the topology is missing."""
        connection = self._single.value
        self._single.forget()
        if connection is not None:
            await _closed(connection)

    async def close(self) -> None:
        """Close for good."""
        self._closed = True
        await self._single.close()
        await self.renew()

    async def _connect(self) -> AbstractConnection:
        if self._closed:
            raise BusUnavailable("the bus is closed")
        try:
            connection = await self._open()
        except BusUnavailable as error:
            if not self._down:
                journal.unavailable(f"rabbitmq ({self._role})", error.why)
            self._down = True
            raise
        if self._down:
            journal.available(f"rabbitmq ({self._role})")
        self._down = False
        return connection

    async def _open(self) -> AbstractConnection:
        with self.failing("connect"):
            async with asyncio.timeout(CONNECT_TIMEOUT + 1):
                connection = await aio_pika.connect(
                    self._url, timeout=CONNECT_TIMEOUT, client_properties={"connection_name": f"horo {self._role}"}
                )
        try:
            with self.failing("declare the topology"):
                async with asyncio.timeout(PREPARE_TIMEOUT):
                    await self._prepare(connection)
        except BaseException:
            await _closed(connection)
            raise
        return connection


async def _closed(connection: AbstractConnection) -> None:
    """Close what may be dead already; a broker that does not answer is not waited for."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(5):
            await connection.close()


async def close_channel(channel: AbstractChannel) -> None:
    """Close a channel, dead or alive; the broker takes back what was not ended."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(5):
            if not channel.is_closed:
                await channel.close()
