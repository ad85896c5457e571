"""A reporter over in-memory ports, and short ways to write what happens to it."""

from __future__ import annotations

from typing import Any

from services.reporter.story import Reporter
from services.reporter.waiting import MARGIN
from shared.groups import Domain, Group
from shared.groups import Settings as GroupSettings
from shared.identity import new_id
from shared.ledger import PostRecord, TargetRecord
from shared.messages import (
    Attempted,
    DeliveryKind,
    Expanded,
    Fate,
    Queued,
    Reason,
    State,
    Suppressed,
    TargetKind,
    decode,
    encode,
)
from shared.settings import Settings
from tests.reporter.doubles import MemoryBodies, MemoryBus, MemoryDirectory, MemoryLedger

NOW = 1_795_435_200.0  # 2026-11-23 12:00 UTC
GROUP = "office@example.test"
AUTHOR = "Ana@author.example"
MEMBERS = ("boris@gmail.test", "vera@other.test")
OWNERS = ("head@example.test", "deputy@owner.test")


class World:
    """`reporter` and its ports, at a time that tests set. `handle` sends a message through the wire's own bytes first."""

    def __init__(self, *, domain_postmaster: str = "", **settings: Any) -> None:
        settings = {"hostname": "mx.example.test", "next_hop": "smtp://127.0.0.1:2", **settings}
        self.bus, self.ledger, self.bodies = MemoryBus(), MemoryLedger(), MemoryBodies()
        self.directory = MemoryDirectory(Domain(name="example.test", postmaster=domain_postmaster))
        self.settings = Settings(**settings)
        self.now = NOW + 2
        self.reporter = self.start()

    def start(self) -> Reporter:
        """A reporter, as another process or after a restart."""
        return Reporter(
            self.settings,
            bus=self.bus,
            ledger=self.ledger,  # type: ignore[arg-type]
            bodies=self.bodies,  # type: ignore[arg-type]
            directory=self.directory,  # type: ignore[arg-type]
            registry=self.directory,  # type: ignore[arg-type]
            secret="a secret of the tests only",
            clock=lambda: self.now,
        )

    def group(self, **settings: Any) -> None:
        """The group in the directory, with these settings."""
        self.directory.groups[GROUP] = Group(id=1, address=GROUP, settings=GroupSettings(**settings))

    async def handle(self, message: Any) -> None:
        """An outcome; what a sender tells of an attempt is in the ledger first."""
        if isinstance(message, Attempted) and message.post_id in self.ledger.posts:
            self.ledger.record(message.post_id, message.group, message.fates)
        await self.reporter.handle(decode(encode(message)), None)  # type: ignore[arg-type]

    async def look(self, seconds: float = 0.0) -> None:
        """Let so many seconds go by, and look at all that is due then."""
        self.now += seconds
        while await self.reporter.desk.look():
            pass

    async def pass_days(self, days: float) -> None:
        """Let time go by as it does: whenever something is due, it is looked at."""
        end = self.now + days * 86400
        while (following := await self.ledger.due_next()) <= end:
            await self.look(max(following - self.now, 0.0))
        self.now = end

    async def settle(self) -> None:
        """Let time go by until nothing is due any more."""
        await self.pass_days(6 + MARGIN / 86400)


def record(**changes: Any) -> PostRecord:
    values: dict[str, Any] = {
        "id": new_id(NOW),
        "accepted_at": NOW,
        "mail_from": AUTHOR,
        "author": "ana@author.example",
        "message_id": "<m1@author.example>",
        "subject": "Plan for Monday",
        "size": 2000,
        "ip": "192.0.2.1",
        "cells": 1,
        "slices": 1,
    }
    return PostRecord(**{**values, **changes})


def target(**changes: Any) -> TargetRecord:
    values: dict[str, Any] = {
        "group": GROUP,
        "recipient": "Office@example.test",
        "kind": TargetKind.GROUP,
        "owners": OWNERS,
    }
    return TargetRecord(**{**values, **changes})


def expanded(
    post: PostRecord, group: str = GROUP, *, members: tuple[str, ...] = MEMBERS, index: int = 0, of: int = 1
) -> Expanded:
    return Expanded(
        post_id=post.id,
        group=group,
        index=index,
        of=of,
        queued=tuple(Queued(addresses=(address,)) for address in members),
        suppressed=(Suppressed(addresses=("ana@author.example",), reason=Reason.AUTHOR),) if members else (),
        at=NOW + 1,
    )


def fate(address: str = MEMBERS[0], state: State = State.FAILED, **changes: Any) -> Fate:
    values: dict[str, Any] = {
        "address": address,
        "state": state,
        "code": {State.FAILED: 550, State.DEFERRED: 451, State.DELIVERED: 250}[state],
        "status": {State.FAILED: "5.1.1", State.DEFERRED: "4.2.1", State.DELIVERED: "2.0.0"}[state],
        "text": f"<{address}>: what the server said",
        "hop": "mx.gmail.test",
        "attempt": 0,
        "at": NOW + 2,
    }
    return Fate(**{**values, **changes})


def attempted(post: PostRecord, *fates: Fate, group: str = GROUP, kind: DeliveryKind = DeliveryKind.POST) -> Attempted:
    return Attempted(post_id=post.id, group=group, kind=kind, fates=fates)


def octets(content: Any) -> bytes:
    """A content as it leaves."""
    return bytes(content.head + content.tail)
