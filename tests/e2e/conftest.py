"""What every end-to-end test starts from: next hops, an embedded Horo, a cluster of processes on real servers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.e2e.sinks import NextHop
from tests.e2e.system import CLUSTER, System
from tests.support.processes import Processes


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failed test, show what the processes of a system that it shares with other tests have printed last."""
    report = yield
    if report.failed and "place" in getattr(item, "funcargs", {}):
        system = item.funcargs["place"].system  # type: ignore[attr-defined]
        report.sections += [(role, system.said(role)[-20_000:]) for role in system.children]
    return report


class Starts(Protocol):
    """A function that starts a Horo with some settings of the test's own."""

    def __call__(
        self, settings: Mapping[str, str] | None = None, *, roles: Mapping[str, int] | None = None
    ) -> System: ...


@pytest.fixture
def hops() -> Iterator[Callable[..., NextHop]]:
    """A function that makes next hops; they end with the test."""
    made: list[NextHop] = []

    def make(*faults: str, **options: object) -> NextHop:
        made.append(NextHop(*faults, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for hop in made:
        hop.close()


@pytest.fixture
def embedded(processes: Processes, tmp_path: Path) -> Iterator[Starts]:
    """A function that starts `horo up` on the files of this test."""
    started: list[System] = []

    def start(settings: Mapping[str, str] | None = None, *, roles: Mapping[str, int] | None = None) -> System:
        started.append(System(processes, tmp_path, settings or {}, roles=roles))
        return started[-1]

    yield start
    for system in started:
        system.close()


@pytest.fixture
def servers_settings(rabbitmq_url: str, postgres_url: str, redis_url: str) -> Mapping[str, str]:
    """The cluster profile, by URLs alone."""
    return {"HORO_BROKER_URL": rabbitmq_url, "HORO_DATABASE_URL": postgres_url, "HORO_CACHE_URL": redis_url}


@pytest.fixture
def cluster(servers_settings: Mapping[str, str], embedded: Starts) -> Starts:
    """A function that starts every service as a process of its own, expanders and senders in twos."""

    def start(settings: Mapping[str, str] | None = None, *, roles: Mapping[str, int] | None = None) -> System:
        return embedded({**servers_settings, **(settings or {})}, roles=CLUSTER if roles is None else roles)

    return start
