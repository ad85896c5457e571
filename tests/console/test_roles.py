"""Every endpoint, asked by everybody who may come: what may not be seen is not there, and nobody gets in without a token that is good for it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest

from services.console.routes import document
from shared.access import Scope, words
from tests.console.conftest import OFFICE, Place, on_both, problem
from tests.contract.ledgers import post, share, target

POST_ID = "01m84vqfz7typyt8tsyppp915d"


class Endpoint(NamedTuple):
    """One that needs a token."""

    method: str
    template: str
    path: str
    scope: Scope
    status: int
    more: Mapping[str, Any] = {}
    hidden: int = 404
    """What a token of another domain gets: the thing is not there, or a list is empty."""


ENDPOINTS = (
    Endpoint(
        "POST",
        "/api/v1/groups/{address}/signals",
        f"/api/v1/groups/{OFFICE}/signals",
        Scope.SIGNAL_SEND,
        202,
        {"json": {"text": "hello"}},
    ),
    Endpoint("GET", "/api/v1/posts", f"/api/v1/posts?group={OFFICE}", Scope.TRACE_READ, 200, hidden=200),
    Endpoint("GET", "/api/v1/posts/{post_id}", f"/api/v1/posts/{POST_ID}", Scope.TRACE_READ, 200),
    Endpoint("GET", "/api/v1/posts/{post_id}/recipients", f"/api/v1/posts/{POST_ID}/recipients", Scope.TRACE_READ, 200),
)
each_endpoint = pytest.mark.parametrize("at", ENDPOINTS, ids=lambda at: f"{at.method} {at.template}")


def test_every_endpoint_is_in_the_table() -> None:
    paths = msgspec.json.decode(document())["paths"]
    known = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert known == {(at.method, at.template) for at in ENDPOINTS}


async def ask(place: Place, at: Endpoint, headers: Mapping[str, str] | list[tuple[str, str]]) -> httpx.Response:
    record = post(POST_ID)
    await place.parts.ledger.open_post(record, [target()])
    await place.parts.ledger.file(share(POST_ID, ["ana@example.test"]))
    return await place.client.request(at.method, at.path, headers=headers, **at.more)


@on_both
@each_endpoint
async def test_a_good_token_gets_in(at: Endpoint, place: Place) -> None:
    answer = await ask(place, at, await place.token("good", at.scope))
    assert answer.status_code == at.status
    assert answer.headers["content-type"] == "application/json"
    assert len(await place.signals()) == (at.status == 202)


@each_endpoint
async def test_a_token_of_the_same_domain_gets_in(at: Endpoint, place: Place) -> None:
    answer = await ask(place, at, await place.token("ours", at.scope, domain="example.test"))
    assert answer.status_code == at.status
    assert "example.test" in answer.text


@on_both
@each_endpoint
async def test_a_token_of_another_domain_sees_nothing(at: Endpoint, place: Place) -> None:
    answer = await ask(place, at, await place.token("theirs", at.scope, domain="other.test"))
    assert answer.status_code == at.hidden
    assert "example.test" not in answer.text
    if at.hidden == 404:
        missing = at.path.replace("office", "nobody").replace(POST_ID, "0" * 26)
        headers = {"Authorization": answer.request.headers["authorization"]}
        nothing = await place.client.request(at.method, missing, headers=headers, **at.more)
        assert (nothing.status_code, nothing.content) == (404, answer.content)  # as if it were not there
    assert await place.signals() == []


@each_endpoint
async def test_a_token_without_the_scope_stays_out(at: Endpoint, place: Place) -> None:
    others = [scope for scope in Scope if scope != at.scope]
    answer = await ask(place, at, await place.token("else", *others))
    assert answer.status_code == problem(answer)["status"] == 403
    challenge = answer.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert f'scope="{at.scope}"' in challenge
    assert await place.signals() == []


@each_endpoint
async def test_no_token_is_told_what_is_needed(at: Endpoint, place: Place) -> None:
    answer = await ask(place, at, {})
    assert answer.status_code == problem(answer)["status"] == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="horo"'


@each_endpoint
@pytest.mark.parametrize("wrong", ["nonsense", "unknown", "another secret", "expired", "revoked", "basic", "twice"])
async def test_a_bad_token_is_refused_whatever_is_wrong_with_it(wrong: str, at: Endpoint, place: Place) -> None:
    headers = await bad_headers(wrong, place)
    answer = await ask(place, at, headers)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert problem(answer)["detail"] == "The token is wrong, or has expired, or was revoked"
    assert await place.signals() == []


async def bad_headers(wrong: str, place: Place) -> Mapping[str, str] | list[tuple[str, str]]:
    if wrong == "unknown":
        return {"Authorization": f"Bearer {words.mint()}"}
    lifetime = 0.001 if wrong == "expired" else None
    good = (await place.token("bad", lifetime=lifetime))["Authorization"]
    if wrong == "revoked":
        await place.tokens.revoke("bad")
    if wrong == "another secret":
        return {"Authorization": good[:-1] + ("0" if good[-1] != "0" else "1")}
    if wrong == "basic":
        secret = base64.b64encode(f"horo:{good.removeprefix('Bearer ')}".encode()).decode()
        return {"Authorization": f"Basic {secret}"}
    if wrong == "twice":
        return [("Authorization", good), ("Authorization", good)]
    return {"Authorization": "Bearer nonsense" if wrong == "nonsense" else good}
