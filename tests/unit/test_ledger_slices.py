"""Posts that are cut into slices, against a naive model: in whatever order things are told, counts and digests say what the sheets say."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.expander.plan import Plan as Cut
from services.expander.plan import bounds
from shared.database.engine import open_engine
from shared.groups import cell, slot
from shared.identity import new_id
from shared.ledger import Alike, Claim, PostRecord, TargetRecord
from shared.ledger.store import SqlLedger
from shared.ledger.store_sums import LAST, Plan
from shared.messages import Expanded, Fate, Queued, Reason, State, Suppressed, TargetKind
from tests.unit.test_ledger_model import FINAL, migrated

GROUPS = ("a@example.test", "b@example.test")
PEOPLE = tuple(f"m{n}@x.test" for n in range(24))
CUT = Cut(cells=8, slices=4)
STATES = (State.DELIVERED, State.FAILED, State.DEFERRED)


class Told(NamedTuple):
    """A sender's word: what became of those people of one cell, at one attempt."""

    group: str
    cell: int
    attempt: int
    states: tuple[tuple[str, State], ...]


class Shared(NamedTuple):
    """An expander's word: who of one slice gets a copy, and who does not."""

    group: str
    slice: int
    queued: tuple[str, ...]
    suppressed: tuple[str, ...]


def people_of(number: int, count: int) -> list[str]:
    return [who for who in PEOPLE if cell(slot(who), count) == number]


@st.composite
def words(draw: st.DrawFn) -> Told | Shared:
    group = draw(st.sampled_from((GROUPS[0], *GROUPS)))
    if draw(st.booleans()):
        number = draw(st.integers(0, CUT.cells - 1))
        mine = people_of(number, CUT.cells)
        chosen = draw(st.one_of(st.just(mine), st.lists(st.sampled_from(mine), unique=True))) if mine else []
        each = draw(st.sampled_from((STATES[0], None)))
        states = tuple((who, each or draw(st.sampled_from(STATES))) for who in chosen)
        return Told(group, number, draw(st.integers(0, 3)), states)
    number = draw(st.integers(0, CUT.slices - 1))
    mine = people_of(number, CUT.slices)
    queued = draw(st.one_of(st.just(mine), st.lists(st.sampled_from(mine), unique=True))) if mine else []
    left_out = draw(st.lists(st.sampled_from(mine), unique=True, max_size=2)) if mine else []
    return Shared(group, number, tuple(queued), tuple(left_out))


class Model:
    """Dictionaries."""

    def __init__(self) -> None:
        self.people: dict[str, tuple[str, State, int]] = {}
        self.left_out: set[tuple[str, str]] = set()

    def hear(self, word: Told | Shared) -> None:
        if isinstance(word, Shared):
            for who in word.queued:
                self.people.setdefault(who, (word.group, State.QUEUED, 0))
            self.left_out |= {(word.group, who) for who in word.suppressed}
            return
        for who, state in word.states:
            group, held, attempts = self.people.get(who, (word.group, State.QUEUED, 0))
            if held in FINAL or (word.attempt + 1 < attempts and state is not State.DELIVERED):
                continue
            self.people[who] = (group, state, max(attempts, word.attempt + 1))

    def sums(self, group: str) -> tuple[int, int, int, int]:
        mine = [state for held, state, _ in self.people.values() if held == group]
        deferred = sum(state in (State.QUEUED, State.DEFERRED) for state in mine)
        left_out = sum(held == group for held, _ in self.left_out)
        return mine.count(State.DELIVERED), deferred, mine.count(State.FAILED), left_out


def fate(state: State, attempt: int) -> Fate:
    return Fate(address="", state=state, code=250, status="2.0.0", text="x", hop="h", attempt=attempt, at=1.0)


async def tell(ledger: SqlLedger, post_id: str, word: Told | Shared) -> None:
    if isinstance(word, Shared):
        share = Expanded(
            post_id=post_id,
            group=word.group,
            index=word.slice,
            of=CUT.slices,
            queued=tuple(Queued(addresses=(who,), via=(word.group,)) for who in word.queued),
            suppressed=tuple(Suppressed(addresses=(who,), reason=Reason.PAUSED) for who in word.suppressed),
            at=1.0,
        )
        await ledger.file(share)
        return
    alike = [
        Alike(fate=fate(state, word.attempt), addresses=[who for who, its in word.states if its is state])
        for state in STATES
    ]
    claim = Claim(post_id=post_id, cell=word.cell, hop="h")
    await ledger.record(claim, word.group, [each for each in alike if each.addresses])


async def compare(ledger: SqlLedger, model: Model, post_id: str) -> None:
    for group in GROUPS:
        sums = await ledger.totals(post_id, group)
        assert (sums.delivered, sums.deferred, sums.failed, sums.suppressed) == model.sums(group)
        assert sums.expanded == sum(model.sums(group))
    rows = [row async for page in ledger.trace(post_id) for row in page]
    assert {row.address: (row.group, row.state, row.attempts) for row in rows if row.state} == model.people
    assert {(row.group, row.address) for row in rows if row.reason} == model.left_out
    standings = await ledger.standings(post_id, PEOPLE)
    assert {who: (one.state, one.attempts) for who, one in standings.items()} == {
        who: (state, attempts) for who, (_, state, attempts) in model.people.items()
    }


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(story=st.lists(words(), min_size=1, max_size=14))
async def test_p4_sums_of_slices_are_what_their_sheets_say(story: list[Told | Shared]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(await migrated(), Path(folder) / "horo.db")
        ledger = SqlLedger(open_engine(f"sqlite:///{Path(folder) / 'horo.db'}"), owned=True)
        model, post_id = Model(), new_id()
        record = PostRecord(
            id=post_id, accepted_at=time.time(), mail_from="", author="", message_id="", subject="", size=1, ip="",
            cells=CUT.cells, slices=CUT.slices,
        )  # fmt: skip
        targets = [TargetRecord(group=group, recipient=group, kind=TargetKind.GROUP) for group in GROUPS]
        try:
            await ledger.open_post(record, targets)
            for word in story:
                await tell(ledger, post_id, word)
                model.hear(word)
                await compare(ledger, model, post_id)
            for word in story:  # said again: by a redelivery, or because the answer was lost
                await tell(ledger, post_id, word)
            await compare(ledger, model, post_id)
            one = (await ledger.trace(post_id, recipient=PEOPLE[0]).__anext__()) if PEOPLE[0] in model.people else []
            assert [row.address for row in one] == [PEOPLE[0]] * len(one)
        finally:
            await ledger.close()


@given(per_slice=st.integers(1, 40), slices=st.integers(1, 40), number=st.integers(0, 2**31 - 1))
def test_a_slice_of_the_ledger_is_a_slice_of_the_expander(per_slice: int, slices: int, number: int) -> None:
    """A person's share, and the cell of the person's batch, are in the same slice."""
    cut, plan = Cut(per_slice * slices, slices), Plan(per_slice * slices, slices)
    mine = next(index for index in range(slices) if bounds(index, cut)[0] <= number < bounds(index, cut)[1])
    shares, cells = plan.ranges(mine)
    assert shares[0] <= mine <= shares[1]
    assert cells[0] <= cell(number, cut.cells) <= cells[1]
    assert (shares[1] == LAST) == (cells[1] == LAST) == (mine == slices - 1)
