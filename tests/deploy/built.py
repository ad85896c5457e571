"""The image of this tree, built once for all test processes of a run; what is asked of its containers."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import docker.errors
from docker.models.containers import Container

from tests.deploy import stand_ins
from tests.support import images
from tests.support.engine import LABEL, owner
from tests.support.install import locked, tell

ROOT = Path(__file__).parents[2]
TAG = "horo-test/horo:built"
HARDENED: dict[str, Any] = {
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges"],
    "tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,size=64m"},
}
"""As the manifests run it: a root file system that nobody can write to, no capability, no way to another user."""


def horo(client: docker.DockerClient) -> str:
    """The tag of the image, made of this tree as it is. Layers that did not change are the engine's own of before."""
    images.prepare(client, [stand_ins.base()])
    with locked("horo-image"):
        before = _known(client, TAG)
        tell("building the image of Horo")
        client.images.build(**_build(tag=TAG))
        if before not in ("", _known(client, TAG)):
            _forget(client, before)
    return TAG


def bill(client: docker.DockerClient) -> bytes:
    """What `docker build --target sbom --output` writes."""
    with locked("horo-image"):
        image, _ = client.images.build(**_build(target="sbom"))
    container = client.containers.create(image.id, command=["none"], labels={LABEL: owner()})
    try:
        return content(container, "/sbom.json")
    finally:
        container.remove()


@contextmanager
def running(client: docker.DockerClient, command: Sequence[str], **options: Any) -> Iterator[Container]:
    """A container of Horo as it is run in earnest, which ends with the block."""
    container = client.containers.run(
        TAG, list(command), detach=True, labels={LABEL: owner()}, **{**HARDENED, **options}
    )
    try:
        yield container
    finally:
        container.remove(force=True, v=True)


def printed(client: docker.DockerClient, script: str, interpreter: Sequence[str] = ("sh", "-c")) -> str:
    """What a script prints that runs in a container of the image; with another end than 0 it is a failed test."""
    with running(client, [script], entrypoint=list(interpreter)) as container:
        status = container.wait(timeout=120)["StatusCode"]
        said = str(container.logs().decode(errors="replace"))
    assert status == 0, said
    return said


def content(container: Container, path: str) -> bytes:
    """A file of a container."""
    chunks, _ = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        file = archive.extractfile(archive.next() or tarfile.TarInfo())
        assert file is not None, path
        return file.read()


def _build(**options: Any) -> dict[str, Any]:
    return {
        "fileobj": _context(),
        "custom_context": True,
        "buildargs": {"BASE": stand_ins.base().tag},
        "network_mode": "host",
        "rm": True,
        "forcerm": True,
        **options,
    }


def _context() -> io.BytesIO:
    """What the build may see: what .dockerignore lets through, which the engine applies once more.

    docker-py's own way asks of every file of the tree, environments and caches among them, whether it is wanted: half a minute of CPU.
    """
    wanted = re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("Dockerfile", ".dockerignore", *(one for one in wanted if one != "deploy")):
            archive.add(ROOT / name, name, filter=_source)
    buffer.seek(0)
    return buffer


def _source(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if member.name.endswith(("__pycache__", ".pyc")) else member


def _known(client: docker.DockerClient, tag: str) -> str:
    try:
        return str(client.images.get(tag).id)
    except docker.errors.ImageNotFound:
        return ""


def _forget(client: docker.DockerClient, image: str) -> None:
    """Remove the image of a tree that is no more; a container of another run may still be made of it."""
    try:
        client.images.remove(image)
    except docker.errors.APIError as error:
        tell(f"an image of before stays: {error.explanation}")
