"""The image's HEALTHCHECK: ends with 0 when /livez of this container's process answers 200.

Nothing but the standard library's first floor: it runs every half minute in every container, and `horo` itself takes several times as long to start.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

LIMIT = 5.0
"""Seconds for the answer; the process has as many to show that its event loop turns."""
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- what is asked, not what is listened on


def main() -> int:
    """0 alive, 1 not; what is wrong goes to standard error, where `docker inspect` shows it."""
    listen = os.environ.get("HORO_HEALTH_LISTEN", "")
    if not listen:
        return 0  # told to have no such address: Docker sees by itself whether the process runs
    parts = urlsplit(f"//{listen}")
    host = parts.hostname or ""
    try:
        connection = HTTPConnection(WILDCARDS.get(host, host), parts.port, timeout=LIMIT)
        connection.request("GET", "/livez")
        answer = connection.getresponse()
    except (OSError, HTTPException, ValueError) as error:
        print(f"/livez at {listen}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"/livez at {listen}: {answer.status}", file=sys.stderr)  # noqa: T201
    return 0 if answer.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
