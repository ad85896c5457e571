"""`horo doctor` on what the ingress has beside it: rspamd, which checks posts, and the listener that a mail server in front asks by socketmap."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from cli.check import PATIENCE
from cli.finding import Finding
from shared.settings import Settings, endpoint, shown_url

PROBE = b"Subject: horo doctor\r\n\r\nIs anybody there?\r\n"
QUESTION = b"6:doctor,"
"""A netstring that asks for a map which does not exist."""
ANSWER = b":PERM "
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - asked at, not listened on
"""Where to ask whoever listens on all addresses."""


async def neighbours(loaded: Settings) -> list[Finding]:
    """A finding for each that the settings name."""
    found = []
    if loaded.rspamd_url:
        found.append(await _rspamd(loaded))
    if loaded.socketmap_listen:
        found.append(await _socketmap(loaded.socketmap_listen))
    return found


async def _rspamd(loaded: Settings) -> Finding:
    """Whether it gives a verdict: on a message of nobody's, asked for as the ingress asks."""
    from services.ingress.rspamd import Rspamd, Unchecked

    async def message() -> AsyncIterator[bytes]:
        yield PROBE

    check = f"rspamd {shown_url(loaded.rspamd_url)}"
    started = time.monotonic()
    try:
        verdict = await Rspamd(loaded).check((), len(PROBE), message())
    except Unchecked as error:
        closed = loaded.rspamd_fail == "closed"
        told = f"{error}: posts are {'put off (451)' if closed else 'accepted unchecked'}"
        mend = "start it, or correct HORO_RSPAMD_URL: its normal worker is meant, not its controller"
        return Finding(check, "fault" if closed else "warning", told, mend)
    return Finding(check, "ok", f"gave a verdict within {time.monotonic() - started:.1f} s: {verdict.action}")


async def _socketmap(listen: str) -> Finding:
    """Whether somebody there speaks the protocol. Only the ingress listens, perhaps in another container."""
    check = f"socketmap {listen}"
    host, port = endpoint(listen)
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await _asked(EVERYWHERE.get(host, host), port)
    except ConnectionRefusedError:
        return Finding(check, "skipped", "nobody listens here: look from where ingress runs")
    except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
        told = f"no answer: {str(error) or type(error).__name__}"
    else:
        if ANSWER in answer:
            return Finding(check, "ok", "answers")
        told = f"answers with {answer[:60]!r}"
    return Finding(check, "fault", told, "another program may have the address: see the log of ingress")


async def _asked(host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(QUESTION)
        return await reader.readuntil(b",")
    finally:
        writer.close()
