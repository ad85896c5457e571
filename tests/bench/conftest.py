"""The compiled programs, built once for all tests that run them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import programs
from bench.programs import Sink


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that sink and source are in."""
    folder = tmp_path_factory.mktemp("programs")
    programs.build(folder)
    return folder


@pytest.fixture
def sinks(built: Path) -> Iterator[Callable[..., Sink]]:
    """A function that starts sinks; they end with the test."""
    made: list[Sink] = []

    def start(delay: float = 0.0) -> Sink:
        made.append(Sink(built, delay))
        return made[-1]

    yield start
    for sink in made:
        sink.close()
