"""Members whose addresses fail: who is suspended, who is asked, who is let alone, and what people hear. The real ledger and directory, on SQLite."""

from __future__ import annotations

import asyncio
import email
import email.policy
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.reporter.bounces.story import BRAKE_LEAST
from services.reporter.story import Reporter
from shared.address import bounce_address, split_role
from shared.directory import NewMember
from shared.directory.open import open_registry
from shared.identity import new_id
from shared.ledger import Claim
from shared.ledger.open import open_ledger
from shared.messages import (
    Attempted,
    Bounced,
    Comeback,
    Delivery,
    DeliveryKind,
    Expanded,
    Fate,
    Queued,
    State,
    decode,
    encode,
)
from shared.settings import Settings
from tests.reporter.doubles import MemoryBodies, MemoryBus
from tests.reporter.world import AUTHOR, octets, record, target

DAY = 86400.0
OFFICE, BOARD = "office@example.test", "board@example.test"
BORIS, VERA, OWNER = "Boris@x.test", "vera@x.test", "ola@owner.test"
SECRET = "a secret of the tests only"
DEAD = Comeback(address="boris@x.test", action="failed", status="5.1.1", text="550 5.1.1 no such user")


class Scene:
    """A reporter or two over one ledger and one directory, at a time that tests set."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.bus = MemoryBus()
        self.now = time.time()

    async def open(self) -> None:
        self.registry = await open_registry(self.settings)
        self.ledger = open_ledger(self.settings)
        self.reporter = self.start()
        await self.registry.create_domain("example.test")
        await self.registry.create_group(BOARD, members=[NewMember(address=VERA)], owners=[OWNER])
        boris = NewMember(address=BORIS, name="Boris")
        await self.registry.create_group(
            OFFICE, members=[boris, NewMember(address=BOARD)], owners=[OWNER, "boris@x.test"]
        )

    async def close(self) -> None:
        await self.ledger.close()
        await self.registry.close()

    def start(self) -> Reporter:
        return Reporter(
            self.settings,
            bus=self.bus,  # type: ignore[arg-type]
            ledger=self.ledger,
            bodies=MemoryBodies(),  # type: ignore[arg-type]
            directory=self.registry,
            registry=self.registry,
            secret=SECRET,
            hostname="mx.example.test",
            clock=lambda: self.now,
        )

    async def post(self, state: State = State.DELIVERED, address: str = BORIS, **changes: Any) -> str:
        """A post of now with a copy for somebody that ended so; its id."""
        made = record(id=new_id(self.now), accepted_at=self.now, cells=1, slices=1)
        via = (OFFICE, BOARD) if address == VERA else (OFFICE,)
        await self.ledger.open_post(made, [target(group=OFFICE, recipient=OFFICE, token=made.id[-12:], **changes)])
        queued = (Queued(addresses=(address,), via=via),)
        await self.ledger.file(
            Expanded(post_id=made.id, group=OFFICE, index=0, of=1, queued=queued, suppressed=(), at=self.now)
        )
        claim = Claim(post_id=made.id, cell=0, hop="smtp://127.0.0.1:2")
        await self.ledger.record(claim, OFFICE, [self.fate(state, address)])
        return made.id

    def fate(self, state: State = State.FAILED, address: str = BORIS, **changes: Any) -> Fate:
        failed = state is State.FAILED
        values: dict[str, Any] = {
            "code": 550 if failed else 250,
            "status": "5.1.1" if failed else "2.0.0",
            "hop": "mx.x.test",
        }
        values |= {"text": "no such user" if failed else "ok", "attempt": 0, "at": self.now, "state": state}
        return Fate(address=address, **{**values, **changes})

    async def handle(self, *messages: Any, reporter: Reporter | None = None) -> None:
        for message in messages:
            await (reporter or self.reporter).handle(decode(encode(message)), None)  # type: ignore[arg-type]

    async def refused(self, address: str = BORIS, *, kind: str = "list", **changes: Any) -> Attempted:
        """A post whose copy was refused just now, told to the reporter."""
        post_id = await self.post(State.FAILED, address, envelope=kind)
        fate = self.fate(address=address, **changes)
        message = Attempted(post_id=post_id, group=OFFICE, kind=DeliveryKind.POST, fates=(fate,))
        await self.handle(message)
        return message

    async def returned(self, comeback: Comeback = DEAD, **changes: Any) -> Bounced:
        """A post whose copy was taken and came back just now, told to the reporter."""
        address = BORIS if comeback.address == "boris@x.test" else comeback.address
        post_id = changes.pop("post_id", "") or await self.post(address=address)
        values = {"id": new_id(self.now), "post_id": post_id, "group": OFFICE, "at": self.now, **changes}
        message = Bounced(recipients=(comeback,), **values)
        await self.handle(message)
        return message

    async def bounce_state(self, address: str = BORIS, group: str = OFFICE) -> str:
        (member,) = [one for one in await self.registry.list_members(group) if one.address == address]
        return member.bounce

    @property
    def letters(self) -> list[Delivery]:
        """The mails about addresses, each once: what the sender's record makes of those published."""
        return list({each.post_id: each for each in self.bus.reports}.values())

    def events(self) -> list[dict[str, object]]:
        return list({str(one["id"]): one for one in self.bus.emitted("member.suspended")}.values())


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(Settings(data=str(tmp_path), hostname="mx.example.test", next_hop="smtp://127.0.0.1:2"))
    await made.open()
    yield made
    await made.close()


def sure(**changes: Any) -> Comeback:
    values = {name: getattr(DEAD, name) for name in ("address", "action", "status", "text")}
    return Comeback(**{**values, "sure": True, **changes})


HOW = {"session": lambda scene: scene.refused(), "own address": lambda scene: scene.returned(sure())}


# --- who is suspended ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("how", HOW)
async def test_three_days_of_failures_suspend_a_member_and_the_owners_hear_of_it(scene: Scene, how: str) -> None:
    for _ in range(3):
        assert await scene.bounce_state() == "ok"
        assert scene.events() == []
        await HOW[how](scene)
        scene.now += DAY
    assert await scene.bounce_state() == "suspended"
    (event,) = scene.events()
    assert (event["group"], event["member"]) == (OFFICE, BORIS)
    assert str(event["reason"]).count("no such user") == 3
    (letter,) = scene.letters
    assert [each.address for each in letter.recipients] == [OWNER]  # not to the one whose address is dead
    text = octets(letter.content).decode()
    assert f"horo member restore {OFFICE} {BORIS}" in text
    assert text.count("no such user") == 3
    told = (await scene.ledger.suspensions(OFFICE, ["boris@x.test"]))["boris@x.test"]
    notes = [note for note in await scene.ledger.notes(told.post_id) if note.kind == "suspended"]
    assert [(note.group, note.detail["member"]) for note in notes] == [(OFFICE, BORIS)]


async def test_a_relay_that_knows_nobody_any_more_does_not_empty_a_group(scene: Scene) -> None:
    everybody = [f"m{number:02}@x.test" for number in range(14)]
    await scene.registry.add_members(OFFICE, [NewMember(address=address) for address in everybody])
    states = []
    for _ in range(5):
        for address in everybody:
            await scene.refused(address)
        states.append([await scene.bounce_state(address) for address in everybody].count("suspended"))
        scene.now += DAY + 1
    assert states == [0, 0, BRAKE_LEAST, len(everybody), len(everybody)]
    assert len(scene.events()) == len(scene.letters) == len(everybody)


async def test_a_day_counts_once_however_many_copies_fail(scene: Scene) -> None:
    scene.now -= scene.now % DAY
    for _ in range(20):
        await scene.refused()
        scene.now += 3600
    assert await scene.bounce_state() == "ok"


async def test_the_days_lie_within_thirty(scene: Scene) -> None:
    for days in (0, 16, 16, 16):
        scene.now += days * DAY
        await scene.refused()
    assert await scene.bounce_state() == "ok"
    scene.now += DAY
    await scene.refused()
    assert await scene.bounce_state() == "suspended"


async def test_how_many_days_is_a_setting(tmp_path: Path) -> None:
    made = Scene(Settings(data=str(tmp_path), next_hop="smtp://127.0.0.1:2", bounce_days=1))
    await made.open()
    await made.refused()
    assert await made.bounce_state() == "suspended"
    await made.close()


INNOCENT: dict[str, dict[str, Any]] = {
    "full": {"status": "5.2.2", "text": "mailbox full"},
    "policy": {"status": "5.7.1", "text": "no such user"},
    "dmarc": {"status": "5.0.0", "text": "user unknown (DMARC)"},
    "sender": {"status": "5.1.8", "text": "bad sender"},
    "expired": {"code": 554, "status": "5.4.7", "text": "Delivery time expired"},
    "said of the transaction, not of the address": {"status": "5.1.0", "text": "no such user", "common": True},
    "deferred": {"state": State.DEFERRED, "code": 450, "status": "4.1.1", "text": "user unknown"},
}


@pytest.mark.parametrize("what", INNOCENT)
async def test_what_is_not_the_addresss_fault_suspends_nobody(scene: Scene, what: str) -> None:
    for _ in range(5):
        await scene.refused(**INNOCENT[what])
        scene.now += DAY
    assert await scene.bounce_state() == "ok"
    assert scene.events() == []


async def test_a_delay_never_counts_and_stands_in_the_trace(scene: Scene) -> None:
    for _ in range(4):
        message = await scene.returned(sure(action="delayed", status="4.4.1", text="timed out"))
        scene.now += DAY
    assert await scene.bounce_state() == "ok"
    (note,) = await scene.ledger.notes(message.post_id)
    assert (note.kind, note.detail["action"], note.detail["recipient"]) == ("bounce", "delayed", "boris@x.test")


async def test_f43_an_automatic_answer_stands_in_the_trace(scene: Scene) -> None:
    message = await scene.returned(Comeback(address="", action="auto_reply", text="boris@x.test: I am away"))
    await scene.handle(message)
    (note,) = await scene.ledger.notes(message.post_id)
    assert (note.kind, note.detail["reply"]) == ("auto_reply", "boris@x.test: I am away")


async def test_an_envelope_that_is_the_authors_is_not_scored(scene: Scene) -> None:
    for _ in range(4):
        await scene.refused(kind="alias")
        scene.now += DAY
    assert await scene.bounce_state() == "ok"


async def test_a_member_of_a_sub_group_is_suspended_there(scene: Scene) -> None:
    for _ in range(3):
        await scene.refused(VERA)
        scene.now += DAY
    assert await scene.bounce_state(VERA, BOARD) == "suspended"
    assert [event["group"] for event in scene.events()] == [BOARD]


async def test_who_is_no_member_is_not_scored(scene: Scene) -> None:
    for _ in range(4):
        await scene.refused("author@thread.test")
        await scene.returned(sure(address=OWNER))
        scene.now += DAY
    assert scene.events() == []
    assert await scene.ledger.suspensions(OFFICE, ["author@thread.test", OWNER]) == {}


# --- what a success undoes ----------------------------------------------------------------------------------------------
async def test_a_copy_that_arrived_clears_what_was_before_it(scene: Scene) -> None:
    for _ in range(2):
        await scene.refused()
        scene.now += DAY
    await scene.post()  # arrives, and does not come back
    scene.now += 2 * DAY
    await scene.refused()
    assert await scene.bounce_state() == "ok"
    for _ in range(2):
        scene.now += DAY
        assert await scene.bounce_state() == "ok"
        await scene.refused()
    assert await scene.bounce_state() == "suspended"  # three since


async def failing_with_a_copy_of_twelve_hours(scene: Scene, how: str) -> str:
    for _ in range(2):
        await HOW[how](scene)
        scene.now += DAY
    scene.now += DAY / 2
    await scene.post()
    scene.now += DAY / 2 + 60
    await HOW[how](scene)
    return await scene.bounce_state()


async def test_behind_a_relay_a_copy_of_less_than_a_day_clears_nothing(scene: Scene) -> None:
    """It takes everything, and says tomorrow what became of it."""
    assert await failing_with_a_copy_of_twelve_hours(scene, "own address") == "suspended"


async def test_where_the_server_itself_refuses_a_copy_that_it_took_clears_at_once(scene: Scene) -> None:
    assert await failing_with_a_copy_of_twelve_hours(scene, "session") == "ok"


async def test_a_copy_that_came_back_is_no_success(scene: Scene) -> None:
    """Behind a relay every copy is taken first."""
    for _ in range(3):
        await scene.returned(sure())
        scene.now += 2 * DAY
    assert await scene.bounce_state() == "suspended"


# --- hearsay ------------------------------------------------------------------------------------------------------------
async def hearsay(scene: Scene, days: int) -> None:
    for _ in range(days):
        await scene.returned()
        scene.now += DAY


async def test_hearsay_asks_and_suspends_nobody(scene: Scene) -> None:
    await hearsay(scene, 3)
    assert (await scene.bounce_state(), scene.events()) == ("ok", [])
    (probe,) = scene.letters
    assert [each.address for each in probe.recipients] == [BORIS]
    role, group, token = split_role(probe.mail_from)
    assert (role, group, probe.kind) == ("bounces", OFFICE, DeliveryKind.REPORT)
    assert probe.mail_from == bounce_address(OFFICE, token)
    await hearsay(scene, 3)
    assert len(scene.letters) == 1  # one in seven days
    assert await scene.bounce_state() == "ok"


async def test_hearsay_and_certainty_together_ask(scene: Scene) -> None:
    for _ in range(2):
        await scene.refused()
        scene.now += DAY
    assert scene.letters == []
    await scene.returned()
    assert len(scene.letters) == 1
    assert await scene.bounce_state() == "ok"


async def probed(scene: Scene) -> Delivery:
    await hearsay(scene, 3)
    (probe,) = scene.letters
    return probe


async def test_a_probe_that_comes_back_suspends(scene: Scene) -> None:
    probe = await probed(scene)
    token = split_role(probe.mail_from)[2]
    message = Bounced(id="01b", post_id="", group=OFFICE, recipients=(sure(),), at=scene.now, probe=token)
    await scene.handle(message, message)
    assert await scene.bounce_state() == "suspended"
    (event,) = scene.events()
    assert "a probe" in str(event["reason"])
    assert [each.recipients[0].address for each in scene.letters] == [BORIS, OWNER]


async def test_a_probe_that_is_refused_suspends(scene: Scene) -> None:
    probe = await probed(scene)
    fates = (scene.fate(),)
    await scene.handle(Attempted(post_id=probe.post_id, group=OFFICE, kind=DeliveryKind.REPORT, fates=fates))
    assert await scene.bounce_state() == "suspended"
    assert len(scene.events()) == 1


@pytest.mark.parametrize("comeback", [sure(status="5.2.2", text="full"), sure(action="delayed", status="4.4.1")])
async def test_a_probe_that_fails_for_another_reason_suspends_nobody(scene: Scene, comeback: Comeback) -> None:
    token = split_role((await probed(scene)).mail_from)[2]
    await scene.handle(Bounced(id="01b", post_id="", group=OFFICE, recipients=(comeback,), at=scene.now, probe=token))
    assert await scene.bounce_state() == "ok"


async def test_a_probe_whose_sender_is_refused_suspends_nobody(scene: Scene) -> None:
    probe = await probed(scene)
    fates = (scene.fate(common=True),)
    await scene.handle(Attempted(post_id=probe.post_id, group=OFFICE, kind=DeliveryKind.REPORT, fates=fates))
    assert await scene.bounce_state() == "ok"


async def test_another_report_that_fails_is_no_probe(scene: Scene) -> None:
    await probed(scene)
    fates = (scene.fate(),)
    await scene.handle(Attempted(post_id="01another", group=OFFICE, kind=DeliveryKind.REPORT, fates=fates))
    assert await scene.bounce_state() == "ok"


async def test_a_probe_that_arrived_clears_the_score(scene: Scene) -> None:
    await probed(scene)
    scene.now += 8 * DAY
    await hearsay(scene, 2)
    assert len(scene.letters) == 1
    await hearsay(scene, 1)
    assert len(scene.letters) == 2  # three days since: asked again
    assert await scene.bounce_state() == "ok"


# --- again and again ----------------------------------------------------------------------------------------------------
async def test_p3_outcomes_told_again_suspend_and_tell_once(scene: Scene) -> None:
    messages = []
    for _ in range(3):
        messages.append(await scene.refused())
        scene.now += DAY
    await scene.handle(*messages, *messages[::-1])
    await scene.handle(*messages, reporter=scene.start())
    assert len(scene.letters) == len(scene.events()) == 1
    assert len(scene.bus.reports) == 1


async def test_p3_two_reporters_at_once_suspend_and_tell_once(scene: Scene) -> None:
    for _ in range(2):
        await scene.refused()
        scene.now += DAY
    fates = (scene.fate(),)
    posts = [await scene.post(State.FAILED) for _ in range(6)]
    outcomes = [Attempted(post_id=each, group=OFFICE, kind=DeliveryKind.POST, fates=fates) for each in posts]
    await asyncio.gather(*(scene.handle(message, reporter=scene.start()) for message in outcomes))
    assert await scene.bounce_state() == "suspended"
    assert len(scene.letters) == len(scene.events()) == 1


@pytest.mark.parametrize("broken", ["emit_all", "publish_all"])
async def test_p3_a_reporter_that_dies_half_way_is_made_good(
    scene: Scene, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):
        await scene.refused()
        scene.now += DAY
    with monkeypatch.context() as patch:

        async def dies(*_args: Any, **_more: Any) -> None:
            raise ConnectionError("the broker is gone")

        post_id = await scene.post(State.FAILED)
        message = Attempted(post_id=post_id, group=OFFICE, kind=DeliveryKind.POST, fates=(scene.fate(),))
        if broken == "emit_all":  # dies at the second event: the first is that of the failure itself
            real, calls = scene.bus.emit_all, []

            async def second(events: Any) -> None:
                calls.append(events)
                await (dies() if len(calls) == 2 else real(events))

            patch.setattr(scene.bus, "emit_all", second)
        else:
            patch.setattr(scene.bus, "publish_all", dies)
        with pytest.raises(ConnectionError):
            await scene.handle(message)
    assert await scene.bounce_state() == "suspended"
    await scene.handle(message, reporter=scene.start())
    assert len(scene.letters) == len(scene.events()) == 1


async def test_a_member_who_was_brought_back_starts_anew(scene: Scene) -> None:
    for _ in range(3):
        await scene.refused()
        scene.now += DAY
    await scene.registry.set_member(OFFICE, BORIS, bounce="ok")
    await scene.ledger.bring_back(OFFICE, "boris@x.test")
    for _ in range(2):
        await scene.refused()
        assert await scene.bounce_state() == "ok"
        scene.now += DAY
    await scene.refused()
    assert await scene.bounce_state() == "suspended"
    assert len(scene.letters) == len(scene.events()) == 2


async def test_a_member_who_was_removed_and_added_starts_anew(scene: Scene) -> None:
    for _ in range(3):
        await scene.refused()
        scene.now += DAY
    await scene.registry.remove_members(OFFICE, [BORIS])
    await scene.refused()
    await scene.registry.add_members(OFFICE, [NewMember(address=BORIS)])
    for _ in range(2):
        scene.now += DAY
        await scene.refused()
        assert await scene.bounce_state() == "ok"
    scene.now += DAY
    await scene.refused()
    assert await scene.bounce_state() == "suspended"


# --- what people read ---------------------------------------------------------------------------------------------------
async def test_owners_who_want_nothing_hear_nothing(scene: Scene) -> None:
    await scene.registry.set_group(OFFICE, notify_owners="none")
    for _ in range(3):
        await scene.refused()
        scene.now += DAY
    assert await scene.bounce_state() == "suspended"
    assert (scene.letters, len(scene.events())) == ([], 1)


@pytest.mark.parametrize(("language", "words"), [("en", "gets no more mail"), ("bg", "вече не получава поща")])
async def test_letters_are_in_the_groups_language(scene: Scene, language: str, words: str) -> None:
    await scene.registry.set_group(OFFICE, language=language)
    await hearsay(scene, 3)
    for _ in range(3):
        await scene.refused()
        scene.now += DAY
    probe, told = (
        email.message_from_bytes(octets(each.content), policy=email.policy.default) for each in scene.letters
    )
    assert words in str(told["Subject"])
    assert told["Content-Language"] == probe["Content-Language"] == language
    assert told["Auto-Submitted"] == probe["Auto-Submitted"] == "auto-generated"
    texts = [each.get_content() for each in (probe, told)]
    assert [("Вие" in text or "Изпращането" in text) for text in texts] == [language == "bg"] * 2
    assert AUTHOR not in texts[0]
    assert "ola@" not in texts[0]
    assert VERA not in texts[0]
