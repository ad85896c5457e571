"""The filer: takes what was put aside from the queue `parked` and files it in the ledger, where a person finds it (`horo parked list`).

It must never decode what it files, for that may be why it was parked, and never give up on it: while the ledger does not answer, a message stays
unacked on the bus. Whoever can write to the broker controls payload and headers; each message is filed by a task of its own, so that one
which SQL refuses does not stand in the way of the others.
"""

from __future__ import annotations

from services.reporter import mime
from shared import journal
from shared.bus import Bus, Incoming
from shared.identity import new_id
from shared.ledger import Ledger
from shared.messages import Undecodable, Wire
from shared.replies import TransientError
from shared.topology import Queue
from shared.worker import Worker, no_cancellation_of_others, retry_delay

IN_HAND = 16
"""Parked messages in hand at a time; at up to 8 MiB each this bounds the memory (P10)."""

_MOST_TRIES = (1 << 31) - 1


class Filer(Worker):
    """Files parked messages until `stop`: the worker loop, over whatever the bus does, without its decoding."""

    def __init__(self, bus: Bus, ledger: Ledger) -> None:
        # A worker prefetches as many as it has in work.
        super().__init__(bus, Queue.PARKED, _not_decoded, concurrency=IN_HAND // 2, max_tries=1)
        self._ledger = ledger

    async def _worked(self, incoming: Incoming) -> None:
        """File, then ack; until that succeeds the message is ours, or the bus's again when we stop.

        The row's name is new for every parking, not a hash of the payload: `horo parked retry` publishes a message and then forgets its row,
        and if the same bytes are parked again in between, they must not be taken for that row. The price is a second row after a crash
        between filing and ack.
        """
        unique = new_id()
        tries = 0
        while True:
            try:
                with no_cancellation_of_others():
                    parked = self._bus.parked(incoming)
                    await self._ledger.park(
                        mime.clean(parked.queue, 100),
                        mime.clean(parked.reason, 1000),
                        incoming.payload,
                        min(max(parked.tries, 0), _MOST_TRIES),
                        unique=unique,
                    )
            except TransientError as error:
                journal.retried(Queue.PARKED, str(error), tries=tries, delay=retry_delay(tries))
            except Exception as error:
                journal.crashed("filing a parked message", error)
            else:
                await incoming.ack()
                return
            await self._stopped_within(retry_delay(tries))
            if self._stopping.is_set():
                await incoming.release()
                return
            tries += 1


async def _not_decoded(message: Wire, _incoming: Incoming) -> None:
    raise Undecodable(f"a {type(message).__name__} was decoded on its way to the parked ones")
