"""Writes the reference pages that are made from declarations: `python -m cli.reference` writes them, `--check` says whether they are up to date."""

from __future__ import annotations

import sys
from pathlib import Path

from cli.check import description
from shared.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent / "docs" / "reference"


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


PAGES = {"settings.md": settings_page}


def main() -> int:
    """Write the pages, or with --check compare them; exit status 1 when one is out of date."""
    stale = []
    for name, make in PAGES.items():
        path, page = ROOT / name, make()
        if "--check" in sys.argv:
            if not path.is_file() or path.read_text() != page:
                stale.append(str(path.name))
        else:
            ROOT.mkdir(parents=True, exist_ok=True)
            path.write_text(page)
    if stale:
        print(f"out of date: {', '.join(stale)}; run `python -m cli.reference`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
