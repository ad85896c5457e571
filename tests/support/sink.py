"""A fault-injecting SMTP/LMTP sink: takes mail, counts every copy, and misbehaves as it is told.

The recipient's local part says how, up to its first underscore: `550_ana@x` is refused, `450-2_ana@x` is taken at the third try, any
other local part is taken. The envelope sender's local part does the same for MAIL (`421-mail_x@y`). What concerns the whole server is in
`faults`. Own asyncio code, nothing of the product in it, so that it can judge the product.

| local part | at |
|---|---|
| `450-N`, `550`, `452`, `552`, `552-many` | RCPT: temporary N times, no such user, no storage, mailbox full, "too many" by an old server |
| `550-mail`, `450-mail` (sender) | MAIL |
| `550-data`, `450-data` | DATA |
| `552-dot`, `450-dot`, `421-dot` | after the final dot (LMTP: for this recipient alone) |
| `421-mail` (sender), `421-rcpt`, `421-data` | says 421 and closes |
| `drop-mail` (sender), `drop-rcpt`, `drop-data`, `drop-body`, `drop-dot-stored`, `drop-dot-lost` | closes without a word |
| `hang-mail` (sender), `hang-rcpt`, `hang-data`, `hang-dot`, `drip-rcpt` | never answers, or an octet now and then |
| `garbage`, `longline`, `manylines`, `dup`, `250-data`, `early`, `552-early` | breaks the protocol |
| `slow-MS` | answers the final dot after so many milliseconds |

Faults of the whole server: `no-pipelining`, `no-8bit`, `no-utf8`, `no-dsn`, `no-ehlo`, `no-size`, `tls-refuse`, `tls-fail`, `tls-inject`,
`drop-banner`, `hang-banner`, `421-banner`, `554-banner`, `limit-N` (452 4.5.3 from the N+1st recipient on), `limit552-N`, `size-N`,
`short-count` (LMTP: one reply too few),
`extra-reply`, `close-after-N` (421 after N messages), `accept-data` (354 though nobody was accepted).

As a process: `python -m tests.support.sink --port 2526 --log FILE` writes a JSON line for each copy, before it answers 250.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import hashlib
import json
import re
import signal
import ssl
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Literal

from tests.support.ports import free_port
from tests.support.sink_session import Hangup, Session


@dataclasses.dataclass
class Copy:
    """One copy for one recipient, as it was taken."""

    recipient: str
    mail_from: str
    sha256: str
    size: int
    at: float
    content: bytes = b""


class Sink:
    """The server. `copies` is what it took, `commands` what it heard, `connections` how many there were, `open` how many are."""

    def __init__(
        self,
        *faults: str,
        protocol: Literal["smtp", "lmtp"] = "smtp",
        port: int = 0,
        log: Path | None = None,
        tls: ssl.SSLContext | None = None,
        keep: bool = True,
    ) -> None:
        self.faults = set(faults)
        self.protocol = protocol
        self.port = port
        self.tls = tls
        self.keep = keep
        self.copies: list[Copy] = []
        self.commands: list[str] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self.transactions = 0
        self.tries: Counter[str] = Counter()
        self._log_path = log
        self._log: IO[str] | None = None
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Sink:
        self.port = self.port or free_port()
        if self._log_path is not None:
            self._log = self._log_path.open("a", encoding="utf-8")
        self._server = await asyncio.start_server(self._session, "127.0.0.1", self.port, limit=1 << 20, backlog=512)
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._log is not None:
            self._log.close()

    def hang_up(self) -> None:
        """End every session at once, without a word."""
        for task in list(self._tasks):
            task.cancel()

    @property
    def counts(self) -> Counter[str]:
        """How many copies each recipient got."""
        return Counter(copy.recipient for copy in self.copies)

    def fault(self, prefix: str) -> int | None:
        """The number of a fault such as `limit-3`, or None."""
        found = next((fault for fault in self.faults if re.fullmatch(rf"{prefix}-\d+", fault)), None)
        return None if found is None else int(found.rpartition("-")[2])

    def take(self, recipients: Iterable[str], mail_from: str, content: bytes) -> None:
        """Record a copy for each recipient; durable enough for a test once it returns."""
        digest, now = hashlib.sha256(content).hexdigest(), time.time()
        for recipient in recipients:
            copy = Copy(recipient, mail_from, digest, len(content), now, content if self.keep else b"")
            self.copies.append(copy)
            if self._log is not None:
                row = {**dataclasses.asdict(copy), "content": None}
                self._log.write(json.dumps(row) + "\n")
        if self._log is not None:
            self._log.flush()

    async def _session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            with contextlib.suppress(Hangup, ConnectionError, ssl.SSLError, asyncio.CancelledError):
                await Session(self, reader, writer).run()
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()


async def _main() -> None:
    parser = argparse.ArgumentParser(description="A counting, misbehaving SMTP sink on loopback")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--protocol", choices=("smtp", "lmtp"), default="smtp")
    parser.add_argument("--fault", action="append", default=[])
    arguments = parser.parse_args()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Sink(
        *arguments.fault, protocol=arguments.protocol, port=arguments.port, log=arguments.log, keep=False
    ) as sink:
        print(f"sink on 127.0.0.1:{sink.port}", flush=True)
        await stop.wait()
        print(json.dumps({"copies": len(sink.copies), "connections": sink.connections}), flush=True)


if __name__ == "__main__":
    asyncio.run(_main())
