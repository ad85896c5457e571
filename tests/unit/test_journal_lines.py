"""The log and the mail: a line that cannot be written is counted, and nobody who logs hears of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from shared import journal, metrics


@pytest.fixture(autouse=True)
def _configured() -> Iterator[None]:
    before = structlog.get_config()
    journal.configure("info", "json")
    yield
    structlog.configure(**before)


class Broken:
    """A standard error whose reader is gone."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, text: str) -> None:
        raise self.error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("closed")])
def test_p1_a_log_that_cannot_be_written_stops_no_mail(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """`accepted` is told after the publish: an exception there would answer 451 for a post that is durable."""
    lost: Any = metrics.UNWRITTEN
    before = lost._value.get()
    monkeypatch.setattr(sys, "stderr", Broken(error))
    journal.accepted("id", mail_from="a@b.test", groups=("c@d.test",), size=1, ip="127.0.0.1", took=0.1)
    assert lost._value.get() == before + 1


def test_one_line_an_event_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    journal.session_trouble("127.0.0.1", 'two\nlines\r"and" \x1b[31mmore')
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["why"] == 'two\nlines\r"and" \x1b[31mmore'
    assert "\x1b" not in line


def test_recipients_who_were_answered_the_same_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    counter: Any = metrics.FATES
    before = counter.labels("delivered", "smtp")._value.get()
    people = [f"m{n}@x.test" for n in range(100)]
    journal.fate(
        "p",
        recipients=people,
        state="delivered",
        hop_kind="smtp",
        lane="bulk",
        host="h",
        reply="250 OK",
        attempt=0,
        age=0.5,
    )
    (line,) = capsys.readouterr().err.splitlines()
    told = json.loads(line)
    assert (told["event"], told["count"], told["recipients"]) == ("delivered", 100, people[:20])
    assert counter.labels("delivered", "smtp")._value.get() == before + 100
