"""promtool, Prometheus' own checker of rules: the one on the PATH, or that of Debian's package, unpacked and not installed (it brings 300 MB)."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.support.install import can_install, locked, tell
from tests.support.runner import CannotServe

PACKAGE = "prometheus"
_TIMEOUT = 300


def promtool() -> str:
    """Where promtool is. Raises `CannotServe` where it cannot be had."""
    if found := shutil.which("promtool"):
        return found
    kept = Path(tempfile.gettempdir()) / "horo-test-promtool"
    if not can_install():
        raise CannotServe(f"The alerts are checked by promtool: as root, run `apt-get install {PACKAGE}`.")
    with locked("promtool"):
        if not (kept / "promtool").exists():
            _fetch(kept)
    return str(kept / "promtool")


def _fetch(folder: Path) -> None:
    tell(f"fetching promtool from Debian's package {PACKAGE}")
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["chmod", "755", place], check=True)
        done = _run(["apt-get", "-q", "download", PACKAGE], place)
        if done.returncode:
            _run(["apt-get", "-q", "update"], place)
            done = _run(["apt-get", "-q", "download", PACKAGE], place)
        if done.returncode:
            raise CannotServe(f"`apt-get download {PACKAGE}` failed: {done.stderr.strip()[-400:]}")
        (package,) = Path(place).glob(f"{PACKAGE}_*.deb")
        done = _run(["dpkg-deb", "--extract", str(package), f"{place}/all"], place)
        if done.returncode:
            raise CannotServe(f"{package.name} cannot be unpacked: {done.stderr.strip()[-400:]}")
        folder.mkdir(exist_ok=True)
        draft = folder / "promtool.new"
        shutil.copy2(f"{place}/all/usr/bin/promtool", draft)
        draft.rename(folder / "promtool")


def _run(command: list[str], folder: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
