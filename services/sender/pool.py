"""Connections to all servers: leased, dialled where none is idle, and not dialled where a server is known to be down.

A server that cannot be reached is noticed once: its deliveries are put off without a dial each. When it may be back, one delivery
sees whether it is, and the others follow by and by. A server that refuses one more connection while others are open is not down, it is full.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from services.sender.answers import Broken, clean
from services.sender.connection import Connection, Manners, Peer, TlsFailed
from services.sender.site import HopState, Lease, Site
from shared import journal
from shared.limits import LimitTable
from shared.messages import Lane
from shared.replies import Reply

IDLE = 20.0
"""Seconds that an unused connection stays open: servers count idle clients, and drop them after some minutes."""

PROBE_PATIENCE = 2.0
"""Seconds that others wait for the one task which sees whether a server is back."""

MOST_PEERS = 2000
"""Servers remembered; those with nothing open are forgotten first."""


class Pool:
    """Connections to all servers. One an event loop. `dialled` counts the dials."""

    def __init__(self, manners: Manners, *, limits: LimitTable, idle: float = IDLE) -> None:
        self._manners = manners
        self._limits = limits
        self._idle = idle
        self._sites: dict[Peer, Site] = {}
        self.dialled = 0

    def site(self, peer: Peer) -> Site:
        """What is known of a server."""
        site = self._sites.get(peer)
        if site is None:
            if len(self._sites) >= MOST_PEERS:
                self._forget()
            site = self._sites[peer] = Site(peer, self._limits.of(peer.name), idle=self._idle)
        return site

    def snapshot(self) -> list[HopState]:
        """All servers known, with who uses them."""
        return [site.snapshot() for site in self._sites.values()]

    async def lease(
        self, peer: Peer, lane: Lane, *, messages: int = 1, recipients: int = 1, fresh: bool = False
    ) -> Lease:
        """A connection to `peer`, one that is open or a new one (`fresh`: surely a new one). Raises `Broken`.

        Waits while the lane has all the connections that it may have, and while the rates that are set for `messages` and `recipients` want it.
        """
        site = self.site(peer)
        while True:
            await self._worth_a_dial(site)  # before it takes a place in the queue that a server which works should have
            lease = await site.enter(lane, messages=messages, recipients=recipients, fresh=fresh)
            if lease.connection is not None or await self._connected(lease, fresh=fresh):
                lease.line.chain = site.learned.chains
                return lease
            messages = recipients = 0  # they were counted already

    async def one_more(self, peer: Peer, lane: Lane) -> Lease | None:
        """A further connection to a server that works, where it costs nobody a wait; None where it cannot be had."""
        lease = self.site(peer).at_once(lane)
        if lease is None:
            return None
        try:
            if lease.connection is None and not await self._connected(lease, fresh=False):
                return None
        except Broken:
            return None  # the pool has logged it, and whoever asked has a connection already
        lease.line.chain = lease.site.learned.chains
        return lease

    async def _connected(self, lease: Lease, *, fresh: bool) -> bool:
        """Dial for a lease; False where the server is full, and the lease has to wait for one of the open connections. Raises `Broken`."""
        site = lease.site
        try:
            lease.connection = await self._dial(site)
        except Broken:
            full = site.established > 0 and not fresh
            if full:
                site.learned.full(site.established)
            lease.leave()
            if not full:
                raise
            return False
        except BaseException:
            lease.leave()
            raise
        return True

    async def _dial(self, site: Site) -> Connection:
        """Connect, unless that failed a moment ago. Raises `Broken`."""
        await self._worth_a_dial(site)
        self.dialled += 1
        probing = site.circuit.state(time.monotonic()) == "unsure"
        if probing:
            site.probe = asyncio.Event()
        try:
            connection = await self._open(site)
        except Broken as broken:
            if not site.established:
                if not site.circuit.failures:
                    journal.hop_down(str(site.peer), str(broken.reply))
                site.circuit.failed(broken.reply, time.monotonic())
            raise
        finally:
            if probing and site.probe is not None:
                site.probe.set()
                site.probe = None
        site.opened()
        if site.circuit.connected():
            site.window.restart()
            journal.hop_up(str(site.peer))
        return connection

    async def _worth_a_dial(self, site: Site) -> None:
        """Return where the server may be dialled. Raises `Broken` where it is down.

        One task sees whether a server is back: a silent one costs every dial half a minute, which is to keep one of our workers and not all.
        """
        while (state := site.circuit.state(time.monotonic())) != "up":
            if state == "unsure":
                if site.probe is None:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(site.probe.wait(), PROBE_PATIENCE)
                    continue
            why = site.circuit.why
            assert why is not None
            raise Broken(Reply(why.code, why.detail, clean(f"{why.text} (not tried again so soon)")))

    async def _open(self, site: Site) -> Connection:
        if site.learned.plain:
            return await Connection.open(site.peer, self._manners, plain=True)
        try:
            return await Connection.open(site.peer, self._manners)
        except TlsFailed as failed:
            if self._manners.tls == "required":
                raise
            journal.unavailable(f"TLS of next hop {site.peer}", failed.reply.text)
            site.learned.tls_failed()
            return await Connection.open(site.peer, self._manners, plain=True)

    def _forget(self) -> None:
        """Drop what is known of servers that nobody uses, oldest first, until a quarter is free."""
        free = [peer for peer, site in self._sites.items() if site.unused]
        for peer in free[: MOST_PEERS // 4]:
            if self._sites.pop(peer).circuit.failures:
                journal.hop_forgotten()

    async def close(self) -> None:
        """Close what is idle."""
        for site in self._sites.values():
            site.close()
        await asyncio.sleep(0)  # let the transports write their QUIT
