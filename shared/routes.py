"""Which next hop a recipient's domain is behind: HORO_ROUTES over HORO_NEXT_HOP. Pure.

A next hop is text, in the syntax of HORO_NEXT_HOP: `maildir:PATH`, `smtp://host:port`, `lmtp://host:port`, `mx:`. In a delivery
"mx:" carries the domain ("mx:example.org"), because each domain's exchangers are a next hop of their own.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import msgspec

Kind = Literal["maildir", "smtp", "lmtp", "mx"]
_PORTS = {"smtp": 25, "lmtp": 24}


class RoutesError(Exception):
    """A next hop or route that cannot be understood."""


class NextHop(msgspec.Struct, frozen=True):
    """A next hop, parsed. `host` and `port` for smtp and lmtp, `path` for maildir, `host` is the domain for mx (empty in settings)."""

    kind: Kind
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> NextHop:
        """Read a next hop. Raises `RoutesError`."""
        text = text.strip()
        if text.startswith("mx:"):
            return cls("mx", host=text[3:])
        if text.startswith("maildir:"):
            path = text[len("maildir:") :]
            if not path:
                raise RoutesError("maildir: needs a path, as in maildir:/var/mail/horo")
            return cls("maildir", path=path)
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise RoutesError(f"{text!r} is no next hop: {error}") from error
        if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
            raise RoutesError(f"{text!r} is no next hop: write maildir:PATH, smtp://host:port, lmtp://host:port or mx:")
        kind: Kind = "smtp" if parts.scheme == "smtp" else "lmtp"
        return cls(kind, host=parts.hostname, port=port or _PORTS[kind])

    def __str__(self) -> str:
        match self.kind:
            case "maildir":
                return f"maildir:{self.path}"
            case "mx":
                return f"mx:{self.host}"
            case _:
                return f"{self.kind}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


class Routes(msgspec.Struct, frozen=True):
    """Next hops by domain. An exact domain wins over a `.suffix`, a longer suffix over a shorter, the default comes last."""

    default: NextHop
    exact: dict[str, NextHop] = {}
    suffix: dict[str, NextHop] = {}

    @classmethod
    def parse(cls, text: str, *, default: str) -> Routes:
        """Read HORO_ROUTES (comma or new line separated `domain=next hop`) over a default. Raises `RoutesError`."""
        exact: dict[str, NextHop] = {}
        suffix: dict[str, NextHop] = {}
        for part in text.replace("\n", ",").split(","):
            if not (entry := part.strip()):
                continue
            domain, found, hop = entry.partition("=")
            domain = domain.strip().lower()
            if not found or not domain.strip("."):
                raise RoutesError(f"{entry!r} is no route: write domain=next hop, as in example.com=smtp://10.0.0.5:25")
            where = suffix if domain.startswith(".") else exact
            if domain in where:
                raise RoutesError(f"{domain} has two routes")
            where[domain] = NextHop.parse(hop)
        return cls(default=NextHop.parse(default), exact=exact, suffix=suffix)

    def hop(self, domain: str) -> NextHop:
        """The next hop of a domain (lower case A-label); "mx" gets the domain filled in."""
        hop = self.exact.get(domain) or self._by_suffix(domain) or self.default
        return NextHop("mx", host=hop.host or domain) if hop.kind == "mx" else hop

    def _by_suffix(self, domain: str) -> NextHop | None:
        _, _, rest = domain.partition(
            "."
        )  # ".example.org" is what lies under example.org, not example.org itself (as in Postfix)
        while rest:
            if found := self.suffix.get(f".{rest}"):
                return found
            _, _, rest = rest.partition(".")
        return None
