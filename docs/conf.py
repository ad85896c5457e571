"""How the documentation becomes a site: `make docs`. Nothing is fetched, so it is built on a machine without a network."""

from __future__ import annotations

from importlib.metadata import version as _version

project = "Horo"
author = "The Horo founders"
copyright = "2026, the Horo founders"  # noqa: A001 -- Sphinx reads this name
release = version = _version("horo")
language = "en"

extensions = ["myst_parser"]
exclude_patterns = ["_build", "events/examples"]

myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 4
nitpicky = True
smartquotes = False  # an option begins with two hyphens, not with a dash
highlight_language = "none"  # a block says what it is, or is shown as it stands
# A folder: a link where the repository is read in a browser, plain text here.
nitpick_ignore = [("myst", "events/schemas")]

html_theme = "furo"
html_title = "Horo"
html_static_path = ["_static"]
html_css_files = ["horo.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "light_css_variables": {
        "color-brand-primary": "#9b1c31",
        "color-brand-content": "#9b1c31",
        "color-brand-visited": "#7a2a52",
    },
    "dark_css_variables": {
        "color-brand-primary": "#ff9aa8",
        "color-brand-content": "#ff9aa8",
        "color-brand-visited": "#e0a0d0",
    },
    "navigation_with_keys": True,
}
