"""One server as this process sees it: who uses its connections, who waits for one, what is open, and what was learned of it.

Nothing here reads or writes the network. A connection is leased; a lease that is written out may be passed on to one of the same lane
who has none, while its last reply is owed. Waiting is first come, first served within a lane, express before bulk (`pacing.next_lane`).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from types import TracebackType

import msgspec

from services.sender.answers import BUSY, Broken
from services.sender.connection import Connection, Peer
from services.sender.conversation import Conversation
from services.sender.learned import Learned
from services.sender.pacing import EXPRESS_RUN, Circuit, Meter, State, Window, next_lane, room
from shared import journal
from shared.limits import Limits
from shared.messages import Lane

OLDEST = 300.0
"""Seconds after which a connection is not used again, so that a change of a server's addresses is followed."""

SLOT_PATIENCE = 120.0
"""Seconds that a delivery waits for a connection, or for its turn under a rate; then it is put off, and its worker free for others."""

_NUMBER = {Lane.EXPRESS: 0, Lane.BULK: 1}


class HopState(msgspec.Struct, frozen=True):
    """A server at one moment, for people: connections open, in use by lane, unused, and allowed; deliveries that wait for one."""

    hop: str
    state: State
    window: int
    limit: int
    open: int
    express: int
    bulk: int
    idle: int
    waiting: int
    failures: int
    why: str


class Lease:
    """The use of one connection, from the grant to `leave`. `owner` ends when it is passed on: then the next one leaves in its place."""

    __slots__ = ("begun", "behind", "connection", "lane", "owner", "passed_on", "site")

    def __init__(
        self, site: Site, lane: Lane, connection: Connection | None = None, *, behind: Lease | None = None
    ) -> None:
        self.site = site
        self.lane = lane
        self.connection = connection
        self.behind = behind
        self.begun = time.monotonic()
        self.owner = True
        self.passed_on = False

    @property
    def line(self) -> Connection:
        """The connection, which a lease that the pool gave out always has."""
        assert self.connection is not None
        return self.connection

    def pass_on(self) -> None:
        """Nothing more will be written under this lease; its last reply is owed."""
        self.site.offer(self)

    def report(self, talk: Conversation) -> None:
        """What came of it, for the pace and the memory of the server."""
        self.site.learn(self, talk)

    def leave(self) -> None:
        """Give the connection back."""
        self.site.leave(self)

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self.owner and not self.line.doomed:
            self.line.abort()
        self.leave()


class _Waiter:
    __slots__ = ("fresh", "future", "messages", "recipients")

    def __init__(self, future: asyncio.Future[Lease], messages: int, recipients: int, *, fresh: bool) -> None:
        self.future = future
        self.messages = messages
        self.recipients = recipients
        self.fresh = fresh


class Site:
    """What is open to, and known of, one server."""

    def __init__(self, peer: Peer, limits: Limits, *, idle: float) -> None:
        self.peer = peer
        self.limits = limits
        self.window = Window(limits.connections)
        self.circuit = Circuit()
        self.learned = Learned()
        self.probe: asyncio.Event | None = None
        self.established = 0
        self._idle_for = idle
        self._idle: list[tuple[Connection, asyncio.TimerHandle]] = []
        self._used = [0, 0]
        self._waiting: tuple[deque[_Waiter], deque[_Waiter]] = (deque(), deque())
        self._offered: tuple[dict[Lease, None], dict[Lease, None]] = ({}, {})
        self._express_run = 0
        self._messages = Meter(limits.messages)
        self._recipients = Meter(limits.recipients)
        self._later: asyncio.TimerHandle | None = None

    # --- leases -----------------------------------------------------------------------------------------------------
    async def enter(self, lane: Lane, *, messages: int, recipients: int, fresh: bool) -> Lease:
        """The right to one connection: with a connection where one was passed on or is idle (never with `fresh`), without one where
        it is to be dialled. Raises `Broken` after SLOT_PATIENCE."""
        if not (self._waiting[0] or self._waiting[1]):
            lease = self._at_once(lane, fresh=fresh)
            if lease is not None:
                self._spend(messages, recipients)
                return lease
        waiter = _Waiter(asyncio.get_running_loop().create_future(), messages, recipients, fresh=fresh)
        queue = self._waiting[_NUMBER[lane]]
        queue.append(waiter)
        self._grant()
        try:
            async with asyncio.timeout(SLOT_PATIENCE):
                return await waiter.future
        except BaseException as error:
            if waiter.future.done() and not waiter.future.cancelled():
                waiter.future.result().leave()
            elif waiter in queue:
                queue.remove(waiter)
            if isinstance(error, TimeoutError):
                raise Broken(BUSY) from None
            raise

    def at_once(self, lane: Lane) -> Lease | None:
        """One more lease, where nobody waits for it and no rate is set."""
        if self._waiting[0] or self._waiting[1] or self.limits.messages or self.limits.recipients:
            return None
        return self._slot(lane, fresh=False)

    def _at_once(self, lane: Lane, *, fresh: bool) -> Lease | None:
        if self._rate_wait(time.monotonic()):
            return None
        lease = self._slot(lane, fresh=fresh)
        if lease is None and not fresh:
            lease = self._offer_taken(_NUMBER[lane])
        return lease

    def _slot(self, lane: Lane, *, fresh: bool) -> Lease | None:
        """A lease on a connection of its own, where the window has room for it."""
        number = _NUMBER[lane]
        if next_lane((number == 0, number == 1), self._used, self.window.size, self._limit, 0) is None:
            return None
        return self._granted(lane, fresh=fresh)

    def _granted(self, lane: Lane, *, fresh: bool) -> Lease:
        self._used[_NUMBER[lane]] += 1
        self._express_run = self._express_run + 1 if lane is Lane.EXPRESS else 0
        if not fresh:
            return Lease(self, lane, self._take_idle())
        if self._idle and sum(self._used) + len(self._idle) > self._limit:
            connection, expiry = self._idle.pop(0)
            expiry.cancel()
            self._close(connection)
        return Lease(self, lane)

    def _offer_taken(self, number: int) -> Lease | None:
        """A connection of the lane over which somebody waits for the last reply: the one that has waited longest."""
        offered = self._offered[number]
        while offered and self._may_pass(number):
            lease = next(iter(offered))
            del offered[lease]
            if lease.owner and self._good(lease.line, owed=1):
                lease.owner, lease.passed_on = False, True
                self._express_run = self._express_run + 1 if number == 0 else 0
                return Lease(self, lease.lane, lease.connection, behind=lease)
        return None

    def _may_pass(self, number: int) -> bool:
        """Whether a lane may keep a connection by passing it on: not more of them than the window has room for, and not while the other
        lane waits for its turn at it."""
        bulk_room, all_room = room(self.window.size, self._limit)
        if sum(self._used) > all_room or self._used[1] > bulk_room:
            return False
        if number == 1:
            return not self._waiting[0]
        return not self._waiting[1] or self._used[1] > 0 or self._express_run < EXPRESS_RUN

    def offer(self, lease: Lease) -> None:
        """A lease's connection may be written to by another: whoever of its lane waits gets it, or whoever comes before its last reply."""
        if not lease.owner:
            return
        number = _NUMBER[lease.lane]
        self._offered[number][lease] = None
        queue = self._waiting[number]
        while queue and queue[0].future.done():  # given up, and not yet gone
            queue.popleft()
        if queue and not queue[0].fresh and not self._rate_wait(time.monotonic()):
            successor = self._offer_taken(number)
            if successor is not None:
                self._give(queue.popleft(), successor)

    def leave(self, lease: Lease) -> None:
        """The end of a lease. The connection waits for the next one, or is closed."""
        if not lease.owner:
            return
        lease.owner = False
        before, lease.behind = lease.behind, None
        if before is not None and lease.line.reading.locked():
            # It still waits for its last reply over the connection, which nobody may close meanwhile: this lease had nothing to send, or failed.
            before.owner = True
            self.offer(before)
            return
        number = _NUMBER[lease.lane]
        self._offered[number].pop(lease, None)
        self._used[number] -= 1
        if lease.connection is not None:
            self._put_back(lease.connection)
        self._grant()

    def _grant(self) -> None:
        """Give connections to those who wait, as far as the window and the rates have room."""
        while self._waiting[0] or self._waiting[1]:
            if wait := self._rate_wait(time.monotonic()):
                if self._later is None:
                    self._later = asyncio.get_running_loop().call_later(wait, self._grant_later)
                return
            waiting = (bool(self._waiting[0]), bool(self._waiting[1]))
            lane = next_lane(waiting, self._used, self.window.size, self._limit, self._express_run)
            if lane is None:
                return
            waiter = self._waiting[_NUMBER[lane]].popleft()
            if not waiter.future.done():
                self._give(waiter, self._granted(lane, fresh=waiter.fresh))

    def _grant_later(self) -> None:
        self._later = None
        self._grant()

    def _give(self, waiter: _Waiter, lease: Lease) -> None:
        self._spend(waiter.messages, waiter.recipients)
        waiter.future.set_result(lease)

    def _rate_wait(self, now: float) -> float:
        return max(self._messages.wait(now), self._recipients.wait(now))

    def _spend(self, messages: int, recipients: int) -> None:
        """What a lease is about to send; more than the rates allow at once it does not send."""
        now = time.monotonic()
        self._messages.spend(min(messages, self._messages.most or messages), now)
        self._recipients.spend(min(recipients, self._recipients.most or recipients), now)

    # --- connections ------------------------------------------------------------------------------------------------
    def _good(self, connection: Connection, *, owed: int = 0) -> bool:
        most = min(self.limits.transactions, self.learned.max_transactions or self.limits.transactions)
        young = time.monotonic() - connection.opened_at <= OLDEST
        return connection.reusable and connection.transactions + owed < most and young

    def _take_idle(self) -> Connection | None:
        """The connection used last, if it is still good: the others get the rest that they need to be closed as idle."""
        while self._idle:
            connection, expiry = self._idle.pop()
            expiry.cancel()
            if self._good(connection):
                return connection
            self._close(connection)
        return None

    def _put_back(self, connection: Connection) -> None:
        if not self._good(connection):
            self._close(connection)
            return
        expiry = asyncio.get_running_loop().call_later(self._idle_for, self._expire, connection)
        self._idle.append((connection, expiry))

    def _expire(self, connection: Connection) -> None:
        self._idle = [entry for entry in self._idle if entry[0] is not connection]
        self._close(connection)

    def opened(self) -> None:
        """A dial succeeded."""
        self.established += 1
        journal.hop_connected(1)

    def _close(self, connection: Connection) -> None:
        self.established -= 1
        journal.hop_connected(-1)
        connection.close()

    def close(self) -> None:
        """Close what is idle."""
        for connection, expiry in self._idle:
            expiry.cancel()
            self._close(connection)
        self._idle = []

    # --- what was learned -------------------------------------------------------------------------------------------
    def learn(self, lease: Lease, talk: Conversation) -> None:
        """The pace and the limits that a conversation was told."""
        now = time.monotonic()
        if talk.session_limit:
            self.learned.session_limit(talk.session_limit)
        if talk.pushed_back:
            before = self.window.size
            self.window.pushed_back(lease.begun, now)
            if self.window.size < before:
                journal.hop_pushed_back(str(self.peer), window=self.window.size)
        elif any(mail.finished for mail in talk.begun):
            bulk_room, all_room = room(self.window.size, self._limit)
            self.window.succeeded(now, used_up=sum(self._used) >= all_room or self._used[1] >= bulk_room)
        for mail in talk.begun:
            if mail.left:
                self.learned.too_many_recipients(len(mail.accepted))
        if any(mail.unknown for mail in talk.begun) and (len(talk.begun) > 1 or lease.passed_on):
            self.learned.unchained()

    @property
    def _limit(self) -> int:
        return min(self.limits.connections, self.learned.most_open or self.limits.connections)

    @property
    def max_recipients(self) -> int | None:
        """The largest transaction: what it has taken of late, where it refused a larger one, and what the rate allows at once."""
        known = (self.learned.max_recipients, self._recipients.most)
        return min((most for most in known if most is not None), default=None)

    @property
    def max_messages(self) -> int | None:
        """The most transactions of one lease: what the rate allows at once."""
        return self._messages.most

    @property
    def allowance(self) -> int | None:
        """The most recipients of one lease."""
        return self._recipients.most

    # --- what is shown ----------------------------------------------------------------------------------------------
    @property
    def unused(self) -> bool:
        """Whether nobody has, or waits for, a connection, and none is open."""
        return not (any(self._used) or self._idle or self._waiting[0] or self._waiting[1])

    def snapshot(self) -> HopState:
        """Its state now."""
        why = self.circuit.why
        return HopState(
            hop=str(self.peer),
            state=self.circuit.state(time.monotonic()),
            window=self.window.size,
            limit=self._limit,
            open=self.established,
            express=self._used[0],
            bulk=self._used[1],
            idle=len(self._idle),
            waiting=len(self._waiting[0]) + len(self._waiting[1]),
            failures=self.circuit.failures,
            why=str(why) if why is not None else "",
        )
