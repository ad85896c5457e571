"""Whatever a client sends, the answer is one that the document foretells, and never a 500."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.console.routes import document
from shared import signals
from tests.console.conftest import OFFICE, Place
from tests.contract.ledgers import post, share, target

SCHEMA: dict[str, Any] = msgspec.json.decode(document())
SIGNALS = "/api/v1/groups/{address}/signals"
POST_ID = "01m84vqfz7typyt8tsyppp915d"

many = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
any_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)


class Asker:
    """Asks with a good token, and holds each answer against the document."""

    def __init__(self, client: httpx.AsyncClient, headers: Mapping[str, str]) -> None:
        self.client = client
        self.headers = headers

    async def ask(self, method: str, template: str, path: str, **more: Any) -> httpx.Response:
        headers = {**self.headers, **more.pop("headers", {})}
        answer = await self.client.request(method, path, headers=headers, **more)
        responses = SCHEMA["paths"][template][method.lower()]["responses"]
        assert str(answer.status_code) in responses, (answer.status_code, answer.text)
        ((kind, content),) = responses[str(answer.status_code)]["content"].items()
        assert answer.headers["content-type"] == kind
        schema = {**content["schema"], "components": SCHEMA["components"]}
        jsonschema.Draft202012Validator(schema).validate(answer.json())
        return answer


@pytest.fixture
def changes() -> dict[str, Any]:
    return {"max_requests_per_minute": 0}


@pytest.fixture
async def asker(place: Place) -> AsyncIterator[Asker]:
    await place.parts.ledger.open_post(post(POST_ID), [target()])
    await place.parts.ledger.file(share(POST_ID, ["ana@example.test"]))
    yield Asker(place.client, await place.token())
    await place.signals()


@many
@given(body=any_json, key=st.none() | st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=200))
async def test_any_json_for_a_signal(asker: Asker, body: Any, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key}
    await asker.ask("POST", SIGNALS, SIGNALS.format(address=OFFICE), json=[] if body is None else body, headers=headers)


@many
@given(
    text=st.text(max_size=60),
    title=st.text(max_size=210),
    link=any_text | st.just("https://example.test/x"),
    origin=any_text,
)
async def test_a_signal_is_taken_if_and_only_if_it_is_one(
    asker: Asker, text: str, title: str, link: str, origin: str
) -> None:
    fields = {"text": text, "title": title, "link": link, "origin": origin}
    try:
        signals.signal_of(signals.request(group=OFFICE, **fields), origin="token:ci")
        wanted = 202
    except signals.SignalError:
        wanted = 422
    answer = await asker.ask("POST", SIGNALS, SIGNALS.format(address=OFFICE), content=_json(fields), headers=JSON)
    assert answer.status_code == wanted


JSON = {"Content-Type": "application/json"}


def _json(fields: Mapping[str, str]) -> bytes:
    """JSON with lone surrogates as escapes, as some clients write them."""
    return json.dumps(fields, ensure_ascii=True).encode("ascii")


@many
@given(content=st.binary(max_size=300))
async def test_any_bytes_for_a_signal(asker: Asker, content: bytes) -> None:
    await asker.ask("POST", SIGNALS, SIGNALS.format(address=OFFICE), content=content, headers=JSON)


@many
@given(address=st.text(min_size=1, max_size=60).filter(lambda text: text not in (".", "..")))
async def test_any_address_of_a_group(asker: Asker, address: str) -> None:
    path = SIGNALS.format(address=quote(address.encode("utf-8", "surrogatepass"), safe=""))
    if "%2F" in path or not address.strip("/"):
        return  # a slash is the end of it, however it is written
    await asker.ask("POST", SIGNALS, path, json={"text": "x"})


VALUE = any_text | st.sampled_from(
    ["1", "0", "-1", "1e9", "NaN", "2026-11-23", "2026-11-23T00:00:00Z", "failed", OFFICE]
)
QUERY = st.dictionaries(
    st.sampled_from(["message_id", "group", "recipient", "since", "until", "limit", "after", "state", "only"]),
    VALUE,
    max_size=5,
)


@many
@given(query=QUERY)
async def test_any_question(asker: Asker, query: dict[str, str]) -> None:
    await asker.ask("GET", "/api/v1/posts", "/api/v1/posts", params=query)
    template = "/api/v1/posts/{post_id}/recipients"
    await asker.ask("GET", template, template.format(post_id=POST_ID), params=query)


@many
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"]),
    path=st.binary(max_size=60).map(lambda octets: quote(octets, safe="/?&=:@")),
    token=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=120),
)
async def test_anything_at_all_from_anybody(place: Place, method: str, path: str, token: str) -> None:
    answer = await place.client.request(method, f"/{path.lstrip('/')}", headers={"Authorization": token.strip()})
    assert answer.status_code < 500
    if method != "OPTIONS":
        assert answer.status_code >= 400 or "openapi.json" in path
