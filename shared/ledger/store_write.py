"""The hot writes of the ledger, many at once: claims, fates, shares of a fan-out. Each function makes the statements that write what many tasks
ask for, for one transaction, and reads their answers; no statement needs the answers to another one.

Rows go in the order of their keys, so that two transactions seldom wait for each other in a circle (and where they do, the database gives one
up and it is run again).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from shared.database.line import Rows, Step
from shared.ledger import Alike, Claim, Standing, Taken
from shared.ledger.fold import Sheet, fold
from shared.ledger.rows import SqlRow, bounded, waves
from shared.ledger.sheets import ATTEMPT_COLUMNS, SHARE_COLUMNS, attempt_rows, share_rows
from shared.ledger.store_bulk import Bulk
from shared.ledger.store_notes import STOP
from shared.messages import Expanded, Fate

_CLAIM_KEY = {"post_id": "text", "cell": "int4", "hop": "text", "owner": "text"}

_CLAIM = Bulk(
    {**_CLAIM_KEY, "lease": "float8"},
    "INSERT INTO claims (post_id, cell, hop, owner, until) SELECT post_id, cell, hop, owner, {clock} + lease FROM r WHERE true "
    "ON CONFLICT (post_id, cell, hop) DO UPDATE SET "
    "owner = CASE WHEN {ours} THEN excluded.owner ELSE claims.owner END, "
    "until = CASE WHEN {ours} THEN excluded.until ELSE claims.until END "
    "RETURNING post_id, cell, hop, owner, until - {clock}, {stop} = claims.post_id)",
    stop=STOP,
    ours="claims.owner = excluded.owner OR claims.until <= {clock}",
)
_RELEASE = Bulk(
    _CLAIM_KEY,
    "DELETE FROM claims WHERE (post_id, cell, hop, owner) IN (SELECT post_id, cell, hop, owner FROM r)",
)
_TRIED = Bulk(
    {"post_id": "text", "cell": "int4"},
    "SELECT r.post_id, r.cell, seq, group_key, attempts.attempts, at, content FROM r {near}",
    near=("attempts", "attempts.post_id = r.post_id AND attempts.cell = r.cell"),
)
_RECORD = Bulk(
    ATTEMPT_COLUMNS,
    "INSERT INTO attempts ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (post_id, cell, mark) DO NOTHING",
)
_SHARE = Bulk(
    SHARE_COLUMNS,
    "INSERT INTO shares ({columns}) SELECT {columns} FROM r WHERE true "
    "ON CONFLICT (post_id, group_key, number, mark) DO NOTHING",
)
_PEOPLE = Bulk(
    {"hash": "int8", "post_id": "text"},
    "INSERT INTO people ({columns}) SELECT {columns} FROM r WHERE true ON CONFLICT (hash, post_id) DO NOTHING",
)


class Work(NamedTuple):
    """Statements, and what their rows mean: an answer for each who asked."""

    steps: list[Step]
    answers: Callable[[Sequence[Rows]], list[Any]]


class Recorded(NamedTuple):
    """Fates to record; with an `owner`, its claim is let go of. `seq` numbers the sheets of this process."""

    claim: Claim
    group: str
    fates: Sequence[Fate | Alike]
    owner: str
    seq: int


class Filed(NamedTuple):
    """A share to file."""

    share: Expanded
    seq: int


_ClaimKey = tuple[str, int, str]


def _claim_key(claim: Claim) -> _ClaimKey:
    return bounded(claim.post_id), claim.cell, bounded(claim.hop)


# --- claims ----------------------------------------------------------------------------------------------------------
def take_all(asked: Sequence[tuple[Claim, str, float]]) -> Work:
    """Each (claim, owner, lease), and where the recipients of its cell stand.

    They are read by a statement of its own after the claims are ours: it sees all that the former owner committed, the claim's release being the
    last of it. One statement for both would see the sheets as they were before it waited for the claim, and a batch would be sent twice.
    """
    rounds = waves(((_claim_key(claim),), number) for number, (claim, _, _) in enumerate(asked))
    steps = [
        _CLAIM.step(sorted((*_claim_key(asked[n][0]), bounded(asked[n][1]), asked[n][2]) for n in wave))
        for wave in rounds
    ]
    cells: set[SqlRow] = {_claim_key(claim)[:2] for claim, _, _ in asked}
    steps.append(_TRIED.step(sorted(cells, key=str)))

    def answers(told: Sequence[Rows]) -> list[Taken]:
        standings = _standings(told[-1])
        taken = [Taken(wait=0.0, standings={})] * len(asked)
        for wave, rows in zip(rounds, told[:-1], strict=True):
            held = {(post, cell, hop): answer for post, cell, hop, *answer in rows}
            for number in wave:
                claim, asker, _ = asked[number]
                owner, left, stop = held[_claim_key(claim)]
                if owner == bounded(asker):
                    here = standings.get(_claim_key(claim)[:2], {})
                    taken[number] = Taken(wait=0.0, standings=here, stopped=stop is not None)
                else:
                    taken[number] = Taken(wait=max(float(left), 0.001), standings={})
        return taken

    return Work(steps, answers)


def _standings(rows: Rows) -> dict[tuple[str, int], dict[str, Standing]]:
    """Where the recipients of each (post, cell) stand."""
    cells: dict[tuple[str, int], list[Sheet]] = {}
    for post_id, cell, *rest in rows:
        cells.setdefault((post_id, cell), []).append(Sheet(*rest))
    return {
        cell: {key: entry.standing() for key, entry in fold(sheets).people.items()} for cell, sheets in cells.items()
    }


def release_all(given: Sequence[tuple[Claim, str]]) -> Work:
    """Let go of each (claim, owner) that is still the owner's."""
    rows = sorted({(*_claim_key(claim), bounded(owner)) for claim, owner in given})
    return Work([_RELEASE.step(rows)], lambda _: [None] * len(given))


# --- sheets ----------------------------------------------------------------------------------------------------------
def record_all(given: Sequence[Recorded]) -> Work:
    """Record fates, in the order of their numbers; what is recorded already is recorded once."""
    rows = {
        row[:3]: row
        for each in reversed(given)
        for row in reversed(attempt_rows(each.claim, each.group, each.fates, each.seq))
    }
    steps = [_RECORD.step([rows[name] for name in sorted(rows, key=str)])]
    if done := [(each.claim, each.owner) for each in given if each.owner]:
        steps += release_all(done).steps
    return Work(steps, lambda _: [None] * len(given))


def file_all(given: Sequence[Filed]) -> Work:
    """File shares of fan-outs; a share that is told again in the same words is filed once."""
    rows: dict[SqlRow, SqlRow] = {}
    found: set[SqlRow] = set()
    for each in reversed(given):
        row, people = share_rows(each.share, each.seq)
        rows[(*row[:2], row[3], row[10])] = row
        found.update(people)
    steps = [_SHARE.step([rows[name] for name in sorted(rows, key=str)])]
    if found:
        steps.append(_PEOPLE.step(sorted(found, key=str)))
    return Work(steps, lambda _: [None] * len(given))
