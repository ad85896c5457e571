"""`horo up` (all services in one process) and `horo serve` (one service, or some)."""

from __future__ import annotations

import importlib
import os
from typing import Annotated, Literal

from cyclopts import Parameter

from cli import demo as demo_groups
from cli.check import listens
from cli.output import say
from shared import journal
from shared.parts import Parts
from shared.runtime import Build, apart, run_loop, serve
from shared.settings import Settings, load

ROLES = ("ingress", "expander", "sender", "reporter", "console")
Role = Literal["ingress", "expander", "sender", "reporter", "console"]


def build_of(role: str) -> Build:
    """How to build a service from its parts; each service is wired in its own `__main__`."""
    build: Build = importlib.import_module(f"services.{role}.__main__").build
    return build


def up(*, demo: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Run all services in this process, on the files in HORO_DATA or on the servers that the settings name.

    Parameters
    ----------
    demo
        Add the demo domain example.test with the groups office@ and board@.
    """
    settings = _settings("console")

    async def ready(parts: Parts) -> None:
        if demo:
            from shared.directory.open import open_registry

            registry = await open_registry(settings)
            try:
                await demo_groups.create(registry)
            finally:
                await registry.close()
        _welcome(settings, demo)

    roles = [role for role in ROLES if role != "console" or settings.console_listen]
    run_loop(serve(settings, {role: build_of(role) for role in roles}, ready=ready))


def serve_role(role: Role, /, *more: Role) -> None:
    """Run one service, or several together, as a process of a cluster.

    Several in one process share its connections and write to the database together: on a machine with few cores that is cheaper than a
    process each (`horo serve ingress` and `horo serve expander sender reporter` on two).

    Parameters
    ----------
    role
        Which one.
    more
        Others in the same process.
    """
    settings = _settings("json")
    apart(settings)
    run_loop(serve(settings, {name: build_of(name) for name in (role, *more)}))


def _settings(form: str) -> Settings:
    settings = load(os.environ)
    journal.configure(settings.log_level, settings.log_format if "HORO_LOG_FORMAT" in os.environ else form)
    return settings


def _welcome(settings: Settings, demo: bool) -> None:
    say("")
    say("Horo is up.", "bold green")
    for name, listen in listens(settings):
        say(f"  {name:<8}{listen}")
    say(f"  mail    {settings.route_table.default}")
    say(f"  data    {settings.data_path.resolve()}")
    if demo:
        say("")
        say("Try, in another terminal:", "bold")
        say(f"  .venv/bin/horo send --to {demo_groups.OFFICE}")
        say("  .venv/bin/horo trace --group office@example.test")
        say("  .venv/bin/horo group show office@example.test")
    say("Ctrl-C stops it; nothing is lost.", "dim")
    say("")
