"""A request as the endpoints have it: typed access to what the gate and the application put beside it, and JSON that cannot crash."""

from __future__ import annotations

from typing import Any, cast

from litestar import Request
from litestar.exceptions import ClientException

from shared.access import Token
from shared.parts import Parts


class Asked(Request[Any, Any, Any]):
    """A request to the console."""

    @property
    def parts(self) -> Parts:
        """The parts of this process."""
        return cast("Parts", self.app.state.parts)

    @property
    def token(self) -> Token:
        """The token with which it has passed the gate."""
        return cast("Token", self.state.token)

    async def json(self) -> Any:
        """The body. What is no JSON is a client's mistake however it shows: nested too deep, or not UTF-8, it is no DecodeError."""
        try:
            return await super().json()
        except (RecursionError, UnicodeError) as error:
            raise ClientException("Malformed JSON") from error
