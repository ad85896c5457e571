"""Recording what has happened: however long the ledger takes, for only the task that did it knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from services.sender.claims import Hold
from shared import journal
from shared.ledger import Alike, Ledger
from shared.messages import Fate
from shared.replies import PermanentError, Reply, TransientError
from shared.worker import no_cancellation_of_others, retry_delay

UNRECORDED = Reply(554, "3.0", "The message was sent, but what became of it could not be recorded")

FAULTS = 5
"""Times that recording may fail for another reason than an absent ledger."""


async def record_surely(ledger: Ledger, hold: Hold, group: str, fates: Sequence[Fate | Alike], *, owner: str) -> None:
    """Make the fates durable, and let go of the claim.

    Trouble of another kind may be for good. Then the message is parked: to try it again would send it again. Raises `PermanentError`.
    """
    tries = faults = 0
    while True:
        try:
            with no_cancellation_of_others():
                await ledger.record(hold.claim, group, fates, owner=owner)
        except TransientError as error:
            journal.retried("record", str(error), tries=tries, delay=retry_delay(tries), post=hold.claim.post_id)
        except Exception as error:
            journal.crashed("record", error, post=hold.claim.post_id)
            faults += 1
            if faults == FAULTS:
                raise PermanentError(UNRECORDED, why=f"{type(error).__name__}: {error}") from error
        else:
            hold.released = True
            return
        await asyncio.sleep(min(retry_delay(tries), 15))
        tries += 1
