"""The fault-injecting sink (tests/support/sink.py) in a thread, so that a test which blocks has a next hop beside it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Literal

from tests.support.ports import free_port, release_port
from tests.support.sink import Copy, Sink
from tests.support.waiting import wait_until


class NextHop:
    """A next hop that counts. Its port stays its own over `stop` and `start`."""

    def __init__(self, *faults: str, protocol: Literal["smtp", "lmtp"] = "smtp", start: bool = True) -> None:
        self._faults = faults
        self._protocol = protocol
        self.port = free_port()
        self._sinks: list[Sink] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._end: asyncio.Event | None = None
        if start:
            self.start()

    @property
    def url(self) -> str:
        """As HORO_NEXT_HOP takes it."""
        return f"{self._protocol}://127.0.0.1:{self.port}"

    @property
    def copies(self) -> list[Copy]:
        """All that was taken, in all its lives."""
        return [copy for sink in self._sinks for copy in list(sink.copies)]

    @property
    def commands(self) -> list[str]:
        """All that was heard, in all its lives."""
        return [command for sink in self._sinks for command in list(sink.commands)]

    @property
    def transactions(self) -> int:
        """Messages that were taken, however many recipients each had."""
        return sum(sink.transactions for sink in self._sinks)

    @property
    def busy(self) -> int:
        """Messages that are being sent now, or wait for the answer to their final dot."""
        return sum(sink.commands.count("DATA") for sink in self._sinks) - self.transactions

    @property
    def counts(self) -> Counter[str]:
        """How many copies each recipient got."""
        return Counter(copy.recipient for copy in self.copies)

    def of(self, recipient: str) -> list[Copy]:
        """The copies of one recipient."""
        return [copy for copy in self.copies if copy.recipient == recipient]

    def start(self) -> None:
        """Listen."""
        listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(listening)), daemon=True)
        self._thread.start()
        assert listening.wait(20), f"no sink on port {self.port}"

    def stop(self) -> None:
        """Listen no more, and end every session."""
        if self._thread is None or self._loop is None or self._end is None:
            return
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(20)
        assert not self._thread.is_alive(), "the sink did not end"
        self._thread = None

    def close(self) -> None:
        """Stop, and give the port back."""
        self.stop()
        release_port(self.port)

    def wait_for(self, count: int, timeout: float = 60.0) -> None:
        """Wait until that many copies were taken."""
        try:
            wait_until(lambda: len(self.copies) >= count, f"{count} copies", timeout)
        except AssertionError as late:
            raise AssertionError(f"{late}; there are {len(self.copies)}") from None

    async def _serve(self, listening: threading.Event) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        async with Sink(*self._faults, protocol=self._protocol, port=self.port) as sink:
            self._sinks.append(sink)
            listening.set()
            await self._end.wait()
