"""`horo channel` as a script sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Done, Horo
from tests.support.chat import Chat

GROUP = "office@example.test"
CANARY = "b57canary0e1"


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    monkeypatch.setenv("HORO_CHANNEL_NETWORKS", "127.0.0.0/8")
    made = Chat()
    yield made
    made.close()


@pytest.fixture
def group(horo: Horo) -> str:
    assert horo("group", "create", GROUP, "--member", "ana@example.org").status == 0
    return GROUP


def test_a_channel_is_added_listed_tested_and_removed(horo: Horo, group: str, chat: Chat) -> None:
    url = f"json://127.0.0.1:{chat.port}/{CANARY}"
    made = horo("channel", "add", group, url, "--json").json
    hers = horo("channel", "add", group, url, "--member", "ana@example.org", "--json").json
    assert (made["member"], hers["member"]) == ("", "ana@example.org")
    assert made["shown"] == f"webhook://127.0.0.1:{chat.port}"
    assert horo("channel", "list", group, "--json").json == [made, hers]
    assert horo("channel", "list", group, "--member", "ana@example.org", "--json").json == [hers]
    told = horo("channel", "test", group, str(made["id"]), "--json").json
    assert (told["end"], told["id"]) == ("taken", made["id"])
    assert chat.paths == [f"/{CANARY}"]
    assert GROUP in chat.told[0].json["message"]
    assert horo("channel", "remove", group, str(made["id"]), "--json").json == {"removed": made["id"]}
    assert horo("channel", "list", group, "--json").json == [hers]


def test_nothing_that_is_printed_or_kept_holds_the_url(horo: Horo, group: str, chat: Chat, tmp_path: Path) -> None:
    for words in (
        ["add", group, f"json://{CANARY}:{CANARY}@127.0.0.1:{chat.port}/{CANARY}?+x-token={CANARY}"],
        ["add", group, f"json://127.0.0.1:{chat.port}/status500/{CANARY}"],
        ["add", group, f"json://127.0.0.1:{chat.port}/{CANARY}?method={CANARY}"],
        ["add", group, f"json://127.0.0.1:{chat.port}/{CANARY}?{CANARY}=1"],
        ["add", group, f"{CANARY}://127.0.0.1/{CANARY}"],
        ["add", group, f"slack://{CANARY}"],
        ["add", group, f"https://192.168.7.7/{CANARY}"],
        ["list", group],
        ["list", group, "--json"],
        ["test", group, "1"],
        ["test", group, "2"],
        ["test", group, "2", "--json"],
    ):
        done = horo("channel", *words)
        assert CANARY not in done.out + done.err.replace(f"{CANARY}://", ""), words
    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 1
    assert all(CANARY.encode() not in path.read_bytes() for path in kept)


def test_what_goes_wrong_is_told_by_the_exit_code(horo: Horo, group: str, chat: Chat) -> None:
    url = f"json://127.0.0.1:{chat.port}/status404"
    assert horo("channel", "add", group, "file:///etc/passwd").status == 2
    assert horo("channel", "add", group, "https://10.0.0.1/").status == 2
    assert horo("channel", "add", "nobody@example.test", url).status == 3
    assert horo("channel", "add", group, url, "--member", "stranger@example.org").status == 3
    assert horo("channel", "add", group, url).status == 0
    assert horo("channel", "add", group, url).status == 4
    assert horo("channel", "add", group, f"json://127.0.0.1:{chat.port}/status503").status == 0
    assert [horo("channel", "test", group, number).status for number in ("1", "2", "3")] == [1, 75, 3]
    assert horo("channel", "remove", group, "9").status == 3
    assert horo("channel", "list", "nobody@example.test").status == 3


def test_a_url_may_come_from_standard_input(process: Callable[..., Done], horo: Horo, group: str, chat: Chat) -> None:
    done = process("channel", "add", group, "-", "--json", stdin=f"json://127.0.0.1:{chat.port}/hook\n".encode())
    assert done.status == 0, done.err
    assert done.json["shown"] == f"webhook://127.0.0.1:{chat.port}"


def test_a_channel_kept_under_another_secret_says_so(
    horo: Horo, group: str, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert horo("channel", "add", group, f"json://127.0.0.1:{chat.port}/hook").status == 0
    monkeypatch.setenv("HORO_SECRET", "another secret altogether")
    done = horo("channel", "test", group, "1")
    assert (done.status, "HORO_SECRET" in done.out) == (1, True)
