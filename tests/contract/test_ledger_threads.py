"""The ledger's port, held on SQLite and PostgreSQL alike: a reply finds who started its thread, over days, in that group alone."""

from __future__ import annotations

import asyncio
import time

import pytest

from shared.ledger.store import SqlLedger
from shared.ledger.store_open import ALIKE
from tests.contract.ledgers import DAY, GROUP, post, target

GUEST = "guest@elsewhere.test"
OTHER = "board@example.test"


async def opened(
    ledger: SqlLedger, name: str, *references: str, author: str = "boris@example.test", **more: object
) -> str:
    """Open a post `<name@x>` that answers others; the author of its thread, as the expander is told."""
    what = {"group": GROUP, "automatic": False, "ago": 0.0, **more}
    record = post(author=author, message_id=f"<{name}@x>", accepted_at=time.time() - float(str(what["ago"])))
    answered = tuple(f"<{each}@x>" for each in references)
    aim = target(str(what["group"]), references=answered, automatic=bool(what["automatic"]))
    return (await ledger.open_post(record, [aim])).thread_authors.get(str(what["group"]), "")


async def test_a_thread_leads_back_to_who_started_it(ledger: SqlLedger) -> None:
    root = post(author=GUEST, message_id="<root@x>")
    reply = post(author="boris@example.test", message_id="<reply@x>")
    third = post(author="vera@example.test", message_id="<third@x>")
    assert (await ledger.open_post(root, [target()])).thread_authors == {}
    answered = await ledger.open_post(
        reply, [target(references=("<root@x>",)), target("b@example.test", references=("<root@x>",))]
    )
    assert answered.thread_authors == {GROUP: GUEST}  # the other group never had that post
    answer = await ledger.open_post(third, [target(references=("<unknown@x>", " <reply@x> "))])
    assert answer.thread_authors == {GROUP: GUEST}
    again = await ledger.open_post(third, [target()])  # what was found at first holds for every slice
    assert again.thread_authors == {GROUP: GUEST}


async def test_a_thread_is_found_after_two_months_by_another_process(ledger: SqlLedger, other: SqlLedger) -> None:
    assert await opened(ledger, "root", author=GUEST, ago=60 * DAY) == ""
    assert await opened(other, "answer", "root", ago=30 * DAY) == GUEST
    assert await opened(ledger, "later", "answer") == GUEST


async def test_answers_that_went_past_the_group_do_not_break_the_chain(ledger: SqlLedger) -> None:
    await opened(ledger, "root", author=GUEST)
    assert await opened(ledger, "fourth", "root", "private-1", "private-2") == GUEST
    assert await opened(ledger, "fifth", "private-3", "fourth") == GUEST


async def test_references_to_what_the_group_never_had_find_nobody(ledger: SqlLedger) -> None:
    await opened(ledger, "root", author=GUEST, group=OTHER)
    assert await opened(ledger, "answer", "root") == ""
    assert await opened(ledger, "answer-2", "nowhere", "ROOT") == ""  # and a Message-ID is compared as it stands


async def test_a_message_id_reused_for_another_group_gives_nothing_there_and_takes_nothing_here(
    ledger: SqlLedger,
) -> None:
    await opened(ledger, "root", author=GUEST, ago=60)
    await opened(ledger, "root", author="thief@x", group=OTHER, ago=30)
    assert await opened(ledger, "answer", "root") == GUEST
    assert await opened(ledger, "answer-2", "root", group=OTHER) == "thief@x"


async def test_of_two_posts_with_one_message_id_the_first_started_the_thread(ledger: SqlLedger) -> None:
    """First, not newest: everybody who has seen the thread knows its Message-ID, and could take it over."""
    await opened(ledger, "root", author=GUEST, ago=60)
    await opened(ledger, "root", author="thief@x", ago=30)
    assert await opened(ledger, "answer", "root") == GUEST


async def test_p10_a_message_id_sent_a_thousand_times_still_leads_to_the_first(ledger: SqlLedger) -> None:
    await opened(ledger, "root", author=GUEST, ago=60)
    flood = [post(author="flood@x", message_id="<root@x>") for _ in range(2 * ALIKE)]
    await asyncio.gather(*(ledger.open_post(one, [target()]) for one in flood))
    assert await opened(ledger, "answer", "root") == GUEST
    assert await opened(ledger, "elsewhere", "root", group=OTHER) == ""


async def test_an_answer_that_was_opened_before_what_it_answers_leads_nobody_astray(ledger: SqlLedger) -> None:
    assert await opened(ledger, "early", "root", author="agent@example.test") == ""
    await opened(ledger, "root", author=GUEST)
    assert await opened(ledger, "next", "root", "early") == GUEST


@pytest.mark.parametrize("nobody", [{"automatic": True}, {"author": ""}], ids=["automatic", "no one author"])
async def test_a_thread_that_no_person_began_leads_to_nobody(ledger: SqlLedger, nobody: dict[str, object]) -> None:
    await opened(ledger, "root", **{"author": "alerts@machine.test", **nobody})  # type: ignore[arg-type]
    assert await opened(ledger, "answer", "root") == ""


async def test_every_answer_in_a_thread_that_a_machine_began_leads_to_nobody(ledger: SqlLedger) -> None:
    """Neither to the machine nor to the member who was the first to answer."""
    await opened(ledger, "alert", author="alerts@machine.test", automatic=True)
    assert await opened(ledger, "answer", "alert", author="agent@example.test") == ""
    assert await opened(ledger, "second", "answer") == ""
    assert await opened(ledger, "third", "alert", "answer", "second") == ""


async def test_a_machine_that_answers_takes_no_thread_over(ledger: SqlLedger) -> None:
    await opened(ledger, "root", author=GUEST)
    assert await opened(ledger, "away", "root", author="agent@example.test", automatic=True) == GUEST
    assert await opened(ledger, "thanks", "away") == GUEST


async def test_a_stranger_text_for_an_author_is_kept_as_text(ledger: SqlLedger) -> None:
    await opened(ledger, "root\0", author="a\0b@x")
    assert await opened(ledger, "answer", "root\0") == "a\ufffdb@x"
