"""The machine and the programs that results belong to."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path

from bench.measure import MIB
from bench.results import Result


def description() -> dict[str, str]:
    """What a reader has to know of this machine."""
    return {
        "Processor": f"{_field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores (virtual)"
        if _virtual()
        else f"{_field('/proc/cpuinfo', 'model name')}, {os.cpu_count()} cores",
        "Memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / MIB / 1024:.0f} GiB",
        "System": f"{_release()}, Linux {platform.release()}",
    }


def versions(found: Iterable[Result]) -> dict[str, str]:
    """Program -> version, of all systems that were measured."""
    return {name: version for result in found for name, version in result.versions.items()}


def _field(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "unknown")


def _virtual() -> bool:
    return "hypervisor" in _field("/proc/cpuinfo", "flags")


def _release() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next((line.partition("=")[2].strip('"') for line in lines if line.startswith("PRETTY_NAME=")), "Linux")
