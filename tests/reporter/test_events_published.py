"""What is published of the events: the files under docs/events are those of the types, and no change breaks one without a new version."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from msgspec import Meta

from cli import reference
from services.reporter import events, events_page
from services.reporter.events_schema import name_of, schema_of, text_of, unkept
from tests.support.events import FOLDER

DOCS = Path(__file__).parents[2] / "docs"


# --- the files --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", sorted(events_page.pages()))
def test_the_files_are_what_the_types_say(name: str) -> None:
    """After a change: python -m cli.reference"""
    assert DOCS.joinpath(name).read_text(encoding="utf-8") == events_page.pages()[name], "run `python -m cli.reference`"


@pytest.mark.parametrize("kind", events.ALL, ids=events.routing_key)
def test_a_published_schema_keeps_what_it_promised(kind: type[events.Event]) -> None:
    """A consumer relies on every field of the file: a change that breaks one is a new version, `version: int = 2` in the class and a file
    of its own (python -m cli.reference writes it); the file of the old version stays as it is."""
    file = FOLDER / f"{name_of(kind)}.json"
    assert unkept(msgspec.json.decode(file.read_bytes()), schema_of(kind)) == []


def test_every_version_that_there_ever_was_has_its_file_and_there_is_no_other() -> None:
    expected = {
        f"{events.routing_key(kind)}.v{number}.json"
        for kind in events.ALL
        for number in range(1, events.version(kind) + 1)
    }
    assert {file.name for file in FOLDER.glob("*.json")} == {*expected, "signal.request.v1.json"}


@pytest.mark.parametrize("file", sorted(FOLDER.glob("*.json")), ids=lambda file: str(file.name))
def test_every_schema_is_one(file: Path) -> None:
    schema = msgspec.json.decode(file.read_bytes())
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["$id"].endswith(f":{file.stem}")


def test_the_page_names_every_event_and_links_files_that_are_there() -> None:
    page = events_page.page()
    for kind in events.ALL:
        assert f"\n## {events.routing_key(kind)}\n" in page
    links = [part.partition(")")[0] for part in page.split("](")[1:]]
    assert len(links) > len(events.ALL)
    assert [link for link in links if not DOCS.joinpath(link).exists()] == []


# --- what a change would break ------------------------------------------------------------------------------------------
class Sample(events.PostExpanded, frozen=True, kw_only=True, tag="sample"):
    """An event of the tests."""


class Wider(Sample, frozen=True, kw_only=True, tag="sample"):
    """With a field more."""

    shade: str = "blue"


OLD = schema_of(Sample)


def changed(name: str, **words: Any) -> dict[str, Any]:
    new = copy.deepcopy(OLD)
    new["properties"][name].update(words)
    return new


def without(name: str) -> dict[str, Any]:
    new = copy.deepcopy(OLD)
    del new["properties"][name]
    return new


CHANGES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("nothing", copy.deepcopy(OLD), []),
    ("a field more", schema_of(Wider), []),
    ("other words", changed("group", description="The address of the group"), []),
    ("a field less", without("group"), ["`group` is gone"]),
    ("another type", changed("group", type="integer"), ["`group` is not what it was"]),
    ("another bound", changed("recipients", minimum=-1), ["`recipients` is not what it was"]),
    ("no time any more", changed("at", format="date"), ["`at` is not what it was"]),
    (
        "may be absent",
        {**OLD, "required": [name for name in OLD["required"] if name != "post"]},
        ["`post` may be absent now"],
    ),
]


@pytest.mark.parametrize(("new", "broken"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_what_a_change_would_break(new: dict[str, Any], broken: list[str]) -> None:
    assert unkept(OLD, new) == broken


def test_what_is_asked_of_others_must_not_become_more() -> None:
    asked = {**OLD, "required": [name for name in OLD["required"] if name != "post"]}
    assert unkept(asked, OLD) == []
    assert unkept(asked, OLD, request=True) == ["`post` must be there now"]


def test_a_new_version_has_a_schema_of_its_own_that_the_old_events_do_not_keep() -> None:
    class Second(events.PostExpanded, frozen=True, kw_only=True, tag="sample"):
        """The same with another group."""

        group: Annotated[int, Meta(description="The group's number")]  # type: ignore[assignment]
        version: int = 2

    assert (name_of(Sample), name_of(Second)) == ("sample.v1", "sample.v2")
    assert schema_of(Second)["properties"]["version"]["const"] == 2
    assert unkept(OLD, schema_of(Second))[0] == "`version` is not what it was"


def test_the_command_writes_new_pages_and_refuses_to_break_a_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["reference"])
    assert reference.main() == 0
    monkeypatch.setattr(sys, "argv", ["reference", "--check"])
    assert reference.main() == 0
    file = tmp_path / "events" / "schemas" / "post.expanded.v1.json"
    schema = msgspec.json.decode(file.read_bytes())
    schema["properties"]["colour"] = {"type": "string"}
    file.write_text(text_of(schema))
    for arguments in (["reference"], ["reference", "--check"]):
        monkeypatch.setattr(sys, "argv", arguments)
        assert reference.main() == 1
        assert "post.expanded.v1.json: `colour` is gone" in capsys.readouterr().err
    assert "colour" in file.read_text()
    del schema["properties"]["colour"], schema["properties"]["verdict"]
    file.write_text(text_of(schema))  # the types have a field more than the file: that breaks nobody
    assert reference.main() == 1
    assert "out of date: events/schemas/post.expanded.v1.json" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["reference"])
    assert reference.main() == 0
    assert file.read_text() == text_of(schema_of(events.PostExpanded))
