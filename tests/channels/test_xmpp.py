"""XMPP: people and rooms over TLS, logins that prove both sides, and what a server can and cannot do to us."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from shared.channels import Called, ChannelError, End
from shared.channels.courier import UNREACHED, Courier
from shared.channels.xmpp import parse
from tests.channels.conftest import Names
from tests.support.jabber import Jabber

Couriers = Callable[..., Courier]
HOST = "xmpp.example.com"
PASSWORD = "%D0%BF%D0%B0%D1%80%D0%BE%D0%BB%D1%8C"


class Place:
    """Servers of one authority; `ca` is its file."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.ca = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.ca)
        self.servers: list[Jabber] = []

    def server(self, *faults: str, direct: bool = True, name: str = HOST) -> Jabber:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(name).configure_cert(context)
        self.servers.append(Jabber(context, *faults, direct=direct))
        return self.servers[-1]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for server in made.servers:
        server.close()


async def told(
    couriers: Couriers, place: Place, server: Jabber, path: str = "ana@example.com", *, scheme: str = "xmpps"
) -> Called:
    courier = couriers(ca=place.ca, resolve=Names(["127.0.0.1"]))
    channel = await courier.sealed(f"{scheme}://bot:{PASSWORD}@{HOST}:{server.port}/{path}")
    assert (channel.kind, channel.shown) == ("xmpp", f"xmpp://{HOST}:{server.port}")
    return await courier.call(channel, title="Хоро & Ко", text="елате <в 9>\n@all")


@pytest.mark.parametrize("scheme", ["xmpps", "xmpp"])
@pytest.mark.parametrize("faults", [(), ("plain",)])
async def test_a_person_is_told(scheme: str, faults: tuple[str, ...], place: Place, couriers: Couriers) -> None:
    server = place.server(*faults, direct=scheme == "xmpps")
    called = await told(couriers, place, server, scheme=scheme)
    assert called.end is End.TAKEN, called
    assert server.messages == [("ana@example.com", "chat", "Хоро &amp; Ко\nелате &lt;в 9&gt;\n@\u2060all")]
    assert "auth" not in server.before_tls


async def test_a_room_is_entered_and_told(place: Place, couriers: Couriers) -> None:
    server = place.server()
    assert (await told(couriers, place, server, "#team@conference.example.com")).end is End.TAKEN
    assert [(to, kind) for to, kind, _ in server.messages] == [("team@conference.example.com", "groupchat")]


@pytest.mark.parametrize(
    ("fault", "path", "end"),
    [
        ("closed room", "#team@c.example.com", End.NEVER),
        ("busy room", "#team@c.example.com", End.LATER),
        ("refused", "ana@example.com", End.NEVER),
        ("impostor", "ana@example.com", End.NEVER),
    ],
)
async def test_what_a_servers_no_means(fault: str, path: str, end: End, place: Place, couriers: Couriers) -> None:
    server = place.server(fault)
    called = await told(couriers, place, server, path)
    assert called.end is end
    assert server.messages == []


async def test_a_wrong_password_is_refused_for_good(place: Place, couriers: Couriers) -> None:
    server = place.server()
    server.password = "another"
    called = await told(couriers, place, server)
    assert (called.end, called.text) == (End.NEVER, "the channel's server refuses the login")


async def test_without_tls_nothing_secret_is_said(place: Place, couriers: Couriers) -> None:
    server = place.server("no tls", direct=False)
    assert (await told(couriers, place, server, scheme="xmpp")).end is End.LATER
    assert "auth" not in "".join(server.said)


async def test_what_is_said_before_tls_is_forgotten(place: Place, couriers: Couriers) -> None:
    """A success that somebody on the way puts behind the server's go-ahead is none."""
    server = place.server("injected", direct=False)
    called = await told(couriers, place, server, scheme="xmpp")
    assert called.end in (End.TAKEN, End.LATER)
    assert called.end is End.LATER or server.messages


async def test_a_certificate_for_another_name_is_not_believed(place: Place, couriers: Couriers) -> None:
    server = place.server(name="other.example.com")
    assert await told(couriers, place, server) == UNREACHED
    assert "".join(server.said) == ""


@pytest.mark.parametrize("fault", ["flood", "mute"])
async def test_p10_a_server_that_never_ends_is_ended(
    fault: str, place: Place, couriers: Couriers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.channels.guard.REQUEST", 0.6)
    assert await told(couriers, place, place.server(fault)) == UNREACHED


async def test_an_address_inside_is_refused(place: Place, couriers: Couriers) -> None:
    server = place.server()
    with pytest.raises(ChannelError, match="HORO_CHANNEL_NETWORKS"):
        await couriers("").sealed(f"xmpps://bot:pw@127.0.0.1:{server.port}/ana@example.com")
    with pytest.raises(ChannelError, match="HORO_CHANNEL_NETWORKS"):
        await couriers("", resolve=Names(["10.0.0.1"])).sealed(f"xmpp://bot:pw@{HOST}/ana@example.com")


def test_what_a_url_says() -> None:
    found = parse("xmpps://bot%40example.com:p%3Aw@xmpp.example.com/#team@conference.example.com")
    assert (found.user, found.domain, found.password, found.host) == ("bot", "example.com", "p:w", "xmpp.example.com")
    assert (found.target, found.room, found.port, found.direct) == ("team@conference.example.com", True, 5223, True)
    assert parse("xmpp://bot:pw@example.com/ana@example.com").port == 5222


@pytest.mark.parametrize(
    "url",
    [
        "xmpps://example.com/ana@example.com",
        "xmpps://bot@example.com/ana@example.com",
        "xmpps://bot:secret@example.com/",
        "xmpps://bot:secret@example.com/ana",
        "xmpps://bot:secret@example.com/ana@example.com/x",
        "xmpps://bot:secret@example.com/a%22%3E%3Cx@example.com",
        "xmpps://bot:secret@example.com:x/ana@example.com",
    ],
)
def test_what_is_no_place(url: str) -> None:
    with pytest.raises(ChannelError) as refused:
        parse(url)
    assert "secret" not in str(refused.value)
