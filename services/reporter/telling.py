"""How anybody is told: reports to authors, mail to those who look after a group; each with its note in the ledger, its event, its line of the log.

Everything here may be repeated: the mail, the note and the event of one report have ids made from what it is about. Must not: write to the null
sender, or more often than `HORO_REPORTS_PER_HOUR` to an address that is not ours. What is not sent is noted as held.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from services.reporter import decide, dsn, events
from services.reporter.decide import Action
from services.reporter.post_office import PostOffice
from services.reporter.quota import Quota
from services.reporter.returned import original_of
from shared import journal
from shared.address import domain_key, key, split_role
from shared.answering import people_behind
from shared.bodies import Bodies
from shared.bus import Bus
from shared.directory import Directory
from shared.groups import NotifyOwners
from shared.ledger import Ledger, PostRecord, TargetRecord
from shared.ledger.notes import Note
from shared.messages import Content, State
from shared.settings import Settings

EVENTS_AT_ONCE = 100
"""Events of one message in flight at a time: a signal to ten thousand members is ten thousand events."""


class Guardians(NamedTuple):
    """Who looks after a group: the name they are addressed by, their addresses, and the language they read."""

    role: str
    people: tuple[str, ...]
    language: str


class Teller:
    """Writes to authors, owners and other systems."""

    def __init__(
        self, settings: Settings, *, bus: Bus, ledger: Ledger, bodies: Bodies, directory: Directory, hostname: str = ""
    ) -> None:
        """`hostname` is the name in reports: HORO_HOSTNAME or the machine's own where it is empty."""
        self.hostname = hostname or settings.hostname or socket.gethostname()
        self._bus = bus
        self._ledger = ledger
        self._bodies = bodies
        self._directory = directory
        self._postmaster = settings.postmaster
        self._language = settings.language
        self._quota = Quota(settings.reports_per_hour)
        self._post_office = PostOffice(settings.route_table, bus)

    # --- authors -----------------------------------------------------------------------------------------------------
    async def author(
        self,
        record: PostRecord,
        target: TargetRecord,
        action: Action,
        blocks: tuple[dsn.Block, ...],
        *,
        report_id: str,
        at: float,
        content: Content | None = None,
        settled: bool = False,
        waiting: int = 0,
        unnamed: int = 0,
    ) -> None:
        """A DSN to the author, made at `at`. `content` is the message that failed, where it is at hand."""
        to = (record.mail_from,)
        if not await self._allowed(record.mail_from, report_id, at):
            journal.held(record.id, group=target.group, kind=action.value, to=record.mail_from)
            await self._note(record.id, target.group, report_id, f"{action.value}, held", to, at, held=True)
            return
        report = dsn.Dsn(
            id=report_id,
            hostname=self.hostname,
            to=record.mail_from,
            address=target.recipient,
            action=action,
            at=at,
            arrived_at=record.accepted_at,
            blocks=blocks,
            message_id=record.message_id,
            subject=record.subject,
            envid=record.envid,
            returned=await original_of(
                record, content, self._bodies, full=action is Action.FAILED and record.ret == "FULL"
            ),
            language=await self.language(target.group),
            settled=settled,
            waiting=waiting,
            unnamed=unnamed,
        )
        await self._post_office.send(report_id, target.group, to, dsn.build(report), at=at)
        await self._told(record.id, target.group, report_id, action.value, to, at)

    async def _allowed(self, address: str, report_id: str, at: float) -> bool:
        """Whether the limit of reports lets this one pass; addresses in domains of ours have none."""
        name = domain_key(address.rpartition("@")[2])
        ours = await self._directory.domain(name) is not None
        return ours or self._quota.allows(key(address), report_id, at)

    # --- owners ------------------------------------------------------------------------------------------------------
    async def people(
        self,
        people: Sequence[str],
        content: Content,
        *,
        report_id: str,
        post_id: str,
        group: str,
        kind: str,
        at: float,
    ) -> None:
        """Mail of ours to people who look after a group. `post_id` is empty where it is about no post, and then there is no note."""
        await self._post_office.send(report_id, group, people, content, at=at)
        await self._told(post_id, group, report_id, kind, tuple(people), at)

    async def guardians(self, group: str, owners: Iterable[str], *, post_id: str = "") -> Guardians:
        """Who looks after the group: its owners, else its domain's postmaster, else ours; of one that is a group of ours, the members.

        Whoever's own copy of the post has failed is not written to: that mail would fail the same way, and nobody would hear of it.
        """
        local, _, domain_name = group.rpartition("@")
        domain = await self._directory.domain(domain_name)
        wanted = await self._people(owners)
        others = [await self._people((each,)) for each in (domain.postmaster if domain else "", self._postmaster)]
        dead = await self._dead(post_id, [each for some in (wanted, *others) for each in some])
        if people := tuple(owner for owner in wanted if key(owner) not in dead):
            return Guardians(f"{local}-owner@{domain_name}", people, await self.language(group))
        alive = (tuple(each for each in some if key(each) not in dead) for some in others)
        return Guardians(f"postmaster@{domain_name}", next((some for some in alive if some), ()), self._language)

    async def _people(self, addresses: Iterable[str]) -> list[str]:
        """The people behind addresses, of which one may be a group."""
        people = await people_behind(self._directory, [each for each in addresses if decide.usable(each)])
        return [each for each in people if decide.usable(each)]

    async def _dead(self, post_id: str, addresses: Sequence[str]) -> set[str]:
        if not post_id or not addresses:
            return set()
        standings = await self._ledger.standings(post_id, sorted({key(address) for address in addresses}))
        return {who for who, standing in standings.items() if standing.state is State.FAILED}

    async def mode(self, group: str) -> NotifyOwners:
        """What the group's owners want to hear, by its settings of now; of failures, where it is no group (any more)."""
        known = await self._directory.group(group)
        return known.settings.notify_owners if known is not None else "failures"

    async def language(self, group: str) -> str:
        """The language of a group, or of the group that an address like office-owner@ belongs to; HORO_LANGUAGE where it has none."""
        role, holder, _ = split_role(group)
        known = await self._directory.group(holder) if role != "postmaster" else None
        return (known.settings.language if known is not None else "") or self._language

    # --- everybody ---------------------------------------------------------------------------------------------------
    async def emit(self, *happened: events.Event) -> None:
        """Emit events; done when all are durable."""
        for start in range(0, len(happened), EVENTS_AT_ONCE):
            page = happened[start : start + EVENTS_AT_ONCE]
            await self._bus.emit_all([(events.routing_key(event), events.encode(event)) for event in page])
            for event in page:
                journal.emitted(events.routing_key(event), post=str(getattr(event, "post", "")))

    async def _told(self, post_id: str, group: str, report_id: str, kind: str, to: tuple[str, ...], at: float) -> None:
        journal.reported(post_id, group=group, kind=kind, to=", ".join(to))
        if post_id:
            await self._note(post_id, group, report_id, kind, to, at)
        await self.emit(events.report_sent(report_id, post_id=post_id, group=group, kind=kind, to=to, at=at))

    async def _note(
        self, post_id: str, group: str, report_id: str, kind: str, to: tuple[str, ...], at: float, *, held: bool = False
    ) -> None:
        detail = {"kind": kind, "to": ", ".join(to), "report": report_id}
        unique = f"{report_id} held" if held else report_id
        await self._ledger.note(Note(post_id=post_id, kind="report", group=group, at=at, unique=unique, detail=detail))
