"""An XMPP server of one connection at a time, on loopback, behind TLS: login, bind, rooms, messages; with faults to switch.

`faults`: `plain` (offers PLAIN alone), `impostor` (does not know the password, and says that all is well), `closed room`, `busy room`, `no tls`
(offers no STARTTLS), `injected` (says things before TLS that it has no right to), `refused` (a stanza error for the message), `flood` (never ends
a stanza), `mute` (says nothing after the login).
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import re
import secrets
import socket
import ssl
import threading

from tests.support.ports import free_port, release_port

SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
ROUNDS = 4096
STREAM = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1' version='1.0'>"


class Jabber:
    """Close it. `said` is what clients have said, `messages` the bodies that were taken, `before_tls` what was said in the clear."""

    def __init__(self, context: ssl.SSLContext, *faults: str, direct: bool = True, password: str = "пароль") -> None:
        self.faults, self.password = set(faults), password
        self.said: list[str] = []
        self.messages: list[tuple[str, str, str]] = []
        self.before_tls = ""
        self.port = free_port()
        self._context, self._direct = context, direct
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it and give the port back."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)
        release_port(self.port)

    def _serve(self) -> None:
        while True:
            try:
                opened, _ = self._listening.accept()
            except OSError:
                return
            opened.settimeout(10)
            with contextlib.suppress(OSError), opened:
                self._talk(opened)

    def _talk(self, opened: socket.socket) -> None:
        self._socket, self._buffer = opened, ""
        if self._direct:
            self._socket = self._context.wrap_socket(opened, server_side=True)
        else:
            self._clear()
        self._until("<stream:stream[^>]*>")
        offered = ("PLAIN",) if "plain" in self.faults else ("SCRAM-SHA-256", "SCRAM-SHA-1", "PLAIN")
        names = "".join(f"<mechanism>{name}</mechanism>" for name in offered)
        self._say(f"{STREAM}<stream:features><mechanisms xmlns='{SASL}'>{names}</mechanisms></stream:features>")
        if not self._login():
            self._say(f"<failure xmlns='{SASL}'><not-authorized/></failure>")
            return
        self._until("<stream:stream[^>]*>")
        self._say(f"{STREAM}<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>")
        self._stanzas()

    def _clear(self) -> None:
        """Up to TLS."""
        self._until("<stream:stream[^>]*>")
        if "no tls" in self.faults:
            self._say(
                f"{STREAM}<stream:features><mechanisms xmlns='{SASL}'><mechanism>PLAIN</mechanism></mechanisms></stream:features>"
            )
            self._until("</stream:stream>|<auth")
            return
        self._say(f"{STREAM}<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>")
        self._until("<starttls[^>]*>")
        self.before_tls = "".join(self.said)
        proceed = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
        injected = f"<success xmlns='{SASL}'/>" if "injected" in self.faults else ""
        self._say(proceed + injected)
        self._socket, self._buffer = self._context.wrap_socket(self._socket, server_side=True), ""

    def _login(self) -> bool:
        match = self._until(r"<auth[^>]*mechanism='([A-Z0-9-]+)'[^>]*>([^<]*)</auth>")
        said = base64.b64decode(match[2])
        if match[1] == "PLAIN":
            good = said == f"\0bot\0{self.password}".encode()
            if good:
                self._say(f"<success xmlns='{SASL}'/>")
            return good
        digest = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-1": "sha1"}[match[1]]
        first = said.decode().removeprefix("n,,")
        salt, nonce = secrets.token_bytes(16), first.partition(",r=")[2] + "server"
        challenge = f"r={nonce},s={base64.b64encode(salt).decode()},i={ROUNDS}"
        self._say(f"<challenge xmlns='{SASL}'>{base64.b64encode(challenge.encode()).decode()}</challenge>")
        answer = base64.b64decode(self._until(r"<response[^>]*>([^<]*)</response>")[1]).decode()
        bare, _, proof = answer.rpartition(",p=")
        password = "a guess" if "impostor" in self.faults else self.password
        salted = hashlib.pbkdf2_hmac(digest, password.encode(), salt, ROUNDS)
        key = hmac.digest(salted, b"Client Key", digest)
        facts = f"{first},{challenge},{bare}".encode()
        signature = hmac.digest(hashlib.new(digest, key).digest(), facts, digest)
        good = base64.b64decode(proof) == bytes(a ^ b for a, b in zip(key, signature, strict=True))
        if good or "impostor" in self.faults:
            mine = hmac.digest(hmac.digest(salted, b"Server Key", digest), facts, digest)
            verdict = base64.b64encode(b"v=" + base64.b64encode(mine)).decode()
            self._say(f"<success xmlns='{SASL}'>{verdict}</success>")
            return True
        return False

    def _stanzas(self) -> None:
        self._until("<iq[^>]*id='b'.*?</iq>")
        if "mute" in self.faults:
            self._until("never said")
        if "flood" in self.faults:
            self._say("<message>")
            while True:
                self._say("x" * 10_000)
        self._say("<iq type='result' id='b'/>")
        ping = "<iq[^>]*id='p'.*?</iq>"
        while True:
            stanza = self._until(rf"<presence.*?</presence>|<message.*?</message>|{ping}|</stream:stream>")[0]
            if stanza.startswith("<presence"):
                self._room()
            elif stanza.startswith("<message") and "refused" in self.faults:
                self._say("<message type='error' id='m'><error type='cancel'/></message>")
            elif stanza.startswith("<message"):
                found = re.search(r"to=\"(.*?)\" type='(.*?)'.*<body>(.*)</body>", stanza, re.DOTALL)
                assert found is not None, stanza
                self.messages.append((found[1], found[2], found[3]))
            elif stanza.startswith("<iq"):
                self._say("<iq type='error' id='p'><error type='cancel'/></iq>")  # an old server that knows no ping
            else:
                return

    def _room(self) -> None:
        if self.faults & {"closed room", "busy room"}:
            kind = "wait" if "busy room" in self.faults else "auth"
            self._say(f"<presence type='error' id='e'><error type='{kind}'/></presence>")
            return
        self._say("<presence from='room@c/ana'/>")
        self._say(
            "<presence from='room@c/Horo'><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>"
        )

    def _until(self, pattern: str) -> re.Match[str]:
        while (match := re.search(pattern, self._buffer, re.DOTALL)) is None:
            data = self._socket.recv(65536)
            if not data:
                raise OSError("gone")
            self.said.append(data.decode())
            self._buffer += self.said[-1]
        self._buffer = self._buffer[match.end() :]
        return match

    def _say(self, text: str) -> None:
        self._socket.sendall(text.encode())
