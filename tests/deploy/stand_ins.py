"""Images that the tests of ours need beside the servers' (tests/support/images.py): the base, Compose itself, and two of the cluster's servers.

Where a registry answers they are the official ones; else they are made from Debian's packages, once, in a minute in all.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.images import IMAGES, Image

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")

_DEBIAN = """
FROM horo-test/debian:{suite}
RUN apt-get update && apt-get install -y --no-install-recommends {packages} && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
"""

# What python:3.11-slim has of Debian's, and the authorities that this machine believes: PyPI may answer through a proxy of its network.
_PYTHON = (
    _DEBIAN.format(suite="bookworm", packages="python3 python3-venv ca-certificates netbase tzdata")
    + """
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt
"""
)

_VALKEY = (
    _DEBIAN.format(suite="trixie", packages="valkey-server")
    + """
WORKDIR /data
RUN chown valkey:valkey /data
USER valkey
EXPOSE 6379
CMD ["valkey-server"]
"""
)

_PROMETHEUS = (
    _DEBIAN.format(suite="trixie", packages="prometheus")
    + """
RUN install -d -o 65534 -g 65534 /prometheus
WORKDIR /prometheus
USER 65534
EXPOSE 9090
ENTRYPOINT ["prometheus"]
"""
)

_COMPOSE = (
    _DEBIAN.format(suite="trixie", packages="docker-compose")
    + """
ENTRYPOINT ["/usr/bin/docker-compose"]
"""
)


def base() -> Image:
    """What the image is made from here, if not from its default base."""
    authorities = AUTHORITIES.read_text("utf-8") if AUTHORITIES.exists() else ""
    return Image(
        "horo-test/python:3.11", "python:3.11-slim-bookworm", "bookworm", _PYTHON, {"ca-certificates.crt": authorities}
    )


VALKEY = Image("horo-test/valkey:8", "valkey/valkey:8", "trixie", _VALKEY)
PROMETHEUS = Image("horo-test/prometheus:2", "prom/prometheus:v2.53.3", "trixie", _PROMETHEUS)
COMPOSE = Image("horo-test/compose:2", "docker:28-cli", "trixie", _COMPOSE)
RABBITMQ = IMAGES["rabbitmq:4"]
POSTGRES = IMAGES["postgres:15"]
