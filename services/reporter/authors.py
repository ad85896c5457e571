"""What authors hear of a post after its fan-out: that all is over, of a delay, of failures behind an alias (RFC 3461, 3464). Looks of the desk.

Few mails: failures are gathered, and a report is never about one recipient because that one came first. Names members only under `envelope=alias`,
where they are the author's own recipients (P9).
"""

from __future__ import annotations

from collections.abc import Sequence

from services.reporter import decide, dsn, waiting
from services.reporter.decide import Action, Tell
from services.reporter.due import Next, remember
from services.reporter.telling import Teller
from services.reporter.waiting import Case, fate_of, mark, unpacked
from shared.identity import derive
from shared.ledger import Ledger
from shared.messages import Fate, State

NAMED = 500
"""People behind an alias who are named to the author of one post; of more, only the number is told (P10)."""


class Authors:
    """The looks that end in a report to the author. `max_age`: seconds that delivery is tried."""

    def __init__(self, ledger: Ledger, teller: Teller, *, max_age: float) -> None:
        self._ledger = ledger
        self._teller = teller
        self._max_age = max_age

    async def delivered(self, case: Case) -> Next:
        """The one report of a list whose switch is off, where NOTIFY=SUCCESS asked: when all is over."""
        owed = decide.of_expansion(case.record, case.target, case.verdict)
        if owed is None or case.memory.round:
            return Next(done=True)
        if not case.over:
            return Next(done=False)
        block = dsn.Block(
            final=case.target.recipient, action=owed.action, status=dsn.POSITIVE_STATUS, orcpt=case.target.orcpt
        )
        await self._teller.author(
            case.record,
            case.target,
            owed.action,
            (block,),
            report_id=derive(case.record.id, case.target.group, owed.action.value),
            at=case.now,
            settled=decide.finished(case.totals),
        )
        case.memory.round = 1
        return Next(done=True)

    async def delayed(self, case: Case) -> Next:
        """One word of a delay, of everybody who is late then. Nobody is late any more: nothing is said."""
        late = [fate for fate in await self._unreached(case) if fate.state is State.DEFERRED]
        if late and not case.over and not case.memory.round and decide.of_delay(case.record, case.target):
            until = case.record.accepted_at + self._max_age
            blocks = dsn.blocks_of_fates(late, action=Action.DELAYED, orcpt=case.target.orcpt, retry_until=until)
            await self._teller.author(
                case.record,
                case.target,
                Action.DELAYED,
                blocks,
                report_id=derive(case.record.id, case.target.group, Action.DELAYED.value),
                at=case.now,
            )
            case.memory.round = 1
        return Next(done=True)

    async def failed(self, case: Case) -> Next:
        """Failures behind an alias: those of the first attempts together, what failed later seldom, the rest when all is over."""
        memory = case.memory
        failed = [fate for fate in await self._unreached(case) if fate.state is State.FAILED]
        if not memory.sending:  # else a report was written down and perhaps not sent
            told = set(memory.marks)
            new = [found for fate in failed if (found := mark(fate.address)) not in told]
            if decide.of_failure(case.record, case.target) is not Tell.AUTHOR or not waiting.tell_author(
                untold=len(new), last=memory.last, now=case.now, over=case.over, age=case.age
            ):
                return Next(done=case.over)
            memory.sending, memory.last = new, case.now
            await remember(self._ledger, case)
        await self._report_failed(case, failed)
        memory.marks += memory.sending
        memory.sending = []
        memory.round += 1
        return Next(done=case.over)

    async def _report_failed(self, case: Case, failed: Sequence[Fate]) -> None:
        named = set(case.memory.sending)
        fates = [fate for fate in failed if mark(fate.address) in named]
        if not fates:  # all of them have turned out to be delivered after all
            return
        totals, known = case.totals, len(case.memory.marks) + len(fates)
        await self._teller.author(
            case.record,
            case.target,
            Action.FAILED,
            dsn.blocks_of_fates(fates, action=Action.FAILED, orcpt=case.target.orcpt),
            report_id=derive(case.record.id, case.target.group, Action.FAILED.value, str(case.memory.round)),
            at=case.memory.last,
            content=unpacked(case.memory.content),
            waiting=totals.deferred,
            unnamed=totals.failed - known if known >= NAMED else 0,
        )

    async def _unreached(self, case: Case) -> list[Fate]:
        rows = await self._ledger.unreached(case.record.id, case.target.group, limit=NAMED)
        return [fate_of(row) for row in rows]
