"""Fixtures that every test may ask for: real servers, real processes, free ports."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from typing import ParamSpec, TypeVar

import pytest
import structlog

from shared import journal
from tests.support import engine, mode
from tests.support.ports import free_port as _free_port
from tests.support.ports import release_port
from tests.support.processes import Processes
from tests.support.runner import CannotServe
from tests.support.servers import PostgreSQL, RabbitMQ, Redis, Server

_PROCESSES = pytest.StashKey[Processes]()
P = ParamSpec("P")
S = TypeVar("S", bound=Server)

SUITES = ("contract", "integration")
"""Folders whose tests of the broker run on every version."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of the broker runs once for every version that is to be had; one of something else that needs a broker, on the newest.

    The first are the suites of the ports, and what is marked `both_brokers`. What servers need is made ready here, at collection: it may take
    minutes, which the time limit of no test allows for.
    """
    if mode.FIXTURES.isdisjoint(metafunc.fixturenames):
        return
    capture = metafunc.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled() if capture else nullcontext():  # so that its progress is seen
            versions = mode.rabbitmq_versions(mode.ready())
    except CannotServe:
        versions = ("none",)  # the fixtures fail, and say why
    if "rabbitmq" in metafunc.fixturenames:
        every = metafunc.definition.get_closest_marker("both_brokers") or metafunc.definition.path.parent.name in SUITES
        versions = versions if every else versions[-1:]
        metafunc.parametrize(
            "rabbitmq", versions, ids=[f"rabbitmq-{version}" for version in versions], indirect=True, scope="session"
        )


def pytest_unconfigure() -> None:
    """Whatever was made ready and then not used."""
    engine.release()


@pytest.fixture(scope="session")
def servers() -> Iterator[mode.Servers]:
    """The servers of this test process; none runs before a test asks for it."""
    made = mode.Servers()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(autouse=True)
def _journal_is_new() -> None:
    """A test that configured the process's log, which is cached at first use, leaves the next one a log that can be captured."""
    structlog.reset_defaults()
    journal._log = structlog.get_logger("horo")


@pytest.fixture(autouse=True)
def _servers_are_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """After a test that stopped, killed or froze a server, the next one finds it running."""
    yield
    if "servers" in request.fixturenames:
        request.getfixturevalue("servers").ensure_running()


@pytest.fixture(scope="session")
def rabbitmq(servers: mode.Servers, request: pytest.FixtureRequest) -> RabbitMQ:
    """A RabbitMQ broker: `.url`, `.version`, `.stop()`, `.start()`, `.kill()`, `.pause()`, `.resume()`, `.ctl(...)`, `.api(...)`."""
    return _had(servers.rabbitmq, request.param)


@pytest.fixture
def rabbitmq_url(rabbitmq: RabbitMQ) -> Iterator[str]:
    """A virtual host of the test's own."""
    url = rabbitmq.fresh()
    yield url
    rabbitmq.discard(url)


@pytest.fixture(scope="session")
def postgres(servers: mode.Servers) -> PostgreSQL:
    """A PostgreSQL server, with the same methods."""
    return _had(servers.postgresql)


@pytest.fixture
def postgres_url(postgres: PostgreSQL) -> Iterator[str]:
    """An empty database of the test's own."""
    url = postgres.fresh()
    yield url
    postgres.discard(url)


@pytest.fixture(scope="session")
def redis_server(servers: mode.Servers) -> Redis:
    """A Redis server, with the same methods."""
    return _had(servers.redis)


@pytest.fixture
def redis_url(redis_server: Redis) -> Iterator[str]:
    """The Redis server, emptied."""
    url = redis_server.fresh()
    yield url
    redis_server.discard(url)


@pytest.fixture
def processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Starts processes of ours (tests/support/processes.py); none outlives the test."""
    made = Processes(tmp_path_factory.mktemp("processes"))
    request.node.stash[_PROCESSES] = made
    try:
        yield made
    finally:
        made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a failed test, show what its processes printed."""
    report = yield
    if report.failed and (made := item.stash.get(_PROCESSES, None)) is not None:
        report.sections += [
            (f"{child.name} (ended with {child.returncode})", child.output[-20_000:]) for child in made.children
        ]
    return report


@pytest.fixture
def free_port() -> Iterator[Callable[[], int]]:
    """A function that gives free loopback ports, the test's until it ends."""
    taken: list[int] = []

    def take() -> int:
        taken.append(_free_port())
        return taken[-1]

    yield take
    for port in taken:
        release_port(port)


def _had(get: Callable[P, S], *args: P.args, **kwargs: P.kwargs) -> S:
    """The server, or a failed test that says what to install. Never a skip: a suite that tested nothing must not look green."""
    try:
        return get(*args, **kwargs)
    except CannotServe as error:
        reason = str(error)
    pytest.fail(reason, pytrace=False)
