"""`horo trace` over a ledger of the test's own: what it finds, how it pages, and what it says of retries, duplicates and refusals."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from cli import trace
from shared.database import migrate
from shared.database.engine import open_engine
from shared.identity import derive
from shared.ledger.notes import Note
from shared.ledger.store import SqlLedger
from shared.messages import Queued, Reason, Refused, State, Suppressed
from tests.cli.conftest import Horo
from tests.contract.ledgers import DAY, GROUP, at, fate, post, share, target

BOARD = "board@example.test"


@pytest.fixture
def filled(tmp_path: Path) -> Callable[[Callable[[SqlLedger], Awaitable[Any]]], Any]:
    """Do something with the ledger that the commands of this test read; returns what it returns."""

    def fill(work: Callable[[SqlLedger], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            engine = open_engine(f"sqlite:///{tmp_path / 'var' / 'horo.db'}")
            await migrate.upgrade(engine)
            ledger = SqlLedger(engine, owned=True)
            try:
                return await work(ledger)
            finally:
                await ledger.close()

        return asyncio.run(run())

    return fill


async def full(ledger: SqlLedger) -> str:
    """A post with an address in every state; its id."""
    now = time.time()
    record = post(accepted_at=now - 4000, message_id="<full@x.test>")
    await ledger.open_post(record, [target()])
    board = Queued(addresses=("ivan@x.test",), via=(GROUP, BOARD))
    left_out = [
        Suppressed(addresses=("ivan@x.test",), reason=Reason.DUPLICATE, via=(GROUP, "all@example.test")),
        Suppressed(addresses=("petar@x.test",), reason=Reason.PAUSED, via=(GROUP,)),
    ]
    await ledger.file(share(record.id, ["ana@x.test", "boris@x.test", "vera@x.test", board], left_out))
    late = [
        fate("boris@x.test", State.DEFERRED, n, text=f"later {n}", at=now - 3900 + n * 900, next_at=now + 600)
        for n in (0, 1)
    ]
    await ledger.record(at(record.id), GROUP, [fate("ana@x.test"), late[0]])
    await ledger.record(
        at(record.id), GROUP, [late[1], fate("ivan@x.test", State.FAILED, status="5.1.1", text="no such user")]
    )
    detail = {"kind": "failure", "to": "ana@x.test", "report": "r1"}
    await ledger.note(Note(post_id=record.id, kind="report", group=GROUP, at=now, unique="r", detail=detail))
    child = post(derive(record.id, BOARD), accepted_at=now, parent=record.id, message_id="<child@x.test>")
    await ledger.open_post(child, [target(BOARD)])
    await ledger.file(share(child.id, group=BOARD))
    return record.id


def said(text: str) -> str:
    return " ".join(text.split())


def test_p4_every_address_says_what_happened_and_why(horo: Horo, filled: Any) -> None:
    post_id = filled(full)
    done = horo("trace", "full@x.test")
    assert done.status == 0, done.err
    told = said(done.out)
    for words in (
        "expanded 6 = delivered 1 + deferred 2 + failed 1 + left out 2",
        f"handed on to {BOARD} as post {derive(post_id, BOARD)}",
        "mx.example.test: 250 2.0.0 queued as 4F2",
        "mx.example.test: 550 5.1.1 no such user",
        "later 1; tried 2 times; again at",
        "more times until",
        f"in {GROUP}; waits in the express lane",
        f"left out: has a copy already {time.strftime('%Y')}",
        f"in {GROUP} > all@example.test; the copy came in {GROUP} > {BOARD}",
        "left out: delivery is paused",
        f"report sent (failure, {GROUP}) to ana@x.test",
    ):
        assert words in told
    assert "every attempt" not in told
    tried = said(horo("trace", post_id, "--recipient", "BORIS@x.test").out)
    assert "every attempt at boris@x.test" in tried
    assert "later 0" in tried
    assert "ana@x.test delivered" not in tried
    assert f"made from post {post_id}" in said(horo("trace", "child@x.test").out)


def test_p4_the_json_is_complete(horo: Horo, filled: Any) -> None:
    post_id = filled(full)
    document = horo("trace", post_id, "--attempts", "--json").json
    assert set(document) == {"posts", "next", "refusals"}
    (told,) = document["posts"]
    assert set(told) == {"post", "targets", "totals", "children", "notes", "addresses", "next"}
    assert told["children"] == [{"id": derive(post_id, BOARD), "group": BOARD}]
    assert [(note["kind"], note["detail"]["to"]) for note in told["notes"]] == [("report", "ana@x.test")]
    rows = {(row["address"], row["reason"]): row for row in told["addresses"]}
    late = rows["boris@x.test", None]
    assert [each["text"] for each in late["tries"]] == ["later 0", "later 1"]
    assert late["to_come"]["tries"] > 10
    assert told["post"]["accepted_at"] + 5 * DAY <= late["to_come"]["last"] < told["post"]["accepted_at"] + 5.2 * DAY
    assert rows["ivan@x.test", "duplicate"]["instead"] == [GROUP, BOARD]
    assert all(row["to_come"] is None for row in rows.values() if row is not late)


def test_the_retries_to_come_follow_the_settings(horo: Horo, filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    post_id = filled(full)
    monkeypatch.setenv("HORO_RETRY_MAX_AGE", "1h")
    assert "; again at" in (told := said(horo("trace", post_id, "--recipient", "boris@x.test").out))
    assert "for the last time" in told


@pytest.mark.parametrize(
    ("words", "addresses"),
    [
        (["failed"], ["ivan@x.test"]),
        (["queued", "delivered"], ["ana@x.test", "vera@x.test"]),
        (["suppressed"], ["ivan@x.test", "petar@x.test"]),
        (["paused"], ["petar@x.test"]),
    ],
)
def test_addresses_of_a_state(horo: Horo, filled: Any, words: list[str], addresses: list[str]) -> None:
    filled(full)
    options = [part for word in words for part in ("--state", word)]
    for asked in (["--group", GROUP], ["<full@x.test>"], []):
        (told,) = horo("trace", *asked, *options, "--json").json["posts"]
        assert [row["address"] for row in told["addresses"]] == addresses
    assert horo("trace", "--group", BOARD, *options).status == 3


async def several(ledger: SqlLedger) -> list[str]:
    now = time.time()
    made = []
    for number in range(7):
        record = post(accepted_at=now - (7 - number) * DAY, message_id=f"<m{number}@x>")
        await ledger.open_post(record, [target()])
        await ledger.file(share(record.id, [f"m{n}@x.test" for n in range(5)]))
        if number % 3 == 0:
            await ledger.record(at(record.id), GROUP, [fate("m1@x.test", State.FAILED)])
        made.append(record.id)
    return made


@pytest.mark.parametrize("state", [[], ["--state", "failed"]])
def test_posts_come_page_by_page(horo: Horo, filled: Any, state: list[str]) -> None:
    made = filled(several)
    wanted = [each for number, each in reversed(list(enumerate(made))) if not state or number % 3 == 0]
    found, after = [], ""
    for _ in range(10):
        page = horo(
            "trace", "--group", GROUP, "--limit", "2", *state, "--json", *(["--after", after] if after else [])
        ).json
        found += [told["post"]["id"] for told in page["posts"]]
        after = page["next"] or ""
        if not after:
            break
    assert found == wanted
    text = horo("trace", "--group", GROUP, "--limit", "1", *state).out
    assert "repeat the command with --after" in text


def test_a_search_that_finds_nothing_yet_says_where_to_go_on(
    horo: Horo, filled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = filled(several)
    monkeypatch.setattr(trace, "LOOKED_THROUGH", 2)
    words = ("--group", GROUP, "--limit", "1", "--state", "failed")
    asked = horo("trace", *words, "--after", made[6])
    assert asked.status == 0, asked.err
    assert "none of the last 2 posts has an address in that state" in asked.out
    assert "repeat the command with --after" in asked.out
    page = horo("trace", *words, "--after", made[6], "--json").json
    assert page["posts"] == []
    (found,) = horo("trace", *words, "--after", page["next"], "--json").json["posts"]
    assert found["post"]["id"] == made[3]


def test_addresses_come_page_by_page(horo: Horo, filled: Any) -> None:
    post_id = filled(several)[1]
    found, after = [], ""
    for _ in range(10):
        words = ["--after", after] if after else []
        (told,) = horo("trace", post_id, "--addresses", "2", "--json", *words).json["posts"]
        found += [row["address"] for row in told["addresses"]]
        after = told["next"] or ""
        if not after:
            break
    assert found == [f"m{n}@x.test" for n in range(5)]
    text = said(horo("trace", post_id, "--addresses", "2").out)
    assert f"there are more addresses: horo trace {post_id} --after" in text
    assert horo("trace", post_id, "--after", "nonsense").status == 2
    assert horo("trace", "--group", GROUP, "--after", "WzAsMCxbXV0").status == 2


def test_p4_every_bounce_of_a_large_post_is_told(horo: Horo, filled: Any) -> None:
    async def bounced(ledger: SqlLedger) -> str:
        record = post(accepted_at=time.time(), message_id="<many@x>")
        await ledger.open_post(record, [target()])
        for n in range(250):
            detail = {"member": f"m{n}@x.test"}
            await ledger.note(Note(post_id=record.id, kind="bounce", group=GROUP, at=n, unique=str(n), detail=detail))
        return record.id

    post_id = filled(bounced)
    (told,) = horo("trace", post_id, "--json").json["posts"]
    assert [note["detail"]["member"] for note in told["notes"]] == [f"m{n}@x.test" for n in range(250)]


def test_posts_of_a_time(horo: Horo, filled: Any) -> None:
    made = filled(several)

    def found(*words: str) -> list[int]:
        done = horo("trace", "--json", *words)
        return [] if done.status == 3 else [made.index(told["post"]["id"]) for told in done.json["posts"]]

    day = time.strftime("%Y-%m-%d", time.localtime(time.time() - 3 * DAY))
    assert found("--since", "60h") == [6, 5]
    assert found("--until", "6d ago") == [0] or found("--until", "6d ago") == [1, 0]
    assert found("--since", day, "--until", day) == [4]
    assert found("--since", "2999-01-01T00:00:00Z") == []
    for wrong in ("yesterday", "2026-13-01", "99999999d", "-3d"):
        assert horo("trace", f"--since={wrong}").status == 2


def test_a_group_alone_tells_what_it_refused(horo: Horo, filled: Any) -> None:
    async def refuse(ledger: SqlLedger) -> None:
        await ledger.refused(
            Refused(
                group=GROUP, mail_from="s@x\x1b", code=550, status="5.7.1", text="no", ip="192.0.2.9", at=time.time()
            )
        )

    filled(refuse)
    done = horo("trace", "--group", GROUP)
    assert done.status == 0
    assert "550 5.7.1 no" in done.out
    assert "\x1b" not in done.out
    document = horo("trace", "--group", GROUP, "--json").json
    assert (document["posts"], [one["code"] for one in document["refusals"]]) == ([], [550])
    assert horo("trace", "--state", "lost", "--group", GROUP).status == 2
