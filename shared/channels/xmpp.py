"""XMPP channels: a login, one message to a person or a room, and goodbye (RFC 6120, XEP-0045), in the thread of a call and through its guard.

Apprise's plugin wants slixmpp, which looks up names and connects in ways that the guard does not see; the few stanzas that a message takes are here.
Nothing secret is said before TLS is up and the certificate of the host is checked. An attacker controls the URL and all that the server says:
what it says is bounded by the call's time and by `MOST` octets.

    xmpps://USER:PASSWORD@HOST/PERSON@DOMAIN          TLS from the start, port 5223
    xmpp://USER:PASSWORD@HOST/#ROOM@CONFERENCE        STARTTLS, which is demanded, port 5222

USER is a name at HOST, or USER%40DOMAIN where the server has another name than its domain. Names are not looked up by SRV: the host is the server's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
import socket
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element, ParseError, XMLPullParser
from xml.sax.saxutils import escape, quoteattr

import certifi
import msgspec

from shared.channels import Called, ChannelError, End
from shared.channels.guard import CALL, Call, alarm

SCHEMES = ("xmpp", "xmpps")
MOST = 256 * 1024
"""Octets of a server that are read."""
ROUNDS = 200_000
"""Iterations of SCRAM that a server may ask for: more would be work for it to give, not for us."""
PORTS = {"xmpp": 5222, "xmpps": 5223}

TLS, SASL, BIND = (f"urn:ietf:params:xml:ns:xmpp-{name}" for name in ("tls", "sasl", "bind"))
MUC, PING, STANZAS = "http://jabber.org/protocol/muc", "urn:xmpp:ping", "urn:ietf:params:xml:ns:xmpp-stanzas"

REFUSED = Called(End.NEVER, "the channel's server refuses the login")
NOT_LET_IN = Called(End.NEVER, "the channel's server refuses the message")
LATER = Called(End.LATER, "the channel's server cannot take the message now")
TAKEN = Called(End.TAKEN, "taken")

_JID = re.compile(r"[^\s@/<>\"'&]{1,300}@[A-Za-z0-9.\[\]:-]{1,255}")
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Place(msgspec.Struct, frozen=True):
    """What a URL says. `direct`: TLS from the start."""

    user: str
    domain: str
    password: str
    host: str
    port: int
    target: str
    room: bool
    direct: bool


class _Ended(Exception):
    """The conversation cannot go on; `called` is what that means."""

    def __init__(self, called: Called) -> None:
        super().__init__(called.text)
        self.called = called


def parse(url: str) -> Place:
    """The place that a URL names. Raises `ChannelError`."""
    scheme, _, rest = url.partition("://")
    authority, _, path = rest.partition("/")
    try:
        found = urlsplit(f"//{authority}")
        port = found.port or PORTS[scheme]
    except ValueError:
        raise ChannelError("that URL names no port") from None
    user, _, domain = unquote(found.username or "").partition("@")
    password, target, host = unquote(found.password or ""), unquote(path), found.hostname or ""
    room = target.startswith("#")
    whole = user and password and host and _JID.fullmatch(target.removeprefix("#"))
    if not whole or not _JID.fullmatch(f"{user}@{domain or host}"):
        raise ChannelError("an XMPP channel is xmpps://USER:PASSWORD@HOST/PERSON@DOMAIN or .../#ROOM@CONFERENCE")
    return Place(user, domain or host, password, host, port, target.removeprefix("#"), room, scheme == "xmpps")


def send(place: Place, body: str, call: Call) -> Called:
    """Give one text to a person or a room. Raises OSError where the server cannot be reached."""
    left = call.left
    with alarm(min(CALL, 2 * left), call):
        opened = call.connect(place.host, place.port, plain=False)
        try:
            return _Conversation(place, opened, call).run(_NO_XML.sub("\ufffd", body))
        except _Ended as ended:
            return ended.called
        except ParseError as error:
            raise OSError("no XML") from error
        finally:
            opened.close()


class _Conversation:
    def __init__(self, place: Place, opened: socket.socket, call: Call) -> None:
        self._place = place
        self._socket = opened
        self._tls = call.trust(ssl.create_default_context(cafile=certifi.where()))
        self._stanzas: Iterator[Element] = iter(())
        self._read = 0

    def run(self, body: str) -> Called:
        """TLS, login, the message, and the proof that the server has it: it answers a ping that came after."""
        place = self._place
        if place.direct:
            self._secure()
        features = self._open()
        if not place.direct:
            if features.find(f"{{{TLS}}}starttls") is None:
                raise _Ended(LATER)
            self._say(f"<starttls xmlns='{TLS}'/>")
            if self._next().tag != f"{{{TLS}}}proceed":
                raise _Ended(LATER)
            self._secure()
            features = self._open()
        self._login({found.text or "" for found in features.iter(f"{{{SASL}}}mechanism")})
        self._open()
        self._ask(f"<iq type='set' id='b'><bind xmlns='{BIND}'/></iq>", "b")
        if place.room:
            self._enter()
        kind = "groupchat" if place.room else "chat"
        self._say(f"<message to={quoteattr(place.target)} type='{kind}' id='m'><body>{escape(body)}</body></message>")
        self._ask(
            f"<iq type='get' id='p' to={quoteattr(place.domain)}><ping xmlns='{PING}'/></iq>", "p", any_answer=True
        )
        self._say("</stream:stream>")
        return TAKEN

    # --- the stream -----------------------------------------------------------------------------------------------------
    def _secure(self) -> None:
        """TLS from here on. What came before it is forgotten: it may be anybody's."""
        self._socket = self._tls.wrap_socket(self._socket, server_hostname=self._place.host)

    def _open(self) -> Element:
        """A new stream; its features."""
        self._stanzas = self._elements()
        self._say(
            f"<?xml version='1.0'?><stream:stream to={quoteattr(self._place.domain)} version='1.0' "
            "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        features = self._next()
        if not features.tag.endswith("}features"):
            raise _Ended(LATER)
        return features

    def _elements(self) -> Iterator[Element]:
        """The stanzas of one stream."""
        parser: XMLPullParser[Any] = XMLPullParser(("start", "end"))
        depth = 0
        while True:
            data = self._socket.recv(8192)
            self._read += len(data)
            if not data or self._read > MOST:
                raise OSError("the stream ended")
            parser.feed(data)
            event: Any  # (what, element) for the two kinds that are asked for
            for event in parser.read_events():
                depth += 1 if event[0] == "start" else -1
                if depth == 1 and event[0] == "end":
                    yield event[1]

    def _next(self) -> Element:
        return next(self._stanzas)

    def _say(self, text: str) -> None:
        self._socket.sendall(text.encode())

    # --- the login ------------------------------------------------------------------------------------------------------
    def _login(self, offered: set[str]) -> None:
        for name, digest in (("SCRAM-SHA-256", "sha256"), ("SCRAM-SHA-1", "sha1")):
            if name in offered:
                self._scram(name, digest)
                return
        if "PLAIN" not in offered:
            raise _Ended(REFUSED)
        secret = f"\0{self._place.user}\0{self._place.password}"
        self._say(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{_coded(secret.encode())}</auth>")
        self._expect("success")

    def _scram(self, name: str, digest: str) -> None:
        """SCRAM (RFC 5802) without channel binding, for TLS has checked the server by its certificate."""
        user = self._place.user.replace("=", "=3D").replace(",", "=2C")
        first = f"n={user},r={secrets.token_urlsafe(18)}"
        self._say(f"<auth xmlns='{SASL}' mechanism='{name}'>{_coded(f'n,,{first}'.encode())}</auth>")
        challenge = self._expect("challenge")
        said = dict(part.partition("=")[::2] for part in challenge.decode("utf-8", "replace").split(","))
        nonce, rounds = said.get("r", ""), int(said.get("i", "0")) if said.get("i", "").isdigit() else 0
        if not nonce.startswith(first.partition(",r=")[2]) or not 0 < rounds <= ROUNDS:
            raise _Ended(REFUSED)
        salted = hashlib.pbkdf2_hmac(digest, self._place.password.encode(), _decoded(said.get("s", "")), rounds)
        key = hmac.digest(salted, b"Client Key", digest)
        bare = f"c=biws,r={nonce}"
        facts = f"{first},{challenge.decode()},{bare}".encode()
        signature = hmac.digest(hashlib.new(digest, key).digest(), facts, digest)
        proof = bytes(left ^ right for left, right in zip(key, signature, strict=True))
        self._say(f"<response xmlns='{SASL}'>{_coded(f'{bare},p={_coded(proof)}'.encode())}</response>")
        verdict = self._expect("success")
        expected = hmac.digest(hmac.digest(salted, b"Server Key", digest), facts, digest)
        if not hmac.compare_digest(verdict, f"v={_coded(expected)}".encode()):
            raise _Ended(REFUSED)  # it did not know the password

    def _expect(self, word: str) -> bytes:
        """The octets of the server's next step; `_Ended` where it is another one."""
        element = self._next()
        if element.tag != f"{{{SASL}}}{word}":
            again = element.find(f"{{{SASL}}}temporary-auth-failure") is not None
            raise _Ended(LATER if again else REFUSED)
        return _decoded(element.text or "")

    # --- stanzas --------------------------------------------------------------------------------------------------------
    def _enter(self) -> None:
        """Be in the room, without its history: it says so by our own presence."""
        to = quoteattr(f"{self._place.target}/Horo-{secrets.token_hex(3)}")
        self._say(f"<presence to={to} id='e'><x xmlns='{MUC}'><history maxstanzas='0'/></x></presence>")
        while True:
            stanza = self._next()
            _check(stanza)
            if stanza.tag.endswith("}presence") and stanza.find(f".//{{{MUC}#user}}status[@code='110']") is not None:
                return

    def _ask(self, stanza: str, number: str, *, any_answer: bool = False) -> None:
        """Say a stanza and wait for the answer with its number; an error on the way is what became of the message."""
        self._say(stanza)
        while True:
            answer = self._next()
            mine = answer.tag.endswith("}iq") and answer.get("id") == number
            if not (mine and any_answer):
                _check(answer)
            if mine:
                return


def _check(stanza: Element) -> None:
    if stanza.tag.endswith("}error") and "streams" in stanza.tag:
        raise _Ended(LATER)
    if stanza.get("type") == "error" and stanza.get("id") in ("b", "e", "m"):
        told = stanza.find("./{jabber:client}error")
        raise _Ended(LATER if told is not None and told.get("type") == "wait" else NOT_LET_IN)


def _coded(octets: bytes) -> str:
    return base64.b64encode(octets).decode() or "="


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True) if text != "=" else b""
    except ValueError:
        raise _Ended(REFUSED) from None
