"""`horo parked`: messages that the pipeline could not process, kept for a person."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec
from cyclopts import App

from cli import access
from cli.dropping import account
from cli.output import CommandError, Exit, Json, Limit, agreed, print_json, print_table, say, when
from shared.bus import Outgoing
from shared.ledger import Ledger, ParkedRecord
from shared.messages import Undecodable, decode
from shared.topology import MAX_PAYLOAD, Queue

if TYPE_CHECKING:
    from shared.parts import Parts

NOBODY = "which ones? Name numbers of `horo parked list`"

app = App(name="parked", help="Messages that could not be processed: list, show, retry, drop.")


@app.command(name="list")
async def list_(*, after: int = 0, limit: Limit = 100, json: Json = False) -> None:
    """List parked messages.

    Parameters
    ----------
    after
        Begin after this number (the last of the page before).
    limit
        At most so many.
    """
    async with access.ledger() as ledger:
        records = await ledger.parked(after=after, limit=limit)
    if json:
        print_json([_document(record) for record in records])
        return
    rows = [(record.id, when(record.at), record.queue, record.tries, record.reason) for record in records]
    print_table("", ("number", "since", "queue", "tries", "reason"), rows, empty="nothing is parked")


@app.command
async def show(number: int, /, *, raw: bool = False, json: Json = False) -> None:
    """Show a parked message: why it is there, and what it says.

    Parameters
    ----------
    number
        Its number in the list.
    raw
        Write its bytes to standard output, nothing else.
    """
    async with access.ledger() as ledger:
        record = await _one(ledger, number)
    if raw:
        sys.stdout.buffer.write(record.payload)
        sys.stdout.buffer.flush()
        return
    document = _document(record)
    if json:
        print_json(document)
        return
    content = document.pop("message")
    print_table(f"parked {number}", ("", ""), list(document.items()))
    print_table("", ("field", "value"), list(content.items()) if isinstance(content, dict) else [("bytes", content)])


@app.command
async def retry(*numbers: int, all_: bool = False, json: Json = False) -> None:
    """Put parked messages back on their queue: mend what stopped them first.

    Parameters
    ----------
    numbers
        Their numbers in the list.
    all_
        All of them.
    """
    done: list[int] = []
    async with access.parts() as parts:
        try:
            async for record in _chosen(parts.ledger, numbers, all_):
                await _put_back(parts, record)
                done.append(record.id)
        finally:  # also what was put back before one that could not be
            print_json({"retried": done}) if json else say(f"put back {len(done)}", "green" if done else "yellow")


async def _put_back(parts: Parts, record: ParkedRecord) -> None:
    if record.queue not in list(Queue) or record.queue == Queue.PARKED:
        raise CommandError(f"parked {record.id} came from {record.queue!r}, which is no queue of ours; it stays")
    if len(record.payload) > MAX_PAYLOAD:
        raise CommandError(f"parked {record.id} has {len(record.payload):,} octets, too many for the bus; it stays")
    # confirmed first, forgotten then: a crash in between repeats it, and every worker takes a repetition for what it is
    await parts.bus.publish(Outgoing(queue=Queue(record.queue), payload=record.payload))
    await parts.ledger.unpark(record.id)


@app.command
async def drop(*numbers: int, yes: bool = False, json: Json = False) -> None:
    """Forget parked messages for good: whoever was to get something through them gets nothing, and `horo trace` says so.

    Parameters
    ----------
    numbers
        Their numbers in the list.
    yes
        Do not ask.
    """
    if not numbers:
        raise CommandError(NOBODY, Exit.USAGE)
    async with access.ledger() as ledger:
        records = [record async for record in _chosen(ledger, numbers, False)]
        if not yes and not json and not await agreed(f"Forget {len(records)} for good?"):
            raise CommandError("not dropped")
        for record in records:
            await account(ledger, record.payload)
            await ledger.unpark(record.id)
    print_json({"dropped": [record.id for record in records]}) if json else say(f"dropped {len(records)}", "green")


async def _chosen(ledger: Ledger, numbers: tuple[int, ...], all_: bool) -> AsyncIterator[ParkedRecord]:
    """Those of the numbers, each once and only if all are there; or all there are, a page in memory at a time (P10)."""
    if not numbers and not all_:
        raise CommandError(NOBODY, Exit.USAGE)
    if not all_:
        for record in [await _one(ledger, number) for number in dict.fromkeys(numbers)]:
            yield record
        return
    last = 0
    while page := await ledger.parked(after=last, limit=10):
        for record in page:
            yield record
        last = page[-1].id


async def _one(ledger: Ledger, number: int) -> ParkedRecord:
    record = await ledger.parked_one(number)
    if record is None:
        raise CommandError(f"nothing is parked under {number}; `horo parked list` lists all", Exit.NOT_FOUND)
    return record


def _document(record: ParkedRecord) -> dict[str, Any]:
    try:
        message: Any = msgspec.to_builtins(decode(record.payload), builtin_types=(bytes,))
        message.get("content", {}).pop("tail", None)
    except Undecodable:
        message = repr(record.payload[:200])
    return {
        "number": record.id,
        "since": record.at,
        "queue": record.queue,
        "tries": record.tries,
        "reason": record.reason,
        "message": message,
    }
