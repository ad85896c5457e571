"""The images that the tests' containers are made from; `python -m tests.support.images` makes them all and prints what it does.

The official ones are pulled where a registry can be reached. Where none can, they are made from Debian's packages: debootstrap gives a base, and a
Dockerfile adds the server, set up to take the same environment and files as the official image. They stay in the engine under names of our own.
"""

from __future__ import annotations

import http.client
import io
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import docker
import docker.errors

from tests.support.engine import engine
from tests.support.install import can_install, locked, require, tell
from tests.support.runner import CannotServe

_REGISTRY = "registry-1.docker.io"
_REGISTRY_TIMEOUT = 4.0
_DEBOOTSTRAP_TIMEOUT = 600
_SEAL = "horo.test.image"
_EDITION = "1"
"""To be raised when a Dockerfile below changes: images of another edition are made again."""


@dataclass(frozen=True)
class Image:
    """A server's image: its name here, the official one, and the way to make it."""

    tag: str
    official: str
    suite: str
    dockerfile: str
    files: dict[str, str] = field(default_factory=dict)


_INSTALL = """
FROM horo-test/debian:{suite}
RUN printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d \\
 && apt-get update && apt-get install -y --no-install-recommends {packages} && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
"""

_RABBITMQ = (
    _INSTALL
    + """
RUN printf '[rabbitmq_management].\\n' > /etc/rabbitmq/enabled_plugins && mkdir -p /etc/rabbitmq/conf.d
ENV HOME=/var/lib/rabbitmq PATH=/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 RABBITMQ_LOGS=-
USER rabbitmq
EXPOSE 5672 15672
CMD ["rabbitmq-server"]
"""
)

_REDIS = (
    _INSTALL
    + """
WORKDIR /var/lib/redis
USER redis
EXPOSE 6379
CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no"]
"""
)

_POSTGRES = (
    _INSTALL
    + """
ENV PATH=/usr/lib/postgresql/15/bin:/usr/sbin:/usr/bin:/sbin:/bin PGDATA=/var/lib/postgresql/data LANG=C.UTF-8
COPY entrypoint /entrypoint
RUN chmod 755 /entrypoint
USER postgres
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["/entrypoint"]
CMD ["postgres"]
"""
)

_POSTGRES_ENTRYPOINT = """#!/bin/sh
# As the official image does: a new cluster for POSTGRES_USER with the database POSTGRES_DB, then the server.
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf '%s' "$POSTGRES_PASSWORD" > /tmp/password
    initdb -U "$POSTGRES_USER" --pwfile=/tmp/password --auth=scram-sha-256 -E UTF8 --locale=C.UTF-8 --no-sync > /dev/null
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    if [ "${POSTGRES_DB:-postgres}" != postgres ]; then
        printf 'CREATE DATABASE "%s"\\n' "$POSTGRES_DB" | postgres --single postgres > /dev/null
    fi
fi
exec "$@" -h '*'
"""

IMAGES = {
    "rabbitmq:3.10": Image(
        "horo-test/rabbitmq:3.10",
        "rabbitmq:3.10-management",
        "bookworm",
        _RABBITMQ.format(suite="bookworm", packages="rabbitmq-server"),
    ),
    "rabbitmq:4": Image(
        "horo-test/rabbitmq:4",
        "rabbitmq:4-management",
        "trixie",
        _RABBITMQ.format(suite="trixie", packages="rabbitmq-server"),
    ),
    "redis:7": Image(
        "horo-test/redis:7", "redis:7", "bookworm", _REDIS.format(suite="bookworm", packages="redis-server")
    ),
    "postgres:15": Image(
        "horo-test/postgres:15",
        "postgres:15",
        "bookworm",
        _POSTGRES.format(suite="bookworm", packages="postgresql-15"),
        {"entrypoint": _POSTGRES_ENTRYPOINT},
    ),
}


def prepare(client: docker.DockerClient, images: Iterable[Image] = tuple(IMAGES.values())) -> None:
    """See that the engine has the images, all servers' where none are named; pulls or makes those it lacks, which takes minutes.

    Raises `CannotServe`.
    """
    with locked("images"):
        missing = [image for image in images if not _there(client, image.tag)]
        registry = bool(missing) and _registry_answers()
        for image in missing:
            if not (registry and _pull(client, image)):
                _make(client, image)


def _there(client: docker.DockerClient, tag: str) -> bool:
    try:
        labels = client.images.get(tag).labels
    except docker.errors.ImageNotFound:
        return False
    return bool(labels.get(_SEAL, _EDITION) == _EDITION)  # a pulled image has no label


def _registry_answers() -> bool:
    connection = http.client.HTTPSConnection(_REGISTRY, timeout=_REGISTRY_TIMEOUT)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status in (200, 401)
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _pull(client: docker.DockerClient, image: Image) -> bool:
    tell(f"pulling {image.official}")
    try:
        client.images.pull(image.official).tag(image.tag)
    except docker.errors.APIError as error:
        tell(f"{image.official} cannot be pulled ({error.explanation or error}); making it from Debian's packages")
        return False
    return True


def _make(client: docker.DockerClient, image: Image) -> None:
    _make_base(client, image.suite)
    tell(f"building {image.tag} from Debian {image.suite}")
    context = _context({"Dockerfile": image.dockerfile + f"\nLABEL {_SEAL}={_EDITION}\n", **image.files})
    try:
        # On the host's network: what reaches Debian's archive there need not work through a bridge.
        client.images.build(
            fileobj=context, custom_context=True, tag=image.tag, network_mode="host", rm=True, forcerm=True
        )
    except docker.errors.BuildError as error:
        text = "".join(line.get("stream", "") or line.get("error", "") for line in error.build_log)
        raise CannotServe(
            f"The image {image.tag} cannot be built; it needs Debian's archive or an image registry: {text[-800:]}"
        ) from error


def _make_base(client: docker.DockerClient, suite: str) -> None:
    if _there(client, f"horo-test/debian:{suite}"):
        return
    if not can_install():
        raise CannotServe("No image registry answers, and making images from Debian's packages needs root on Debian.")
    if shutil.which("debootstrap") is None:
        require(("debootstrap",))
    tell(f"debootstrap {suite}")
    with tempfile.TemporaryDirectory(prefix="horo-test-debootstrap-") as scratch:
        root = Path(scratch) / "root"
        command = ["debootstrap", "--variant=minbase", suite, str(root)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DEBOOTSTRAP_TIMEOUT, check=False)
        if done.returncode:
            raise CannotServe(
                f"No image registry answers, and `{' '.join(command[:3])}` failed: {done.stdout[-400:]}{done.stderr[-400:]}"
            )
        archive = Path(scratch) / "root.tar"
        # tar itself, not tarfile: it keeps devices, links and owners without being told how.
        subprocess.run(
            [
                "tar",
                "-C",
                str(root),
                "--numeric-owner",
                "--exclude=./proc/*",
                "--exclude=./sys/*",
                "-cf",
                str(archive),
                ".",
            ],
            check=True,
        )
        client.api.import_image_from_file(str(archive), repository="horo-test/debian", tag=suite)


def _context(files: dict[str, str]) -> io.BytesIO:
    """A build context in memory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    buffer.seek(0)
    return buffer


def main() -> None:
    """Make all images, and print what there is."""
    with engine() as client:
        prepare(client)
        for image in IMAGES.values():
            tell(f"{image.tag}: {client.images.get(image.tag).short_id}")


if __name__ == "__main__":
    main()
