"""Writes the pages that are made from declarations: `python -m cli.reference` writes them, `--check` says whether they are up to date."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from cli import reference_pages
from cli.check import description
from services.console import routes
from services.reporter import events_page, events_schema
from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent / "docs"
SCHEMAS = "events/schemas/"


def settings_page() -> str:
    """The page of all settings."""
    lines = [
        "# Settings",
        "",
        "Environment variables, or the same keys (`smtp_listen` or `HORO_SMTP_LISTEN`) in a TOML file named by `HORO_CONFIG`.",
        "A wrong or unknown key stops the start with its name. Durations are written as 90s, 15m, 4h or 5d.",
        "This page is made from `shared/settings.py` by `python -m cli.reference`.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    defaults = Settings()
    for name in Settings.__struct_fields__:
        value = str(getattr(defaults, name))
        lines.append(f"| `{PREFIX}{name.upper()}` | {f'`{value}`' if value else ''} | {description(name)} |")
    return "\n".join(lines) + "\n"


def pages() -> dict[str, str]:
    """Every page, by its path below docs/."""
    api = routes.document()
    return {
        "reference/settings.md": settings_page(),
        "reference/commands.md": reference_pages.command_page(),
        "reference/metrics.md": reference_pages.metrics_page(),
        **events_page.pages(),
        "reference/openapi.json": api.decode(),
        "reference/api.md": reference_pages.api_page(msgspec.json.decode(api)),
    }


def unkept(name: str, old: str, new: str) -> list[str]:
    """Why a page must not take another one's place: a published schema is kept for as long as its version is."""
    if not name.startswith(SCHEMAS):
        return []
    return events_schema.unkept(msgspec.json.decode(old), msgspec.json.decode(new), request=".request." in name)


def main() -> int:
    """Write the pages, or with --check compare them; exit status 1 when one is out of date, or would break what its readers rely on."""
    stale, refused = [], []
    for name, page in pages().items():
        path = ROOT / name
        old = path.read_text(encoding="utf-8") if path.is_file() else None
        if old == page:
            continue
        if old is not None and (broken := unkept(name, old, page)):
            refused.append(f"{name}: {'; '.join(broken)}")
        elif "--check" in sys.argv:
            stale.append(name)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page, encoding="utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}; run `python -m cli.reference`", file=sys.stderr)
    if refused:
        advice = "Give the event (services/reporter/events.py) or request a new version, and leave the old version's file where it is."
        print("\n".join([*refused, advice]), file=sys.stderr)
    return 1 if stale or refused else 0


if __name__ == "__main__":
    sys.exit(main())
