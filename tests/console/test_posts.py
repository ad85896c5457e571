"""GET what became of posts: all of it for a token of every domain, and for a token of one what went through that domain alone (P9)."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from typing import Any

import pytest

from services.console import finding
from shared.identity import new_id
from shared.ledger import LedgerUnavailable
from shared.ledger.notes import Note
from shared.messages import Queued, Reason, State, Suppressed
from tests.console.conftest import OFFICE, OTHER, Place, on_both, problem
from tests.contract.ledgers import at, fate, post, share, target


async def posted(place: Place, *, message_id: str = "<one@example.test>", accepted_at: float | None = None) -> str:
    """A post to the office and to another domain's team: who got it, who did not."""
    now = accepted_at or time.time()
    record = post(new_id(now), message_id=message_id, accepted_at=now, subject="Здравейте")
    ledger = place.parts.ledger
    await ledger.open_post(record, [target(), target(OTHER)])
    left_out = Suppressed(addresses=("ana@example.test",), reason=Reason.AUTHOR, via=(OFFICE,))
    ours = Queued(addresses=("boris@example.test", "vera@example.test"), via=(OFFICE, "board@example.test"))
    await ledger.file(share(record.id, [ours], [left_out]))
    await ledger.file(share(record.id, ["secret@other.test", "boris@example.test"], group=OTHER))
    await ledger.record(at(record.id), OFFICE, [fate("boris@example.test")])
    await ledger.record(at(record.id, 1), OFFICE, [fate("vera@example.test", State.FAILED, text="no such user")])
    await ledger.record(at(record.id, 2), OTHER, [fate("secret@other.test", State.DEFERRED, text="grey")])
    for group, kind in ((OFFICE, "report"), (OTHER, "bounce"), ("", "swept")):
        note = Note(post_id=record.id, kind=kind, group=group, at=now, unique=kind, detail={"to": f"x-{kind}"})
        await ledger.note(note)
    return record.id


async def got(place: Place, path: str, headers: dict[str, str], **query: Any) -> Any:
    answer = await place.client.get(path, headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ids(place: Place, headers: dict[str, str], **query: Any) -> list[str]:
    found = await got(place, "/api/v1/posts", headers, **query)
    return [each["id"] for each in found["posts"]]


# --- one post --------------------------------------------------------------------------------------------------------
@on_both
async def test_p4_a_post_is_told_with_its_groups_sums_and_notes(place: Place) -> None:
    post_id = await posted(place, accepted_at=1795459115.25)
    told = await got(place, f"/api/v1/posts/{post_id.upper()}", await place.token())
    assert (told["id"], told["subject"], told["accepted_at"]) == (post_id, "Здравейте", "2026-11-23T18:38:35.250000Z")
    assert (told["mail_from"], told["author"], told["size"]) == ("ana@example.test", "ana@example.test", 1234)
    assert [each["group"] for each in told["targets"]] == [OFFICE, OTHER]
    assert [each["verdict"] for each in told["targets"]] == ["open", "open"]
    sums = told["totals"]
    assert sums["complete"] is True
    assert sums["expanded"] == sums["delivered"] + sums["deferred"] + sums["failed"] + sums["suppressed"]
    ours = told["targets"][0]["totals"]
    assert ours == {"expanded": 3, "delivered": 1, "deferred": 0, "failed": 1, "suppressed": 1, "complete": True}
    assert sorted(note["kind"] for note in told["notes"]) == ["bounce", "report", "swept"]
    assert told["notes"][0]["detail"]["to"].startswith("x-")


@on_both
async def test_p9_a_token_of_one_domain_sees_a_post_as_that_domains(place: Place) -> None:
    post_id = await posted(place)
    headers = await place.token("ours", domain="example.test")
    told = await got(place, f"/api/v1/posts/{post_id}", headers)
    assert [each["group"] for each in told["targets"]] == [OFFICE]
    assert told["totals"] == told["targets"][0]["totals"]
    assert [note["kind"] for note in told["notes"]] == ["report"]
    rows = await got(place, f"/api/v1/posts/{post_id}/recipients", headers)
    assert {row["group"] for row in rows["recipients"]} == {OFFICE}
    everything = str(told) + str(rows) + str(await got(place, "/api/v1/posts", headers, group=OFFICE))
    assert "other.test" not in everything


@on_both
@pytest.mark.parametrize("post_id", ["nonsense", "0" * 26, "%00", "%ED%A0%80", "x" * 5000, "..", "a/b"])
async def test_what_is_no_post_is_not_there(post_id: str, place: Place) -> None:
    headers = await place.token()
    for tail in ("", "/recipients"):
        answer = await place.client.get(f"/api/v1/posts/{post_id}{tail}", headers=headers)
        if answer.status_code != 200:  # ".." is the list itself, which the client resolves
            assert problem(answer)["status"] == 404
        else:
            assert post_id == ".."


# --- recipients ------------------------------------------------------------------------------------------------------
async def test_p4_every_address_is_told_with_its_fate(place: Place) -> None:
    post_id = await posted(place)
    page = await got(place, f"/api/v1/posts/{post_id}/recipients", await place.token())
    assert page["next"] is None
    rows = {(row["group"], row["address"]): row for row in page["recipients"]}
    assert set(rows) >= {
        (OFFICE, "ana@example.test"),
        (OFFICE, "boris@example.test"),
        (OFFICE, "vera@example.test"),
        (OTHER, "secret@other.test"),
    }
    failed = rows[OFFICE, "vera@example.test"]
    assert (failed["state"], failed["code"], failed["text"]) == ("failed", 550, "no such user")
    assert (failed["hop"], failed["attempts"], failed["next_at"]) == ("mx.example.test", 1, None)
    assert failed["via"] == [OFFICE, "board@example.test"]
    assert failed["at"].endswith("Z")
    left_out = rows[OFFICE, "ana@example.test"]
    assert (left_out["state"], left_out["reason"]) == (None, "author")
    assert rows[OTHER, "secret@other.test"]["next_at"] is not None


@pytest.mark.parametrize(
    ("query", "addresses"),
    [
        ({"state": "delivered"}, ["boris@example.test"]),
        ({"state": "failed"}, ["vera@example.test"]),
        ({"state": "suppressed"}, ["ana@example.test"]),
        ({"state": "deferred"}, []),
        ({"state": "queued"}, []),
        ({"recipient": "Vera@Example.test"}, ["vera@example.test"]),
        ({"recipient": "vera@example.test", "state": "delivered"}, []),
        ({"recipient": "secret@other.test"}, []),
    ],
)
async def test_addresses_are_picked(query: dict[str, str], addresses: list[str], place: Place) -> None:
    post_id = await posted(place)
    headers = await place.token("ours", domain="example.test")
    page = await got(place, f"/api/v1/posts/{post_id}/recipients", headers, **query)
    assert [row["address"] for row in page["recipients"]] == addresses


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_p10_addresses_come_in_pages_each_once(limit: int, place: Place) -> None:
    record = post()
    await place.parts.ledger.open_post(record, [target(), target(OTHER)])
    people = [f"m{number:03}@example.test" for number in range(30)]
    await place.parts.ledger.file(share(record.id, people))
    await place.parts.ledger.file(share(record.id, [f"m{number:03}x@other.test" for number in range(30)], group=OTHER))
    headers = await place.token("ours", domain="example.test")
    found: list[str] = []
    after = ""
    for _ in range(100):
        query = {"limit": limit, **({"after": after} if after else {})}
        page = await got(place, f"/api/v1/posts/{record.id}/recipients", headers, **query)
        assert len(page["recipients"]) <= limit
        found += [row["address"] for row in page["recipients"]]
        if page["next"] is None:
            break
        after = page["next"]
        assert b"other.test" not in base64.urlsafe_b64decode(after + "==")  # nor does the end of a page tell
    assert sorted(found) == people


# --- finding ---------------------------------------------------------------------------------------------------------
@on_both
async def test_posts_are_found_newest_first(place: Place) -> None:
    now = time.time()
    made = [await posted(place, message_id=f"<{n}@example.test>", accepted_at=now - 10 + n) for n in range(3)]
    headers = await place.token()
    assert await ids(place, headers) == made[::-1]
    assert await ids(place, headers, limit=2) == made[:0:-1]
    assert await ids(place, headers, message_id="<1@example.test>") == [made[1]]
    assert await ids(place, headers, message_id="1@example.test", group=OTHER) == [made[1]]
    assert await ids(place, headers, group="nobody@example.test") == []
    assert await ids(place, headers, recipient="Secret@other.test") == made[::-1]
    assert await ids(place, headers, recipient="nobody@other.test") == []


async def test_posts_are_found_by_time_page_by_page(place: Place) -> None:
    begin = 1795459115.0
    made = [await posted(place, accepted_at=begin + number) for number in range(5)][::-1]
    for headers in (await place.token(), await place.token("ours", domain="example.test")):
        query: dict[str, Any] = {"group": OFFICE}
        assert await ids(place, headers, **query, since="2026-11-23T18:38:37Z") == made[:3]
        assert await ids(place, headers, **query, until="2026-11-23T20:38:37+02:00") == made[3:]
        window = {"since": "2026-11-23T18:38:36Z", "until": "2026-11-23T18:38:38.000Z"}
        assert await ids(place, headers, **query, **window) == made[2:4]
        found: list[str] = []
        while True:
            page = await got(place, "/api/v1/posts", headers, **query, limit=2)
            found += [each["id"] for each in page["posts"]]
            if page["next"] is None:
                break
            query["after"] = page["next"]
        assert found == made


async def foreign_posts(place: Place, count: int) -> None:
    """Posts with the same Message-ID that went to the other domain."""
    for _ in range(count):
        foreign = post(new_id(), message_id="<one@example.test>")
        await place.parts.ledger.open_post(foreign, [target(OTHER)])


async def test_p9_what_is_not_to_be_seen_leaves_no_gap(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "PAGE", 2)
    first = await posted(place)
    await foreign_posts(place, 5)
    second = await posted(place)
    headers = await place.token("ours", domain="example.test")
    page = await got(place, "/api/v1/posts", headers, message_id="one@example.test", limit=1)
    assert ([each["id"] for each in page["posts"]], page["next"]) == ([second], second)
    page = await got(place, "/api/v1/posts", headers, message_id="one@example.test", limit=1, after=second)
    assert ([each["id"] for each in page["posts"]], page["next"]) == ([first], None)


async def test_p10_a_search_ends_though_nothing_of_it_is_to_be_seen(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finding, "PAGE", 2)
    monkeypatch.setattr(finding, "MOST", 4)
    hidden = await posted(place)
    await foreign_posts(place, 6)
    headers = await place.token("ours", domain="example.test")
    answer = await place.client.get("/api/v1/posts", params={"message_id": "one@example.test"}, headers=headers)
    assert problem(answer)["status"] == 422
    assert await ids(place, headers, message_id="one@example.test", group=OFFICE) == [hidden]


@on_both
async def test_p9_a_token_of_one_domain_finds_nothing_through_another(place: Place) -> None:
    post_id = await posted(place)
    foreign = post(new_id(), message_id="<foreign@other.test>")
    await place.parts.ledger.open_post(foreign, [target(OTHER)])
    await place.parts.ledger.file(share(foreign.id, ["boris@example.test"], group=OTHER))
    headers = await place.token("ours", domain="example.test")
    assert await ids(place, headers, group=OFFICE) == [post_id]
    assert await ids(place, headers, recipient="boris@example.test") == [post_id]
    assert await ids(place, headers, message_id="<one@example.test>") == [post_id]
    assert await ids(place, headers, group=OTHER) == []
    assert await ids(place, headers, message_id="<foreign@other.test>") == []
    assert (
        await ids(place, headers, recipient="secret@other.test") == []
    )  # the other group's, though of a post that is seen


async def test_a_token_of_one_domain_says_what_it_looks_for(place: Place) -> None:
    headers = await place.token("ours", domain="example.test")
    assert problem(await place.client.get("/api/v1/posts", headers=headers))["status"] == 422


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/api/v1/posts?limit=0", "limit"),
        ("/api/v1/posts?limit=101", "limit"),
        ("/api/v1/posts?limit=many", "limit"),
        ("/api/v1/posts?group=" + "x" * 321, "group"),
        ("/api/v1/posts?since=yesterday", "since"),
        ("/api/v1/posts?until=0.5", "until"),
        ("/api/v1/posts?until=2026-11-23T18:38:38", "until"),
        ("/api/v1/posts?since=", "since"),
        ("/api/v1/posts?until=2026-13-01T00:00:00Z", "until"),
        ("/api/v1/posts?after=" + "x" * 401, "after"),
        ("/api/v1/posts/x/recipients?limit=1001", "limit"),
        ("/api/v1/posts/x/recipients?state=lost", "state"),
    ],
)
async def test_p5_a_bad_parameter_is_named(path: str, name: str, place: Place) -> None:
    answer = await place.client.get(path, headers=await place.token())
    assert [error.get("name") for error in problem(answer)["errors"]] == [name]
    assert answer.status_code == 422


@pytest.mark.parametrize("after", ["nonsense", "W10", "%00", "bnVsbA", "x" * 401])
async def test_p5_a_page_that_never_was_is_no_page(after: str, place: Place) -> None:
    path = f"/api/v1/posts/{await posted(place)}/recipients?after={after}"
    answer = await place.client.get(path, headers=await place.token())
    assert [error.get("name") for error in problem(answer)["errors"]] == ["after"]
    assert answer.status_code == 422


async def test_a_ledger_that_does_not_answer_is_503(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> Sequence[Any]:
        raise LedgerUnavailable("postgresql://user:canary@host is away")

    monkeypatch.setattr(place.parts.ledger, "post", away)
    monkeypatch.setattr(place.parts.ledger, "find", away)
    headers = await place.token()
    for path in ("/api/v1/posts", "/api/v1/posts/x", "/api/v1/posts/x/recipients"):
        answer = await place.client.get(path, headers=headers)
        assert problem(answer)["status"] == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "canary" not in answer.text
