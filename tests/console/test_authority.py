"""Who is asking: a token that is revoked is out within a second, and a busy client costs few questions and hardly any writes."""

from __future__ import annotations

import asyncio
import time

import pytest

from services.console import authority
from services.console.authority import Authority
from services.console.pace import BURST, MOST, Pace
from shared.access import AccessUnavailable, Kept, Token, words
from tests.console.conftest import ALL, Place, on_both

PATH = "/api/v1/posts"


class Few:
    """Tokens of a test: counts what is asked and noted; `error` is raised instead of answers, and `hold` kept until it is set."""

    def __init__(self) -> None:
        self.text = words.mint()
        shown = words.shown(self.text)
        assert shown is not None
        token = Token(id=shown.id, name="ci", scopes=ALL, created_at=0.0)
        self.kept: Kept | None = Kept(token, shown.digest)
        self.asked = 0
        self.noted: list[float] = []
        self.error: Exception | None = None
        self.hold: asyncio.Event | None = None

    async def find(self, token_id: str) -> Kept | None:
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.error is not None:
            raise self.error
        return self.kept if self.kept is not None and self.kept.token.id == token_id else None

    async def used(self, _token_id: str, at: float) -> None:
        if self.error is not None:
            raise self.error
        self.noted.append(at)


@pytest.fixture
def few() -> Few:
    return Few()


@on_both
async def test_p6_a_revoked_token_is_refused_within_a_second(place: Place) -> None:
    headers = await place.token("ci")
    for _ in range(3):
        assert (await place.client.get(PATH, headers=headers)).status_code == 200
    await place.tokens.revoke("ci")
    revoked = time.monotonic()
    while (await place.client.get(PATH, headers=headers)).status_code == 200:
        assert time.monotonic() - revoked < 1.0
        await asyncio.sleep(0.02)
    assert (await place.client.get(PATH, headers=headers)).status_code == 401


@on_both
async def test_use_is_noted_once_a_minute(place: Place) -> None:
    headers = await place.token("ci")
    begun = time.time()
    for _ in range(5):
        await place.client.get(PATH, headers=headers)
    async with asyncio.timeout(10):
        while (used := (await place.tokens.list())[0].used_at) is None:
            await asyncio.sleep(0.02)
    assert begun <= used <= time.time()
    for _ in range(5):
        await place.client.get(PATH, headers=headers)
    assert (await place.tokens.list())[0].used_at == used


async def test_many_at_once_ask_one_question_and_leave_one_note(few: Few) -> None:
    few.hold = asyncio.Event()
    gate = Authority(few)  # type: ignore[arg-type]
    asking = [asyncio.create_task(gate.known(few.text)) for _ in range(50)]
    await asyncio.sleep(0)
    few.hold.set()
    assert {token.name for token in await asyncio.gather(*asking) if token} == {"ci"}
    await gate.close()
    assert (few.asked, len(few.noted)) == (1, 1)


async def test_an_answer_grows_old_from_the_question_on(few: Few, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("services.console.authority.time.monotonic", lambda: now)
    gate = Authority(few)  # type: ignore[arg-type]
    assert await gate.known(few.text)
    few.kept = None
    now += authority.FRESH / 2
    assert await gate.known(few.text)
    now += authority.FRESH
    assert await gate.known(few.text) is None
    assert few.asked == 2
    await gate.close()


async def test_trouble_is_never_a_wrong_token_and_is_not_remembered(few: Few) -> None:
    gate = Authority(few)  # type: ignore[arg-type]
    few.error = AccessUnavailable("away")
    for _ in range(2):
        with pytest.raises(AccessUnavailable):
            await gate.known(few.text)
    few.error = None
    assert await gate.known(few.text)
    await gate.close()


async def test_a_note_that_cannot_be_written_stops_nobody(few: Few) -> None:
    gate = Authority(few)  # type: ignore[arg-type]
    few.hold = asyncio.Event()
    few.hold.set()
    token = await gate.known(few.text)
    few.error = AccessUnavailable("away")
    assert token is not None
    await gate.close()
    assert few.noted == []


async def test_nonsense_asks_nobody(few: Few) -> None:
    gate = Authority(few)  # type: ignore[arg-type]
    for text in ("", "nonsense", few.text[:-1], few.text + "0", few.text.upper()):
        assert await gate.known(text) is None
    assert few.asked == 0


async def test_the_right_id_with_another_secret_is_nobody(few: Few) -> None:
    gate = Authority(few)  # type: ignore[arg-type]
    wrong = few.text[:-64] + words.mint()[-64:]
    assert await gate.known(wrong) is None
    assert await gate.known(few.text)
    await gate.close()


async def test_p10_what_is_remembered_is_bounded(few: Few, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "MOST", 5)
    gate = Authority(few)  # type: ignore[arg-type]
    for _ in range(50):
        await gate.known(words.mint())
    assert len(gate._asked) == 5
    await gate.close()


# --- pace ------------------------------------------------------------------------------------------------------------
def test_a_burst_is_let_in_and_then_the_rate() -> None:
    pace = Pace(60)
    assert [pace.wait("a", 100.0) for _ in range(int(BURST))] == [0.0] * int(BURST)
    assert pace.wait("a", 100.0) == pytest.approx(1.0)
    assert pace.wait("a", 100.5) == pytest.approx(0.5)  # asking costs nothing
    assert pace.wait("a", 101.01) == 0.0
    assert pace.wait("a", 101.01) > 0.0
    assert pace.wait("b", 101.01) == 0.0
    assert [pace.wait("a", 9999.0) for _ in range(int(BURST) + 1)][-1] > 0.0  # what was not used is not saved for ever


def test_p10_no_limit_remembers_nobody_and_a_limit_a_bounded_number() -> None:
    assert [Pace(0).wait("a", 0.0) for _ in range(1000)] == [0.0] * 1000
    pace = Pace(1)
    for number in range(MOST + 100):
        pace.wait(str(number), 0.0)
    assert len(pace._buckets) == MOST
