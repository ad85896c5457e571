"""The ledger against a naive model of it: random interleavings of everything that is said of one post, repeats among it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.database import migrate
from shared.database.batch import Batcher, Entry
from shared.database.engine import open_engine
from shared.identity import new_id
from shared.ledger import Claim, LedgerUnavailable
from shared.ledger.store import SqlLedger
from shared.messages import Expanded, Fate, Queued, Reason, State, Suppressed

GROUPS = ("a@example.test", "b@example.test")
NAMES = tuple(f"m{n}@x.test" for n in range(4))
OF = 2
FINAL = (State.DELIVERED, State.FAILED)

fates = st.builds(
    lambda address, state, attempt: Fate(
        address=address,
        state=state,
        code=250,
        status="2.0.0",
        text=f"{state} {attempt}",
        hop="h",
        attempt=attempt,
        at=1.0,
    ),
    st.sampled_from(NAMES),
    st.sampled_from([State.DELIVERED, State.DEFERRED, State.FAILED]),
    st.integers(0, 3),
)
shares = st.builds(
    lambda index, queued, suppressed: (
        index,
        tuple(Queued(addresses=(name,), via=("g",)) for name in sorted(queued)),
        tuple(Suppressed(addresses=(name,), reason=reason) for name, reason in sorted(suppressed)),
    ),
    st.integers(0, OF - 1),
    st.sets(st.sampled_from(NAMES), max_size=3),
    st.sets(st.tuples(st.sampled_from(NAMES), st.sampled_from([Reason.AUTHOR, Reason.PAUSED])), max_size=2),
)
steps = st.one_of(
    st.tuples(st.just("record"), st.sampled_from(GROUPS), st.lists(fates, min_size=1, max_size=3)),
    st.tuples(st.just("file"), st.sampled_from(GROUPS), shares),
    st.tuples(st.just("claim"), st.sampled_from(["one", "two", "three"]), st.integers(0, 1)),
    st.tuples(st.just("release"), st.sampled_from(["one", "two", "three"]), st.integers(0, 1)),
)
waves = st.lists(st.lists(steps, min_size=1, max_size=4), min_size=1, max_size=8)


class Model:
    """What the port says, with dictionaries."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[str, State, int]] = {}
        self.suppressed: set[tuple[str, str, Reason]] = set()
        self.filed: set[tuple[str, int]] = set()
        self.owners: dict[int, str] = {}

    def apply(self, step: tuple[str, str, object]) -> object:
        kind, name, rest = step
        match kind, rest:
            case "record", list(given_fates):
                return self.record(name, given_fates)
            case "file", (int(index), tuple(queued), tuple(suppressed)):
                for address in (address for entry in queued for address in entry.addresses):
                    self.rows.setdefault(address, (name, State.QUEUED, 0))
                self.suppressed |= {(name, who, entry.reason) for entry in suppressed for who in entry.addresses}
                self.filed.add((name, index))
                return self.complete(name)
            case "claim", int(cell):
                return self.owners.setdefault(cell, name) == name
            case "release", int(cell):
                if self.owners.get(cell) == name:
                    del self.owners[cell]
                return None
        raise AssertionError(step)

    def record(self, group: str, given_fates: Sequence[Fate]) -> None:
        for fate in given_fates:
            held, state, attempts = self.rows.get(fate.address, (group, State.QUEUED, 0))
            if state in FINAL or (fate.attempt + 1 < attempts and fate.state is not State.DELIVERED):
                continue
            self.rows[fate.address] = (held, fate.state, max(attempts, fate.attempt + 1))

    def complete(self, group: str) -> bool:
        return sum(1 for name, _ in self.filed if name == group) == OF

    def count(self, group: str, *states: State) -> int:
        return sum(1 for held, state, _ in self.rows.values() if held == group and state in states)


async def do(ledger: SqlLedger, post_id: str, step: tuple[str, str, object]) -> object:
    """The step, said to the ledger."""
    kind, name, rest = step
    match kind, rest:
        case "record", list(given_fates):
            return await ledger.record(Claim(post_id=post_id, cell=0, hop="h"), name, given_fates)
        case "file", (int(index), tuple(queued), tuple(suppressed)):
            return await ledger.file(
                Expanded(post_id=post_id, group=name, index=index, of=OF, queued=queued, suppressed=suppressed, at=1.0)
            )
        case "claim", int(cell):
            taken = await ledger.take(Claim(post_id=post_id, cell=cell, hop="h"), name, 600.0)
            return taken.wait == 0.0
        case "release", int(cell):
            return await ledger.release(Claim(post_id=post_id, cell=cell, hop="h"), name)
    raise AssertionError(step)


async def compare(ledger: SqlLedger, model: Model, post_id: str) -> None:
    """All that can be asked of the post, against the model."""
    standings = await ledger.standings(post_id, NAMES)
    assert {name: (one.state, one.attempts) for name, one in standings.items()} == {
        name: (state, attempts) for name, (_, state, attempts) in model.rows.items()
    }
    whole = await ledger.totals(post_id)
    assert whole.expanded == whole.delivered + whole.deferred + whole.failed + whole.suppressed
    assert whole.expanded == len(model.rows) + len(model.suppressed)
    for group in GROUPS:
        totals = await ledger.totals(post_id, group)
        assert totals.delivered == model.count(group, State.DELIVERED)
        assert totals.deferred == model.count(group, State.QUEUED, State.DEFERRED)
        assert totals.failed == model.count(group, State.FAILED)
        assert totals.suppressed == sum(1 for held, _, _ in model.suppressed if held == group)
        assert totals.complete == model.complete(group)


_made: list[tempfile.TemporaryDirectory[str]] = []


async def migrated() -> Path:
    """A database file that every example starts from."""
    if not _made:
        _made.append(tempfile.TemporaryDirectory())
        engine = open_engine(f"sqlite:///{Path(_made[0].name) / 'horo.db'}")
        await migrate.upgrade(engine)
        await engine.dispose()
    return Path(_made[0].name) / "horo.db"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(batches=waves)
async def test_p3_p4_whatever_is_said_the_sums_add_up_and_final_stays(
    batches: list[list[tuple[str, str, object]]],
) -> None:
    """One step after the other, each followed by all of its wave again, at once: what was said may be said again."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(await migrated(), Path(folder) / "horo.db")
        ledger = SqlLedger(open_engine(f"sqlite:///{Path(folder) / 'horo.db'}"), owned=True)
        model, post_id = Model(), new_id()
        try:
            for wave in batches:
                for step in wave:
                    assert await do(ledger, post_id, step) == model.apply(step)
                    await compare(ledger, model, post_id)
                repeats = [step for step in wave if step[0] == "file"]
                await asyncio.gather(*(do(ledger, post_id, step) for step in repeats))
                await compare(ledger, model, post_id)
        finally:
            await ledger.close()


# --- the batcher -----------------------------------------------------------------------------------------------------
class Poison(Exception):
    """An entry that cannot be written."""


class Gone(Exception):
    """The database went away."""


@settings(max_examples=100, deadline=None)
@given(
    entries=st.lists(st.tuples(st.booleans(), st.integers(1, 6)), min_size=1, max_size=30),
    parallel=st.integers(1, 3),
    limit=st.integers(1, 10),
)
async def test_each_entry_hears_its_own_answer_and_poison_is_told_to_its_owner_alone(
    entries: list[tuple[bool, int]], parallel: int, limit: int
) -> None:
    batches: list[list[int]] = []
    running = 0

    async def write(taken: Sequence[Entry]) -> list[int]:
        nonlocal running
        running += 1
        assert running <= parallel
        await asyncio.sleep(0)
        running -= 1
        batches.append([entry.weight for entry in taken])
        if any(entry.payload[0] for entry in taken):
            raise Poison
        return [entry.payload[1] for entry in taken]

    batcher = Batcher(write, lambda error: isinstance(error, Poison), LedgerUnavailable, parallel=parallel, limit=limit)
    outcomes = await asyncio.gather(
        *(batcher.submit("k", (bad, n), weight=weight) for n, (bad, weight) in enumerate(entries)),
        return_exceptions=True,
    )
    for number, (bad, _) in enumerate(entries):
        assert isinstance(outcomes[number], Poison) if bad else outcomes[number] == number
    assert all(len(batch) == 1 or sum(batch) <= limit for batch in batches)
    await batcher.close()


async def test_what_fails_for_the_databases_sake_fails_for_all_and_the_next_is_tried() -> None:
    broken = True

    async def write(taken: Sequence[Entry]) -> list[int]:
        await asyncio.sleep(0)
        if broken:
            raise Gone
        return [entry.payload for entry in taken]

    batcher = Batcher(write, lambda error: isinstance(error, Poison), LedgerUnavailable, parallel=1, limit=10)
    outcomes = await asyncio.gather(*(batcher.submit("k", n) for n in range(5)), return_exceptions=True)
    assert all(isinstance(outcome, Gone) for outcome in outcomes)
    broken = False
    assert [await batcher.submit("k", n) for n in range(3)] == [0, 1, 2]


async def test_an_idle_batcher_writes_at_once_and_a_busy_one_gathers() -> None:
    gate = asyncio.Event()
    batches: list[int] = []

    async def write(taken: Sequence[Entry]) -> list[None]:
        batches.append(len(taken))
        await gate.wait()
        return [None] * len(taken)

    batcher = Batcher(write, lambda _: False, LedgerUnavailable, parallel=1, limit=100)
    first = asyncio.create_task(batcher.submit("k", 0))
    async with asyncio.timeout(5):
        while not batches:
            await asyncio.sleep(0)
    rest = [asyncio.create_task(batcher.submit("k", n)) for n in range(50)]
    gone = asyncio.create_task(batcher.submit("k", "gone"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    gate.set()
    await asyncio.gather(first, *rest)
    assert batches == [1, 50]
