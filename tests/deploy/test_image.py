"""The image: what is in it and what is not, and that mail goes through a container of it, over a stop and a start."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import docker
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from docker.models.containers import Container
from packaging.utils import canonicalize_name, parse_wheel_filename

from shared.settings import PREFIX, load
from tests.deploy import built, stand_ins
from tests.e2e.client import Message, compose, send
from tests.support.ports import free_port, release_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # the first build on a machine fetches all packages

ROOT = built.ROOT
PEOPLE = ("ana@example.org", "boris@example.org", "vera@example.org")
GROUP = "office@example.test"
LARGEST = 270_000_000
"""Octets that Horo and its packages may add to the base; 222 million when this was written, 54 of them bytecode."""

INVENTORY = """
import compileall, importlib.metadata, importlib.util, json, os, shutil, stat, subprocess, sys
modules = [name for name in ("pip", "ensurepip", "setuptools", "uv") if importlib.util.find_spec(name)]
programs = [name for name in ("gcc", "cc", "c++", "ld", "as", "make", "pip", "pip3", "uv", "uvx") if shutil.which(name)]
writable, powers, stale = [], [], []
for top, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if os.path.join(top, name) not in ("/proc", "/sys", "/dev")]
    for name in [*folders, *files]:
        path = os.path.join(top, name)
        about = os.lstat(path)
        if stat.S_ISLNK(about.st_mode):
            continue
        if about.st_mode & 0o6000 and stat.S_ISREG(about.st_mode):
            powers.append(path)
        if os.access(path, os.W_OK):
            writable.append(path)
        if path.endswith(".py") and path.startswith(("/app/", "/opt/")) and "/bin/" not in path:
            if not os.path.exists(importlib.util.cache_from_source(path)):
                stale.append(path)
installed = {one.metadata["Name"]: [one.version, *(line[5:] for line in (one.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: "))]
             for one in importlib.metadata.distributions()}
debian = subprocess.run(["dpkg-query", "-W", "-f", "${Package} ${Version}\\n"], capture_output=True, text=True, check=True)
print(json.dumps({"modules": modules, "programs": programs, "writable": writable, "powers": powers, "stale": stale,
                  "installed": installed, "debian": debian.stdout.splitlines(), "user": [os.getuid(), os.getgid()],
                  "sbom": open("/usr/share/doc/horo/sbom.json").read(), "cwd": os.getcwd()}))
"""


@pytest.fixture(scope="module")
def inventory(docker_engine: docker.DockerClient, image: str) -> dict[str, Any]:
    """What is in a container, seen from inside by the user that it runs as."""
    assert image
    found: dict[str, Any] = json.loads(built.printed(docker_engine, INVENTORY, ("python", "-c")))
    return found


@pytest.fixture(scope="module")
def sbom(inventory: dict[str, Any]) -> dict[str, Any]:
    """The bill of materials in the image."""
    bill: dict[str, Any] = json.loads(inventory["sbom"])
    return bill


def test_what_it_says_of_itself(docker_engine: docker.DockerClient, image: str) -> None:
    about = docker_engine.images.get(image).attrs
    config = about["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["horo"]
    assert set(config["ExposedPorts"]) == {"2525/tcp", "2424/tcp", "8080/tcp", "9090/tcp"}
    assert set(config["Volumes"]) == {"/data"}
    assert "/usr/share/horo/live.py" in config["Healthcheck"]["Test"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    assert labels["title"] == "Horo"
    assert labels["description"]
    settings = dict(one.split("=", 1) for one in config["Env"] if one.startswith(PREFIX))
    assert load(settings).data == "/data"
    base = docker_engine.images.get(stand_ins.base().tag).attrs["Size"]
    assert about["Size"] - base < LARGEST


def test_nothing_in_it_makes_programs_or_another_user(inventory: dict[str, Any]) -> None:
    assert inventory["user"] == [10001, 10001]
    assert inventory["modules"] == []
    assert inventory["programs"] == []
    assert inventory["powers"] == []


def test_nothing_in_it_can_be_written_to_but_data_and_tmp(inventory: dict[str, Any]) -> None:
    assert sorted(inventory["writable"]) == ["/data", "/tmp"]


def test_all_of_it_is_compiled(inventory: dict[str, Any]) -> None:
    assert inventory["stale"] == []


def test_the_bill_of_materials_is_of_its_schema(inventory: dict[str, Any]) -> None:
    schema = JsonStrictValidator(SchemaVersion.V1_5)
    assert schema.validate_str(inventory["sbom"]) is None
    assert schema.validate_str(inventory["sbom"].replace('"type": "library"', '"type": "books"')) is not None


def test_the_bill_of_materials_names_what_is_installed_and_what_the_lock_says(
    inventory: dict[str, Any], sbom: dict[str, Any]
) -> None:
    python = {one["name"]: one for one in sbom["components"] if one["purl"].startswith("pkg:pypi/")}
    installed = {canonicalize_name(name): about for name, about in inventory["installed"].items() if name != "horo"}
    assert {name: one["version"] for name, one in python.items()} == {
        name: about[0] for name, about in installed.items()
    }
    locked = {one["name"]: one for one in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    for name, one in python.items():
        assert one["version"] == locked[name]["version"]
        (wheel,) = one["externalReferences"]
        assert {"url": wheel["url"], "hash": f"sha256:{wheel['hashes'][0]['content']}"} in [
            {"url": file["url"], "hash": file["hash"]} for file in locked[name]["wheels"]
        ]
        # The very one: an installed package says for which platforms its wheel was.
        tags = {str(tag) for tag in parse_wheel_filename(unquote(wheel["url"].rpartition("/")[2]))[3]}
        assert tags & set(installed[name][1:]), name
    debian = [
        f"{one['name']} {one['version']}" for one in sbom["components"] if one["purl"].startswith("pkg:deb/debian/")
    ]
    assert sorted(debian) == sorted(inventory["debian"])
    assert len(debian) > 50


def test_the_bill_of_materials_is_an_output_of_the_build(
    docker_engine: docker.DockerClient, inventory: dict[str, Any]
) -> None:
    assert built.bill(docker_engine).decode() == inventory["sbom"]


def test_a_package_that_is_not_in_the_lock_stops_the_build() -> None:
    sbom = script("sbom")
    source, other, wheel = (
        {"url": f"https://files.example/idna-3.20{end}", "hashes": []}
        for end in (".tar.gz", "-cp39-cp39-win_arm64.whl", "-py3-none-any.whl")
    )
    lock: dict[str, Any] = {
        "specVersion": "1.5",
        "metadata": {"component": {"bom-ref": "horo-1"}},
        "components": [
            {"name": "idna", "version": "3.20", "bom-ref": "idna-2", "externalReferences": [source, other, wheel]}
        ],
        "dependencies": [{"ref": "horo-1", "dependsOn": ["idna-2", "colorama-3"]}],
    }
    bill = sbom.made(lock, {"idna": "3.20"}, [], "0.1.0")
    assert bill["dependencies"] == [{"ref": "horo-1", "dependsOn": ["idna-2"]}]
    assert bill["components"][0]["externalReferences"] == [wheel]
    assert bill == sbom.made(lock, {"idna": "3.20"}, [], "0.1.0")
    with pytest.raises(SystemExit, match="left-pad"):
        sbom.made(lock, {"idna": "3.20", "left-pad": "1.0"}, [], "0.1.0")
    lock["components"][0]["externalReferences"] = [source, other]
    with pytest.raises(SystemExit, match="no wheel for this platform"):
        sbom.made(lock, {"idna": "3.20"}, [], "0.1.0")
    with pytest.raises(SystemExit, match=r"3\.21"):
        sbom.made(lock, {"idna": "3.21"}, [], "0.1.0")


def test_the_tools_of_the_build_are_those_of_the_project() -> None:
    pins = (ROOT / "deploy/image/build.txt").read_text()
    tools = dict(re.findall(r"^([a-z]+)==(\S+)", pins, re.MULTILINE))
    makefile = re.search(r"^UV := uv==(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert makefile is not None
    assert tools["uv"] == makefile[1]
    assert [f"{name}=={tools[name]}" for name in ("hatchling", "uv")] == (
        ROOT / "deploy/image/build.in"
    ).read_text().split()
    assert pins.count("--hash=sha256:") >= 2 * len(tools)


def test_the_base_is_pinned_and_the_version_is_the_projects() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=python:3\.11\.\d+-slim-bookworm$", dockerfile, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)) <= {
        "${BASE}", "scratch", "build", "packages", "ground"
    }  # fmt: skip
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert set(re.findall(r"^ARG VERSION=(.*)$", dockerfile, re.MULTILINE)) == {version}


# --- the container ----------------------------------------------------------------------------------------------------
class Up:
    """`horo up` in a container: read-only, without capabilities, its data on a volume."""

    def __init__(self, container: Container, port: int) -> None:
        self.container = container
        self.port = port

    def wait_ready(self) -> None:
        """Until it says that it is healthy, by the image's own HEALTHCHECK, and all of it is ready."""

        def healthy() -> bool:
            self.container.reload()
            assert self.container.status == "running", self.container.logs(tail=40).decode()
            return bool(self.container.attrs["State"]["Health"]["Status"] == "healthy")

        wait_until(healthy, "the container to be healthy", 60, pause=0.2)
        ready = ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9090/readyz')"]
        wait_until(lambda: self.container.exec_run(ready).exit_code == 0, "it to be ready", 30, pause=0.2)

    def horo(self, *words: str) -> str:
        """What a command prints in the container."""
        done = self.container.exec_run(["horo", *words])
        assert done.exit_code == 0, done.output.decode()
        return str(done.output.decode())

    def mails(self) -> list[tuple[str, bytes]]:
        """What came out: the recipient's folder and the message, of each."""
        script = (
            "import pathlib, json, base64; print(json.dumps([[str(p.parent.parent), base64.b64encode(p.read_bytes()).decode()]"
            " for p in pathlib.Path('/data/maildir').rglob('new/*')]))"
        )
        done = self.container.exec_run(["python", "-c", script])
        assert done.exit_code == 0, done.output.decode()
        return [(folder, base64.b64decode(text)) for folder, text in json.loads(done.output)]


@contextmanager
def up(client: docker.DockerClient, volume: str, port: int) -> Iterator[Up]:
    """A container of `horo up` on that volume."""
    options = {
        "volumes": {volume: {"bind": "/data", "mode": "rw"}},
        "ports": {"2525/tcp": ("127.0.0.1", port)},
        "environment": {"HORO_HOSTNAME": "mx.example.test", "HORO_LOG_FORMAT": "json"},
        "healthcheck": {"interval": 1_000_000_000},  # nanoseconds; all else is the image's
    }
    with built.running(client, ["up"], **options) as container:
        made = Up(container, port)
        made.wait_ready()
        yield made


@pytest.fixture
def volume(docker_engine: docker.DockerClient) -> Iterator[str]:
    """A volume of the test's own."""
    made = docker_engine.volumes.create()
    yield str(made.name)
    made.remove(force=True)


def test_p1_a_message_goes_in_and_comes_out_over_a_stop_by_sigterm(
    docker_engine: docker.DockerClient, image: str, volume: str
) -> None:
    assert image
    port = free_port()
    with up(docker_engine, volume, port) as first:
        first.horo("group", "create", GROUP, *[word for who in PEOPLE for word in ("--member", who)])
        one = compose(GROUP)
        assert send(port, one).code == 250
        wait_until(lambda: len(first.mails()) == len(PEOPLE), "every member's copy", 60, pause=0.5)
        assert {message.partition(b"\r\n\r\n")[2] for _, message in first.mails()} == {one.body}
        taken = [one, *sent_until_stopped(first)]
        assert ended(first.container) == 0
    with up(docker_engine, volume, port) as second:
        wait_until(
            lambda: len(second.mails()) >= len(PEOPLE) * len(taken), "every member's copy of each", 120, pause=0.5
        )
        assert Counter((folder, identity(message)) for folder, message in second.mails()) == Counter(
            (folder, message.id) for folder in {folder for folder, _ in second.mails()} for message in taken
        )
        assert len({folder for folder, _ in second.mails()}) == len(PEOPLE)
        second.container.kill("SIGTERM")
        assert ended(second.container) == 0
    release_port(port)


def sent_until_stopped(running: Up) -> list[Message]:
    """Messages that were accepted while the container was told to end in their midst."""
    taken: list[Message] = []

    def client() -> None:
        while True:
            message = compose(GROUP)
            if send(running.port, message).code != 250:
                return
            taken.append(message)

    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in clients:
        thread.start()
    wait_until(lambda: len(taken) > 20, "twenty messages", 30)
    running.container.kill("SIGTERM")
    for thread in clients:
        thread.join(30)
        assert not thread.is_alive()
    return taken


def ended(container: Container) -> int:
    """How it ended."""
    return int(container.wait(timeout=60)["StatusCode"])


def identity(message: bytes) -> str:
    """The Message-ID of a message, without brackets."""
    return str(message_from_bytes(message, policy=policy.default)["Message-ID"]).strip("<>")


# --- the health check -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("status", "expected"), [(200, 0), (503, 1)])
def test_the_health_check_obeys_livez(status: int, expected: int) -> None:
    asked: list[str] = []

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    assert checked(f"0.0.0.0:{server.server_port}") == expected
    thread.join(10)
    server.server_close()
    assert asked == ["/livez"]


def test_the_health_check_says_no_where_nobody_answers_and_nothing_where_nobody_should() -> None:
    port = free_port()
    assert checked(f"127.0.0.1:{port}") == 1
    assert checked(f"[::]:{port}") == 1
    assert checked("nonsense:port") == 1
    assert checked("") == 0
    release_port(port)


def checked(listen: str) -> int:
    """How the image's HEALTHCHECK ends."""
    command = [sys.executable, "-I", "-S", str(ROOT / "deploy/image/live.py")]
    done = subprocess.run(command, env={"HORO_HEALTH_LISTEN": listen}, capture_output=True, check=False, timeout=30)
    assert b"Traceback" not in done.stderr, done.stderr
    return done.returncode


def script(name: str) -> ModuleType:
    """A script of the image's, as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "deploy" / "image" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
