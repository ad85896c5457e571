"""Notifications: a signal is claimed for one channel, what is recorded is left alone, the channel is called, its answer is recorded.

The rules are those of mail: a claim keeps two senders from calling one channel at once, a recorded answer is never asked for again, what is
temporary is tried again by HORO_RETRY_SCHEDULE, for a day at most. Channels that are known to be slow have half of the threads at most.

A crash between the call and the record, or an answer that was lost, repeats the
message: no chat has a way to say that it has one already.

The channel's URL is opened here, for the call alone, and stands in no message, record, error or line of the log.
"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from services.sender.answers import Answer
from services.sender.claims import Claims, Hold
from services.sender.outcome import Policy, decide
from services.sender.recording import record_surely
from services.sender.slow import Slow
from shared import journal
from shared.bus import Bus, Incoming, Outgoing
from shared.channels import THREADS, Called, End
from shared.channels.addresses import networks
from shared.directory.channels import Channels, SealedChannel
from shared.ledger import Claim, Ledger
from shared.ledger.rows import recipient_key
from shared.messages import Fate, Notification, Signal, State, Undecodable, Wire, encode
from shared.replies import Reply
from shared.settings import Settings, seconds
from shared.signals import MAX_AGE
from shared.topology import Queue
from shared.worker import Worker

if TYPE_CHECKING:
    from shared.channels.courier import Courier

GONE = Called(End.NEVER, "the channel was removed")

PUT_OFF = 15.0
"""Seconds until a slow channel's turn comes again, where others like it have the threads that they may have."""

_FINAL = (State.DELIVERED, State.FAILED)


class Notifier:
    """Works the queue `notifications`; `worker` is run and stopped by the sender, whose claims these are. `secret` is the effective one."""

    def __init__(
        self, settings: Settings, *, bus: Bus, ledger: Ledger, channels: Channels, claims: Claims, secret: str
    ) -> None:
        self._bus = bus
        self._ledger = ledger
        self._channels = channels
        self._claims = claims
        self._policy = Policy(settings.retry_delays, min(MAX_AGE, seconds(settings.retry_max_age)))
        self._make = partial(_courier, settings, secret)
        self._courier: Courier | None = None
        self._slow = Slow(THREADS // 2)
        self.worker = Worker(bus, Queue.NOTIFICATIONS, self.handle, concurrency=THREADS, max_tries=settings.max_tries)

    def close(self) -> None:
        """Let go of the threads."""
        if self._courier is not None:
            self._courier.close()

    async def handle(self, message: Wire, incoming: Incoming) -> None:
        """One notification, from the queue to its recorded fate."""
        if not isinstance(message, Notification):
            raise Undecodable(f"a {type(message).__name__} is no notification")
        claim = Claim(post_id=message.signal.id, cell=message.cell, hop=message.label)
        with self._slow.place(message.label) as free:
            if not free:  # no attempt: nobody was asked
                await self._bus.publish(Outgoing(queue=Queue.NOTIFICATIONS, payload=encode(message), delay=PUT_OFF))
                return
            async with self._claims.held(claim) as hold:
                await self._work(message, hold)

    async def _work(self, message: Notification, hold: Hold) -> None:
        """Leave, repeat, or call and record. The retry is published when the record is there: who is redelivered finds it, and publishes it too."""
        standing = hold.standings.get(recipient_key(message.label))
        if standing is not None and (standing.state in _FINAL or standing.attempts > message.attempt):
            if standing.state is State.DEFERRED and standing.attempts == message.attempt + 1:
                await self._again(message, (standing.next_at or 0.0) - time.time())
            return
        channel = await self._channels.sealed_channel(message.channel)
        called = GONE
        if channel is not None and channel.label == message.label:
            self._claims.check()
            self._courier = self._courier or self._make()
            begun = time.monotonic()
            called = await self._courier.call(channel, title=message.signal.title, text=_text(message.signal))
            self._slow.took(message.label, time.monotonic() - begun)
        fate = self._fate(message, channel, called)
        await record_surely(self._ledger, hold, message.signal.group, (fate,), owner=self._claims.owner)
        if fate.next_at is not None:
            await self._again(message, fate.next_at - fate.at)

    def _fate(self, message: Notification, channel: SealedChannel | None, called: Called) -> Fate:
        """What the call means, by the rules of mail."""
        now = time.time()
        shown = channel.shown if channel is not None else message.label.partition(":")[0]
        fate = decide(
            message.label,
            Answer(_reply(called), shown),
            attempt=message.attempt,
            now=now,
            age=now - message.signal.sent_at,
            policy=self._policy,
        )
        journal.notified(
            message.signal.id,
            channel=message.channel,
            label=message.label,
            state=fate.state,
            reply=fate.text,
            attempt=fate.attempt,
        )
        return fate

    async def _again(self, message: Notification, delay: float) -> None:
        following = msgspec.structs.replace(message, attempt=message.attempt + 1)
        out = Outgoing(queue=Queue.NOTIFICATIONS, payload=encode(following), delay=max(0.0, round(delay, 1)))
        await self._bus.publish(out)


def _courier(settings: Settings, secret: str) -> Courier:
    """Made for the first call: what a courier needs has no place in a sender of mail alone."""
    from shared.channels.courier import Courier  # noqa: PLC0415

    return Courier(secret, networks(settings.channel_networks), ca=settings.tls_ca)


def _reply(called: Called) -> Reply:
    """The answer in the words of mail, as the ledger keeps it: 2xx, 4xx or 5xx; the channel's own code, where it gave one, is in the text."""
    match called.end:
        case End.TAKEN:
            return Reply(250, "0.0", called.text)
        case End.LATER:
            return Reply(451, "4.1", called.text)
        case End.NEVER:
            return Reply(550, "7.1", called.text)


def _text(signal: Signal) -> str:
    return f"{signal.text}\n{signal.link}" if signal.link else signal.text
