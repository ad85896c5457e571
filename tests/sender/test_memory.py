"""P10: what a sender takes of memory does not grow with the message, nor with how many get it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from tests.support.sink import Sink

MIB = 16
BATCHES = 10
BOUND = 64.0
"""MiB; one copy of the message for each batch in hand would be 160."""


async def weighed(folder: Path, hop: str) -> float:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.sender.weigh", str(folder), str(MIB), hop, str(BATCHES), "2",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        told, trouble = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, trouble.decode()
    return float(told)


@pytest.mark.parametrize("protocol", ["smtp", "lmtp"])
async def test_p10_ten_large_messages_at_once_over_the_network(tmp_path: Path, protocol: str) -> None:
    async with Sink(protocol=protocol, keep=False) as sink:  # type: ignore[arg-type]
        grown = await weighed(tmp_path, f"{protocol}://127.0.0.1:{sink.port}")
    large = [copy for copy in sink.copies if copy.size > 1000]
    assert len(large) == BATCHES * 2
    assert {copy.size for copy in large} == {large[0].size}
    assert large[0].size > (MIB - 1) << 20
    assert grown < BOUND


async def test_p10_ten_large_messages_at_once_into_maildirs(tmp_path: Path) -> None:
    grown = await weighed(tmp_path, f"maildir:{tmp_path / 'mail'}")
    files = [path for path in (tmp_path / "mail").rglob("*") if path.is_file() and path.stat().st_size > 1000]
    assert len(files) == BATCHES * 2
    assert grown < BOUND
