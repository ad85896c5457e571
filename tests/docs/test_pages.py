"""The documentation tells the truth about the program: its commands exist, its settings are taken, what is generated is complete."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import msgspec
import pytest
from prometheus_client import REGISTRY

from cli import reference_pages
from cli.main import app
from cli.trace_text import REASONS
from cli.values import shown
from shared.groups import Settings as GroupSettings
from shared.settings import Settings, load, seconds
from tests.docs.reading import DOCS, blocks, commands, shows, written

NOT_SETTINGS = {"HORO_CONFIG"}
PAGES = pytest.mark.parametrize("page", written(), ids=lambda page: str(page.relative_to(DOCS)))


@PAGES
def test_every_command_on_a_page_can_be_called_so(page: Path) -> None:
    for command in commands(page):
        words = shlex.split(command.replace("…", "x=y"), comments=True)
        while words and words[-1].startswith(">"):
            words.pop()
        words = words[: words.index(">")] if ">" in words else words
        app.parse_args(words[1:], exit_on_error=False, print_error=False)


@PAGES
def test_every_setting_on_a_page_is_one(page: Path) -> None:
    named = set(re.findall(r"\bHORO_[A-Z_]+\b", page.read_text(encoding="utf-8")))
    known = {f"HORO_{name.upper()}" for name in Settings.__struct_fields__} | NOT_SETTINGS
    assert named <= known


@PAGES
def test_every_settings_file_on_a_page_is_taken(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "toml":
            (tmp_path / "horo.toml").write_text(block.text)
            loaded = load({"HORO_CONFIG": str(tmp_path / "horo.toml")})
            assert {name: getattr(loaded, name) for name in tomllib.loads(block.text)} == tomllib.loads(block.text)


def test_systemd_waits_until_a_drain_has_ended() -> None:
    page = (DOCS / "how-to" / "install.md").read_text(encoding="utf-8")
    (minutes,) = re.findall(r"^TimeoutStopSec=(\d+)min$", page, re.MULTILINE)
    assert int(minutes) * 60 > seconds(Settings().drain_timeout)


def test_every_setting_of_a_group_has_a_row_with_its_default() -> None:
    page = (DOCS / "reference" / "group-settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (?:`([^`]*)`)? ?\|", page, re.MULTILINE))
    defaults = msgspec.structs.asdict(GroupSettings())
    assert rows == {name: shown(value) for name, value in defaults.items()}


def test_every_reason_to_leave_somebody_out_that_a_page_names_is_one_that_trace_says() -> None:
    page = (DOCS / "how-to" / "trace.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(left out: [^`]+)`", page, re.MULTILINE)) <= set(REASONS.values())


def test_the_page_of_commands_has_every_command_with_its_options() -> None:
    page = reference_pages.command_page()
    for name in ("horo up", "horo import mailman", "horo member import", "horo parked retry", "horo serve"):
        assert f" {name}\n" in page
    assert "--replace" in page
    assert "Table of Contents" not in page


def test_the_page_of_metrics_has_every_metric_under_the_name_that_is_scraped() -> None:
    page = reference_pages.metrics_page()
    assert "| `horo_events_total` | counter | `event` |" in page
    assert "| `horo_accept_seconds` | histogram |" in page
    scraped = {family.name for family in REGISTRY.collect() if family.name.startswith("horo_")}
    assert len(scraped) > 10
    assert {one._name for one in reference_pages.declared()} == scraped


def test_the_page_of_the_api_has_every_operation_with_links_that_lead_somewhere() -> None:
    document = msgspec.json.decode((DOCS / "reference" / "openapi.json").read_bytes())
    page = reference_pages.api_page(document)
    for path, operations in document["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in page
    assert set(re.findall(r"\]\(#([\w-]+)\)", page)) <= set(re.findall(r"^\(([\w-]+)\)=$", page, re.MULTILINE))


def test_what_a_page_shows_is_compared_line_by_line() -> None:
    assert shows("a … c\n…\nend", "a  b   c\nx\ny\nend\n")
    assert shows("…", "")
    assert not shows("a\nb", "a\nx\nb")
    assert not shows("a.c", "abc")
