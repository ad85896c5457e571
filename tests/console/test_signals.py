"""POST a signal: on the bus before its 202, the same when it is repeated, and never a 500 for trouble that passes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from services.console import sending
from shared.bus import BusUnavailable
from shared.directory import DirectoryUnavailable
from shared.groups import Group
from shared.signals import SignalRequest
from tests.console.conftest import OFFICE, OTHER, QUIET, Place, on_both, problem

PATH = f"/api/v1/groups/{OFFICE}/signals"


@on_both
async def test_a_signal_is_on_the_bus_before_its_202(place: Place) -> None:
    body = {"text": "Елате!\nСега", "title": "Хоро", "link": "https://example.test/1", "origin": "билд"}
    answer = await place.client.post(PATH, json=body, headers=await place.token())
    assert answer.status_code == 202
    told = answer.json()
    assert told == {"id": told["id"], "group": OFFICE, "refused": False}
    (signal,) = await place.signals()
    assert signal.id == told["id"]
    assert (signal.group, signal.text, signal.title) == (OFFICE, body["text"], body["title"])
    assert (signal.link, signal.origin) == (body["link"], body["origin"])


async def test_without_an_origin_it_is_the_tokens(place: Place) -> None:
    await place.client.post(PATH, json={"text": "x"}, headers=await place.token("билд 7"))
    (signal,) = await place.signals()
    assert (signal.origin, signal.title, signal.link) == ("token:билд 7", "", "")


@pytest.mark.parametrize("address", ["Office@Example.TEST", "office+tag@example.test", "office%40example.test"])
async def test_the_group_may_be_written_as_people_write_it(address: str, place: Place) -> None:
    answer = await place.client.post(
        f"/api/v1/groups/{address}/signals", json={"text": "x"}, headers=await place.token()
    )
    assert (answer.status_code, answer.json()["group"]) == (202, OFFICE)
    assert [signal.group for signal in await place.signals()] == [OFFICE]


async def test_p5_a_group_that_takes_none_says_so_at_once(place: Place) -> None:
    answer = await place.client.post(f"/api/v1/groups/{QUIET}/signals", json={"text": "x"}, headers=await place.token())
    assert (answer.status_code, answer.json()["refused"]) == (202, True)
    assert len(await place.signals()) == 1  # a `signal.suppressed` event comes of it


@pytest.mark.parametrize("address", ["nobody@example.test", "no-address", "a@b@c", "office@none.test", "x" * 400])
async def test_what_is_no_group_is_not_there(address: str, place: Place) -> None:
    answer = await place.client.post(
        f"/api/v1/groups/{address}/signals", json={"text": "x"}, headers=await place.token()
    )
    assert problem(answer)["status"] == 404
    assert await place.signals() == []


# --- repeated --------------------------------------------------------------------------------------------------------
async def sent(place: Place, headers: dict[str, str], key: str, path: str = PATH, **body: str) -> str:
    answer = await place.client.post(path, json={"text": "x", **body}, headers={**headers, "Idempotency-Key": key})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def test_p3_the_same_key_and_token_is_the_same_signal(place: Place) -> None:
    mine, yours = await place.token("mine"), await place.token("yours")
    first = await sent(place, mine, "k-1")
    assert await sent(place, mine, "k-1") == first
    others = {
        await sent(place, mine, "k-2"),
        await sent(place, yours, "k-1"),
        await sent(place, yours, "k-1", origin="token:mine"),  # nobody takes another's place by its name
        await sent(place, mine, "k-1", path=f"/api/v1/groups/{OTHER}/signals"),
    }
    assert len(others) == 4
    assert first not in others
    signals = await place.signals()
    assert [signal.id for signal in signals].count(first) == 2  # the ledger knows it by its id
    assert len({signal.once for signal in signals if signal.id == first}) == 1


async def test_without_a_key_each_is_its_own(place: Place) -> None:
    headers = await place.token()
    answers = [await place.client.post(PATH, json={"text": "x"}, headers=headers) for _ in range(3)]
    assert len({answer.json()["id"] for answer in answers}) == 3


@pytest.mark.parametrize("key", ["", "k" * 151])
async def test_a_key_has_its_length(key: str, place: Place) -> None:
    answer = await place.client.post(
        PATH, json={"text": "x"}, headers={**(await place.token()), "Idempotency-Key": key}
    )
    assert problem(answer)["errors"][0]["name"] == "Idempotency-Key"
    assert answer.status_code == 422
    assert await place.signals() == []


# --- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "text"),
        ({"text": ""}, "text"),
        ({"text": 5}, "text"),
        ({"text": None}, "text"),
        ({"text": ["x"]}, "text"),
        ({"text": "x" * 10_001}, "text"),
        ({"text": "x\0"}, "text"),
        ({"text": "x\x1b[31m"}, "text"),
        ({"text": "x", "title": "x" * 201}, "title"),
        ({"text": "x", "title": "a\nb"}, "title"),
        ({"text": "x", "link": "javascript:alert(1)"}, "link"),
        ({"text": "x", "link": "https://" + "x" * 2000}, "link"),
        ({"text": "x", "origin": "x" * 201}, "origin"),
        ({"text": "x", "group": OTHER}, ""),
        ({"text": "x", "id": "mine"}, ""),
        ({"text": "x", "nonsense": 1}, ""),
        ([], ""),
        ("text", ""),
    ],
)
async def test_p5_bad_input_is_named(body: Any, name: str, place: Place) -> None:
    answer = await place.client.post(PATH, json=body, headers=await place.token())
    told = problem(answer)
    assert told["status"] == 422
    assert told["errors"]
    if name:
        assert [error.get("name") for error in told["errors"]] == [name]
    assert await place.signals() == []


@pytest.mark.parametrize(
    "content", [b"", b"null", b"{", b"{nope}", b'{"text": "\xff"}', b"[" * 30_000, b'{"text": "\\ud800"}']
)
async def test_p5_what_is_no_json_is_refused(content: bytes, place: Place) -> None:
    headers = {**(await place.token()), "Content-Type": "application/json; charset=utf-8"}
    answer = await place.client.post(PATH, content=content, headers=headers)
    assert problem(answer)["status"] == 422
    assert await place.signals() == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
async def test_another_type_of_body_is_not_read_as_json(kind: str, place: Place) -> None:
    headers = {**(await place.token()), "Content-Type": kind}
    answer = await place.client.post(PATH, content=b'{"text": "x"}', headers=headers)
    assert problem(answer)["status"] == 415
    assert await place.signals() == []


async def test_p10_a_body_has_at_most_64_kib(place: Place) -> None:
    headers = {**(await place.token()), "Content-Type": "application/json"}
    padding = b" " * (64 * 1024 - len(b'{"text":"x"}'))
    assert (await place.client.post(PATH, content=b'{"text":"x"}' + padding, headers=headers)).status_code == 202
    answer = await place.client.post(PATH, content=b'{"text":"x"} ' + padding, headers=headers)
    assert problem(answer)["status"] == 413

    async def chunks() -> Any:
        for _ in range(70):
            yield b" " * 1024

    answer = await place.client.post(PATH, content=chunks(), headers=headers)  # without a Content-Length
    assert problem(answer)["status"] == 413


def test_the_body_is_what_a_signal_may_be() -> None:
    """Limits and words are those of `SignalRequest`, which has the last word; its patterns are left to it."""
    asked = {field.name: field for field in msgspec.structs.fields(SignalRequest)}
    schema = msgspec.json.schema_components([SignalRequest, sending.SignalBody])[1]
    for name, mine in schema["SignalBody"]["properties"].items():
        theirs = dict(schema["SignalRequest"]["properties"][name])
        theirs.pop("pattern", None)
        assert {key: mine.get(key) for key in theirs if key != "description"} == {
            key: value for key, value in theirs.items() if key != "description"
        }
    assert set(schema["SignalBody"]["properties"]) == set(asked) - {"group", "id"}


# --- trouble ---------------------------------------------------------------------------------------------------------
async def test_p1_a_bus_that_does_not_answer_is_503(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any, **__: Any) -> None:
        raise BusUnavailable("amqp://user:canary@host is away")

    monkeypatch.setattr(place.parts.bus, "publish", away)
    answer = await place.client.post(PATH, json={"text": "x"}, headers=await place.token())
    assert problem(answer)["status"] == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "canary" not in answer.text


async def test_a_directory_that_does_not_answer_is_503(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_key: str) -> Group | None:
        raise DirectoryUnavailable("away")

    monkeypatch.setattr(place.parts.directory, "group", away)
    answer = await place.client.post(PATH, json={"text": "x"}, headers=await place.token())
    assert problem(answer)["status"] == 503
    assert int(answer.headers["retry-after"]) > 0
    assert await place.signals() == []
