"""The ingress service: its listeners, what its sessions share, and its orderly end."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
from collections.abc import Callable

from services.ingress.accept import Acceptance
from services.ingress.context import Context
from services.ingress.limits import Crowd, Limits, Pace, connection_limit
from services.ingress.outcomes import Refusals
from services.ingress.quota import Quota
from services.ingress.recipients import Recipients
from services.ingress.screen import Screen
from services.ingress.session import LmtpSession, Session
from services.ingress.socketmap import Socketmap
from shared import journal
from shared.bodies import Bodies
from shared.bus import Bus
from shared.directory import Directory
from shared.ledger.days import Days
from shared.settings import Settings, SettingsError, endpoint

GRACE = 30.0
"""Seconds that open transactions get to finish when the service is told to end."""

IDLE_GRACE = 2.0
"""Seconds in which an idle client may still come with a MAIL, and hear that we are closing, before it is told unasked."""

BACKLOG = 1024


class CannotListen(Exception):
    """An address that cannot be listened on: the address, the setting it comes from, and the system's reason."""

    def __init__(self, address: str, setting: str, reason: OSError) -> None:
        super().__init__(f"{setting}: cannot listen on {address}: {reason.strerror or reason}")
        self.address = address
        self.setting = setting
        self.reason = reason


class Ingress:
    """Listens on HORO_SMTP_LISTEN and HORO_LMTP_LISTEN; each accepted message is one `Post` on the bus before its 250 (P1)."""

    def __init__(
        self,
        settings: Settings,
        *,
        bus: Bus,
        directory: Directory,
        bodies: Bodies,
        days: Days | None = None,
        hostname: str = "",
        limits: Limits | None = None,
    ) -> None:
        """`days` is the ledger that counts for quotas; `hostname` and `limits` stand in for what the settings say.

        Raises `SettingsError` for a certificate that cannot be used.
        """
        limits = limits or Limits.of(settings)
        self._settings = settings
        self._refusals = Refusals(bus)
        self._socketmap = Socketmap(directory, most=settings.max_connections_per_ip)
        quota = Quota(directory, days)
        self._servers: dict[str, asyncio.Server] = {}
        self._context = Context(
            hostname=hostname or settings.hostname or socket.gethostname(),
            limits=limits,
            recipients=Recipients(directory, max_recipients=limits.max_recipients, quota=quota),
            acceptance=Acceptance(
                settings,
                bus=bus,
                directory=directory,
                timeout=limits.accept_timeout,
                quota=quota,
                screen=Screen(settings, bodies),
            ),
            bodies=bodies,
            crowd=Crowd(
                total=connection_limit(settings.max_connections, _descriptors()),
                per_client=settings.max_connections_per_ip,
            ),
            pace=Pace(settings.max_messages_per_minute),
            refusals=self._refusals,
            tls=tls_context(settings),
        )

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """What it listens on, by protocol: {"smtp": ("127.0.0.1", 2525), ...}; a port 0 in the settings is the one that was found."""
        return {name: server.sockets[0].getsockname()[:2] for name, server in self._servers.items() if server.sockets}

    @property
    def sessions(self) -> int:
        """Clients that are connected and admitted."""
        return self._context.crowd.count

    async def start(self) -> None:
        """Listen. Raises `CannotListen`."""
        self._refusals.start()
        try:
            await self._listen("smtp", self._settings.smtp_listen, lambda: Session(self._context))
            await self._listen("lmtp", self._settings.lmtp_listen, lambda: LmtpSession(self._context))
            await self._listen("socketmap", self._settings.socketmap_listen, self._socketmap.protocol)
        except BaseException:
            await self.stop(grace=0)
            raise

    async def _listen(self, name: str, address: str, factory: Callable[[], asyncio.BaseProtocol]) -> None:
        if not address:
            return
        host, port = endpoint(address)
        try:
            self._servers[name] = await asyncio.get_running_loop().create_server(factory, host, port, backlog=BACKLOG)
        except OSError as error:
            raise CannotListen(address, f"HORO_{name.upper()}_LISTEN", error) from error

    async def stop(self, *, grace: float = GRACE) -> None:
        """Accept no more connections and no new MAIL; let transactions finish for `grace` seconds, and acceptances in flight in any case."""
        context = self._context
        context.draining = True
        for server in self._servers.values():
            server.close()
        await self._socketmap.stop()
        sessions = _tasks(context)
        if sessions and grace:
            _, rest = await asyncio.wait(sessions, timeout=min(IDLE_GRACE, grace))
            for session in list(context.sessions):
                session.leave()
            if rest:
                await asyncio.wait(rest, timeout=max(grace - IDLE_GRACE, 0.1))
        for session in list(context.sessions):
            session.expel()
        await self._finish_acceptances()
        await self._refusals.stop(patience=min(grace, 5.0))
        self._servers.clear()

    async def _finish_acceptances(self) -> None:
        """A publish that was begun ends in its own time, which HORO_ACCEPT_TIMEOUT bounds: the client may yet repeat it, and will be known."""
        context = self._context
        patience = context.limits.accept_timeout + 1.0
        if context.accepting:
            _, rest = await asyncio.wait(set(context.accepting), timeout=patience)
            for task in rest:
                journal.session_trouble("", "an acceptance was given up at the end of the service")
                task.cancel()
        if sessions := _tasks(context):  # which tell their clients how it ended, and say goodbye
            await asyncio.wait(sessions, timeout=context.limits.linger + 1.0)
        for session in list(context.sessions):
            session.expel()


def _tasks(context: Context) -> set[asyncio.Task[None]]:
    return {task for session in context.sessions if (task := session.task) is not None and not task.done()}


def _descriptors() -> int:
    """Open files that this process may have; as many as the system lets it ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            return soft
    return 1 << 20 if hard == resource.RLIM_INFINITY else hard


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The certificate for STARTTLS, None where there is none. Raises `SettingsError`."""
    if not settings.tls_cert:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(f"HORO_TLS_CERT, HORO_TLS_KEY: cannot be used: {error}") from error
    return context
