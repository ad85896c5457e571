"""The Kubernetes manifests, as `kubectl kustomize` renders them; a Docker engine, and the image of this tree."""

from __future__ import annotations

import os
from collections.abc import Iterator

import docker
import pytest

from tests.deploy import built
from tests.deploy.kubectl import OVERLAYS
from tests.support import engine, mode
from tests.support.runner import CannotServe


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    """Each overlay's name."""
    return str(request.param)


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[docker.DockerClient]:
    """An engine. Where none can be had there is nothing that these tests could be about; a run that asks for containers fails."""
    wish = os.environ.get(mode.VARIABLE, "")
    if wish == "binaries":
        pytest.skip("this run is to do without a Docker engine")
    try:
        client = engine.acquire()
    except CannotServe as reason:
        if wish == "containers":
            pytest.fail(str(reason), pytrace=False)
        pytest.skip(str(reason))
    yield client
    client.close()  # the engine itself is let go at the end of the run: servers of other tests are in it


@pytest.fixture(scope="session")
def image(docker_engine: docker.DockerClient) -> str:
    """The tag of the image of this tree."""
    return built.horo(docker_engine)
