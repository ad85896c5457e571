"""Channels of every kind: what their URLs may be, what they are told, what their answers mean, and what of a URL is ever seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from shared.channels import ChannelError, End
from shared.channels.courier import UNREACHED, Courier
from shared.channels.kinds import KINDS, quiet
from shared.channels.vault import Vault
from tests.channels.conftest import SECRET, Names, Safe
from tests.support.chat import Chat

Couriers = Callable[..., Courier]
TOKEN = "4cf8a1b2c3d4e5f6a7b8c9d0e1"
SLACK = "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
TEAMS = (
    "https://prod-1.westeurope.logic.azure.com:443/workflows/643e69f83c8944/triggers/manual/paths/invoke"
    "?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=KODuebWbDGYFr0z0eu"
)


# --- told -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("url", "path", "field"),
    [
        ("json://127.0.0.1:{port}/hook?+X-Token=t", "/hook", "message"),
        ("http://127.0.0.1:{port}/hook", "/hook", "message"),
        ("mmost://127.0.0.1:{port}/" + TOKEN, f"/hooks/{TOKEN}", "text"),
        ("matrix://secret@127.0.0.1:{port}/!room:chat.test", "/_matrix/client/v3/rooms/", "body"),
        ("matrix://user:secret@127.0.0.1:{port}/!room:chat.test", "/_matrix/client/v3/rooms/", "body"),
        ("ntfy://127.0.0.1:{port}/topic", "/", "message"),
        ("rocket://aaa/bbb@127.0.0.1:{port}/#room", "/hooks/aaa/bbb", "text"),
    ],
)
async def test_a_channel_of_ones_own_is_told(url: str, path: str, field: str, couriers: Couriers, chat: Chat) -> None:
    courier = couriers()
    channel = await courier.sealed(url.format(port=chat.port))
    called = await courier.call(channel, title="Хоро", text="елате в 9")
    assert called.end is End.TAKEN, called
    told = next(told for told in chat.told if field.encode() in told.body)
    assert told.path.startswith(path)
    assert "елате в 9" in told.json[field]
    assert "Хоро" in told.body.decode("unicode_escape", "replace") or "Хоро" in str(told.json)


@pytest.mark.parametrize(
    ("url", "host", "start"),
    [
        (f"slack://{SLACK}", "hooks.slack.com", f"/services/{SLACK}"),
        (f"https://hooks.slack.com/services/{SLACK}", "hooks.slack.com", f"/services/{SLACK}"),
        ("tgram://123456789:abcdefg_hijklmnop/12315544/", "api.telegram.org", "/bot123456789:abcdefg_hijklmnop/"),
        (TEAMS, "prod-1.westeurope.logic.azure.com", "/workflows/643e69f83c8944/triggers/manual/paths/invoke"),
        ("ntfys://topic", "ntfy.sh", "/"),
    ],
)
async def test_a_service_is_told_over_tls(
    url: str, host: str, start: str, couriers: Couriers, safe: Callable[..., Safe]
) -> None:
    """By its own host name, whose certificate is checked; the address alone is the test's."""
    place = safe(host)
    courier = couriers(ca=place.ca, resolve=Names(["127.0.0.1"], port=place.chat.port))
    channel = await courier.sealed(url)
    called = await courier.call(channel, title="T", text="come at nine")
    assert [(told.host.partition(":")[0], told.path.startswith(start)) for told in place.chat.told] == [(host, True)]
    assert b"come at nine" in place.chat.told[0].body
    assert called.end is not End.NEVER


async def test_an_unknown_authority_is_not_believed(couriers: Couriers, safe: Callable[..., Safe]) -> None:
    place = safe("hooks.slack.com")
    courier = couriers(resolve=Names(["127.0.0.1"], port=place.chat.port))
    assert await courier.call(await courier.sealed(f"slack://{SLACK}"), title="T", text="x") == UNREACHED
    assert place.chat.told == []


async def test_the_operators_authorities_stand_beside_the_public_ones(
    couriers: Couriers, safe: Callable[..., Safe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HORO_TLS_CA is for servers of one's own: with it a service's certificate of a public authority is still believed."""
    public, own = safe("hooks.slack.com"), safe("chat.example.com")
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", public.ca)
    for place, url in ((public, f"slack://{SLACK}"), (own, "https://chat.example.com/hook")):
        courier = couriers(ca=own.ca, resolve=Names(["127.0.0.1"], port=place.chat.port))
        await courier.call(await courier.sealed(url), title="T", text="x")
        assert len(place.chat.told) == 1


async def test_a_certificate_for_another_name_is_not_believed(couriers: Couriers, safe: Callable[..., Safe]) -> None:
    place = safe("other.example.com")
    names = Names(["127.0.0.1"], port=place.chat.port)
    for ca in (place.ca, ""):
        courier = couriers(ca=ca, resolve=names)
        channel = await courier.sealed(f"slack://{SLACK}")
        assert await courier.call(channel, title="T", text="x") == UNREACHED
    assert place.chat.told == []


@pytest.mark.parametrize(
    ("path", "end", "text"),
    [
        ("status404", End.NEVER, "the channel answered HTTP 404"),
        ("status403", End.NEVER, "the channel answered HTTP 403"),
        ("status500", End.LATER, "the channel answered HTTP 500"),
        ("status503", End.LATER, "the channel answered HTTP 503"),
        ("status429", End.LATER, "the channel answered HTTP 429"),
        ("redirect", End.NEVER, "the channel answered HTTP 302: it has moved, and redirections are not followed"),
    ],
)
async def test_what_an_answer_means(path: str, end: End, text: str, couriers: Couriers, chat: Chat) -> None:
    courier = couriers()
    channel = await courier.sealed(f"json://127.0.0.1:{chat.port}/{path}")
    called = await courier.call(channel, title="", text="x")
    assert (called.end, called.text) == (end, text)


async def test_a_server_that_wants_us_to_wait_holds_no_thread(couriers: Couriers, chat: Chat) -> None:
    """Matrix says 429 with any number of milliseconds, and its plugin would sleep them all."""
    courier = couriers()
    channel = await courier.sealed(f"matrix://secret@127.0.0.1:{chat.port}/!room:chat.test")
    chat.answers = [429, 429, 429]
    called = await courier.call(channel, title="", text="x")
    assert called.end is End.LATER
    assert len(chat.told) == 1


async def test_a_room_is_not_called_together_by_a_subject(couriers: Couriers, chat: Chat) -> None:
    courier = couriers()
    channel = await courier.sealed(f"mmost://127.0.0.1:{chat.port}/{TOKEN}")
    await courier.call(channel, title="@all", text="read this @Channel, ana@all-inclusive.test, @ana")
    assert chat.told[0].json["text"] == ("@\u2060all\r\nread this @\u2060Channel, ana@\u2060all-inclusive.test, @ana")
    assert quiet("office@example.test") == "office@example.test"


# --- URLs -----------------------------------------------------------------------------------------------------------
BAD = {
    "no URL": "secret",
    "spaces": "json://127.0.0.1/a secret",
    "newline": "json://127.0.0.1/secret\n?x=1",
    "long": "json://127.0.0.1/secret" + "x" * 2000,
    "file": "file:///etc/secret",
    "mail": "mailto://secret@example.com",
    "syslog": "syslog://secret",
    "program": "dbus://secret",
    "gopher": "gopher://127.0.0.1/secret",
    "no tokens": "slack://secret",
    "a template is a file": f"slack://{SLACK}?template=/etc/secret",
    "an attachment is a URL": "ntfys://secret?attach=http://169.254.169.254/",
    "a method": "json://127.0.0.1/secret?method=DELETE",
    "no check of certificates": "jsons://example.com/secret?verify=no",
    "redirections": "jsons://example.com/secret?redirect=yes",
    "a proxy's header": "jsons://example.com/secret?+Host=10.0.0.1",
    "a mode": "matrixs://secret@example.com/#room?mode=t2bot",
    "an option in disguise": "jsons://example.com/secret?%6Dethod=GET",
    "after a semicolon": "jsons://example.com/secret?+a=b;method=GET",
    "another plugin": "discord://secret/secret",
}


@pytest.mark.parametrize("url", BAD.values(), ids=BAD.keys())
async def test_what_is_no_channel_is_refused_in_words_without_it(url: str, couriers: Couriers) -> None:
    with pytest.raises(ChannelError) as refused:
        await couriers(resolve=Names(["127.0.0.1"])).sealed(url)
    assert "secret" not in str(refused.value).lower()
    assert "169.254" not in str(refused.value)


async def test_nothing_that_is_kept_shows_a_secret(couriers: Couriers) -> None:
    courier = couriers(resolve=Names(["127.0.0.1"]))
    urls = {
        "jsons://canary:canary@hook.example.com/canary?+x-token=canary": "webhook://hook.example.com",
        "https://hook.example.com:8443/canary": "webhook://hook.example.com:8443",
        "matrixs://canary:canary@matrix.example.com/#canary": "matrix://matrix.example.com",
        "mmosts://canary@chat.example.com/" + TOKEN: "mattermost://chat.example.com",
        "ntfys://canary:canary@ntfy.example.com/canary": "ntfy://ntfy.example.com",
        "ntfys://canarytopic": "ntfy",
        f"matrixs://{'canary01' * 8}": "matrix",  # the bridge t2bot: the host is the token
        f"slack://{SLACK}": "slack",
        "tgram://123456789:canary_hijklmnop/12315544/": "telegram",
        TEAMS: "teams://prod-1.westeurope.logic.azure.com:443",
    }
    for url, shown in urls.items():
        channel = await courier.sealed(url)
        assert channel.shown == shown
        assert channel.label.startswith(f"{channel.kind}:")
        assert channel.label == channel.label.lower()
        kept = msgspec.json.encode(channel)
        for part in ("canary", TOKEN, "TIiajkdnlazkcOXrIdevi7FQ", "123456789", "KODuebWbDGYFr0z0eu"):
            assert part.encode() not in kept
        assert Vault(SECRET).open(channel.secret) == url


async def test_equal_urls_have_one_label_and_another_secret_another(couriers: Couriers) -> None:
    courier = couriers(resolve=Names(["127.0.0.1"]))
    first, again = await courier.sealed("https://a.example.com/x"), await courier.sealed(" HTTPS://a.example.com/x ")
    assert first.label == again.label
    assert first.secret != again.secret
    assert (await courier.sealed("https://a.example.com/y")).label != first.label
    other = Courier("another secret of these tests", (), resolve=Names(["93.184.216.34"]))
    assert (await other.sealed("https://a.example.com/x")).label != first.label
    called = await other.call(first, title="", text="x")
    assert (called.end, "HORO_SECRET" in called.text) == (End.NEVER, True)
    other.close()


def test_every_kind_is_of_one_plugin_and_named() -> None:
    assert {kind.name for kind in KINDS.values()} == {
        *("slack", "matrix", "mattermost", "teams", "telegram", "rocketchat", "ntfy", "webhook", "xmpp"),
    }
