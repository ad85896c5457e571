"""Reference pages made from what is declared in the code: commands, metrics, the API. The same text on every machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

import shared.journal  # noqa: F401 -- the metrics are in the registry when it has been imported
from cli.main import app

_CONTENTS = re.compile(r"## Table of Contents\n.*?(?=\*\*Commands\*\*)", re.DOTALL)
_PIPE = re.compile(r"(?<!\\)\|")
_SUFFIX = {"counter": "_total"}


def command_page() -> str:
    """The page of all commands, as `--help` tells them."""
    text = app.generate_docs("markdown", recursive=True, heading_level=1)
    text = re.sub(r"^(horo .*) -m cli\.reference\b", r"\1", text, flags=re.MULTILINE)  # it names the program that runs
    text = _CONTENTS.sub("", text).replace("# horo\n", _COMMANDS, 1)
    text = re.sub(r"\]\(#(horo[a-z-]*)\)", r"](#\1)", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


_COMMANDS = """# Commands

Every command takes `--help`; with `--json` it prints one JSON document, for programs. This page is made from the commands themselves by
`python -m cli.reference`.
"""


# --- metrics ----------------------------------------------------------------------------------------------------------
def metrics_page() -> str:
    """The page of all metrics that `/metrics` has of Horo's own."""
    lines = [
        "# Metrics",
        "",
        "Every service answers `/metrics` on `HORO_HEALTH_LISTEN` in the format of Prometheus, with the usual `process_*` and `python_*`",
        "beside these.",
        "No label has a value that a client, an author or a member could choose. A histogram has `_bucket`, `_sum` and `_count`.",
        "This page is made from where they are declared by `python -m cli.reference`.",
        "",
        "| metric | type | labels | meaning |",
        "|---|---|---|---|",
    ]
    for metric in sorted(declared(), key=lambda one: str(one._name)):
        kind = str(metric._type)
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        lines.append(
            f"| `{metric._name}{_SUFFIX.get(kind, '')}` | {kind} | {labels} | {_cell(metric._documentation)} |"
        )
    return "\n".join(lines) + "\n"


def declared() -> Iterator[MetricWrapperBase]:
    """Every metric of Horo's own that is declared: what the journal moves, wherever it stands."""
    for collector in REGISTRY._collector_to_names:
        if isinstance(collector, MetricWrapperBase) and collector._name.startswith("horo_"):
            yield collector


def _cell(text: str) -> str:
    """Text that may stand in a cell of a table."""
    return _PIPE.sub(r"\\|", " ".join(text.split()))


# --- the API ----------------------------------------------------------------------------------------------------------
def api_page(document: Mapping[str, Any]) -> str:
    """The page of the API, from its OpenAPI document."""
    info = document["info"]
    parts = [
        f"# API\n\n{info['description'].strip()}\n",
        "The same as an OpenAPI document: [openapi.json](openapi.json). This page is made from it by `python -m cli.reference`.\n",
    ]
    for path, operations in document["paths"].items():
        parts += [_operation(method.upper(), path, one) for method, one in operations.items()]
    parts.append("## What is sent and answered\n")
    parts += [_schema(name, one) for name, one in sorted(document["components"]["schemas"].items())]
    return "\n".join(parts)


def _operation(method: str, path: str, one: Mapping[str, Any]) -> str:
    lines = [f"## {one['summary']}", "", f"`{method} {path}`", ""]
    if one.get("description"):
        lines += [one["description"].strip(), ""]
    scopes = [scope for needed in one.get("security", ()) for scope in needed.get("token", ())]
    if scopes:
        lines += [f"Scope of the token: {', '.join(f'`{scope}`' for scope in scopes)}.", ""]
    if parameters := one.get("parameters"):
        lines += ["| parameter | in | type | |", "|---|---|---|---|"]
        for parameter in parameters:
            told = parameter.get("description", "")
            need = "" if not parameter.get("required") or parameter["in"] == "path" else "Required. "
            lines.append(
                f"| `{parameter['name']}` | {parameter['in']} | {_type(parameter['schema'])} | {need}{_cell(told)} |"
            )
        lines.append("")
    if body := one.get("requestBody"):
        lines += [f"Body: {_contents(body)}.", ""]
    lines += ["| status | answer | |", "|---|---|---|"]
    lines += [
        f"| {status} | {_contents(answer)} | {_cell(answer['description'])} |"
        for status, answer in one["responses"].items()
    ]
    return "\n".join([*lines, ""])


def _contents(holder: Mapping[str, Any]) -> str:
    return ", ".join(f"{_type(one.get('schema', {}))} as `{kind}`" for kind, one in holder.get("content", {}).items())


def _schema(name: str, one: Mapping[str, Any]) -> str:
    lines = [f"({_anchor(name)})=", f"### {name}", ""]
    if one.get("description"):
        lines += [one["description"].strip(), ""]
    if values := one.get("enum"):
        lines += ["One of " + ", ".join(f"`{value}`" for value in values) + ".", ""]
    if fields := one.get("properties"):
        needed = set(one.get("required", ()))
        lines += ["| field | type | |", "|---|---|---|"]
        for field, schema in fields.items():
            need = "" if field in needed else " (optional)"
            lines.append(f"| `{field}`{need} | {_type(schema)} | {_cell(schema.get('description', ''))} |")
        lines.append("")
    return "\n".join(lines)


def _type(schema: Mapping[str, Any]) -> str:
    """A type in words, with links to those that have a name."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{_anchor(name)})"
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    if isinstance(kind, list):
        return " or ".join(kind)
    return str(schema.get("format", kind))


def _anchor(name: str) -> str:
    return f"api-{name.lower()}"
