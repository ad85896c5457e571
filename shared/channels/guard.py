"""The one way out for channels: every connection of a call is checked at the moment it is made, and goes to the address that was checked.

Apprise asks `requests`, which resolves names and follows redirects where it likes. So `requests` is not what its plugins get: they get `Door`,
whose sessions resolve a name once for each connection, refuse it unless all its addresses may be reached (`addresses`), connect to one of those
by its number (a name that changes its mind has no second chance), follow no redirect, believe no proxy of the environment, and end a request
after `REQUEST` seconds or `ANSWER` octets. Behind it stands a hook of the interpreter (`sys.addaudithook`): in a thread that makes a call, whatever
connects, resolves, binds or starts a program outside of the door is refused.

An attacker controls the URL, the name servers, and every octet that is answered.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util.ssl_ import create_urllib3_context

from shared.channels.addresses import Network, permitted, port_permitted

REQUEST = 5.0
"""Seconds for one request, from its connection to the last octet of its answer."""
CALL = 15.0
"""Seconds for a call, which is a few requests at some services."""
ANSWER = 64 * 1024
"""Octets of an answer that are read."""
ADDRESSES = 3
"""Addresses of one name that are tried."""

Resolve = Callable[..., Sequence[Any]]

_here = threading.local()


class Refused(OSError):
    """The connection is not made: an address, a port, a protocol or a time that a channel has no right to."""


class Call:
    """One call to a channel: what it may reach, and what became of it. Enter it in the thread that makes it; `abort` may come from another."""

    def __init__(self, networks: Sequence[Network], *, ca: str = "", resolve: Resolve | None = None) -> None:
        """`ca`: a file with authorities to believe beside the usual ones. `resolve`: in place of `socket.getaddrinfo`."""
        self._networks = networks
        self._resolve = resolve or socket.getaddrinfo
        self._ca = ca
        self.status = 0
        """The last answer's, 0 for none."""
        self._until = 0.0
        self._pinned: set[Any] = set()
        self._sockets: set[socket.socket] = set()
        self._resolving = False
        self._over = False
        self.cut = False
        """Whether a request was ended by its limit."""

    def __enter__(self) -> Call:
        _watch()
        self._until = time.monotonic() + CALL
        _here.call = self
        return self

    def __exit__(self, *_: object) -> None:
        _here.call = None
        self.abort()

    @property
    def left(self) -> float:
        """Seconds left for the next request; raises `Refused` where none is."""
        left = min(REQUEST, self._until - time.monotonic())
        if left <= 0 or self._over:
            raise Refused("out of time")
        return left

    def abort(self) -> None:
        """End it now: what waits for a socket of its is woken, and no other is made."""
        self._over = True
        self.hang_up()

    def hang_up(self) -> None:
        """Shut the sockets."""
        for open_socket in list(self._sockets):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
            open_socket.close()
        self._sockets.clear()

    def trust(self, context: ssl.SSLContext) -> ssl.SSLContext:
        """The context, which believes the operator's authorities too."""
        if self._ca:
            context.load_verify_locations(cafile=self._ca)
        return context

    def connect(self, host: str, port: int, *, plain: bool) -> socket.socket:
        """A connection to one of the host's addresses, all of which may be reached. Raises OSError, `Refused` among them."""
        trouble: OSError = Refused("no address")
        for family, address in self.addresses(host, port, plain=plain)[:ADDRESSES]:
            opened = socket.socket(family, socket.SOCK_STREAM)
            try:
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a request is two small writes
                opened.settimeout(self.left)
                self._pinned.add(address)
                opened.connect(address)
            except OSError as error:
                opened.close()
                trouble = error
                continue
            self._sockets.add(opened.dup())  # TLS takes the socket over; this one shuts the same connection
            return opened
        raise trouble

    def addresses(self, host: str, port: int, *, plain: bool) -> list[tuple[socket.AddressFamily, Any]]:
        """Where the host is. Raises `Refused` where one of its addresses, or the port, is nothing for a channel."""
        if not port_permitted(port):
            raise Refused("the port")
        self._resolving = True
        try:
            found = self._resolve(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except (UnicodeError, ValueError) as error:  # what is no name
            raise Refused("the name") from error
        finally:
            self._resolving = False
        if not found or not all(permitted(str(one[4][0]), self._networks, plain=plain) for one in found):
            raise Refused("the address")
        return list(dict.fromkeys((one[0], one[4]) for one in found))

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Raise `Refused` for what does not come through the door."""
        if event == "socket.connect":
            allowed = args[1] in self._pinned
        elif event == "socket.getaddrinfo":
            allowed = self._resolving
        else:
            allowed = False
        if not allowed:
            raise Refused(event)


_FORBIDDEN = frozenset(
    {
        *("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.bind"),
        *("socket.sendto", "socket.sendmsg", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"),
    }
)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event in _FORBIDDEN and (call := getattr(_here, "call", None)) is not None:
        call.audit(event, args)


_watching = threading.Lock()
_watched: list[bool] = []


def _watch() -> None:
    """Set the interpreter's hook, once: it cannot be taken away again, and is not there in a process that calls no channel."""
    with _watching:
        if not _watched:
            sys.addaudithook(_audit)
            _watched.append(True)


def current() -> Call:
    """The call that this thread makes. Raises `Refused` outside of one."""
    call: Call | None = getattr(_here, "call", None)
    if call is None:
        raise Refused("no call")
    return call


class _Plain(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return current().connect(self.host, self.port, plain=True)


class _Secure(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return current().connect(self.host, self.port, plain=False)


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _Secure


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **keywords: Any) -> None:
        context = current().trust(create_urllib3_context())
        super().init_poolmanager(*args, **keywords, ssl_context=context)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}


class Session(requests.Session):
    """A session that goes through the door."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # no proxy and no password of the environment
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(max_retries=0))

    def request(self, method: Any, url: Any, *args: Any, **keywords: Any) -> requests.Response:
        """A request by the call's rules, whatever the plugin asks for."""
        call = current()
        left = call.left
        keywords |= {"timeout": (left, left), "allow_redirects": False, "stream": True}
        keywords |= {"verify": True, "proxies": {}, "cert": None}
        with alarm(left, call):
            response = super().request(method, url, *args, **keywords)
            _read(response)
        if call.cut:  # what came of it may look like an answer
            raise Refused("out of time")
        call.status = response.status_code
        return response


def _read(response: requests.Response) -> None:
    """Read no more of an answer than is of use. Of a longer one the beginning stays, which is no JSON then."""
    body = b""
    for chunk in response.iter_content(8192):
        body += chunk
        if len(body) > ANSWER:
            break
    response._content = body[:ANSWER]  # where `requests` keeps what was read
    response._content_consumed = True
    response.close()


@contextlib.contextmanager
def alarm(seconds: float, call: Call) -> Iterator[None]:
    """Shut the call's sockets when the time is over: a server that sends an octet now and then never runs into a time-out of a read."""

    def ring() -> None:
        call.cut = True
        call.hang_up()

    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class Door:
    """What the plugins have in place of `requests`: its calls go through `Session`, its names for codes and errors are its own."""

    Session: ClassVar[type[Session]] = Session

    @staticmethod
    def request(method: str, url: str, **keywords: Any) -> requests.Response:
        """As `requests.request`."""
        with Session() as session:
            return session.request(method, url, **keywords)

    @classmethod
    def get(cls, url: str, params: Any = None, **keywords: Any) -> requests.Response:
        """As `requests.get`."""
        return cls.request("GET", url, params=params, **keywords)

    @classmethod
    def post(cls, url: str, data: Any = None, json: Any = None, **keywords: Any) -> requests.Response:
        """As `requests.post`."""
        return cls.request("POST", url, data=data, json=json, **keywords)

    @classmethod
    def put(cls, url: str, data: Any = None, **keywords: Any) -> requests.Response:
        """As `requests.put`."""
        return cls.request("PUT", url, data=data, **keywords)

    def __getattr__(self, name: str) -> Any:
        if name in ("codes", "exceptions", "auth") or (name[:1].isupper() and hasattr(requests.exceptions, name)):
            return getattr(requests, name)
        raise Refused(f"requests.{name}")
