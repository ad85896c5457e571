"""`horo doctor` on rspamd and on the socketmap listener: asked as those who use them ask, and what is wrong is told with what mends it."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cli.conftest import Horo
from tests.support.ports import free_port

Answers = Callable[[bytes], int]


@pytest.fixture
def answers() -> Iterator[Answers]:
    """Servers that read a little and say always the same; each at the port that is returned."""
    servers: list[socketserver.TCPServer] = []

    def serve(words: bytes) -> int:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.recv(65536)
                self.request.sendall(words)

        server = socketserver.TCPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return int(server.server_address[1])

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def about(horo: Horo, what: str) -> list[dict[str, Any]]:
    return [one for one in horo("doctor", "--json", "--no-dns").json if one["check"].startswith(what)]


def test_nothing_is_told_of_what_is_not_there(horo: Horo) -> None:
    assert about(horo, "rspamd") == about(horo, "socketmap") == []


def test_rspamd_is_asked_for_a_verdict(horo: Horo, monkeypatch: pytest.MonkeyPatch, answers: Answers) -> None:
    verdict = b'{"action": "no action"}'
    port = answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(verdict), verdict))
    monkeypatch.setenv("HORO_RSPAMD_URL", f"http://127.0.0.1:{port}")
    (one,) = about(horo, "rspamd")
    assert (one["state"], one["told"].rpartition(": ")[2], one["mend"]) == ("ok", "no action", "")


@pytest.mark.parametrize(("fail", "state", "told"), [("open", "warning", "unchecked"), ("closed", "fault", "451")])
def test_without_a_verdict_it_is_told_what_becomes_of_posts(
    horo: Horo, monkeypatch: pytest.MonkeyPatch, answers: Answers, fail: str, state: str, told: str
) -> None:
    monkeypatch.setenv("HORO_RSPAMD_FAIL", fail)
    for port in (free_port(), answers(b"HTTP/1.1 403 Unauthorized\r\n\r\n")):  # nobody; its controller
        monkeypatch.setenv("HORO_RSPAMD_URL", f"http://127.0.0.1:{port}")
        (one,) = about(horo, "rspamd")
        assert (one["state"], told in one["told"], "HORO_RSPAMD_URL" in one["mend"]) == (state, True, True)


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (b"32:PERM no such map, or a bad request,", "ok"),
        (b"220 a mail server\r\n", "fault"),
        (b"220 mail, ready", "fault"),
    ],
)
def test_the_socketmap_must_speak_its_protocol(
    horo: Horo, monkeypatch: pytest.MonkeyPatch, answers: Answers, words: bytes, state: str
) -> None:
    monkeypatch.setenv("HORO_SOCKETMAP_LISTEN", f"127.0.0.1:{answers(words)}")
    (one,) = about(horo, "socketmap")
    assert (one["state"], bool(one["mend"])) == (state, state == "fault")


def test_a_socketmap_of_another_container_is_no_fault(horo: Horo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HORO_SOCKETMAP_LISTEN", f"0.0.0.0:{free_port()}")
    (one,) = about(horo, "socketmap")
    assert (one["state"], "where ingress runs" in one["told"]) == ("skipped", True)
