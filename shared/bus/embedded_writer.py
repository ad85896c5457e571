"""The one thread that touches the embedded bus's file: it runs what tasks submit, many at a time in one transaction (group commit).

Everything submitted while a commit is under way is in the next: a hundred publishers share one fsync. What only marks or forgets a message is
committed without an fsync of its own: a power failure may undo it, and the message comes again. Fails closed: after an I/O error nothing is
confirmed any more until the process is started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from shared import journal
from shared.bus import BusUnavailable, BusUnusable
from shared.bus import embedded_file as file

POLL = 0.1
"""Seconds between looks for what other processes wrote."""
BATCH = 1000
"""Operations of one transaction."""

T = TypeVar("T")
Run = Callable[[sqlite3.Connection], Any]


@dataclass(slots=True)
class Operation:
    """Something to run on the file.

    `durable`: fsynced before it counts as done. `reads`: needs no transaction. `owed`: not given up when it fails, but run again with
    every batch until it is done (the end of a message). `touches` names the queues, or "events", that `Writer.woken` is told of afterwards.
    """

    run: Run
    future: asyncio.Future[Any]
    durable: bool = False
    reads: bool = False
    owed: bool = False
    touches: tuple[str, ...] = ()
    result: Any = field(default=None)


class Writer:
    """The thread and its queue. `woken` is called in the loop with the name of a queue (or "events"), or "" when another process wrote."""

    def __init__(self, path: Path, woken: Callable[[str], None]) -> None:
        self._path = path
        self._woken = woken
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[Operation | None] = queue.SimpleQueue()
        self._owed: list[Operation] = []
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._broken = ""
        self._closing = False
        self._synchronous = "FULL"
        self._version = 0
        self._identity: tuple[int, int] | None = None
        self._thread = threading.Thread(target=self._main, name="horo-bus", daemon=True)

    async def open(self) -> None:
        """Start the thread and wait for the file. Raises `BusUnavailable`."""
        self._thread.start()
        await self._opened

    async def submit(self, run: Callable[[sqlite3.Connection], T], **how: Any) -> T:
        """Run something on the file and wait for its commit. Raises `BusUnavailable` (`BusUnusable` once it is broken). How: see `Operation`."""
        if self._broken:
            raise BusUnusable(self._broken)
        if self._closing:
            raise BusUnavailable("the bus is closed")
        operation = Operation(run, self._loop.create_future(), **how)
        self._inbox.put(operation)
        if not self._thread.is_alive():  # it ended between the two lines above: nobody else will refuse this
            self._refuse_rest()
        result: T = await operation.future
        return result

    async def close(self) -> None:
        """Run what was submitted, then close the file."""
        if not self._closing:
            self._closing = True
            self._inbox.put(None)
        if self._thread.ident is not None:
            await asyncio.shield(self._ended)

    # --- in the thread -----------------------------------------------------------------------------------------------
    def _main(self) -> None:
        try:
            connection = file.connect(self._path)
        except (file.Unusable, sqlite3.Error) as error:
            failed = BusUnusable(str(error)) if file.is_final(error) else BusUnavailable(f"{self._path}: {error}")
            self._tell(_settle, self._opened, None, failed)
            self._tell(_settle, self._ended, None, None)
            return
        self._identity = file.identity(self._path)
        self._tell(_settle, self._opened, None, None)
        try:
            self._work(connection)
        except Exception as error:  # a fault of ours: whoever waits is told, and everybody after
            self._broken = f"{self._path}: {type(error).__name__}: {error}"
            journal.crashed("embedded bus", error)
        finally:
            self._refuse_rest()
            with contextlib.suppress(sqlite3.Error):
                connection.close()
            self._tell(_settle, self._ended, None, None)

    def _work(self, connection: sqlite3.Connection) -> None:
        while True:
            batch, last = self._collect()
            if batch:
                self._run_surely(connection, batch)
            if last:
                return
            self._watch(connection)

    def _run_surely(self, connection: sqlite3.Connection, batch: list[Operation]) -> None:
        """Run a batch; what ends the thread is told to those who wait for the batch in hand, too."""
        try:
            self._run(connection, batch)
        except Exception as error:
            self._broken = f"{self._path}: {type(error).__name__}: {error}"
            self._tell(_fail_all, batch, BusUnusable(self._broken))
            raise

    def _collect(self) -> tuple[list[Operation], bool]:
        """The next batch, with what is owed from before, and whether it is the last."""
        batch, self._owed = self._owed, []
        with contextlib.suppress(queue.Empty):
            operation = self._inbox.get(timeout=POLL)
            while True:
                if operation is None:
                    return batch, True
                # A publisher that gave up was told that it failed: better not to write what nobody waits for.
                if operation.owed or not operation.future.cancelled():
                    batch.append(operation)
                if len(batch) >= BATCH:
                    break
                operation = self._inbox.get_nowait()
        return batch, False

    def _run(self, connection: sqlite3.Connection, batch: list[Operation]) -> None:
        if not self._broken and file.identity(self._path) != self._identity:
            self._broken = f"{self._path} was removed or replaced while in use: start again"
            journal.unavailable("embedded bus", self._broken)
            self._tell(self._woken, "")  # whoever waits for messages hears of it at the next take
        if self._broken:
            self._fail(batch, BusUnusable(self._broken))
            return
        try:
            self._commit(connection, batch)
        except sqlite3.Error as error:
            why = f"{self._path}: {error}"
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            if file.is_broken(error):
                self._broken = f"{why}; start again when the disk is well"
                journal.unavailable("embedded bus", self._broken)
                self._tell(self._woken, "")
            self._fail(batch, BusUnusable(self._broken) if self._broken else BusUnavailable(why))
        except Exception as error:
            self._isolate(connection, batch, error)
        else:
            self._tell(self._done, batch)

    def _isolate(self, connection: sqlite3.Connection, batch: list[Operation], error: Exception) -> None:
        """A value that cannot be stored is the fault of one operation: the others are run without it."""
        if connection.in_transaction:  # a batch that only reads has none
            connection.execute("ROLLBACK")
        if len(batch) > 1:
            for operation in batch:
                self._run(connection, [operation])
            return
        journal.crashed("embedded bus", error)
        self._tell(_fail_all, batch, BusUnavailable(f"{self._path}: {type(error).__name__}: {error}"))

    def _commit(self, connection: sqlite3.Connection, batch: list[Operation]) -> None:
        if all(operation.reads for operation in batch):
            for operation in batch:
                operation.result = operation.run(connection)
            return
        synchronous = "FULL" if any(operation.durable for operation in batch) else "NORMAL"
        if synchronous != self._synchronous:
            connection.execute(f"PRAGMA synchronous = {synchronous}")
            self._synchronous = synchronous
        connection.execute("BEGIN IMMEDIATE")
        for operation in batch:
            operation.result = operation.run(connection)
        connection.execute("COMMIT")

    def _fail(self, batch: list[Operation], error: BusUnavailable) -> None:
        """Tell whoever waits. An end is kept for the next batch: it is not undone, for the work was done."""
        if not self._broken:
            self._owed = [operation for operation in batch if operation.owed]
        self._tell(_fail_all, batch, error)

    def _watch(self, connection: sqlite3.Connection) -> None:
        """Say so when another process wrote to the file."""
        try:
            version = connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return  # the next write will say what is wrong
        if version != self._version:
            self._version = version
            self._tell(self._woken, "")

    def _refuse_rest(self) -> None:
        rest = []
        with contextlib.suppress(queue.Empty):
            while True:
                operation = self._inbox.get_nowait()
                if operation is not None:
                    rest.append(operation)
        why = BusUnusable(self._broken) if self._broken else BusUnavailable("the bus is closed")
        self._tell(_fail_all, rest, why)

    def _tell(self, what: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
            self._loop.call_soon_threadsafe(what, *arguments)

    # --- in the loop -------------------------------------------------------------------------------------------------
    def _done(self, batch: list[Operation]) -> None:
        for operation in batch:
            _settle(operation.future, operation.result, None)
        for touched in {touched for operation in batch for touched in operation.touches}:
            self._woken(touched)


def _fail_all(batch: list[Operation], error: BusUnavailable) -> None:
    for operation in batch:
        _settle(operation.future, None, None if operation.owed else error)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(type(error)(error.why) if isinstance(error, BusUnavailable) else error)
