"""`python -m bench.members FILE`: make groups and members in a Horo that the HORO_* settings name. FILE has one JSON group a line.

One process for all groups, through the same calls as `horo group create` and `horo member import`, which would start a process for each.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

PAGE = 5000


def _lines(path: str) -> Iterator[dict[str, Any]]:
    with Path(path).open() as file:
        for line in file:
            yield json.loads(line)


async def _load(path: str) -> None:
    from cli import access
    from shared.directory import NewMember

    async def pages(members: Sequence[str]) -> AsyncIterator[Sequence[NewMember]]:
        for start in range(0, len(members), PAGE):
            yield [NewMember(address=address) for address in members[start : start + PAGE]]

    async with access.registry() as registry:
        for group in _lines(path):
            await registry.create_group(group["address"], **group["settings"])
            await registry.import_members(group["address"], pages(group["members"]))


if __name__ == "__main__":
    asyncio.run(_load(sys.argv[1]))
