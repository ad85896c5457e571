"""One transaction: who it is from and to, and what has been heard of it so far. Pure.

The conversation fills it in as replies come, so that whatever happens to the connection, every answer that was heard is kept,
and what was not heard is told apart: never sent (may be sent at once elsewhere), lost before the final dot (nothing was
delivered), lost after it (unknown).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from services.sender.answers import UNKNOWN, Answer, Broken, garbled
from services.sender.outcome import softened, too_many
from services.sender.payload import Payload
from shared.messages import Recipient
from shared.replies import Kind, Reply


class Stage(IntEnum):
    """How far a transaction has come."""

    UNSENT = 0
    OPENED = 1  # its commands were written, nothing was heard
    HEARD = 2  # a reply was heard
    DOTTED = 3  # the final dot was, or may have been, sent
    DONE = 4  # every recipient has its answer, or is left for another transaction


class Mail:
    """A transaction. `answers` has an entry for every recipient whose fate is known; `left` are those to go into another transaction."""

    def __init__(
        self,
        sender: str,
        recipients: Sequence[Recipient],
        payload: Payload,
        *,
        utf8: bool = False,
        envid: str | None = None,
        ret: str | None = None,
    ) -> None:
        self.sender = sender
        self.recipients = recipients
        self.payload = payload
        self.utf8 = utf8
        self.envid = envid
        self.ret = ret
        self.stage = Stage.UNSENT
        self.host = ""
        self.accepted: list[int] = []
        self.left: list[int] = []
        self.answers: dict[int, Answer] = {}
        self._cut = False

    # --- what is heard ------------------------------------------------------------------------------------------------
    def opened(self, host: str) -> None:
        """Its first command was written to `host`."""
        self.stage, self.host = Stage.OPENED, host

    def heard(self) -> None:
        """The next hop has begun to answer it."""
        self.stage = max(self.stage, Stage.HEARD)

    def heard_recipient(self, index: int, reply: Reply) -> None:
        """The reply to a RCPT. Raises `Broken` for 3xx, which none of RFC 5321 answers RCPT with."""
        if reply.kind is Kind.POSITIVE:
            self.accepted.append(index)
        elif reply.kind is Kind.INTERMEDIATE:
            raise Broken(garbled(f"{reply.code} to RCPT"))
        elif too_many(reply, len(self.accepted)):
            self.left.append(index)
        else:
            self._answer(index, softened(reply))

    def refused(self, reply: Reply) -> None:
        """A negative reply that holds for all who have no answer yet: to MAIL, to DATA, or instead of the rest."""
        for index in self._unanswered():
            self._answer(index, reply)
        self.left.clear()
        self.stage = Stage.DONE

    def settled(self, reply: Reply) -> None:
        """The one reply to DATA or to the final dot, good or bad: it holds for all accepted recipients."""
        for index in self.accepted:
            self._answer(index, reply)
        self.stage = Stage.DONE

    def answered(self, index: int, reply: Reply) -> None:
        """The reply of an LMTP server for one accepted recipient."""
        self._answer(index, reply)

    def done(self) -> None:
        """Everything was heard."""
        self.stage = Stage.DONE

    def broke(self, reply: Reply, *, stale: bool) -> None:
        """The connection broke, or the server said 421, with `reply` as the meaning for those without an answer.

        `stale` says that the connection had been idle: when nothing at all was heard on it, the mail counts as never sent.
        """
        self._cut = self._cut or self.stage is not Stage.DONE
        if self.stage is Stage.OPENED and stale:
            self.stage = Stage.UNSENT
        elif self.stage in (Stage.OPENED, Stage.HEARD):
            self.refused(reply)
        elif self.stage is Stage.DOTTED:
            for index in self.accepted:
                if index not in self.answers:
                    self.answers[index] = Answer(UNKNOWN, self.host, unknown=True)
            self.stage = Stage.DONE

    @property
    def finished(self) -> bool:
        """Whether it came to its end with a reply: then its server works, and what is left may go there at once."""
        return self.stage is Stage.DONE and not self._cut

    def _answer(self, index: int, reply: Reply) -> None:
        self.answers.setdefault(index, Answer(reply, self.host))

    def _unanswered(self) -> list[int]:
        return [index for index in range(len(self.recipients)) if index not in self.answers]
