"""Gives signals to channels, through Apprise, in a few threads of its own.

Apprise costs 34 MB and 0.2 s, and comes with the first call. Its plugins are made from a URL of an allow-list (`kinds`), with every option fixed
that reaches beyond the channel, and their way out is the guard's. What they log may hold a URL: it is not kept. What came of a call is told by
what the guard has seen, in words of ours.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import requests

from shared.channels import THREADS, Called, ChannelError, End, xmpp
from shared.channels.addresses import Network
from shared.channels.guard import CALL, Call, Door, Resolve
from shared.channels.kinds import KINDS, WEB, Kind, check_options, label, parse, quiet
from shared.channels.vault import Vault
from shared.directory.channels import SealedChannel

GRACE = 1.0
"""Seconds that a call may take beyond its own limit before nobody waits for it any more."""

UNREACHED = Called(End.LATER, "the channel cannot be reached")
"""For a name that does not resolve, an address that is not allowed, a port that is closed and a server that is silent alike: a channel is no
means to look into a network."""
TAKEN = Called(End.TAKEN, "taken")
NOT_TAKEN = Called(End.LATER, "the channel answered, but did not take the message")

UNFIT = "that URL has not the parts that such a channel needs"

NATIVE = ("slack", "workflows")
"""Services whose own URLs of the web are known."""
DOOR = Door()

T = TypeVar("T")

_loading = threading.Lock()


class _Throttled(Exception):
    """A service wants its callers to wait: not in a thread of ours, the bus is there for that."""


class Courier:
    """`call` gives one text to one channel; `sealed` makes a channel of a URL. `close` it."""

    def __init__(
        self, secret: str, networks: Sequence[Network], *, ca: str = "", resolve: Resolve | None = None
    ) -> None:
        """`secret` is the effective one, `networks` are those of HORO_CHANNEL_NETWORKS; `ca` and `resolve` as in `guard.Call`."""
        self._secret = secret
        self._vault = Vault(secret)
        self._networks = networks
        self._ca = ca
        self._resolve = resolve
        self._pool: ThreadPoolExecutor | None = None

    async def sealed(self, url: str) -> SealedChannel:
        """A URL as a channel to be kept: checked, encrypted. Raises `ChannelError`."""
        return await self._threaded(self._call(), lambda call: self._sealed(url, call))

    async def call(self, channel: SealedChannel, *, title: str, text: str) -> Called:
        """Give a text to a channel. Never raises for what a channel does; nothing of its URL is in the answer."""
        try:
            url = self._vault.open(channel.secret)
        except ChannelError as error:
            return Called(End.NEVER, str(error))
        call = self._call()
        try:
            return await self._threaded(call, lambda call: _notify(url, title, text, call))
        except TimeoutError:
            return UNREACHED

    def close(self) -> None:
        """Take no more; what a thread is at ends by its own limits."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _call(self) -> Call:
        return Call(self._networks, ca=self._ca, resolve=self._resolve)

    async def _threaded(self, call: Call, work: Callable[[Call], T]) -> T:
        """Do it in one of the threads, within the limit of a call: then its sockets are shut, and the thread comes back by itself."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="channel")
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def run() -> T:
            loop.call_soon_threadsafe(begun.set)
            with call:
                return work(call)

        doing = loop.run_in_executor(self._pool, run)
        doing.add_done_callback(lambda _: begun.set())  # also where it never began, because the pool was closed
        try:
            await begun.wait()
            async with asyncio.timeout(CALL + GRACE):
                return await asyncio.shield(doing)
        except (TimeoutError, asyncio.CancelledError):
            call.abort()
            doing.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    def _sealed(self, url: str, call: Call) -> SealedChannel:
        kind, whole, host, port = _place(url)
        shown = kind.name
        if host:
            shown = f"{kind.name}://{host}{f':{port}' if port else ''}"
            try:
                call.addresses(host, port or (80 if kind.plain else 443), plain=kind.plain)
            except OSError:
                raise ChannelError(
                    "the host cannot be found from here, or channels may not reach it (HORO_CHANNEL_NETWORKS)"
                ) from None
        sealed = self._vault.seal(whole)
        return SealedChannel(kind=kind.name, shown=shown, label=label(kind, whole, self._secret), secret=sealed)


def _place(url: str) -> tuple[Kind, str, str, int]:
    """A URL's kind, the URL as it is kept, and the host and port (0 for the usual one) that it names; no host where it is the service's own.

    Raises `ChannelError`.
    """
    parsed = parse(url)
    if parsed.scheme in xmpp.SCHEMES:
        check_options(KINDS[parsed.scheme], parsed.url)
        place = xmpp.parse(parsed.url)
        return KINDS[parsed.scheme], parsed.url, place.host, place.port
    plugin, kind, whole = _plugin(url)
    # of ntfy's own service the host is a topic, of Matrix's bridge t2bot it is the token
    named = kind.named and getattr(plugin, "mode", "") not in ("cloud", "t2bot")
    return kind, whole, str(plugin.host or "") if named else "", int(plugin.port or 0)


def _notify(url: str, title: str, text: str, call: Call) -> Called:
    """One call, in its thread. Whatever a plugin raises holds what it was made of, and goes no further."""
    try:
        if (parsed := parse(url)).scheme in xmpp.SCHEMES:
            return xmpp.send(xmpp.parse(parsed.url), quiet(f"{title}\n{text}" if title else text), call)
        plugin, kind, _ = _plugin(url)
        if kind.name != "webhook":
            title, text = quiet(title), quiet(text)
        taken = bool(plugin.notify(body=text, title=title, body_format=_apprise().NotifyFormat.TEXT))
    except ChannelError:
        return Called(End.NEVER, "the channel's URL is none that this version knows")
    except _Throttled:
        return Called(End.LATER, "the channel wants to be asked less often")
    except Exception as error:
        logging.getLogger(__name__).debug("channel call: %s", type(error).__name__)
        taken = False
    return TAKEN if taken else _judged(call.status)


def _judged(status: int) -> Called:
    """What an answer that is no success means."""
    if status == 0:
        return UNREACHED
    if 300 <= status < 400:
        return Called(End.NEVER, f"the channel answered HTTP {status}: it has moved, and redirections are not followed")
    if 400 <= status < 500 and status not in (408, 425, 429):
        return Called(End.NEVER, f"the channel answered HTTP {status}")
    return NOT_TAKEN if status < 300 else Called(End.LATER, f"the channel answered HTTP {status}")


def _plugin(url: str) -> tuple[Any, Kind, str]:
    """The plugin that a URL asks for, its kind, and the URL as it is kept. Raises `ChannelError`."""
    parsed = parse(url)
    kind, found = _read(parsed.scheme, parsed.url)
    check_options(kind, parsed.url)
    if not found:
        raise ChannelError(UNFIT)
    found |= {"verify": True, "redirect": False, "overflow": "split", "include_image": False, "asset": _asset()}
    try:
        plugin = _class(kind)(**found)
    except Exception:  # its text holds the URL
        raise ChannelError(UNFIT) from None
    plugin.throttle = _throttle
    return plugin, kind, parsed.url


def _read(scheme: str, url: str) -> tuple[Kind, dict[str, Any] | None]:
    """What a URL says, and to which kind. One of the web is a service's own where it is one's incoming webhook (Slack, Teams), else a webhook."""
    if scheme not in WEB:
        return KINDS[scheme], _class(KINDS[scheme]).parse_url(url)
    for own in NATIVE if scheme == "https" else ():
        if found := _class(KINDS[own]).parse_native_url(url):
            return KINDS[own], found
    whole = f"{WEB[scheme]}://{url.partition('://')[2]}"
    return KINDS[WEB[scheme]], _class(KINDS[WEB[scheme]]).parse_url(whole)


def _throttle(last_io: Any = None, wait: float | None = None) -> None:
    if wait:
        raise _Throttled


def _asset() -> Any:
    """Nothing of Apprise's is kept on disk, and its messages bear no picture."""
    return _apprise().AppriseAsset(app_id="Horo", app_desc="Horo", app_url="", image_url_mask="", async_mode=False)


def _class(kind: Kind) -> Any:
    """The kind's plugin, and of all plugins no other: what is not imported cannot be called."""
    _apprise()
    module, _, name = kind.plugin.partition(":")
    with _loading:
        loaded = importlib.import_module(f"apprise.plugins.{module}")
        _close_doors()
    return getattr(loaded, name)


def _apprise() -> Any:
    """Apprise, silent: its lines hold URLs, and so do those of what it calls."""
    with _loading:
        if "apprise" not in sys.modules:
            for name in ("apprise", "urllib3", "requests"):
                noise = logging.getLogger(name)
                noise.setLevel(logging.CRITICAL + 1)
                noise.propagate = False
        return importlib.import_module("apprise")


def _close_doors() -> None:
    """Put the guard's door in place of `requests` wherever one of Apprise's modules has that."""
    for name, module in list(sys.modules.items()):
        if name.startswith("apprise.") and getattr(module, "requests", None) is requests:
            module.requests = DOOR  # type: ignore[attr-defined]
