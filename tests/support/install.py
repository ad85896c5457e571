"""Installs what is missing from Debian's archive, where that is possible: as root, with apt."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.runner import CannotServe

_POLICY = Path("/usr/sbin/policy-rc.d")
_TIMEOUT = 600


def can_install() -> bool:
    """Whether this process may install packages."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def require(packages: tuple[str, ...]) -> None:
    """Install the packages; none of the services in them is started. Raises `CannotServe`."""
    wish = " ".join(packages)
    if not can_install():
        raise CannotServe(
            f"The tests need real servers: as root, run `apt-get install {wish}`, or start a Docker engine."
        )
    with locked("apt"), _no_services():
        tell(f"installing {wish}")
        # The lists of a fresh image may be missing or old: only then are they fetched.
        if _apt("install", *packages).returncode:
            _apt("update")
            done = _apt("install", *packages)
            if done.returncode:
                raise CannotServe(
                    f"The tests need real servers, and `apt-get install {wish}` failed: {done.stderr.strip()[-400:]}"
                )


def tell(text: str) -> None:
    """A line of progress that pytest's capture does not hold back: what is done here can take minutes."""
    print(f"tests: {text}", file=sys.__stderr__, flush=True)


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Held by one process of this user at a time, across test workers and runs."""
    path = Path(tempfile.gettempdir()) / f"horo-test-{name}-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _apt(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=120", "--no-install-recommends", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT, check=False)


@contextmanager
def _no_services() -> Iterator[None]:
    """Debian starts a service when it installs it, unless this file says no. One that is there already is the machine's own and stays."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)
