"""Every line of the log about a post has its id as `post`, and every event is counted."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from shared import journal
from shared.messages import encode
from shared.topology import Queue
from shared.worker import Worker
from tests.observability.test_gauges import value
from tests.observability.test_tracing import ID, delivery, post

VALUES = {"str": "x", "int": 1, "float": 0.5, "BaseException": ValueError("x")}


def _about_a_post() -> dict[str, Callable[..., None]]:
    functions = {name: one for name, one in vars(journal).items() if inspect.isfunction(one) and name[0] != "_"}
    names = ("post_id", "signal_id", "post")
    return {
        name: one for name, one in functions.items() if any(word in inspect.signature(one).parameters for word in names)
    }


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    before = structlog.get_config()
    journal.configure("debug", "json")
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("name", _about_a_post())
def test_a_line_about_a_post_has_its_id(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    function = _about_a_post()[name]
    arguments: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        known = VALUES.get(str(parameter.annotation), ("x",))
        arguments[parameter.name] = ID if parameter.name in ("post_id", "signal_id", "post") else known
    positional = [
        arguments.pop(one.name)
        for one in inspect.signature(function).parameters.values()
        if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    function(*positional, **arguments)
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert line["post"] == ID


def test_the_list_above_is_not_empty_of_what_matters() -> None:
    assert {"accepted", "expanded", "fate", "retried", "parked", "crashed", "reported"} <= set(_about_a_post())


class Taken:
    """A message in hand, as the bus gives it."""

    queue, tries, redelivered = Queue.POSTS, 0, False

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.ended = ""

    async def ack(self) -> None:
        self.ended = "acked"

    async def park(self, reason: str) -> None:
        self.ended = "parked"


@pytest.mark.parametrize("message", [post(), delivery()])
async def test_work_that_fails_is_told_with_the_post_it_is_about(
    message: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def failing(*_: object) -> None:
        raise ValueError("unforeseen")

    worker = Worker(None, Queue.POSTS, failing, concurrency=1, max_tries=1)  # type: ignore[arg-type]
    before = value(journal.metrics.EVENTS, "_total", event="crashed") or 0.0
    taken = Taken(encode(message))
    await worker._one(taken)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["post"]) for line in lines] == [("crashed", ID), ("parked", ID)]
    assert taken.ended == "parked"
    assert value(journal.metrics.EVENTS, "_total", event="crashed") == before + 1


async def test_a_message_that_cannot_be_read_is_parked_without(capsys: pytest.CaptureFixture[str]) -> None:
    async def unused(*_: object) -> None:
        raise AssertionError

    worker = Worker(None, Queue.POSTS, unused, concurrency=1, max_tries=1)  # type: ignore[arg-type]
    await worker._one(Taken(b"\xc1"))  # type: ignore[arg-type]
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert (line["event"], line["post"]) == ("parked", "")
