"""Who is asking: a token's text -> the token, as it is kept, or nobody.

An answer of SQL is given again for half a second after the question was put, so that a busy client costs two reads a second and a token
that is revoked is refused within one. That a token was used is noted once a minute, beside the request, which does not wait for it.
Clients control the text; who shows none that could be a token costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import NamedTuple

from shared import journal
from shared.access import Kept, Token, Tokens, words
from shared.replies import TransientError

FRESH = 0.5
"""Seconds for which an answer is given again."""
NOTED = 60.0
"""Seconds between two notes that a token is in use."""
MOST = 10_000
"""Tokens that are remembered, good ones and others."""


class _Asked(NamedTuple):
    at: float
    answer: asyncio.Task[Kept | None]


class Authority:
    """Knows tokens. `close` it before what it asks."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._asked: OrderedDict[str, _Asked] = OrderedDict()
        self._noted: OrderedDict[str, float] = OrderedDict()
        self._notes: set[asyncio.Task[None]] = set()

    async def known(self, text: str) -> Token | None:
        """The token that a text is; None where it is none, or none any more. Raises `AccessUnavailable`."""
        shown = words.shown(text)
        if shown is None:
            return None
        kept = await self._kept(shown.id)
        if not words.matches(shown.digest, kept.digest if kept else None) or kept is None:
            return None
        now = time.time()
        if kept.token.expired(now):
            return None
        self._note(kept.token, now)
        return kept.token

    async def close(self) -> None:
        """Let the notes be written."""
        for _, answer in self._asked.values():
            answer.cancel()
        await asyncio.gather(*self._notes, *(each.answer for each in self._asked.values()), return_exceptions=True)

    async def _kept(self, token_id: str) -> Kept | None:
        """What SQL says, or said when it was asked less than `FRESH` ago: many who come at once ask one question."""
        now = time.monotonic()
        asked = self._asked.get(token_id)
        if asked is None or now - asked.at > FRESH or _failed(asked.answer):
            asked = _Asked(now, asyncio.create_task(self._tokens.find(token_id)))
            self._asked[token_id] = asked
            self._asked.move_to_end(token_id)
            if len(self._asked) > MOST:
                self._asked.popitem(last=False)
        return await asyncio.shield(asked.answer)

    def _note(self, token: Token, now: float) -> None:
        last = max(self._noted.get(token.id, 0.0), token.used_at or 0.0)
        if now - last < NOTED:
            return
        self._noted[token.id] = now
        self._noted.move_to_end(token.id)
        if len(self._noted) > MOST:
            self._noted.popitem(last=False)
        note = asyncio.create_task(self._write(token.id, now))
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)

    async def _write(self, token_id: str, now: float) -> None:
        try:
            await self._tokens.used(token_id, now)
        except TransientError as error:  # it is noted a minute later
            journal.unavailable("use of a token", error.why)


def _failed(answer: asyncio.Task[Kept | None]) -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)
