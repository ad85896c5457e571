"""The sums of posts (P4), mostly without looking inside a sheet.

Shares and cells are ranges of slots, and the cells of share `number` of `parts` are an equal part of the post's: so all that is known of a person
is in one slice, and slices are summed one by one. A slice of which nothing is recorded is queued as it was announced. One where
as many recipients are final as were queued, and the digests of both are equal, is settled. Any other is folded from what its sheets hold;
memory is a slice's.

Each recipient of a slice is counted once, in one state: so sums add up at every read. Shares are read before attempts: who was
recorded in between is not in the share that was read, and the digests differ.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from shared.database.line import Rows, Step
from shared.groups import SLOTS, slot
from shared.ledger import Totals
from shared.ledger.fold import Folded, Sheet, Sums, counted, fold
from shared.ledger.sheets import summed
from shared.ledger.store_bulk import Bulk
from shared.ledger.store_notes import STOP

Run = Callable[[Sequence[Step]], Awaitable[list[Rows]]]
"""Does statements in one transaction for reading."""

TOGETHER = 10_000
"""Recipients in sheets that are read at a time, about."""
LAST = 2**31 - 1

_ID = {"post_id": "text"}
_PLAN = Bulk(_ID, "SELECT id, cells, slices, {stop} = posts.id) FROM r JOIN posts ON posts.id = r.post_id", stop=STOP)
_HEADS = Bulk(
    _ID,
    "SELECT r.post_id, group_key, number, parts, announced, queued, suppressed, digest FROM r {near}",
    near=("shares", "shares.post_id = r.post_id"),
)
_FINAL = Bulk(
    _ID,
    "SELECT r.post_id, group_key, {slice}, sum(delivered), sum(failed), sum(deferred), "
    "sum(digest / 4294967296), sum(digest % 4294967296) "
    "FROM r {near} LEFT JOIN posts ON posts.id = r.post_id GROUP BY 1, 2, 3",
    near=("attempts", "attempts.post_id = r.post_id"),
    slice="CASE WHEN posts.id IS NULL OR posts.slices <= 1 THEN 0 WHEN cell >= posts.cells THEN posts.slices - 1 "
    "ELSE CAST(cell AS bigint) * posts.slices / posts.cells END",
)
_TARGETS = Bulk(_ID, "SELECT r.post_id, group_key FROM r JOIN post_groups ON post_groups.post_id = r.post_id")
_RANGE = {"n": "int4", "post_id": "text", "low": "int4", "high": "int4"}
_SHARES = Bulk(
    _RANGE,
    "SELECT n, seq, group_key, 0, at, content FROM r {near}",
    near=("shares", "shares.post_id = r.post_id AND shares.number >= r.low AND shares.number <= r.high"),
)
_ATTEMPTS = Bulk(
    _RANGE,
    "SELECT n, seq, group_key, attempts.attempts, at, content FROM r {near}",
    near=("attempts", "attempts.post_id = r.post_id AND attempts.cell >= r.low AND attempts.cell <= r.high"),
)


class Head(NamedTuple):
    """A row of `shares` without its content."""

    group: str
    number: int
    parts: int
    announced: int
    queued: int
    suppressed: int
    digest: int


class Final(NamedTuple):
    """The attempts of one group in one slice, added up."""

    group: str
    slice: int
    delivered: int
    failed: int
    deferred: int
    digest: int


class Plan(NamedTuple):
    """How a post is cut: `cells` in `slices` equal parts. Where that is not known, or not kept, all of it is one slice."""

    cells: int = 1
    slices: int = 1

    def slice_of(self, number: int) -> int:
        """The slice of a share."""
        return min(number, self.slices - 1)

    def slices_of(self, keys: Iterable[str]) -> list[int]:
        """The slices that recipients are in. The first one also has the sub-groups that are handed a post of their own."""
        return sorted({0, *(slot(each) * self.slices // SLOTS for each in keys)})

    def ranges(self, number: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The numbers of shares, and the cells, of a slice (both ends included); the last one has all that follow."""
        last = number >= self.slices - 1
        share = -(-number * self.cells // self.slices), -(-(number + 1) * self.cells // self.slices) - 1
        return (number, LAST if last else number), (share[0], LAST if last else share[1])


class Span(NamedTuple):
    """A slice of a post, to be read."""

    post_id: str
    plan: Plan
    number: int


class Book(NamedTuple):
    """What is known of a post without looking inside its sheets. `stopped`: whoever of it is neither delivered nor failed is left out."""

    plan: Plan
    heads: list[Head]
    finals: list[Final]
    targets: list[str]
    stopped: bool = False


# --- reading ---------------------------------------------------------------------------------------------------------
def book_steps(ids: Sequence[str]) -> list[Step]:
    """The statements that `books_of` understands."""
    rows = [(post_id,) for post_id in ids]
    return [bulk.step(rows) for bulk in (_PLAN, _TARGETS, _HEADS, _FINAL)]


def plan_steps(ids: Sequence[str]) -> list[Step]:
    """Statements that `books_of` understands too: what it takes to find the slices, without what became of them."""
    nothing = _TARGETS.step([]), _FINAL.step([])
    rows = [(post_id,) for post_id in ids]
    return [_PLAN.step(rows), nothing[0], _HEADS.step(rows), nothing[1]]


def books_of(ids: Sequence[str], told: Sequence[Rows]) -> dict[str, Book]:
    """What is known of each post."""
    plans = {post_id: Plan(cells, slices) for post_id, cells, slices, _ in told[0]}
    stopped = {post_id for post_id, *_, stop in told[0] if stop is not None}
    books = {post_id: Book(plans.get(post_id, Plan()), [], [], [], post_id in stopped) for post_id in ids}
    for post_id, group in told[1]:
        books[post_id].targets.append(group)
    for post_id, *head in told[2]:
        books[post_id].heads.append(Head(*head))
    for post_id, group, number, delivered, failed, deferred, upper, lower in told[3]:
        digest = summed((int(upper) << 32, int(lower)))
        final = Final(group, int(number), int(delivered), int(failed), int(deferred), digest)
        books[post_id].finals.append(final)
    return {post_id: _checked(book) for post_id, book in books.items()}


def _checked(book: Book) -> Book:
    """The book, as one slice where a share was cut otherwise than the post is planned."""
    if all(head.parts == book.plan.slices or not head.queued for head in book.heads):
        return book
    return book._replace(plan=Plan(), finals=[final._replace(slice=0) for final in book.finals])


async def folds(run: Run, spans: Sequence[Span]) -> AsyncIterator[tuple[Span, Folded]]:
    """The slices, folded; each read when the one before it is done with."""
    async for span, sheets in sheets_of(run, spans):
        yield span, fold(sheets)


async def sheets_of(
    run: Run, spans: Sequence[Span], *, weights: Sequence[int] = ()
) -> AsyncIterator[tuple[Span, list[Sheet]]]:
    """What was told of each slice; read in portions of about `TOGETHER` recipients, as `weights` tells of each."""
    portion: list[Span] = []
    weight = 0
    for number, span in enumerate(spans):
        portion.append(span)
        weight += weights[number] if weights else TOGETHER
        if weight >= TOGETHER or number == len(spans) - 1:
            for each in await _read(run, portion):
                yield each
            portion, weight = [], 0


async def _read(run: Run, spans: Sequence[Span]) -> list[tuple[Span, list[Sheet]]]:
    ranges = [span.plan.ranges(span.number) for span in spans]
    shares = [(n, span.post_id, *ranges[n][0]) for n, span in enumerate(spans)]
    cells = [(n, span.post_id, *ranges[n][1]) for n, span in enumerate(spans)]
    sheets: list[list[Sheet]] = [[] for _ in spans]
    for rows in await run([_SHARES.step(shares), _ATTEMPTS.step(cells)]):
        for number, *sheet in rows:
            sheets[number].append(Sheet(*sheet))
    return list(zip(spans, sheets, strict=True))


# --- summing ---------------------------------------------------------------------------------------------------------
async def totals_of(run: Run, books: Mapping[str, Book]) -> dict[str, dict[str, Totals]]:
    """For each post, the sums of each of its groups."""
    sums: dict[str, dict[str, Sums]] = {post_id: {} for post_id in books}
    spans, weights = [], []
    for post_id, book in books.items():
        for number, heads, finals in slices_of(book):
            known = _known(heads, finals)
            if known is None:
                spans.append(Span(post_id, book.plan, number))
                weights.append(1 + _weight(heads, finals))
            else:
                _add(sums[post_id], known)
    async for span, sheets in sheets_of(run, spans, weights=weights):
        _add(sums[span.post_id], counted(sheets))
    for post_id, book in books.items():
        if book.stopped:
            sums[post_id] = {group: one.stopped() for group, one in sums[post_id].items()}
    return {post_id: _told(books[post_id], sums[post_id]) for post_id in books}


def slices_of(book: Book) -> Iterable[tuple[int, list[Head], list[Final]]]:
    """What is known of each slice of which something is known."""
    slices: dict[int, tuple[list[Head], list[Final]]] = {}
    for head in book.heads:
        slices.setdefault(book.plan.slice_of(head.number), ([], []))[0].append(head)
    for final in book.finals:
        slices.setdefault(final.slice, ([], []))[1].append(final)
    return ((number, heads, finals) for number, (heads, finals) in slices.items())


def _weight(heads: Iterable[Head], finals: Iterable[Final]) -> int:
    return sum(head.queued + head.suppressed for head in heads) + sum(
        final.delivered + final.failed + final.deferred for final in finals
    )


def _known(heads: Sequence[Head], finals: Sequence[Final]) -> dict[str, Sums] | None:
    """The sums of a slice by its counts and digests; None where its sheets must be folded.

    Two groups may both have had the same person, before and after an edit in mid-fan-out; and so may two tellings of one share.
    """
    if len({head.group for head in heads}) < len(heads) or len({head.number for head in heads}) > 1 or len(finals) > 1:
        return None
    queued = [head for head in heads if head.queued]
    if len({head.group for head in queued} | {final.group for final in finals}) > 1:
        return None
    sums = {head.group: Sums(queued=head.queued, suppressed=head.suppressed) for head in heads}
    if not finals:
        return sums
    (final,) = finals
    if not queued or not _settled(queued[0], final):
        return None
    sums[final.group] = Sums(delivered=final.delivered, failed=final.failed, suppressed=queued[0].suppressed)
    return sums


def _settled(head: Head, final: Final) -> bool:
    """Whether everybody who is queued has one final state, and nobody was ever put off: who was may be somebody that no share tells of, or have been
    overtaken by a failure, so then the slice is folded."""
    return final.delivered + final.failed == head.queued and final.digest == head.digest and not final.deferred


def _add(sums: dict[str, Sums], more: Mapping[str, Sums]) -> None:
    for group, one in more.items():
        sums[group] = sums.get(group, Sums()).plus(one)


def _told(book: Book, sums: Mapping[str, Sums]) -> dict[str, Totals]:
    """The sums with what was announced, and whether all shares are filed."""
    announced: dict[str, dict[int, int]] = {}
    parts: dict[str, int] = {}
    for head in book.heads:
        numbers = announced.setdefault(head.group, {})
        numbers[head.number] = max(head.announced, numbers.get(head.number, 0))
        parts[head.group] = max(head.parts, parts.get(head.group, 0))
    groups = dict.fromkeys((*book.targets, *announced, *sums))
    return {
        group: sums.get(group, Sums()).totals(
            announced=sum(announced.get(group, {}).values()),
            complete=len(announced.get(group, ())) >= parts.get(group, 1),
        )
        for group in groups
    }


def together(groups: Mapping[str, Totals]) -> Totals:
    """The sums of a post: complete when each of its groups is."""
    each = groups.values()
    return Totals(
        expanded=sum(one.expanded for one in each),
        delivered=sum(one.delivered for one in each),
        deferred=sum(one.deferred for one in each),
        failed=sum(one.failed for one in each),
        suppressed=sum(one.suppressed for one in each),
        announced=sum(one.announced for one in each),
        complete=bool(groups) and all(one.complete for one in each),
    )


EMPTY = together({})
