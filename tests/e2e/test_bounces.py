"""A next hop that takes every copy and says a day later that one address is dead: three days of that, by real SMTP, through all services.

All services run in this process over the files of the test, so that the days pass when the test says so; the command line is a process of its own.
"""

from __future__ import annotations

import asyncio
import email
import email.policy
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from cli.up import build_of
from services.reporter.story import Reporter
from shared.directory import NewMember
from shared.parts import Parts, open_parts
from shared.settings import Settings
from tests.e2e.client import AUTHOR, Message, compose, send
from tests.e2e.system import run_horo
from tests.support.ports import free_port
from tests.support.sink import Copy, Sink

pytestmark = pytest.mark.e2e

DAY = 86400.0
OFFICE, BORIS, VERA, OWNER = "office@example.test", "boris@x.test", "vera@x.test", "ola@owner.test"
SAMPLE = Path(__file__).parent.parent / "messages" / "bounces" / "postfix.eml"
_clock = time.time


class System:
    """All of Horo in this process, at a time of the test's own."""

    def __init__(self, parts: Parts, sink: Sink, folder: Path) -> None:
        self.parts, self.sink, self.folder = parts, sink, folder
        self.smtp = int(parts.settings.smtp_listen.rpartition(":")[2])
        self.ahead = 0.0

    def now(self) -> float:
        return _clock() + self.ahead

    async def send(self, message: Message) -> str:
        reply = await asyncio.to_thread(send, self.smtp, message)
        assert reply.code == 250, reply
        return reply.text.rpartition(" ")[2]

    async def until(self, what: str, condition: object) -> None:
        assert callable(condition)
        async with asyncio.timeout(30):
            while not (found := condition()) or (asyncio.iscoroutine(found) and not await found):
                await asyncio.sleep(0.02)

    async def copies(self, post: str, *wanted: str) -> dict[str, Copy]:
        """The copies of a post by recipient, once all have come."""

        def come() -> bool:
            return {copy.recipient for copy in self._of(post)} >= set(wanted)

        await self.until(f"copies of {post}", come)
        return {copy.recipient: copy for copy in self._of(post)}

    def _of(self, subject: str) -> list[Copy]:
        return [copy for copy in self.sink.copies if f"Subject: {subject} ".encode() in copy.content]

    def letters(self, to: str, words: str) -> list[email.message.EmailMessage]:
        """The letters to somebody whose subject has these words."""
        mails = [
            email.message_from_bytes(one.content, policy=email.policy.default)
            for one in self.sink.copies
            if one.recipient == to
        ]
        return [mail for mail in mails if words in str(mail["Subject"])]

    async def bounces(self, copy: Copy) -> None:
        """The next hop says by mail, as Postfix does, that a copy could not be delivered after all."""
        content = SAMPLE.read_bytes().replace(b"boris@x.test", copy.recipient.encode())
        content = content.replace(b"<postfix@", f"<{time.time_ns()}@".encode())
        await self.send(Message("", (copy.mail_from,), "", content))

    async def state(self, member: str = BORIS) -> str:
        rows = await self.parts.registry.list_members(OFFICE)
        return next(row.bounce for row in rows if row.address == member)

    async def horo(self, *words: str) -> str:
        """What a command prints, run as a person would."""
        done = await asyncio.to_thread(run_horo, words, {"HORO_DATA": self.parts.settings.data}, self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def spent(self) -> int:
        """How many times anything was sent to the null sender."""
        return sum(command.upper().startswith("RCPT TO:<>") for command in self.sink.commands)


@pytest.fixture
async def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[System]:
    async with Sink() as sink:
        settings = Settings(
            data=str(tmp_path / "var"),
            hostname="mx.example.test",
            smtp_listen=f"127.0.0.1:{free_port()}",
            lmtp_listen=f"127.0.0.1:{free_port()}",
            next_hop=f"smtp://127.0.0.1:{sink.port}",
        )
        async with open_parts(settings, consuming=True) as parts:
            made = System(parts, sink, tmp_path)
            monkeypatch.setattr(time, "time", made.now)
            services = [build_of(role)(parts) for role in ("ingress", "expander", "sender")]
            services.append(
                Reporter(
                    settings,
                    bus=parts.bus,
                    ledger=parts.ledger,
                    bodies=parts.bodies,
                    directory=parts.directory,
                    registry=parts.registry,
                    secret=parts.secret,
                    hostname=parts.hostname,
                    clock=made.now,
                )
            )
            running = [asyncio.create_task(service.run()) for service in services]
            await services[0].listening()  # type: ignore[attr-defined]
            yield made
            for service in services:
                service.stop()
            await asyncio.wait_for(asyncio.gather(*running), 20)


async def group(system: System, *, verp: bool) -> None:
    members = [NewMember(address=one) for one in (BORIS, VERA)]
    await system.parts.registry.create_domain("example.test")
    await system.parts.registry.create_group(OFFICE, members=members, owners=[OWNER], verp=verp)


async def noted(system: System, post: str, count: int) -> None:
    """Wait until the bounces of a post stand in its trace."""

    async def told() -> bool:
        return len([note for note in await system.parts.ledger.notes(post) if note.kind == "bounce"]) == count

    await system.until("the note of the bounce", told)


async def test_three_days_of_bounces_suspend_a_member_and_one_command_brings_it_back(system: System) -> None:
    await group(system, verp=True)
    for day in range(3):
        assert await system.state() == "ok"
        post = await system.send(compose(OFFICE, subject=f"day{day}"))
        copies = await system.copies(f"day{day}", BORIS, VERA)
        assert copies[BORIS].mail_from != copies[VERA].mail_from
        await system.bounces(copies[BORIS])
        await system.bounces(copies[BORIS])  # told twice
        await noted(system, post, 1)
        system.ahead += DAY

    async def suspended() -> bool:
        return await system.state() == "suspended"

    await system.until("the suspension", suspended)
    assert await system.state(VERA) == "ok"
    await system.until("the letter", lambda: system.letters(OWNER, "gets no more mail"))
    (letter,) = system.letters(OWNER, "gets no more mail")
    text = letter.get_content()
    command = f"horo member restore {OFFICE} {BORIS}"
    assert command in text
    assert text.count("User unknown in virtual mailbox table") == 3
    assert "suspended" in await system.horo("member", "list", OFFICE, "--suspended")

    without = await system.send(compose(OFFICE, subject="without"))
    assert set(await system.copies("without", VERA)) == {VERA}
    assert "suspended" in await system.horo("trace", without)

    await system.horo(*command.split()[1:])
    assert await system.state() == "ok"
    await asyncio.sleep(1.1)  # P6: what another process changed holds within a second
    await system.send(compose(OFFICE, subject="again"))
    assert set(await system.copies("again", BORIS, VERA)) == {BORIS, VERA}
    assert len(system.letters(OWNER, "gets no more mail")) == 1
    assert [copy for copy in system.sink.copies if copy.recipient == AUTHOR] == []
    assert system.spent() == 0


async def test_behind_the_shared_address_a_probe_decides(system: System) -> None:
    await group(system, verp=False)
    for day in range(3):
        post = await system.send(compose(OFFICE, subject=f"day{day}"))
        copies = await system.copies(f"day{day}", BORIS, VERA)
        for who in (BORIS, VERA):  # somebody forges a bounce of Vera's copy, day by day
            await system.bounces(Copy(who, copies[who].mail_from, "", 0, 0.0))
        await noted(system, post, 2)
        system.ahead += DAY
    await system.until("the probes", lambda: all(system.letters(who, "reach you") for who in (BORIS, VERA)))
    assert [await system.state(who) for who in (BORIS, VERA)] == ["ok", "ok"]
    (probe,) = [copy for copy in system.sink.copies if copy.recipient == BORIS and b"reach you" in copy.content]
    await system.bounces(probe)

    async def suspended() -> bool:
        return await system.state() == "suspended"

    await system.until("the suspension", suspended)
    assert await system.state(VERA) == "ok"  # hers arrived
    assert system.spent() == 0
