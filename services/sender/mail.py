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
    DOTTED = 3  # the final dot was handed to the connection
    DONE = 4  # every recipient has its answer, or is left for another transaction


class Mail:
    """A transaction. `answers` has one for each recipient, None while its fate is not known; `left` are those to go into another transaction.

    Recipients who are answered alike share one `Answer`. `indexes` are the caller's, one for each recipient.
    """

    __slots__ = (
        "_cut", "accepted", "answers", "envid", "host", "indexes", "left", "payload", "recipients", "ret", "sender", "stage", "utf8",
    )  # fmt: skip

    def __init__(
        self,
        sender: str,
        recipients: Sequence[Recipient],
        payload: Payload,
        *,
        indexes: Sequence[int] = (),
        utf8: bool = False,
        envid: str | None = None,
        ret: str | None = None,
    ) -> None:
        self.sender = sender
        self.recipients = recipients
        self.payload = payload
        self.indexes = indexes
        self.utf8 = utf8
        self.envid = envid
        self.ret = ret
        self.stage = Stage.UNSENT
        self.host = ""
        self.accepted: Sequence[int] = ()
        self.left: list[int] = []
        self.answers: list[Answer | None] = [None] * len(recipients)
        self._cut = False

    # --- what is heard ------------------------------------------------------------------------------------------------
    def opened(self, host: str) -> None:
        """Its first command is about to be written to `host`."""
        self.stage, self.host = Stage.OPENED, host

    def heard(self) -> None:
        """The next hop has begun to answer it."""
        self.stage = max(self.stage, Stage.HEARD)

    def heard_recipients(self, replies: Sequence[Reply]) -> None:
        """The replies to its RCPTs, in order, to all of them or to the first few. Raises `Broken` for 3xx, with which nobody answers RCPT."""
        every = len(replies) == len(self.recipients)
        if every and replies[0].kind is Kind.POSITIVE and replies.count(replies[0]) == len(replies):
            self.accepted = range(len(replies))  # what almost all transactions are answered
            return
        accepted: list[int] = []
        self.accepted = accepted
        for index, reply in enumerate(replies):
            self._heard_recipient(index, reply, accepted)

    def heard_recipient(self, index: int, reply: Reply) -> None:
        """As `heard_recipients`, for one alone."""
        accepted = list(self.accepted)
        self._heard_recipient(index, reply, accepted)
        self.accepted = accepted

    def _heard_recipient(self, index: int, reply: Reply, accepted: list[int]) -> None:
        if reply.kind is Kind.POSITIVE:
            accepted.append(index)
        elif reply.kind is Kind.INTERMEDIATE:
            raise Broken(garbled(f"{reply.code} to RCPT"))
        elif too_many(reply, len(accepted)):
            self.left.append(index)
        else:
            self.answered(index, softened(reply))

    def refused(self, reply: Reply) -> None:
        """A negative reply that holds for all who have no answer yet: to MAIL, to DATA, or instead of the rest."""
        self._answer(range(len(self.recipients)), Answer(reply, self.host, common=True))
        self.left.clear()
        self.stage = Stage.DONE

    def settled(self, reply: Reply) -> None:
        """The one reply to DATA or to the final dot, good or bad: it holds for all accepted recipients."""
        common = reply.kind is not Kind.POSITIVE and len(self.accepted) > 1
        self._answer(self.accepted, Answer(reply, self.host, common=common))
        self.stage = Stage.DONE

    def answered(self, index: int, reply: Reply) -> None:
        """The reply of an LMTP server for one accepted recipient."""
        self._answer((index,), Answer(reply, self.host))

    def done(self) -> None:
        """Everything was heard."""
        self.stage = Stage.DONE

    def broke(self, reply: Reply, *, stale: bool) -> None:
        """The connection broke, or the server said 421, with `reply` as the meaning for those without an answer.

        `stale` says that the connection had been used before: when nothing at all was heard on it, the mail counts as never sent.
        """
        self._cut = self._cut or self.stage is not Stage.DONE
        if self.stage is Stage.OPENED and stale:
            self.stage = Stage.UNSENT
        elif self.stage in (Stage.OPENED, Stage.HEARD):
            self.refused(reply)
        elif self.stage is Stage.DOTTED:
            self._answer(self.accepted, Answer(UNKNOWN, self.host, unknown=True))
            self.stage = Stage.DONE

    @property
    def finished(self) -> bool:
        """Whether it came to its end with a reply: then its server works, and what is left may go there at once."""
        return self.stage is Stage.DONE and not self._cut

    @property
    def unknown(self) -> bool:
        """Whether the reply to the final dot was lost for somebody."""
        return self._cut and any(answer is not None and answer.unknown for answer in self.answers)

    def _answer(self, indexes: Sequence[int], answer: Answer) -> None:
        """Give `answer` to those of `indexes` who have none."""
        if len(indexes) == len(self.answers) and self.answers.count(None) == len(indexes):
            self.answers = [answer] * len(indexes)
            return
        for index in indexes:
            if self.answers[index] is None:
                self.answers[index] = answer
