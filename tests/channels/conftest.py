"""Chats on loopback, and couriers that may and may not reach them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trustme

from shared.channels.addresses import networks
from shared.channels.courier import Courier
from tests.support.chat import Chat

SECRET = "the secret of these tests"
LOOPBACK = "127.0.0.0/8"


class Names:
    """A name server of the test's own: `answers` are given one after the other, the last for ever. `asked` counts."""

    def __init__(self, *answers: Sequence[str], port: int = 0) -> None:
        self.answers = list(answers)
        self.port = port
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **_: Any) -> list[Any]:
        self.asked.append(host)
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        kind = socket.SOCK_STREAM
        return [
            (socket.AF_INET6 if ":" in one else socket.AF_INET, kind, 6, "", (one, self.port or port)) for one in found
        ]


@pytest.fixture
def chat() -> Iterator[Chat]:
    made = Chat()
    yield made
    made.close()


@pytest.fixture
def couriers() -> Iterator[Callable[..., Courier]]:
    """A function that makes couriers; the networks they may reach are loopback unless told otherwise."""
    made: list[Courier] = []

    def make(allowed: str = LOOPBACK, **options: Any) -> Courier:
        made.append(Courier(SECRET, networks(allowed), **options))
        return made[-1]

    yield make
    for courier in made:
        courier.close()


class Safe:
    """A chat behind TLS, with a certificate for `names`; `ca` is the file of the authority that signed it."""

    def __init__(self, folder: Path, *names: str) -> None:
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(context)
        self.ca = str(folder / f"{names[0]}.pem")
        authority.cert_pem.write_to_path(self.ca)
        self.chat = Chat(context)


@pytest.fixture
def safe(tmp_path: Path) -> Iterator[Callable[..., Safe]]:
    """A function that makes chats behind TLS."""
    made: list[Safe] = []

    def make(*names: str) -> Safe:
        made.append(Safe(tmp_path, *names))
        return made[-1]

    yield make
    for one in made:
        one.chat.close()
