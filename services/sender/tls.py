"""TLS towards next hops: the policy as a context, and sessions that are taken up again.

A resumed session saves both sides the certificates and the signature. asyncio and uvloop have no parameter for one, but both make their TLS
object with the context's `wrap_bio`: there it is handed over. A session is kept by the name that its server was asked to prove, within one
context, so that with `required` it stands for a certificate that was verified for that very name.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from typing import Any

from shared.settings import Settings

MOST_SESSIONS = 1000
"""Servers whose sessions are kept; the one used longest ago is dropped first."""


class Resuming(ssl.SSLContext):
    """A client context that takes up the last session with the same server."""

    sessions: OrderedDict[str, ssl.SSLSession]

    def wrap_bio(
        self, incoming: Any, outgoing: Any, server_side: bool = False, server_hostname: Any = None, session: Any = None
    ) -> ssl.SSLObject:
        """As in `ssl.SSLContext`; the event loop calls it."""
        if session is None and isinstance(server_hostname, str):
            session = self.sessions.get(server_hostname)
        return super().wrap_bio(
            incoming, outgoing, server_side=server_side, server_hostname=server_hostname, session=session
        )

    def keep(self, name: str, session: ssl.SSLSession | None) -> None:
        """Remember a session with the server `name`; TLS 1.3 hands them out after the handshake, so it is asked for when something was read."""
        if session is None or not (session.has_ticket or session.id):
            return
        self.sessions[name] = session
        self.sessions.move_to_end(name)
        if len(self.sessions) > MOST_SESSIONS:
            self.sessions.popitem(last=False)


def context_of(settings: Settings) -> Resuming | None:
    """HORO_TLS_OUT. Required: verified against HORO_TLS_CA or the system's authorities. Opportunistic: any certificate is better than none."""
    if settings.tls_out == "none":
        return None
    context = Resuming(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = OrderedDict()
    if settings.tls_ca:
        context.load_verify_locations(cafile=settings.tls_ca)
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if settings.tls_out == "opportunistic":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
