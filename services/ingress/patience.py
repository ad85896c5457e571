"""The deadlines of one connection's waits, under one timer.

A deadline is hardly ever reached: a client answers in a thousandth of the time that it has. `asyncio.timeout` makes and cancels a timer for each wait
(8 us; a message has six); here the timer of the first wait stays, looks when it rings whether whoever waits then is too late, and is
set anew. What it does to the task that is too late is what `asyncio.timeout` does.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Patience:
    """One task's waits, one at a time: `with patience.until(when): await ...`. `close` it at the end."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0
        self._until: float | None = None
        self._task: asyncio.Task[Any] | None = None
        self._cancelling = 0
        self._over = False

    def until(self, when: float) -> Patience:
        """What is awaited in the block ends by TimeoutError at `when` (loop time)."""
        if self._until is not None:
            raise RuntimeError("one wait at a time")
        self._until = when
        return self

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None or self._until is None:
            raise RuntimeError("a wait is a task's, and has an end")
        self._task, self._cancelling, self._over = task, task.cancelling(), False
        if self._timer is None or self._until < self._rings:
            self._set(self._until)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task, self._task, self._until = self._task, None, None
        if self._over and task is not None and task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def close(self) -> None:
        """There are no more waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, when: float) -> None:
        self.close()
        self._rings = when
        self._timer = self._loop.call_at(when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._until is None or self._task is None:
            return
        if self._loop.time() < self._until:
            self._set(self._until)
        else:
            self._over = True
            self._task.cancel()
