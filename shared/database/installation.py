"""What the database says of the installation as a whole: a digest of its secret, its own clock and its version.

The secret itself is kept nowhere here. Its digest is slow to make and salted, so that who reads the database cannot try words against it. An
attacker who writes to the database could only make services refuse to start.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
import time
from typing import NamedTuple

from sqlalchemy import delete, func, insert, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from shared.database.engine import read, transact
from shared.database.migrate import DatabaseUnavailable
from shared.database.tables import installation

SALT = 16
DIFFERS = (
    "HORO_SECRET is not the one that this installation started with: loop marks, bounce addresses and the URLs of channels made with the other "
    "one would not be known. Set the same secret everywhere; where it was changed on purpose, run `horo doctor --new-secret` once"
)


class Server(NamedTuple):
    """The database's name and version, and its clock: seconds since the epoch."""

    name: str
    version: str
    now: float


async def same_secret(engine: AsyncEngine, secret: str) -> bool | None:
    """Whether the secret is the installation's; None where none has been recorded. Raises `DatabaseUnavailable`."""
    async with read(engine, DatabaseUnavailable) as connection:
        kept = await connection.scalar(select(installation.c.secret_digest))
    if kept is None:
        return None
    kept = bytes(kept)
    return hmac.compare_digest(kept, await _digest(secret, kept[:SALT]))


async def hold_secret(engine: AsyncEngine, secret: str) -> bool:
    """Whether the secret is the installation's: the first one that is held is."""
    held = await same_secret(engine, secret)
    if held is not None:
        return held
    digest = await _digest(secret, secrets.token_bytes(SALT))

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(insert(installation).values(id=1, secret_digest=digest, at=time.time()))

    try:
        await transact(engine, DatabaseUnavailable, work)
    except IntegrityError:  # another process was first, perhaps with another secret
        return bool(await same_secret(engine, secret))
    return True


async def replace_secret(engine: AsyncEngine, secret: str) -> None:
    """From now on this one is the installation's."""
    digest = await _digest(secret, secrets.token_bytes(SALT))

    async def work(connection: AsyncConnection) -> None:
        await connection.execute(delete(installation))
        await connection.execute(insert(installation).values(id=1, secret_digest=digest, at=time.time()))

    await transact(engine, DatabaseUnavailable, work)


async def server(engine: AsyncEngine) -> Server:
    """Who answers, and what time it is there. Raises `DatabaseUnavailable`."""
    async with read(engine, DatabaseUnavailable) as connection:
        if engine.dialect.name == "sqlite":
            return Server("SQLite", str(await connection.scalar(select(func.sqlite_version()))), time.time())
        version = str(await connection.scalar(text("SHOW server_version")))
        now = await connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())::float8"))
        return Server("PostgreSQL", version, float(now or 0.0))


async def _digest(secret: str, salt: bytes) -> bytes:
    made = await asyncio.to_thread(hashlib.scrypt, secret.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=32)
    return salt + made
