"""Whether the shared cache answers, for `horo check`: the services never ask, they do without."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.exceptions import RedisError


async def ping(url: str) -> None:
    """Ask the server of HORO_CACHE_URL for an answer. Raises `ConnectionError` with the reason, without the URL's password."""
    client = Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5)
    try:
        await client.ping()
    except (RedisError, OSError) as error:
        raise ConnectionError(f"no answer: {type(error).__name__}") from error
    finally:
        await client.aclose()
