"""The sender's story: a delivery is claimed, what is recorded is left alone, the rest is sent, the fates are recorded, then told.

The order is what holds P3: nothing is sent without a claim, nothing is acked before its fates are durable in the ledger, and a ledger
that blinks after the final dot is waited for, because giving the message back then would send it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import time
from collections.abc import AsyncIterator, Sequence
from random import Random

from services.sender.claims import Claims
from services.sender.hops import Envelope, Hops, Sent
from services.sender.outcome import Policy, decide
from services.sender.plan import comes_back, follow_up, next_hop, rerouted, senders, sort_out
from shared import journal
from shared.address import key
from shared.bodies import Bodies, BodyMissing
from shared.bus import Bus, Incoming, Outgoing
from shared.ledger import Claim, Ledger
from shared.messages import Attempted, Delivery, Fate, Recipient, Undecodable, Wire, encode
from shared.replies import PermanentError, Reply, TransientError
from shared.routes import RoutesError
from shared.settings import Settings, seconds
from shared.topology import Queue
from shared.worker import Worker, no_cancellation_of_others, retry_delay

BODY_GONE = Reply(554, "3.0", "The message's body is missing")
BAD_HOP = Reply(554, "3.5", "The delivery names no next hop")
UNRECORDED = Reply(554, "3.0", "The message was sent, but what became of it could not be recorded")

RECORD_FAULTS = 5
"""Times that recording may fail for another reason than an absent ledger."""


class Sender:
    """Works both lanes until stopped. `secret` is the installation's (for VERP), `hostname` our name in EHLO; both as in `shared.parts`."""

    def __init__(
        self,
        settings: Settings,
        *,
        bus: Bus,
        ledger: Ledger,
        bodies: Bodies,
        secret: str = "",
        hostname: str = "",
        hops: Hops | None = None,
    ) -> None:
        self._secret = secret or settings.secret
        self._bus = bus
        self._ledger = ledger
        rng = Random(secrets.randbits(64))  # noqa: S311 - for the order of equal mail exchangers
        self._routes = settings.route_table
        self._policy = Policy(settings.retry_delays, seconds(settings.retry_max_age))
        self._hops = hops or Hops(settings, bodies, hostname=greeting_name(hostname or settings.hostname), rng=rng)
        self._claims = Claims(ledger, lease=seconds(settings.claim_lease))
        # Each lane has workers of its own: bulk deliveries that wait for a slow next hop never hold up express ones (P7).
        self._workers = [
            Worker(bus, queue, self.handle, concurrency=settings.workers, max_tries=settings.max_tries)
            for queue in (Queue.DELIVERIES_EXPRESS, Queue.DELIVERIES_BULK)
        ]

    async def run(self) -> None:
        """Work until `stop`; what is in hand is finished, recorded and acked first."""
        async with self._closing(), asyncio.TaskGroup() as lanes:
            for worker in self._workers:
                lanes.create_task(worker.run())

    def stop(self) -> None:
        """Take no more deliveries; `run` returns when those in hand are done."""
        self._claims.stop_waiting()
        for worker in self._workers:
            worker.stop()

    @contextlib.asynccontextmanager
    async def _closing(self) -> AsyncIterator[None]:
        renewing = asyncio.create_task(self._claims.renew_for_ever())
        try:
            yield
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
            await self._claims.release_leftovers()
            await self._hops.close()

    # --- the story ----------------------------------------------------------------------------------------------------
    async def handle(self, message: Wire, incoming: Incoming) -> None:
        """One delivery, from the queue to its recorded fates. What it raises, the worker turns into a retry or parks."""
        if not isinstance(message, Delivery):
            raise Undecodable(f"{type(message).__name__} is not for the sender")
        repeated = incoming.redelivered or incoming.tries > 0
        for delivery in rerouted(message, self._routes):
            async with self._claims.held(Claim(post_id=delivery.post_id, cell=delivery.cell, hop=delivery.hop)):
                await self._work(delivery, repeated=repeated)

    async def _work(self, delivery: Delivery, *, repeated: bool) -> None:
        """What a claimed delivery needs: leave, repeat, send, record, tell."""
        keys = [key(recipient.address) for recipient in delivery.recipients]
        now = time.time()
        work = sort_out(delivery, await self._ledger.standings(delivery.post_id, keys), now)
        follow_ups = follow_up(delivery, work.told)
        if repeated and work.told:  # its sender may have died between the record and the telling
            follow_ups.append(self._outcome(delivery, work.told))
        sent = Sent([])
        if work.send:
            sent = await self._send(delivery, work.send)
            fates = self._fates(delivery, work.send, sent)
            await self._record(delivery, fates)
            if fates:
                follow_ups += [*follow_up(delivery, fates), self._outcome(delivery, fates)]
        if follow_ups:
            await self._bus.publish_all(follow_ups)
        _raise(sent)

    async def _send(self, delivery: Delivery, recipients: Sequence[Recipient]) -> Sent:
        """One transaction, or as many as the next hop and VERP need."""
        try:
            hop = next_hop(delivery)
        except RoutesError as error:
            raise PermanentError(BAD_HOP, why=str(error)) from error
        envelope = Envelope(
            post_id=delivery.post_id,
            accepted_at=delivery.accepted_at,
            recipients=tuple(recipients),
            senders=senders(delivery, recipients, self._secret),
            lane=delivery.lane,
            smtputf8=delivery.smtputf8,
            envid=delivery.envid,
            ret=delivery.ret,
        )
        self._claims.check()
        return await self._hops.deliver(hop, envelope, delivery.content)

    def _fates(self, delivery: Delivery, recipients: Sequence[Recipient], sent: Sent) -> list[Fate]:
        """Each recipient's answer as its own fate; those without an answer (trouble of ours) have none."""
        now = time.time()
        age = now - delivery.accepted_at
        kind = next_hop(delivery).kind
        fates = []
        for recipient, answer in zip(recipients, sent.answers, strict=True):
            if answer is None:
                continue
            fate = decide(
                recipient.address,
                answer,
                attempt=delivery.attempt,
                now=now,
                age=age,
                policy=self._policy,
                unknowns=delivery.unknowns,
            )
            journal.fate(
                delivery.post_id,
                recipient=fate.address,
                state=fate.state,
                hop_kind=kind,
                host=fate.hop,
                reply=str(answer.reply),
                attempt=fate.attempt,
                age=age,
            )
            fates.append(fate)
        return fates

    async def _record(self, delivery: Delivery, fates: Sequence[Fate]) -> None:
        """Make the fates durable, however long the ledger takes: they have happened, and only this task knows of them.

        Trouble of another kind may be for good. Then the delivery is parked: to try it again would send it again. Raises `PermanentError`.
        """
        tries = faults = 0
        while fates:
            try:
                with no_cancellation_of_others():
                    await self._ledger.record(delivery.post_id, delivery.group, fates)
            except TransientError as error:
                journal.retried("record", str(error), tries=tries, delay=retry_delay(tries))
            except Exception as error:
                journal.crashed("record", error)
                faults += 1
                if faults == RECORD_FAULTS:
                    raise PermanentError(UNRECORDED, why=f"{type(error).__name__}: {error}") from error
            else:
                return
            await asyncio.sleep(min(retry_delay(tries), 15))
            tries += 1

    def _outcome(self, delivery: Delivery, fates: Sequence[Fate]) -> Outgoing:
        told = Attempted(
            post_id=delivery.post_id,
            group=delivery.group,
            kind=delivery.kind,
            fates=tuple(fates),
            content=delivery.content if comes_back(delivery, fates) else None,
        )
        return Outgoing(queue=Queue.OUTCOMES, payload=encode(told))


def _raise(sent: Sent) -> None:
    """Trouble of ours, now that all that was heard is recorded: a body that is gone is for a person to look at, the rest for later."""
    if isinstance(sent.trouble, BodyMissing):
        raise PermanentError(BODY_GONE, why=str(sent.trouble)) from sent.trouble
    if sent.trouble is not None:
        raise sent.trouble


def greeting_name(name: str) -> str:
    """Our name for EHLO: HORO_HOSTNAME, else the machine's, where it can stand in a command."""
    name = name or socket.getfqdn()
    return name if name and name.isascii() and name.isprintable() and " " not in name else "localhost"
