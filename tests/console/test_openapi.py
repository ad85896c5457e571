"""The document of the API: what is served, what is checked in and what is true are the same."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.console.routes import document
from shared.access import Scope
from tests.console.conftest import Place

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(document())
    return decoded


async def test_what_is_served_is_what_is_checked_in(place: Place) -> None:
    answer = await place.client.get("/api/v1/openapi.json")
    assert answer.status_code == 200
    assert answer.content == PAGE.read_bytes(), "run `python -m cli.reference`"
    assert answer.content == document()


def test_it_is_openapi_3_1_of_this_version(schema: dict[str, Any]) -> None:
    assert schema["openapi"].startswith("3.1.")
    assert schema["info"]["version"] == importlib.metadata.version("horo")


def test_every_operation_says_what_it_needs_and_how_it_may_end(schema: dict[str, Any]) -> None:
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations) == 4
    for operation in operations:
        ((scope,),) = [need["token"] for need in operation["security"]]
        assert scope in set(Scope)
        assert operation["summary"]
        assert operation["description"]
        assert {"401", "403", "422", "429", "503"} <= set(operation["responses"])
        for status, response in operation["responses"].items():
            (kind,) = response["content"]
            assert kind == ("application/json" if status.startswith("2") else "application/problem+json")
            assert response["description"]
        for parameter in operation["parameters"]:
            assert parameter["in"] == "path" or parameter["description"]


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            own = {value["$ref"]} if "$ref" in value else set()
            return own.union(*(references(each) for each in value.values()))
        return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()

    found = references(schema)
    assert {each.rpartition("/")[2] for each in found} == set(schema["components"]["schemas"])
