"""The judge (after Jepsen's total-queue): what the client was told, what arrived at the next hop, what the ledger says; and what must be.

The people that a post must reach come from the test's own set algebra, not from the product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e import client
from tests.e2e.client import Ledger
from tests.e2e.sinks import NextHop
from tests.e2e.system import System, is_settled, sums
from tests.support.waiting import wait_until

Pair = tuple[str, str]
"""Message-ID and recipient."""


def resolve(group: str, graph: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """The people of a group: everything that can be reached from it and is no group."""
    seen: set[str] = set()
    waiting = [group]
    while waiting:
        address = waiting.pop()
        if address not in seen:
            seen.add(address)
            waiting.extend(graph.get(address, ()))
    return frozenset(address for address in seen if address not in graph)


@dataclass(frozen=True)
class Verdict:
    """What is wrong. `dup` counts the copies beyond the first."""

    lost: frozenset[Pair]
    dup: Counter[Pair]
    unexpected: frozenset[Pair]
    corrupt: frozenset[Pair]


class Oracle:
    """Judges one client's mail to the groups of `graph`, all of which ends at `hop`."""

    def __init__(self, ledger: Ledger, hop: NextHop, graph: Mapping[str, tuple[str, ...]]) -> None:
        self._ledger = ledger
        self._hop = hop
        self._people = {group: resolve(group, graph) for group in graph}

    def expected(self) -> frozenset[Pair]:
        """All that must arrive: every accepted message at every person of its groups."""
        return self._pairs(self._ledger.accepted)

    def arrived(self) -> Counter[Pair]:
        """All that did."""
        return Counter((client.message_id(copy.content), copy.recipient) for copy in self._hop.copies)

    def wait(self, timeout: float = 90.0) -> None:
        """Wait until all that was accepted has arrived."""

        def complete() -> bool:
            return not self.expected() - self.arrived().keys()

        try:
            wait_until(complete, "every accepted message to arrive", timeout, pause=0.3)
        except AssertionError as late:
            missing = self.expected() - self.arrived().keys()
            raise AssertionError(f"{late}; {len(missing)} are missing: {sorted(missing)[:10]}") from None

    def judge(self) -> Verdict:
        """Compare the two ends as they are now."""
        arrived = self.arrived()
        bodies = {identity: message.body for identity, message in self._ledger.tried.items()}
        return Verdict(
            lost=self.expected() - arrived.keys(),
            dup=Counter({pair: count - 1 for pair, count in arrived.items() if count > 1}),
            # what the client gave up may have been accepted all the same; to others than its groups' people nothing may go
            unexpected=frozenset(arrived.keys() - self._pairs(self._ledger.tried)),
            corrupt=frozenset(
                (identity, copy.recipient)
                for copy in self._hop.copies
                if client.received_body(copy.content) != bodies.get(identity := client.message_id(copy.content))
            ),
        )

    def in_flight(self, system: System) -> frozenset[Pair]:
        """What has arrived though the ledger does not know it: with every sender dead, what was in flight when they died."""
        return frozenset(self.arrived().keys() - self.recorded(system))

    def recorded(self, system: System) -> frozenset[Pair]:
        """What the ledger calls delivered."""
        return frozenset(
            (document["post"]["message_id"].strip("<>"), row["address"])
            for group in self._people
            for document in system.traces(group)
            for row in document["addresses"]
            if row["state"] == "delivered"
        )

    def check_sums(self, system: System, timeout: float = 60.0) -> list[dict[str, Any]]:
        """P4 for every post: wait until the ledger says that all is settled, then add up. The traces."""
        documents: list[dict[str, Any]] = []

        def settled() -> bool:
            documents[:] = [document for group in self._people for document in system.traces(group)]
            known = {document["post"]["message_id"].strip("<>") for document in documents}
            return all(map(is_settled, documents)) and known >= self._ledger.accepted.keys()

        wait_until(settled, "the ledger to have settled every post", timeout, pause=0.5)
        for document in documents:
            totals = document["totals"]
            assert totals["announced"] == sums(document)[0] == len(document["addresses"]), totals
        return documents

    def _pairs(self, messages: Mapping[str, client.Message]) -> frozenset[Pair]:
        return frozenset(
            (identity, person)
            for identity, message in messages.items()
            for group in message.to
            for person in self._people[group]
        )
