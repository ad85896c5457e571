"""SSRF: whatever a URL, a name server or a server does, a connection goes where it may go, and nowhere else; an answer costs little."""

from __future__ import annotations

import asyncio
import importlib
import logging
import pkgutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable

import pytest
import requests

from shared.channels import Called, ChannelError, End
from shared.channels import courier as courier_module
from shared.channels.addresses import networks
from shared.channels.courier import UNREACHED, Courier
from shared.channels.guard import Call, Door, Refused, current
from shared.channels.kinds import KINDS
from shared.directory.channels import SealedChannel
from tests.channels.conftest import LOOPBACK, SECRET, Names
from tests.support.chat import Chat

Couriers = Callable[..., Courier]
PUBLIC = "93.184.216.34"


def sealed(url: str) -> SealedChannel:
    """A channel that was kept when nothing was wrong with it."""
    secret = courier_module.Vault(SECRET).seal(url)
    return SealedChannel(kind="webhook", shown="webhook", label="webhook:x", secret=secret)


async def called(courier: Courier, url: str) -> Called:
    return await courier.call(sealed(url), title="t", text="x")


ODD = {"https://0177.0.0.1/", "https://127.1/", "https://0/"}
INSIDE = [
    "https://127.0.0.1/",
    "https://localhost/",
    "https://localhost./",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://169.254.169.254/latest/meta-data/",
    "https://user@127.0.0.1/",
    "https://example.com@127.0.0.1/",
    "https://example.com:443@127.0.0.1/",
    "https://10.0.0.1:8443/",
    "https://0/",
    "http://93.184.216.34/",
    "jsons://127.0.0.1/",
    "matrixs://user:pass@127.0.0.1/#room",
    "mmosts://127.0.0.1/4cf8a1b2c3d4e5f6a7b8c9d0e1",
    "ntfys://127.0.0.1/topic",
    "rockets://aaa/bbb@127.0.0.1/#room",
    "https://93.184.216.34:6379/",
    "https://93.184.216.34:25/",
]


@pytest.mark.parametrize("url", INSIDE)
async def test_an_address_inside_is_refused_when_it_is_added_and_when_it_is_used(url: str, couriers: Couriers) -> None:
    courier = couriers("")
    with pytest.raises(ChannelError) as refused:
        await courier.sealed(url)
    assert "127" not in str(refused.value)
    if "HORO_CHANNEL_NETWORKS" in str(refused.value):
        assert await called(courier, url) == UNREACHED
    else:  # no URL at all to Apprise
        assert url in ODD
        assert (await called(courier, url)).end is End.NEVER


async def test_a_name_that_leads_inside_by_any_of_its_addresses_is_refused(couriers: Couriers) -> None:
    for addresses in (["10.0.0.1"], [PUBLIC, "10.0.0.1"], [PUBLIC, "::ffff:127.0.0.1"], []):
        names = Names(addresses)
        with pytest.raises(ChannelError) as refused:
            await couriers("", resolve=names).sealed("https://hook.example.com/secret")
        assert "secret" not in str(refused.value)
        assert names.asked == ["hook.example.com"]


async def test_a_name_that_changes_its_mind_is_refused(couriers: Couriers, chat: Chat) -> None:
    """Rebinding: public when it is added, and when it would be checked before a call; loopback when the connection is made."""
    courier = couriers("", resolve=Names([PUBLIC], ["127.0.0.1"]))
    channel = await courier.sealed(f"https://hook.example.com:{chat.port}/secret")
    assert await courier.call(channel, title="t", text="x") == UNREACHED
    assert chat.connections == 0


async def test_a_connection_goes_to_the_address_that_was_checked(couriers: Couriers, chat: Chat) -> None:
    """One question a connection: there is no second answer that could be another one."""
    names = Names(["127.0.0.1"], ["10.9.9.9"])
    courier = couriers(LOOPBACK, resolve=names)
    assert (await called(courier, f"http://hook.example.com:{chat.port}/a")).end is End.TAKEN
    assert names.asked == ["hook.example.com"]
    assert [told.host for told in chat.told] == [f"hook.example.com:{chat.port}"]


async def test_a_redirection_is_not_followed(couriers: Couriers, chat: Chat) -> None:
    told = await called(couriers(), f"json://127.0.0.1:{chat.port}/redirect")
    assert told.end is End.NEVER
    assert chat.paths == ["/redirect"]


async def test_the_environments_proxy_is_not_believed(
    couriers: Couriers, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Chat()
    try:
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await called(couriers(), f"json://127.0.0.1:{chat.port}/a")).end is End.TAKEN
        assert proxy.connections == 0
    finally:
        proxy.close()


@pytest.mark.parametrize("word", ["drip", "silent"])
async def test_a_slow_answer_ends_with_its_time(
    word: str, couriers: Couriers, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.channels.guard.REQUEST", 0.6)
    begun = time.monotonic()
    assert await called(couriers(), f"json://127.0.0.1:{chat.port}/{word}") == UNREACHED
    assert time.monotonic() - begun < 5


async def test_p10_of_a_large_answer_a_little_is_read(couriers: Couriers, chat: Chat) -> None:
    with Call(networks(LOOPBACK)):
        answer = await asyncio.get_running_loop().run_in_executor(None, _read, f"http://127.0.0.1:{chat.port}/huge")
    assert answer == 64 * 1024


def _read(url: str) -> int:
    with Call(networks(LOOPBACK)):
        return len(Door.get(url).content)


async def test_every_failure_to_reach_a_channel_looks_the_same(couriers: Couriers, chat: Chat) -> None:
    """A closed port, a name that is none, an address inside: whoever may add channels learns nothing of the network by them."""
    closed = Chat()
    closed.close()
    inside = await called(couriers(""), f"https://127.0.0.1:{chat.port}/")
    shut = await called(couriers(), f"json://127.0.0.1:{closed.port}/")
    nowhere = await called(couriers(resolve=Names([])), "https://nowhere.example.com/")
    assert inside == shut == nowhere == UNREACHED


# --- behind the door ----------------------------------------------------------------------------------------------------
def test_what_goes_past_the_door_is_refused_in_a_call_and_nowhere_else(chat: Chat) -> None:
    address = ("127.0.0.1", chat.port)
    attempts = [
        lambda: socket.create_connection(address),
        lambda: requests.get(f"http://127.0.0.1:{chat.port}/", timeout=5),
        lambda: socket.getaddrinfo("localhost", 80),
        lambda: socket.gethostbyname("localhost"),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", address),
        lambda: socket.socket().bind(("127.0.0.1", 0)),
        lambda: subprocess.run(["true"], check=True),
    ]
    with Call(networks(LOOPBACK)):
        for attempt in attempts:
            with pytest.raises((Refused, requests.ConnectionError)):
                attempt()
        assert chat.connections == 0
        outside: list[int] = []
        other = threading.Thread(
            target=lambda: outside.append(requests.get(f"http://127.0.0.1:{chat.port}/a", timeout=5).status_code)
        )
        other.start()
        other.join()
        assert outside == [200]
    for attempt in attempts[:4]:
        attempt()
    assert chat.connections == 3


def test_outside_of_a_call_the_door_is_shut(chat: Chat) -> None:
    with pytest.raises(Refused):
        current()
    with pytest.raises(Refused):
        Door.get(f"http://127.0.0.1:{chat.port}/")
    with pytest.raises(Refused):
        Door().packages  # noqa: B018 - nothing of `requests` but its calls, codes and errors
    assert chat.connections == 0


async def test_no_plugin_has_another_way_out_than_the_door(couriers: Couriers, chat: Chat) -> None:
    """A new version of Apprise that brings another client to one of these plugins is found here, and stopped by the hook."""
    assert (await called(couriers(), f"json://127.0.0.1:{chat.port}/a")).end is End.TAKEN
    for kind in (kind for kind in KINDS.values() if kind.plugin):
        module = importlib.import_module(f"apprise.plugins.{kind.plugin.partition(':')[0]}")
        courier_module._class(kind)
        assert isinstance(module.requests, Door), kind
        assert not {"httpx", "aiohttp", "http", "urllib3", "socket", "smtplib"} & set(vars(module)), kind
    package = importlib.import_module("apprise.plugins.matrix")
    for found in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"apprise.plugins.matrix.{found.name}")
        courier_module._close_doors()
        assert getattr(module, "requests", None) is None or isinstance(module.requests, Door)


async def test_no_line_of_any_log_holds_a_url(couriers: Couriers, chat: Chat, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for path in ("canary", "redirect/canary", "status500/canary", "sulk/canary"):
        await called(couriers(), f"json://canary:canary@127.0.0.1:{chat.port}/{path}?+x-token=canary")
    await called(couriers(), "json://127.0.0.1:1/canary")
    assert len(chat.told) == 4
    assert "canary" not in caplog.text
