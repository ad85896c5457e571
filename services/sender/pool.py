"""Open connections by server: limited, shared by both lanes, reused, closed when idle; and what was learned of each server.

Bulk work gets only three quarters of a server's connections, so that a small post never waits for a big one (P7). A server that
could not be reached is not dialled again for a few seconds: its batches are put off without each waiting for the same time-out.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator

import msgspec

from services.sender.answers import Broken, clean
from services.sender.connection import Connection, Manners, Peer, TlsFailed
from shared import journal
from shared.messages import Lane
from shared.replies import Reply

IDLE = 20.0
"""Seconds that an unused connection stays open: servers count idle clients, and drop them after some minutes."""

OLDEST = 300.0
"""Seconds after which a connection is not used again, so that a change of a server's addresses is followed."""

DOWN_FIRST, DOWN_LONGEST = 2.0, 30.0
"""Seconds without a dial after a failed one; doubled while it goes on failing."""

PROBE_PATIENCE = 2.0
"""Seconds that others wait for the one task which sees whether a server is back."""

REMEMBERED = 600.0
"""Seconds for which a server's recipient limit, broken TLS or dislike of chained transactions is remembered."""

MOST_PEERS = 2000
"""Servers remembered; those with nothing open are forgotten first."""


class Down(msgspec.Struct):
    """Why a server is not dialled, and until when (monotonic clock)."""

    until: float = 0.0
    failures: int = 0
    why: Reply | None = None
    probe: asyncio.Event | None = None


class PeerState:
    """What is open to, and known of, one server."""

    def __init__(self, limit: int) -> None:
        self.slots = asyncio.Semaphore(limit)
        self.bulk_slots = asyncio.Semaphore(max(1, limit - math.ceil(limit / 4)) if limit > 1 else 1)
        self.idle: list[tuple[Connection, asyncio.TimerHandle]] = []
        self.down = Down()
        self.users = 0
        self._max_recipients = 0
        self._until: dict[str, float] = {}

    # --- what was learned -------------------------------------------------------------------------------------------
    @property
    def max_recipients(self) -> int | None:
        """The largest transaction that it has taken of late, where it refused a larger one."""
        return self._max_recipients if self._fresh("recipients") else None

    def learn_max_recipients(self, accepted: int) -> None:
        """It answered 452 "too many" after `accepted` recipients."""
        self._max_recipients = max(1, accepted)
        self._learn("recipients")

    @property
    def plain(self) -> bool:
        """Whether its TLS failed of late (opportunistic policy)."""
        return self._fresh("plain")

    def learn_plain(self) -> None:
        """Its TLS failed."""
        self._learn("plain")

    @property
    def chained(self) -> bool:
        """Whether transactions may be written behind the body before them."""
        return not self._fresh("unchained")

    def learn_unchained(self) -> None:
        """It closed in mid-chain, and an answer was lost with that."""
        self._learn("unchained")

    def _learn(self, what: str) -> None:
        self._until[what] = time.monotonic() + REMEMBERED

    def _fresh(self, what: str) -> bool:
        return self._until.get(what, 0.0) > time.monotonic()


class Pool:
    """Connections to all servers. One an event loop."""

    def __init__(self, manners: Manners, *, limit: int, idle: float = IDLE) -> None:
        self._manners = manners
        self._limit = limit
        self._idle = idle
        self._states: dict[Peer, PeerState] = {}
        self.dialled = 0

    def state(self, peer: Peer) -> PeerState:
        """What is known of a server."""
        state = self._states.get(peer)
        if state is None:
            if len(self._states) >= MOST_PEERS:
                self._forget()
            state = self._states[peer] = PeerState(self._limit)
        return state

    @contextlib.asynccontextmanager
    async def connection(self, peer: Peer, lane: Lane, *, fresh: bool = False) -> AsyncIterator[Connection]:
        """A connection to `peer` for one task, an idle one or a new one (`fresh`: surely a new one). Raises `Broken`.

        Waits while the lane has all the connections that it may have. It goes back to the pool unless it broke.
        """
        state = self.state(peer)
        state.users += 1
        try:
            async with contextlib.AsyncExitStack() as stack:
                if lane is Lane.BULK:
                    await stack.enter_async_context(state.bulk_slots)
                await stack.enter_async_context(state.slots)
                connection = None if fresh else self._take(state)
                if connection is None:
                    connection = await self._dial(peer, state)
                connection.chain = state.chained
                try:
                    yield connection
                except BaseException:
                    connection.abort()
                    raise
                self._give(state, connection)
        finally:
            state.users -= 1

    def _take(self, state: PeerState) -> Connection | None:
        """The connection used last, if it is still good: the others get the rest that they need to be closed as idle."""
        while state.idle:
            connection, expiry = state.idle.pop()
            expiry.cancel()
            if connection.reusable:
                return connection
            connection.close()
        return None

    def _give(self, state: PeerState, connection: Connection) -> None:
        if not connection.reusable or time.monotonic() - connection.opened_at > OLDEST:
            connection.close()
            return
        expiry = asyncio.get_running_loop().call_later(self._idle, self._expire, state, connection)
        state.idle.append((connection, expiry))

    def _expire(self, state: PeerState, connection: Connection) -> None:
        state.idle = [entry for entry in state.idle if entry[0] is not connection]
        connection.close()

    async def _dial(self, peer: Peer, state: PeerState) -> Connection:
        """Connect, unless that failed a moment ago. Raises `Broken`."""
        down = await self._worth_a_dial(state)
        self.dialled += 1
        down.probe = asyncio.Event()
        try:
            connection = await self._open(peer, state)
        except Broken as broken:
            failures = down.failures + 1
            pause = min(DOWN_FIRST * 2 ** min(failures - 1, 10), DOWN_LONGEST)
            state.down = Down(until=time.monotonic() + pause, failures=failures, why=broken.reply)
            if down.failures == 0:
                journal.unavailable(f"next hop {peer}", str(broken.reply))
            raise
        finally:
            down.probe.set()
        if down.failures:
            journal.available(f"next hop {peer}")
        state.down = Down()
        return connection

    async def _worth_a_dial(self, state: PeerState) -> Down:
        """What is known of the server, where it may be dialled. Raises `Broken` where it is down.

        One task sees whether a server is back: a silent one costs every dial half a minute, which is to keep one of our workers and not all.
        """
        while (down := state.down).why is not None:
            if time.monotonic() >= down.until:
                if down.probe is None or (down.probe.is_set() and state.down is down):
                    break
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(down.probe.wait(), PROBE_PATIENCE)
                    continue
            raise Broken(Reply(down.why.code, down.why.detail, clean(f"{down.why.text} (not tried again so soon)")))
        return down

    async def _open(self, peer: Peer, state: PeerState) -> Connection:
        if state.plain:
            return await Connection.open(peer, self._manners, plain=True)
        try:
            return await Connection.open(peer, self._manners)
        except TlsFailed as failed:
            if self._manners.tls == "required":
                raise
            journal.unavailable(f"TLS of next hop {peer}", failed.reply.text)
            state.learn_plain()
            return await Connection.open(peer, self._manners, plain=True)

    def _forget(self) -> None:
        """Drop what is known of servers that nobody uses, oldest first, until a quarter is free."""
        free = [peer for peer, state in self._states.items() if not state.users and not state.idle]
        for peer in free[: MOST_PEERS // 4]:
            del self._states[peer]

    async def close(self) -> None:
        """Close what is idle."""
        for state in self._states.values():
            for connection, expiry in state.idle:
                expiry.cancel()
                connection.close()
            state.idle = []
        await asyncio.sleep(0)  # let the transports write their QUIT
