"""What an import would change here, and the change. Each group is one transaction; done twice, the second finds nothing to do.

A group that is here already gets the members it lacks and keeps the rest, settings among it, for people may have changed them since; with `replace`
it becomes what the source says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from cli.migrate.found import Found, Wanted
from shared.address import key
from shared.directory import Registry
from shared.directory.rules import Prepared
from shared.groups import Group, Member

PAGE = 1000
AT_ONCE = 10_000
"""Members that are written in the transaction that makes a group; more go through an import, with the group disabled until it is done."""

Action = Literal["create", "change", "keep"]


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to one group. `kept` are settings that the source has otherwise and that stay as they are here, as (here, there)."""

    address: str
    action: Action
    settings: Mapping[str, Any] = {}
    add: Sequence[str] = ()
    remove: Sequence[str] = ()
    change: Sequence[str] = ()
    kept: Mapping[str, tuple[Any, Any]] = {}


class DomainStep(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to one domain."""

    name: str
    action: Action
    postmaster: str = ""


async def compare_domains(registry: Registry, found: Found) -> list[DomainStep]:
    """The steps for the domains that the source names."""
    steps = []
    for name, postmaster in sorted(found.domains.items()):
        there = await registry.domain(name)
        action: Action = "create" if there is None else "keep"
        if there is not None and postmaster and key(there.postmaster) != key(postmaster):
            action = "keep" if there.postmaster else "change"
        steps.append(DomainStep(name=name, action=action, postmaster=postmaster))
    return steps


async def compare(registry: Registry, wanted: Wanted, *, replace: bool) -> Step:
    """The step for one group."""
    group = await registry.group(wanted.address)
    if group is None:
        return Step(
            address=wanted.address,
            action="create",
            settings=wanted.settings,
            add=[one.address for one in wanted.members],
        )
    differing = _differing(group, wanted)
    here = {one.key: one async for one in _members(registry, wanted.address)}
    there = {one.key: one for one in wanted.members}
    add = [one.address for name, one in there.items() if name not in here]
    if not replace:
        kept = {name: (getattr(group.settings, name), value) for name, value in differing.items()}
        return Step(address=wanted.address, action="change" if add else "keep", add=add, kept=kept)
    remove = [one.address for name, one in here.items() if name not in there]
    change = [one.address for name, one in there.items() if name in here and _otherwise(here[name], one)]
    action: Action = "change" if differing or add or remove or change else "keep"
    return Step(address=wanted.address, action=action, settings=differing, add=add, remove=remove, change=change)


async def apply_domain(registry: Registry, step: DomainStep) -> None:
    """Do a domain's step."""
    changes = {"postmaster": step.postmaster} if step.postmaster else {}
    if step.action == "create":
        await registry.create_domain(step.name, **changes)
    elif step.action == "change":
        await registry.set_domain(step.name, **changes)


async def apply(registry: Registry, step: Step, wanted: Wanted) -> None:
    """Do a group's step. Raises `DirectoryError`."""
    if step.action == "create":
        await _create(registry, wanted)
    elif step.action == "change" and (step.remove or step.change):
        await registry.import_members(step.address, _pages(wanted.members), replace=True)
    elif step.action == "change" and step.add:
        missing = set(step.add)
        await registry.import_members(step.address, _pages([one for one in wanted.members if one.address in missing]))
    if step.action == "change" and step.settings:
        await registry.set_group(step.address, **step.settings)


async def _create(registry: Registry, wanted: Wanted) -> None:
    if len(wanted.members) <= AT_ONCE:
        await registry.create_group(wanted.address, members=wanted.members, **wanted.settings)
        return
    await registry.create_group(wanted.address, **{**wanted.settings, "disabled": True})
    await registry.import_members(wanted.address, _pages(wanted.members))
    await registry.set_group(wanted.address, disabled=wanted.settings.get("disabled", False))


def _differing(group: Group, wanted: Wanted) -> dict[str, Any]:
    return {name: value for name, value in wanted.settings.items() if getattr(group.settings, name) != value}


def _otherwise(here: Member, there: Prepared) -> bool:
    """Whether an import would change a member: what it does not say stays."""
    said = ((here.paused, there.paused), (here.own_copies, there.own_copies), (here.name, there.name or None))
    return any(new is not None and old != new for old, new in said)


async def _members(registry: Registry, address: str) -> AsyncIterator[Member]:
    page = await registry.list_members(address, limit=PAGE)
    while page:
        for one in page:
            yield one
        page = await registry.list_members(address, after=page[-1].key, limit=PAGE)


async def _pages(members: Sequence[Prepared]) -> AsyncIterator[Sequence[Prepared]]:
    for start in range(0, len(members), PAGE):
        yield members[start : start + PAGE]
