"""`horo doctor`: looks an installation over, from where it runs, with the settings of a process, and says of each fault what would mend it.

Beyond `horo check` (does everything answer?): is it the right version, the same secret, the same time, with room on the disks, and does the
world believe our host's name? It migrates nothing; queues that a broker lacks it declares, as every start does. It prints no secret, no
password and nothing of anybody's mail.
"""

from __future__ import annotations

import asyncio
import ipaddress
import platform
import shutil
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import Parameter
from rich.text import Text

from cli import access
from cli.check import PATIENCE, probes, tried
from cli.finding import Finding, State
from cli.neighbours import neighbours
from cli.output import CommandError, Exit, Json, print_json, print_table, say
from shared.parts import effective_hostname, effective_secret
from shared.settings import PREFIX, Settings
from shared.starting import StartError
from shared.topology import Queue

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

STYLE = {"ok": "green", "warning": "yellow", "fault": "red", "skipped": "dim"}

CLOCK_WARNING = 2.0
CLOCK_FAULT = 30.0
"""Seconds of difference: leases and retries are by each process's own clock."""
DISK_WARNING = (0.10, 2 << 30)
DISK_FAULT = (0.02, 256 << 20)
"""Free share and free octets; the smaller need counts, so that a large disk is not called full at 10 %."""
CERTIFICATE_WARNING = 21 * 86400.0
DOMAINS_LOOKED_AT = 20
DEEP = 10_000
"""Messages in a queue that are worth a word."""


Look = Callable[[], Awaitable[Iterable[Finding]]]


async def doctor(
    *,
    new_secret: Annotated[bool, Parameter(name="--new-secret", negative="")] = False,
    dns: Annotated[bool, Parameter(name="--dns", negative="--no-dns")] = True,
    json: Json = False,
) -> None:
    """Look this installation over and say what to mend. Exit code 1 where there is a fault, 0 where there are warnings at most.

    Parameters
    ----------
    new_secret
        Take HORO_SECRET as it is now for the installation's: after it was changed on purpose.
    dns
        Ask the domain name system about the names of the sending host and of the domains.
    """
    loaded = access.settings()
    if new_secret:
        await _take_secret(loaded)
    loaded = msgspec.structs.replace(loaded, migrate="command")  # who looks does not migrate
    looks: list[tuple[str, Look]] = [
        ("versions", lambda: _versions(loaded)),
        ("reachability", lambda: _reachability(loaded)),
        ("database", lambda: _database(loaded)),
        ("topology", lambda: _topology(loaded)),
        ("neighbours", lambda: neighbours(loaded)),
        ("disks", lambda: _disks(loaded)),
        ("certificates", lambda: _certificates(loaded)),
    ]
    if dns:
        looks.append(("names", lambda: _names(loaded)))
    findings = [finding for what, look in looks for finding in await _looked(what, look)]
    _print(findings, json=json)
    faults = sum(finding.state == "fault" for finding in findings)
    if faults:
        raise CommandError(f"{faults} of {len(findings)} checks found a fault", Exit.FAILED)


def _print(findings: list[Finding], *, json: bool) -> None:
    if json:
        print_json(findings)
        return
    rows = [
        (one.check, Text(one.state, style=STYLE[one.state]), f"{one.told}{f' -> {one.mend}' if one.mend else ''}")
        for one in findings
    ]
    print_table("", ("check", "state", "found -> what mends it"), rows)
    if all(one.state in ("ok", "skipped") for one in findings):
        say("Nothing to mend.", "green")


async def _looked(what: str, look: Look) -> list[Finding]:
    """What a look found; that it failed is a finding too."""
    try:
        return list(await look())
    except (StartError, CommandError) as error:
        return [Finding(what, "fault", str(error), "mend what it names")]
    except Exception as error:
        told = str(getattr(error, "why", "") or error) or type(error).__name__
        return [Finding(what, "fault", told, "see the lines about reachability, and the log of the server it names")]


# --- the program and what it needs -----------------------------------------------------------------------------------
async def _versions(loaded: Settings) -> list[Finding]:
    found = [Finding("version", "ok", f"Horo {version('horo')} on Python {platform.python_version()}")]
    if loaded.broker_url == "embedded:" and not loaded.effective_database_url.startswith("sqlite:"):
        mend = "set HORO_BROKER_URL to an amqp:// URL where more than one process is to run"
        found.append(Finding("settings", "warning", "a database of the network with the bus of one process", mend))
    if not loaded.postmaster:
        mend = "set HORO_POSTMASTER to an address that somebody reads"
        found.append(
            Finding("settings", "warning", "nobody gets mail for postmaster@ and for groups without owners", mend)
        )
    return found


async def _reachability(loaded: Settings) -> list[Finding]:
    """All that `horo check` asks."""
    found = []
    for what, probe in probes(loaded):
        problem = await tried(probe)
        mend = "start it, or correct the setting; a firewall or a network policy may stand between"
        mend = "" if not problem or "horo migrate" in problem else mend
        found.append(Finding(what, "fault" if problem else "ok", problem or "answers", mend))
    return found


@asynccontextmanager
async def _engine(loaded: Settings) -> AsyncIterator[AsyncEngine]:
    from shared.database.engine import open_engine

    engine = open_engine(loaded.effective_database_url)
    try:
        async with asyncio.timeout(PATIENCE):
            yield engine
    finally:
        await engine.dispose()


async def _database(loaded: Settings) -> list[Finding]:
    """Its version, its schema, its clock, and whether it knows our secret."""
    from shared.database import migrate
    from shared.database.installation import DIFFERS, same_secret, server

    async with _engine(loaded) as engine:
        before = time.time()
        answered = await server(engine)
        found = [Finding("database version", "ok", f"{answered.name} {answered.version}")]
        found.append(clock(answered.now, before, time.time()))
        at, head = await migrate.version(engine), migrate.head()
        if at != head:
            mend = "run `horo migrate`, or upgrade Horo where the database is the newer one"
            return [*found, Finding("schema", "fault", f"{at or 'empty'}, this Horo's is {head}", mend)]
        found.append(Finding("schema", "ok", head))
        made = loaded.secret or not loaded.broker_url.startswith("embedded:") or (loaded.data_path / "secret").exists()
        match await same_secret(engine, effective_secret(loaded)) if made else None:
            case None:
                found.append(Finding("secret", "skipped", "no service has started on this database yet"))
            case True:
                found.append(Finding("secret", "ok", "the same as the services'"))
            case False:
                found.append(Finding("secret", "fault", "another one than the services'", DIFFERS))
    return found


def clock(theirs: float, before: float, after: float) -> Finding:
    """The database's clock against ours, which showed `before` and `after` around the question."""
    off = max(before - theirs, theirs - after, 0.0)
    state: State = "fault" if off > CLOCK_FAULT else "warning" if off > CLOCK_WARNING else "ok"
    mend = "set both clocks by NTP (chrony, systemd-timesyncd)" if off > CLOCK_WARNING else ""
    return Finding("clock", state, f"{off:.1f} s from the database's", mend)


async def _take_secret(loaded: Settings) -> None:
    from shared.database.installation import replace_secret
    from shared.database.migrate import at_start

    async with _engine(loaded) as engine:
        await at_start(engine, loaded.migrate)
        await replace_secret(engine, effective_secret(loaded))


async def _topology(loaded: Settings) -> list[Finding]:
    """Every queue is there, and how much waits in it."""
    from shared.bus.open import open_bus

    async with asyncio.timeout(PATIENCE):
        bus = await open_bus(loaded.broker_url, loaded.data_path)
        try:
            depths = {queue: await bus.depth(queue) for queue in Queue}
        finally:
            await bus.close()
    told = ", ".join(f"{queue} {depth}" for queue, depth in depths.items() if depth) or "all empty"
    deep = [str(queue) for queue, depth in depths.items() if depth > DEEP]
    mend = f"see the runbook's HoroBacklogGrows: {', '.join(deep)}" if deep else ""
    return [Finding(f"{len(depths)} queues", "warning" if deep else "ok", told, mend)]


# --- the machine -----------------------------------------------------------------------------------------------------
async def _disks(loaded: Settings) -> list[Finding]:
    places = {PREFIX + "DATA": loaded.data_path}
    if loaded.bodies_url.removeprefix("file:") and loaded.bodies_url.startswith("file:"):
        places[PREFIX + "BODIES_URL"] = Path(loaded.bodies_url.removeprefix("file:"))
    hop = loaded.route_table.default
    if hop.kind == "maildir":
        places[PREFIX + "NEXT_HOP"] = Path(hop.path)
    return [await asyncio.to_thread(_disk, name, place) for name, place in places.items()]


def _disk(name: str, place: Path) -> Finding:
    there = next((one for one in (place, *place.absolute().parents) if one.exists()), Path("/"))
    usage = shutil.disk_usage(there)
    return room(f"disk of {name}", usage.free, usage.total)


def room(check: str, free: int, total: int) -> Finding:
    """How much of a disk is free, in octets."""
    told = f"{free / (1 << 30):.1f} GiB of {total / (1 << 30):.1f} GiB free"
    for state, (share, octets) in (("fault", DISK_FAULT), ("warning", DISK_WARNING)):
        if free < min(share * total, octets):
            mend = "make room, or move it: a full disk stops the acceptance of mail (451)"
            return Finding(check, state, told, mend)  # type: ignore[arg-type]
    return Finding(check, "ok", told)


async def _certificates(loaded: Settings) -> list[Finding]:
    files = [(name, Path(path)) for name in ("tls_cert", "tls_ca") if (path := getattr(loaded, name))]
    found = [await asyncio.to_thread(_certificate, f"{PREFIX}{name.upper()}", path) for name, path in files]
    if loaded.tls_cert:
        found.append(await asyncio.to_thread(_pair, loaded))
    return found or [Finding("certificates", "skipped", "none are set: clients get no STARTTLS")]


def _certificate(check: str, path: Path) -> Finding:
    from shared.certificates import expiry

    try:
        left = expiry(path) - time.time()
    except (OSError, ValueError) as error:
        return Finding(check, "fault", f"{path}: {error}", "put a PEM file there that this user may read")
    told = f"expires in {left / 86400:.0f} days" if left > 0 else f"expired {-left / 86400:.0f} days ago"
    state: State = "ok" if left > CERTIFICATE_WARNING else "warning" if left > 0 else "fault"
    return Finding(check, state, told, "" if state == "ok" else "renew it, then restart ingress")


def _pair(loaded: Settings) -> Finding:
    check = f"{PREFIX}TLS_KEY"
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(loaded.tls_cert, loaded.tls_key)
    except (OSError, ssl.SSLError) as error:
        return Finding(check, "fault", f"{type(error).__name__}: {error}", "it must be the key of HORO_TLS_CERT")
    return Finding(check, "ok", "belongs to the certificate")


# --- what the world sees ---------------------------------------------------------------------------------------------
async def _names(loaded: Settings) -> list[Finding]:
    """The sending host's name and addresses, and the senders that the domains allow: where we deliver to the world ourselves."""
    hostname = effective_hostname(loaded)
    routes = loaded.route_table
    if not any(hop.kind == "mx" for hop in (routes.default, *routes.exact.values(), *routes.suffix.values())):
        told = "no next hop is mx: another server delivers to the world, and its names count"
        return [Finding("names of the sending host", "skipped", told)]
    found, addresses = await host(hostname)
    for domain in await _domains(loaded):
        found.append(await sender_policy(domain, addresses))
    told = "Horo signs no mail: let the server behind it sign, or rely on SPF; authors' own signatures stay whole"
    return [*found, Finding("DKIM", "skipped", told)]


async def host(hostname: str) -> tuple[list[Finding], list[str]]:
    """Forward and reverse name of the sending host; its addresses."""
    from services.sender import lookups

    if "." not in hostname:
        mend = "set HORO_HOSTNAME to the name that the world knows this host by"
        return [Finding("host name", "fault", f"{hostname} is no full name", mend)], []
    try:
        addresses = await lookups.addresses(hostname)
        names = {address: await lookups.name_of(address) for address in addresses}
    except lookups.Unanswered as error:
        return [Finding("host name", "warning", f"{hostname}: {error}", "mend the resolver of this machine")], []
    if not addresses:
        mend = "add an A or AAAA record, or correct HORO_HOSTNAME"
        return [Finding("host name", "fault", f"{hostname} has no address", mend)], []
    found = [Finding("host name", "ok", f"{hostname} is {', '.join(addresses)}")]
    for address, told in names.items():
        if hostname.lower().rstrip(".") in told:
            found.append(Finding(f"PTR of {address}", "ok", hostname))
        else:
            mend = f"have whoever gave you the address name it {hostname}: many servers refuse mail without"
            found.append(Finding(f"PTR of {address}", "fault", ", ".join(told) or "none", mend))
    return found, addresses


async def sender_policy(domain: str, addresses: list[str]) -> Finding:
    """Whether a domain's SPF lets this host send. Only what its own record says is read: what it includes may allow us as well."""
    from services.sender import lookups

    check = f"SPF of {domain}"
    try:
        records = [text for text in await lookups.texts(domain) if text.lower().split(" ")[0] == "v=spf1"]
    except lookups.Unanswered as error:
        return Finding(check, "warning", str(error), "mend the resolver of this machine")
    if len(records) != 1:
        told = "no record" if not records else f"{len(records)} records, which is none (RFC 7208 4.5)"
        mend = f'add one TXT record to {domain}: "v=spf1 {" ".join(map(mechanism, addresses))} ~all"'
        return Finding(check, "warning", told, mend)
    words = records[0].lower().split()
    if any(_named(word, addresses) for word in words):
        return Finding(check, "ok", records[0])
    mend = f"add {' '.join(map(mechanism, addresses))} to it, unless what it includes has it"
    return Finding(check, "warning", records[0], mend)


def mechanism(address: str) -> str:
    """An address as SPF writes it."""
    return f"ip{ipaddress.ip_address(address).version}:{address}"


def _named(word: str, addresses: list[str]) -> bool:
    """Whether a word of an SPF record has one of these addresses itself."""
    kind, _, network = word.lstrip("+").partition(":")
    if kind not in ("ip4", "ip6"):
        return False
    try:
        block = ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
    return any(ipaddress.ip_address(address) in block for address in addresses)


async def _domains(loaded: Settings) -> list[str]:
    from shared.directory.open import open_registry

    registry = await open_registry(loaded)
    try:
        return [domain.name for domain in await registry.domains(limit=DOMAINS_LOOKED_AT)]
    finally:
        await registry.close()
