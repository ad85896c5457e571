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

from services.sender.claims import Claims, Hold
from services.sender.hops import Envelope, Hops, Sent
from services.sender.notify import Notifier
from services.sender.outcome import Policy, by_answer, decide
from services.sender.plan import comes_back, follow_up, next_hop, rerouted, senders, sort_out, stopped, to_tell
from services.sender.recording import record_surely
from services.sender.survey import show
from shared import journal
from shared.bodies import Bodies, BodyMissing
from shared.bus import Bus, Incoming, Outgoing
from shared.directory.channels import Channels
from shared.ledger import Alike, Claim, Ledger
from shared.messages import Attempted, Delivery, Fate, Recipient, State, Undecodable, Wire, encode
from shared.metrics import Named
from shared.replies import PermanentError, Reply
from shared.routes import RoutesError
from shared.settings import Settings, seconds
from shared.topology import Queue
from shared.worker import Worker

BODY_GONE = Reply(554, "3.0", "The message's body is missing")
BAD_HOP = Reply(554, "3.5", "The delivery names no next hop")


class Sender:
    """Works both lanes, and the notifications of channels, until stopped.

    `secret` is the installation's (for VERP and the URLs of channels), `hostname` our name in EHLO; both as in `shared.parts`.
    """

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
        channels: Channels | None = None,
    ) -> None:
        """`channels` is the directory; without one no signal is given to a channel, and its queue is left to others."""
        self._secret = secret or settings.secret
        self._bus = bus
        self._ledger = ledger
        rng = Random(secrets.randbits(64))  # noqa: S311 - for the order of equal mail exchangers
        self._routes = settings.route_table
        limits = settings.limit_table
        self._named = Named(self._routes, (*limits.exact, *limits.suffix))
        self._policy = Policy(settings.retry_delays, seconds(settings.retry_max_age))
        self._hops = hops or Hops(settings, bodies, hostname=greeting_name(hostname or settings.hostname), rng=rng)
        self._claims = Claims(ledger, lease=seconds(settings.claim_lease))
        # Each lane has workers of its own: bulk deliveries that wait for a slow next hop never hold up express ones (P7).
        self._workers = [
            Worker(bus, queue, self.handle, concurrency=settings.workers, max_tries=settings.max_tries)
            for queue in (Queue.DELIVERIES_EXPRESS, Queue.DELIVERIES_BULK)
        ]
        self._notifier = None
        if channels is not None:
            self._notifier = Notifier(
                settings, bus=bus, ledger=ledger, channels=channels, claims=self._claims, secret=self._secret
            )
            self._workers.append(self._notifier.worker)

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

    async def survey(self) -> None:
        """The next hops as they are now, for the gauges."""
        show(self._hops.snapshot(), self._named)

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
            if self._notifier is not None:
                self._notifier.close()

    # --- the story ----------------------------------------------------------------------------------------------------
    async def handle(self, message: Wire, incoming: Incoming) -> None:
        """One delivery, from the queue to its recorded fates. What it raises, the worker turns into a retry or parks."""
        if not isinstance(message, Delivery):
            raise Undecodable(f"{type(message).__name__} is not for the sender")
        repeated = incoming.redelivered or incoming.tries > 0
        for delivery in rerouted(message, self._routes):
            claim = Claim(post_id=delivery.post_id, cell=delivery.cell, hop=delivery.hop)
            async with self._claims.held(claim) as hold:
                await self._work(delivery, hold, repeated=repeated)

    async def _work(self, delivery: Delivery, hold: Hold, *, repeated: bool) -> None:
        """What a claimed delivery needs: leave, repeat, send, record, tell.

        The claim is given back with the record, before what follows is published: who gets the same message then finds it all recorded. Of a
        recipient who is deferred it publishes the retry as we do; whichever of the two retries comes second finds that the other was
        there, and sends nothing.
        """
        work = sort_out(delivery, hold.standings, time.time())
        if hold.stopped:
            work = stopped(work)
            journal.halted(delivery.post_id, group=delivery.group, copies=len(delivery.recipients), where="sender")
        follow_ups = follow_up(delivery, work.told)
        if repeated:  # its sender may have died between the record and the telling
            follow_ups += self._outcome(delivery, [fate for fate in work.told if fate.state is not State.DELIVERED])
        sent = Sent([])
        if work.send:
            sent = await self._send(delivery, work.send)
            fates = self._fates(delivery, work.send, sent)
            await self._record(delivery, hold, fates)
            told = to_tell(fates)
            follow_ups += [*follow_up(delivery, told), *self._outcome(delivery, told)]
        if follow_ups:
            await self._bus.publish_all(follow_ups)
        _raise(sent)

    async def _send(self, delivery: Delivery, recipients: Sequence[Recipient]) -> Sent:
        """One transaction, or as many as the next hop and VERP need."""
        try:
            hop = next_hop(delivery.hop)
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

    def _fates(self, delivery: Delivery, recipients: Sequence[Recipient], sent: Sent) -> list[Alike]:
        """Each recipient's answer as its fate, decided once for all who got the same."""
        now = time.time()
        age = now - delivery.accepted_at
        kind = next_hop(delivery.hop).kind
        fates = []
        for answer, addresses in by_answer([recipient.address for recipient in recipients], sent.answers):
            fate = decide(
                "",
                answer,
                attempt=delivery.attempt,
                now=now,
                age=age,
                policy=self._policy,
                unknowns=delivery.unknowns,
            )
            journal.fate(
                delivery.post_id,
                recipients=addresses,
                state=fate.state,
                hop_kind=kind,
                lane=delivery.lane,
                host=fate.hop,
                reply=str(answer.reply),
                attempt=fate.attempt,
                age=age,
            )
            fates.append(Alike(fate=fate, addresses=addresses))
        return fates

    async def _record(self, delivery: Delivery, hold: Hold, fates: Sequence[Alike]) -> None:
        """Make the fates durable, and let go of the claim."""
        if fates:
            await record_surely(self._ledger, hold, delivery.group, fates, owner=self._claims.owner)

    def _outcome(self, delivery: Delivery, fates: Sequence[Fate]) -> list[Outgoing]:
        """What the reporter is told: of failures and of delays, which may concern somebody; nothing where there are none."""
        if not fates:
            return []
        told = Attempted(
            post_id=delivery.post_id,
            group=delivery.group,
            kind=delivery.kind,
            fates=tuple(fates),
            content=delivery.content if comes_back(delivery, fates) else None,
        )
        return [Outgoing(queue=Queue.OUTCOMES, payload=encode(told))]


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
