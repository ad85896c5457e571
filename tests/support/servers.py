"""The real servers that tests talk to: RabbitMQ, PostgreSQL, Redis. What each one is; how it is run is its runner's affair.

Each has `url`, `version`, `start()`, `stop()`, `kill()`, `pause()`, `resume()`, and `fresh()` / `discard(url)` for a test's own virtual host or
database. All of it blocks, for seconds at times; an async test that must go on meanwhile takes `asyncio.to_thread`.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import secrets
import socket
from abc import ABC, abstractmethod
from base64 import b64encode
from typing import Any

import psycopg
import redis
from psycopg import sql
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.runner import Runner
from tests.support.waiting import wait_until

USER = PASSWORD = "horo"
START_TIMEOUT = 90.0
"""Seconds for a server to answer. RabbitMQ needs 6 on an idle machine; CI machines are not."""

_serial = itertools.count(1)


class Server(ABC):
    """A server on loopback that a test may stop, kill and freeze as it likes: the fixtures bring it back before the next test."""

    def __init__(self, runner: Runner, port: int, version: str) -> None:
        self.runner = runner
        self.host = "127.0.0.1"
        self.port = port
        self.version = version
        self._paused = False

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL of the server's own default virtual host or database."""

    @abstractmethod
    def fresh(self) -> str:
        """Make an empty place that is the caller's alone; its URL."""

    @abstractmethod
    def discard(self, url: str) -> None:
        """Remove what `fresh` gave, whoever is still connected to it."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server does its work now."""

    def start(self) -> None:
        """Start it, if it does not run, and wait until it answers. Raises RuntimeError with the end of its log."""
        if not self.runner.running():
            self.runner.start()
        try:
            wait_until(self._settled, f"{self} to answer", START_TIMEOUT)
        except AssertionError as late:
            raise RuntimeError(f"{late}; it printed:\n{self.runner.logs()}") from None
        if not self.runner.running():
            raise RuntimeError(f"{self} ended at once:\n{self.runner.logs()}")

    def stop(self) -> None:
        """End it in order."""
        self.resume()
        self.runner.stop()

    def kill(self) -> None:
        """End it as a power cut would."""
        self.runner.kill()
        self._paused = False

    def pause(self) -> None:
        """Freeze it: its connections stay open, and nothing answers."""
        self._paused = True
        self.runner.pause()

    def resume(self) -> None:
        """Let a frozen server go on."""
        if self._paused:
            self.runner.resume()
            self._paused = False

    def ensure_running(self) -> None:
        """Bring it back from whatever a test did to it."""
        if self._paused or not self.runner.running():
            self.resume()
            self.start()

    def close(self) -> None:
        """End it for good and remove its data."""
        self.runner.close()

    def _settled(self) -> bool:
        return self.answers() or not self.runner.running()

    def __str__(self) -> str:
        return f"{type(self).__name__} {self.version} on port {self.port}"


class RabbitMQ(Server):
    """A broker with its management API."""

    def __init__(self, runner: Runner, port: int, version: str, api_port: int) -> None:
        super().__init__(runner, port, version)
        self.api_port = api_port

    @property
    def url(self) -> str:
        return self._url("/")

    def fresh(self) -> str:
        vhost = f"test-{os.getpid()}-{next(_serial)}"
        self.api("PUT", f"/vhosts/{vhost}")
        self.api("PUT", f"/permissions/{vhost}/{USER}", {"configure": ".*", "write": ".*", "read": ".*"})
        return self._url(vhost)

    def discard(self, url: str) -> None:
        self.ensure_running()
        self.api("DELETE", f"/vhosts/{url.rpartition('/')[2]}")

    def answers(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=2) as probe:
                # The protocol header; a broker that is ready answers with Connection.Start, a method frame (type 1).
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                if probe.recv(1) != b"\x01":
                    return False
            self.api("GET", "/whoami")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def kill(self) -> None:
        # The broker notes a new quorum queue in a file that it writes out only when that has lain idle for half a second. Killed before, it can
        # never open the queue again (3.10.8, seen here). Messages in queues that exist must survive: that is what tests are about.
        if not self._paused and self.runner.running():
            self.ctl("eval", "[dets:sync(T) || T <- dets:all()].")
        super().kill()

    def ctl(self, *args: str) -> str:
        """What `rabbitmqctl ARGS` prints (it takes a second or two: `api` is quicker). Raises RuntimeError."""
        return self.runner.execute("rabbitmqctl", "--quiet", *args)

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the management API, "/queues/VHOST" say; the decoded answer, None for an empty one. Raises ConnectionError on a status over 299."""
        token = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection(self.host, self.api_port, timeout=30)
        try:
            connection.request(method, f"/api{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status > 299:
            raise ConnectionError(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text) if text else None

    def _url(self, vhost: str) -> str:
        return f"amqp://{USER}:{PASSWORD}@{self.host}:{self.port}/{'%2F' if vhost == '/' else vhost}"


class PostgreSQL(Server):
    """A database server; commits survive `kill`, though not a power cut of the whole machine (fsync is off)."""

    @property
    def url(self) -> str:
        return self._url("postgres")

    def fresh(self) -> str:
        name = f"test_{os.getpid()}_{secrets.token_hex(4)}"
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return self._url(name)

    def discard(self, url: str) -> None:
        self.ensure_running()
        name = url.rpartition("/")[2]
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def answers(self) -> bool:
        try:
            self._execute(sql.SQL("SELECT 1"))
        except psycopg.OperationalError:
            return False
        return True

    def ctl(self, *args: str) -> str:
        """What `psql ARGS` prints, unaligned, on the default database. Raises RuntimeError."""
        return self.runner.execute("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", *args)

    def _execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=2) as connection:
            connection.execute(statement)

    def _url(self, name: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@{self.host}:{self.port}/{name}"


class Redis(Server):
    """A cache that keeps nothing over a stop: whoever needs it to does not use it as a cache."""

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"

    def fresh(self) -> str:
        """Empties the whole server: a channel of pub/sub has no database of its own, so tests share the one there is, in turn."""
        with self._client() as client:
            client.flushall()
        return self.url

    def discard(self, url: str) -> None:
        self.ensure_running()
        with self._client() as client:
            client.config_set("maxmemory", "0")
            client.flushall()

    def answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def ctl(self, *args: str) -> str:
        """What `redis-cli ARGS` prints. Raises RuntimeError."""
        return self.runner.execute("redis-cli", *args)

    def _client(self) -> redis.Redis:
        # Without this, redis-py tries ten times, each for the whole timeout.
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host=self.host, port=self.port, socket_timeout=2, socket_connect_timeout=2, retry=once)
