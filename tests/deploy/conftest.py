"""The Kubernetes manifests, as `kubectl kustomize` renders them."""

from __future__ import annotations

import pytest

from tests.deploy.kubectl import OVERLAYS


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    """Each overlay's name."""
    return str(request.param)
