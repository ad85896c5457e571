"""A Docker engine: the one that answers already, or one of our own, started as root on its own socket and data.

Our own is shared by all test runs of the machine and ends with the last of them, however that ends: each run holds a shared lock, and the small
process that started the engine waits for the exclusive one. It keeps its images in /var/tmp between runs.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import docker.errors
import psutil
import requests
from docker.models.containers import Container

from tests.support.install import can_install, locked, require, tell
from tests.support.runner import CannotServe
from tests.support.waiting import wait_until

FOLDER = Path("/var/tmp/horo-test-docker")
SOCKET = FOLDER / "docker.sock"
LABEL = "horo.test.owner"
"""Label of our containers: the test process they belong to, as pid and time of birth."""

_START_TIMEOUT = 40.0
_ROOT = Path(__file__).parents[2]
_VARIANTS: tuple[tuple[str, ...], ...] = (
    (),
    # No overlay file systems (a container inside a container, say): slow and large, but plain files.
    ("--storage-driver=vfs",),
    # No netfilter: containers reach nothing, but their published ports work through docker-proxy.
    ("--storage-driver=vfs", "--iptables=false", "--ip6tables=false"),
)
_hold: int | None = None
"""Descriptor of the shared lock that this process holds on our own engine."""


def acquire() -> docker.DockerClient:
    """A client of an engine that answers, which docker and testcontainers will use from now on in this process. Raises `CannotServe`."""
    os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"  # its image is one more to pull, and `sweep` does its work
    # Ports are published on our loopback. In a container with an engine of its own inside, testcontainers would look for them at its bridge.
    os.environ["TESTCONTAINERS_CONNECTION_MODE"] = "docker_host"
    client = _answering(None) or _own()
    sweep(client)
    return client


def release() -> None:
    """This process needs the engine no more."""
    global _hold  # noqa: PLW0603 -- one for the whole process
    if _hold is not None:
        os.close(_hold)
        _hold = None


def owner() -> str:
    """This process, for `LABEL`."""
    return _identity(psutil.Process())


def sweep(client: docker.DockerClient) -> None:
    """Remove containers whose test process is gone: it was killed and could not."""
    for container in client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True):
        pid = int(container.labels[LABEL].partition("-")[0])
        if not psutil.pid_exists(pid) or _identity(psutil.Process(pid)) != container.labels[LABEL]:
            _remove(container)


def _remove(container: Container) -> None:
    """Remove a container that another test process may be removing at the same moment."""
    try:
        container.remove(force=True, v=True)
    except docker.errors.NotFound:
        pass
    except docker.errors.APIError as error:
        if error.status_code != requests.codes.conflict:  # "removal of container ... is already in progress"
            raise


def _identity(process: psutil.Process) -> str:
    return f"{process.pid}-{int(process.create_time())}"


def _answering(url: str | None) -> docker.DockerClient | None:
    """A client of the engine at `url`, or of that which the environment names; None when it does not answer, or from another machine."""
    try:
        client = _client(url, timeout=5)
        name = client.info()["Name"]
        client.close()
    except (docker.errors.DockerException, requests.RequestException):
        return None
    return _client(url, timeout=300) if _is_here(name) else None


def _client(url: str | None, timeout: int) -> docker.DockerClient:
    return docker.DockerClient(base_url=url, timeout=timeout) if url else docker.from_env(timeout=timeout)


def _is_here(name: str) -> bool:
    """Whether ports that this engine publishes on loopback are on ours: not over the network, nor through the mounted socket of a host around us."""
    remote = os.environ.get("DOCKER_HOST", "").startswith(("tcp:", "ssh:", "http"))
    inside = Path("/.dockerenv").exists() or Path("/run/.containerenv").exists()
    return not remote and (not inside or name == socket.gethostname())


def _own() -> docker.DockerClient:
    """A client of our own engine, started if it is not running."""
    global _hold  # noqa: PLW0603
    if os.geteuid() != 0:
        raise CannotServe(
            "No Docker engine answers, and only root can start one: start Docker and let this user use it, or run the tests as root."
        )
    if shutil.which("dockerd") is None:
        if not can_install():
            raise CannotServe("There is no Docker engine on this machine: install and start one.")
        require(("docker.io", "iptables"))
    FOLDER.mkdir(parents=True, exist_ok=True)
    url = f"unix://{SOCKET}"
    with locked("engine"):
        if _hold is None:
            _hold = _lock(fcntl.LOCK_SH)
        client = _answering(url) or _start(url)
    os.environ["DOCKER_HOST"] = url
    return client


def _start(url: str) -> docker.DockerClient:
    for variant in _VARIANTS:
        tell(f"starting dockerd {' '.join(variant)}".rstrip())
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.support.engine", *variant],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

        def settled(keeper: subprocess.Popen[bytes] = keeper) -> bool:
            return _answering(url) is not None or keeper.poll() is not None

        wait_until(settled, "dockerd to answer or to end", _START_TIMEOUT, pause=0.2)
        if client := _answering(url):
            return client
    raise CannotServe(f"dockerd does not start on this machine: start Docker yourself, or see {FOLDER / 'log'}.")


def _lock(kind: int) -> int:
    """Take the engine's lock, waiting for it; its descriptor."""
    descriptor = os.open(FOLDER / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(descriptor, kind)
    return descriptor


def _keep(variant: list[str]) -> int:
    """Run dockerd until nobody uses it any more. Its exit status."""
    with (FOLDER / "log").open("wb") as log:
        options = [
            f"--data-root={FOLDER / 'data'}",
            f"--exec-root={FOLDER / 'exec'}",
            f"--pidfile={FOLDER / 'pid'}",
            f"--host=unix://{SOCKET}",
        ]
        engine = subprocess.Popen(["dockerd", *options, *variant], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    # An engine that ends by itself, because this variant of it cannot run here, ends this process too.
    signal.signal(signal.SIGCHLD, lambda *_: os._exit(1) if engine.poll() is not None else None)
    descriptor = _lock(fcntl.LOCK_EX)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    engine.terminate()
    status = engine.wait()
    os.close(descriptor)
    return status


@contextmanager
def engine() -> Iterator[docker.DockerClient]:
    """An engine for the length of a block."""
    client = acquire()
    try:
        yield client
    finally:
        client.close()
        release()


if __name__ == "__main__":
    sys.exit(_keep(sys.argv[1:]))
