"""Servers as child processes: the binaries of Debian's packages, on private loopback ports, with their data in a temporary folder.

Nothing of the machine's own configuration is read, and nothing is left behind: no epmd, no sockets, no services.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from tests.support import keeper
from tests.support.install import require
from tests.support.ports import free_port, release_port
from tests.support.runner import Runner
from tests.support.servers import PASSWORD, USER, PostgreSQL, RabbitMQ, Redis
from tests.support.trees import family, kill_family, send_family

STOP_TIMEOUT = 30.0
PROGRAMS = {
    "rabbitmq-server": "usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server",
    "postgresql": "usr/lib/postgresql/*/bin/initdb",
    "redis-server": "usr/bin/redis-server",
}
"""Debian package -> where its server is. The wrappers in /usr/sbin are passed by: they change user and folder."""


class Binary(Runner):
    """A server as a child process, with its own folder, user and environment."""

    def __init__(
        self,
        folder: Path,
        command: list[str],
        environment: Mapping[str, str],
        ports: list[int],
        user: str | None = None,
    ) -> None:
        self.folder = folder
        self.tools = Path()
        self.tool_arguments: tuple[str, ...] = ()
        self.stop_signal = signal.SIGTERM
        self._command = command
        self._environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(folder), **environment}
        self._ports = ports
        self._user = user
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._helpers: list[subprocess.Popen[bytes]] = []

    @property
    def pid(self) -> int:
        """Its process id, of its last life if it has ended."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = self.launch(self._command)

    def launch(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a process of this server, in a group of its own, on the keeper's list."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self.folder,
                user=self._user,
                start_new_session=True,
            )
        keeper.keep(process.pid)
        return process

    def help(self, command: list[str]) -> None:
        """Start a process that the server needs beside it for as long as it lives, stopped or not."""
        self._helpers.append(self.launch(command))

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                raise RuntimeError(f"{self._command[0]} did not stop in {STOP_TIMEOUT:g} s:\n{self.logs()}") from None
            finally:
                self.kill()

    def kill(self) -> None:
        if self._process is not None:
            _end(self._process)
            self._process = None

    def pause(self) -> None:
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        self._send(signal.SIGCONT)

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def execute(self, *command: str) -> str:
        line = [str(self.tools / command[0]), *self.tool_arguments, *command[1:]]
        done = subprocess.run(line, env=self._environment, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def logs(self) -> str:
        return self._log.read_text(errors="replace")[-4000:] if self._log.exists() else ""

    def close(self) -> None:
        self.kill()
        for helper in self._helpers:
            _end(helper)
        for port in self._ports:
            release_port(port)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            process = psutil.Process(self._process.pid)
            send_family(process, number)
            if number is signal.SIGSTOP:
                _wait_stopped(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        kill_family(psutil.Process(process.pid))
    process.wait(STOP_TIMEOUT)
    keeper.forget(process.pid)


def _wait_stopped(process: psutil.Process) -> None:
    """A signal takes effect a moment later: until then the server may still answer."""
    deadline = time.monotonic() + 5
    # A dead child stays a zombie: the parent that would bury it is frozen too.
    while any(member.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE) for member in family(process)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {process.pid} did not stop")
        time.sleep(0.005)


def folder_for(name: str, user: str | None = None) -> Path:
    """A new temporary folder that belongs to `user`."""
    folder = Path(tempfile.mkdtemp(prefix=f"horo-test-{name}-"))
    folder.chmod(0o755)
    if user is not None:
        shutil.chown(folder, user)
    return folder


def rabbitmq() -> RabbitMQ:
    """The installed RabbitMQ, not started. Raises `CannotServe`."""
    tools = _find("rabbitmq-server")
    port, api_port, epmd_port, peer_port = ports = [free_port() for _ in range(4)]
    folder = folder_for("rabbitmq")
    (folder / "env.conf").touch()
    (folder / "plugins").write_text("[rabbitmq_management].\n")
    (folder / "rabbitmq.conf").write_text(rabbitmq_conf(port, api_port, "127.0.0.1"))
    environment = {
        "RABBITMQ_NODENAME": f"horo-{port}@localhost",
        "RABBITMQ_DIST_PORT": str(peer_port),
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "env.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG_ARGUMENTS,
        # Without these two the daemon of the machine's own port 4369 would be started, and would stay.
        "ERL_EPMD_PORT": str(epmd_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    server = Binary(folder, [str(tools / "rabbitmq-server")], environment, ports)
    server.tools = tools
    server.help(["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"])
    return RabbitMQ(server, port, tools.parent.name.rpartition("-")[2], api_port)


ERLANG_ARGUMENTS = "+sbwt none +sbwtdcpu none +sbwtdio none"
"""No busy waiting: idle brokers of several test workers share few cores."""


def rabbitmq_conf(port: int, api_port: int, host: str) -> str:
    """The text of rabbitmq.conf: one user, small write-ahead log, limits that a busy test machine does not reach by itself."""
    return "\n".join(
        [
            f"listeners.tcp.1 = {host}:{port}",
            f"management.tcp.ip = {host}",
            f"management.tcp.port = {api_port}",
            f"default_user = {USER}",
            f"default_pass = {PASSWORD}",
            "loopback_users = none",
            "disk_free_limit.absolute = 50MB",
            "raft.wal_max_size_bytes = 33554432",
            "log.console.level = warning",
            "",
        ]
    )


POSTGRESQL_ARGUMENTS = [
    argument
    for setting in (
        "fsync=off",
        "full_page_writes=off",
        "max_connections=300",
        "shared_buffers=64MB",
        "logging_collector=off",
    )
    for argument in ("-c", setting)
]
"""A commit survives the death of the server's processes without fsync: the kernel has it. `synchronous_commit` stays on, which that needs."""


def postgresql(arguments: Sequence[str] = POSTGRESQL_ARGUMENTS) -> PostgreSQL:
    """The newest installed PostgreSQL, with a new cluster, not started. Raises `CannotServe`."""
    tools = _find("postgresql")
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    port = free_port()
    folder = folder_for("postgresql", user)
    command = [
        str(tools / "postgres"),
        "-D",
        str(folder / "data"),
        "-p",
        str(port),
        "-h",
        "127.0.0.1",
        *arguments,
    ]
    command += ["-c", "unix_socket_directories="]
    environment = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": USER, "PGDATABASE": "postgres"}
    server = Binary(folder, command, environment, [port], user)
    server.tools = tools
    server.stop_signal = signal.SIGINT  # its fast shutdown; SIGTERM would wait for clients to leave
    initialise: list[str | Path] = [
        tools / "initdb",
        "-D",
        folder / "data",
        "-U",
        USER,
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C.UTF-8",
        "--no-sync",
    ]
    done = subprocess.run(initialise, user=user, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(f"initdb: {done.stderr}")
    return PostgreSQL(server, port, tools.parent.name)


def redis_server() -> Redis:
    """The installed Redis, not started. Raises `CannotServe`."""
    tools = _find("redis-server")
    port = free_port()
    folder = folder_for("redis")
    command = [
        str(tools / "redis-server"),
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        *REDIS_ARGUMENTS,
    ]
    server = Binary(folder, command, {}, [port])
    server.tools, server.tool_arguments = tools, ("-p", str(port))
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True).stdout
    return Redis(server, port, version.split("v=")[1].split()[0])


REDIS_ARGUMENTS = ["--save", "", "--appendonly", "no"]


def _find(package: str) -> Path:
    """The newest folder that has the package's server. Raises `CannotServe`."""
    found = list(Path("/").glob(PROGRAMS[package]))
    if not found:
        prepare()
        found = list(Path("/").glob(PROGRAMS[package]))
    return max(found, key=lambda path: [int(number) for number in re.findall(r"\d+", str(path))]).parent


def prepare() -> None:
    """Install what is missing. Raises `CannotServe`."""
    missing = [package for package, pattern in PROGRAMS.items() if not list(Path("/").glob(pattern))]
    if missing:
        require(tuple(missing))
