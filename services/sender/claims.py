"""Claims of this sender: taken before a transaction, renewed while it runs, given back after (P3).

The lease in the ledger keeps other senders out. Inside this process a lock a claim keeps out the same batch delivered twice to us, because
to the ledger both are one owner. An unrenewed lease is not trusted: nothing new is sent when the ledger has not answered for that long.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from shared import journal
from shared.identity import new_id
from shared.ledger import Claim, Ledger, Taken
from shared.replies import TROUBLE, TransientError
from shared.worker import no_cancellation_of_others

LONGEST_WAIT = 600.0
"""Seconds that a message is held for another's claim; then it is put off, for brokers take back what is held for half an hour."""


class Hold:
    """A claim that is ours. `standings` is where the recipients of its cell stand who were tried before; `stopped`: nothing of the post is to be sent
    any more; `released`: the record let go of it."""

    def __init__(self, claim: Claim, taken: Taken) -> None:
        self.claim = claim
        self.standings = taken.standings
        self.stopped = taken.stopped
        self.released = False


class Claims:
    """The claims of one sender process. `owner` is its name in the ledger."""

    def __init__(self, ledger: Ledger, *, lease: float) -> None:
        self._ledger = ledger
        self._lease = lease
        self.owner = new_id()
        self._locks: dict[Claim, tuple[asyncio.Lock, int]] = {}
        self._leftovers: set[Claim] = set()
        self._renewed_at = time.monotonic()
        self._held = 0
        self._stopping = asyncio.Event()

    def stop_waiting(self) -> None:
        """Those who wait for another sender's claim give up."""
        self._stopping.set()

    @contextlib.asynccontextmanager
    async def held(self, claim: Claim) -> AsyncIterator[Hold]:
        """Hold a claim; it is given back at the end, unless it was in the record already. Raises `TransientError` when another keeps it for
        too long, `LedgerUnavailable`."""
        async with self._alone(claim):
            hold = Hold(claim, await self._take(claim))
            self._held += 1
            try:
                yield hold
            finally:
                self._held -= 1
                if not hold.released:
                    await self._release(claim)

    def check(self) -> None:
        """Raise `TransientError` where the lease may have run out: another sender may have the claim by now."""
        if time.monotonic() - self._renewed_at > self._lease * 0.9:
            raise TransientError(TROUBLE, why="the lease was not renewed in time")

    async def renew_for_ever(self) -> None:
        """Renew all claims three times a lease, and give back those that could not be given back before."""
        while True:
            await asyncio.sleep(self._lease / 3)
            begun = time.monotonic()
            try:
                with no_cancellation_of_others():
                    await self._ledger.renew(self.owner, self._lease)
                    self._renewed_at = begun
                    await self.release_leftovers()
            except TransientError as error:
                journal.unavailable("ledger", str(error))
            except Exception as error:  # whatever it is: without this task no lease lives on
                journal.crashed("renewal of claims", error)

    async def release_leftovers(self) -> None:
        """Give back what could not be given back when its work was done; otherwise it would be renewed for ever."""
        for claim in list(self._leftovers):
            if claim not in self._locks:
                await self._release(claim)

    # --- the steps ----------------------------------------------------------------------------------------------------
    @contextlib.asynccontextmanager
    async def _alone(self, claim: Claim) -> AsyncIterator[None]:
        """One task of this process at a time."""
        lock, users = self._locks.get(claim) or (asyncio.Lock(), 0)
        self._locks[claim] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            _, users = self._locks[claim]
            if users == 1:
                del self._locks[claim]
            else:
                self._locks[claim] = (lock, users - 1)

    async def _take(self, claim: Claim) -> Taken:
        """Claim it, and hear where its recipients stand; waiting for the other's lease to end or to be given back."""
        given_up_at = time.monotonic() + LONGEST_WAIT
        while True:
            begun = time.monotonic()
            taken = await self._ledger.take(claim, self.owner, self._lease)
            wait = taken.wait
            if wait <= 0:
                # A claim taken now is good for a lease from now; older ones of ours rest on the last renewal.
                if self._held == 0:
                    self._renewed_at = begun
                self._leftovers.discard(claim)
                return taken
            if self._stopping.is_set() or begun > given_up_at:
                raise TransientError(TROUBLE, why=f"another sender has the batch for {wait:.0f} s more")
            journal.waiting(claim.post_id, cell=claim.cell, hop=claim.hop, delay=wait)
            # Asked again before the lease ends: the other sender is likely to be done much earlier.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), timeout=min(wait + 0.01, self._lease / 5))

    async def _release(self, claim: Claim) -> None:
        try:
            with no_cancellation_of_others():
                await self._ledger.release(claim, self.owner)
        except TransientError as error:
            self._leftovers.add(claim)
            journal.unavailable("ledger", str(error))
        except Exception as error:  # the work under the claim is done and recorded: no reason to do it again
            self._leftovers.add(claim)
            journal.crashed("release of a claim", error)
        else:
            self._leftovers.discard(claim)
