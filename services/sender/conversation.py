"""Transactions over one connection, pipelined as RFC 2920 allows, or one command at a time where the server wants it.

A group is RSET? MAIL RCPT* DATA: it is written at once, and its replies are read together. A body goes out with the next transaction's
group behind it, in one piece, so that many small transactions cost one round trip and one write each. When the last body is out, somebody
else may write behind it while its reply is on the way. The final dot is never written for a body that broke off.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NoReturn

from services.sender.answers import TOO_LARGE, Broken, garbled, timed_out
from services.sender.connection import Connection
from services.sender.mail import Mail, Stage
from services.sender.wire import mail_command, mail_parameters, rcpt_commands
from shared.replies import Kind, Reply

TURN_PATIENCE = 5.0
"""Seconds that a transaction waits behind the reply that another one is owed; then it goes over another connection."""

_SENDING = "while the message was sent"


class Conversation:
    """Sends transactions over a connection, and writes into each what was heard. `begun` are those that it took of `mails`, in order.

    Trouble of the connection ends in the mails and in `ended_with`, not in an error. `pass_on` is called when nothing more will be
    written here, and the connection may be written to by another while the last reply is owed. `pushed_back` says that the server wants
    less of us; `session_limit` is the number of transactions after which it ended the connection, 0 where it did not.
    """

    def __init__(
        self, connection: Connection, mails: Iterator[Mail], pass_on: Callable[[], None] = lambda: None
    ) -> None:
        self.begun: list[Mail] = []
        self.ended_with: Reply | None = None
        self.pushed_back = False
        self.session_limit = 0
        self._connection = connection
        self._channel = connection.channel
        self._mails = mails
        self._pass_on = pass_on
        self._parameters: dict[bool, str] = {}
        self._out: list[bytes] = []
        self._dotting: Mail | None = None
        self._my_turn = False

    async def run(self) -> None:
        """Send all that `mails` has. Raises `BodyMissing` and `BodiesUnavailable`; the mail whose body it is then was not delivered."""
        connection = self._connection
        before, connection.used = connection.used, True
        try:
            if "PIPELINING" in connection.offers:
                connection.unclean |= before and not connection.reading.locked()
                await self._pipelined()
            else:
                await self._turn()
                connection.unclean |= before
                await self._stepwise()
        except Broken as broken:
            self._broke(broken.reply, before)
        except BaseException:
            self._leave_it()
            raise
        finally:
            if self._my_turn:
                connection.reading.release()
            if connection.doomed and self._my_turn:
                connection.abort()

    def _broke(self, reply: Reply, before: bool) -> None:
        self.ended_with = reply
        self._leave_it()
        for number, mail in enumerate(self.begun):
            mail.broke(reply, stale=before or number > 0)
        unsent = bool(self.begun) and self.begun[-1].stage is Stage.UNSENT
        if reply.code == 421:
            self.pushed_back |= not self.session_limit
        elif not unsent:
            self.pushed_back |= (reply.code, reply.detail) == (451, "4.2")

    def _leave_it(self) -> None:
        """The connection is of no more use. Where another's reply is still to come over it, that one closes it."""
        if self._my_turn or not self._connection.reading.locked():
            self._connection.abort()
        else:
            self._connection.doomed = True

    async def _turn(self) -> None:
        """Wait until the one before us has read its last reply."""
        if self._my_turn:
            return
        reading = self._connection.reading
        if not reading.locked():
            await reading.acquire()
        else:
            try:
                async with asyncio.timeout(TURN_PATIENCE):
                    await reading.acquire()
            except TimeoutError:
                raise Broken(timed_out("behind another transaction")) from None
        self._my_turn = True

    # --- pipelined ----------------------------------------------------------------------------------------------------
    async def _pipelined(self) -> None:
        """Each mail's group goes out behind the body before it, unless the connection must not be chained."""
        owed: Mail | None = None
        for mail in self._mails:
            if not self._takes(mail):
                continue
            if owed is not None and not self._chains(owed):
                await self._flush()
                await self._finish(owed)
                owed = None
            cleaning = self._put_group(mail)
            try:
                await self._flush()
            except Broken:
                if owed is not None and owed.stage is Stage.DOTTED:
                    self._late_word(owed)
                raise
            await self._turn()
            if owed is not None:
                await self._finish(owed)
            owed = mail if await self._hear_group(mail, cleaning) else None
        if owed is not None:
            await self._flush()
            if self._chains(owed):
                self._pass_on()
            await self._finish(owed)

    def _takes(self, mail: Mail) -> bool:
        """Whether the server takes such a mail at all; a mail that is too large is answered (RFC 1870 6.1: it is not tried)."""
        if mail.utf8 and "SMTPUTF8" not in self._connection.offers:
            return False  # cut for another server behind the same address, which offered it
        self.begun.append(mail)
        if too_large(mail, self._connection.offers):
            mail.refused(TOO_LARGE)
            return False
        return True

    def _chains(self, owed: Mail) -> bool:
        """Whether commands may follow the body at once. Behind an LMTP mail of many recipients they may not: a server that sends too few
        replies after the dot must not have the next mail's replies taken for them."""
        return self._connection.chain and not (self._connection.peer.protocol == "lmtp" and len(owed.recipients) > 1)

    def _put_group(self, mail: Mail) -> bool:
        """RSET (where the last transaction may still be open), MAIL, RCPT*, DATA; whether RSET was among it."""
        connection = self._connection
        cleaning, connection.unclean = connection.unclean, False
        group = f"{self._mail_command(mail)}{rcpt_commands(mail.recipients, connection.offers)}DATA\r\n"
        self._out.append(f"RSET\r\n{group}".encode() if cleaning else group.encode())
        mail.opened(connection.shown)
        return cleaning

    async def _flush(self) -> None:
        """Write what was put together. A dot counts as sent once the connection has taken it: before that, nothing can have been delivered."""
        if not self._out:
            return
        data, self._out = b"".join(self._out), []
        dotting, self._dotting = self._dotting, None
        try:
            self._channel.write(data, _SENDING if dotting else "before MAIL")
        except Broken:
            if dotting is not None:
                self._last_words(dotting)
            raise
        if dotting is not None:
            dotting.stage = Stage.DOTTED
        await self._channel.drain(self._connection.manners.timeout, _SENDING)

    async def _hear_group(self, mail: Mail, cleaning: bool) -> bool:
        """Read a group's replies and answer them with the body; whether replies to a final dot are owed now."""
        manners = self._connection.manners
        expected = len(mail.recipients) + 2 + cleaning
        heard: list[Reply] = []
        ends = time.monotonic() + manners.final_timeout  # a reply now and then must not keep us for hours
        try:
            while len(heard) < expected and not (heard and heard[-1].code == 421):
                patience = min(manners.timeout, max(ends - time.monotonic(), 0.0))
                heard += await self._channel.replies(
                    expected - len(heard), patience, _waited_for(len(heard) - cleaning, mail)
                )
        except Broken:
            if len(heard) > cleaning:
                self._understand(mail, heard[cleaning:])
            raise
        if cleaning and heard[0].code == 421:
            self._ends_here(heard[0])
        go = self._understand(mail, heard[cleaning:])
        if mail.stage is Stage.DONE and go.code == 354:
            await self._nobody_wants_it(mail)
            return False
        return await self._body(mail, go)

    def _understand(self, mail: Mail, heard: list[Reply]) -> Reply:
        """The replies to MAIL, RCPT* and DATA, or to the first of these; the last one. Raises `Broken` for 421 among them."""
        answer, last = heard[0], heard[-1]
        if answer.code == 421:
            self._ends_here(answer)
        mail.heard()
        self.pushed_back |= answer.kind is Kind.TRANSIENT
        complete = len(heard) == len(mail.recipients) + 2
        if answer.kind is Kind.POSITIVE:
            mail.heard_recipients(heard[1:-1] if complete or last.code == 421 else heard[1:])
        if last.code == 421:
            raise Broken(last)
        if complete and answer.kind is not Kind.POSITIVE:
            mail.refused(answer)
        elif complete and last.code == 354 and not mail.accepted:
            mail.done()
        return last

    def _ends_here(self, reply: Reply) -> NoReturn:
        """421 before a transaction has begun: after others on this connection that is how a limit for each session is told."""
        self.session_limit = self._connection.transactions
        raise Broken(reply)

    # --- one command at a time ------------------------------------------------------------------------------------------
    async def _stepwise(self) -> None:
        for mail in self._mails:
            if self._takes(mail):
                await self._step_by_step(mail)

    async def _step_by_step(self, mail: Mail) -> None:
        connection = self._connection
        mail.opened(connection.shown)
        if connection.unclean:
            connection.unclean = False
            await self._opening(b"RSET\r\n", "after RSET")
        answer = await self._opening(self._mail_command(mail).encode(), "after MAIL")
        mail.heard()
        if answer.kind is not Kind.POSITIVE:
            self.pushed_back |= answer.kind is Kind.TRANSIENT
            mail.refused(answer)
            return
        for index, recipient in enumerate(mail.recipients):
            command = rcpt_commands((recipient,), connection.offers).encode()
            mail.heard_recipient(index, await connection.expect(command, "after RCPT"))
        if not mail.accepted:
            connection.unclean = True
            mail.done()
            return
        if await self._body(mail, await connection.expect(b"DATA\r\n", "after DATA")):
            await self._flush()
            await self._finish(mail)

    async def _opening(self, line: bytes, when: str) -> Reply:
        reply = await self._connection.command(line, when)
        return reply if reply.code != 421 else self._ends_here(reply)

    # --- the message ------------------------------------------------------------------------------------------------------
    async def _body(self, mail: Mail, go: Reply) -> bool:
        """After the reply to DATA: put out the body and its dot; False where nobody is to get it."""
        if go.code != 354:
            self._connection.unclean = True
            if go.kind in (Kind.POSITIVE, Kind.INTERMEDIATE) or (mail.accepted and go.code == 503):
                # "250" or "503 no recipients" after accepted ones: it counts other replies than we do
                raise Broken(garbled(f"{go.code} to DATA"))
            mail.settled(go)
            return False
        if mail.payload.whole is not None:
            self._put_dot(mail, mail.payload.whole)
            return True
        try:
            await self._stream(mail)
        except Broken:
            self._last_words(mail)
            raise
        return True

    async def _stream(self, mail: Mail) -> None:
        held = b""  # one chunk is held back, so that the final dot goes out only when all came before it
        async for chunk in mail.payload.stuffed():
            if held:
                self._channel.write(held, _SENDING)
                await self._channel.drain(self._connection.manners.timeout, _SENDING)
            held = chunk
        self._put_dot(mail, held)

    def _put_dot(self, mail: Mail, data: bytes) -> None:
        """What ends with the final dot. A reply before it is no reply to it: a server that said "250" early must not be believed."""
        if replies := self._channel.ready(1):
            refusal = replies[0].kind in (Kind.TRANSIENT, Kind.PERMANENT)
            raise Broken(replies[0] if refusal else garbled(f"{replies[0].code} before the final dot"))
        self._out.append(data)
        self._dotting = mail

    def _last_words(self, mail: Mail) -> None:
        """The server closed in mid-message: if it said why (552, 421), that is the answer; otherwise nothing was delivered."""
        replies = self._channel.ready(1)
        if replies and replies[0].kind in (Kind.TRANSIENT, Kind.PERMANENT):
            mail.settled(replies[0])

    def _late_word(self, mail: Mail) -> None:
        """The server is gone; its reply to the final dot may be here all the same."""
        smtp = self._connection.peer.protocol == "smtp"
        if (
            (replies := self._channel.ready(1))
            and replies[0].kind is not Kind.INTERMEDIATE
            and (smtp or len(mail.accepted) == 1)
        ):
            mail.settled(replies[0])

    async def _finish(self, mail: Mail) -> None:
        """Read what the final dot is answered with: one reply, or one for each accepted recipient (LMTP)."""
        timeout, when = self._connection.manners.final_timeout, "after the final dot"
        if self._connection.peer.protocol == "lmtp":
            for index in mail.accepted:
                reply = _final(await self._channel.reply(timeout, when))
                mail.answered(index, reply)
                if reply.code == 421:
                    mail.settled(reply)
                    raise Broken(reply)
            mail.done()
        else:
            reply = _final(await self._channel.reply(timeout, when))
            mail.settled(reply)
            if reply.code == 421:
                raise Broken(reply)
        self._connection.transactions += 1

    async def _nobody_wants_it(self, mail: Mail) -> None:
        """DATA was accepted though no recipient was: end it with a dot alone (RFC 2920 3.1); its answer means nothing."""
        if self._connection.peer.protocol == "lmtp":
            raise Broken(garbled("354 to DATA without recipients"))  # how many replies come now is anybody's guess
        await self._connection.expect(b".\r\n", "after an empty message")
        self._connection.unclean = True

    def _mail_command(self, mail: Mail) -> str:
        parameters = self._parameters.get(mail.utf8)
        if parameters is None:
            payload = mail.payload
            parameters = self._parameters[mail.utf8] = mail_parameters(
                self._connection.offers,
                size=payload.size,
                eight_bit=payload.eight_bit,
                utf8=mail.utf8,
                envid=mail.envid,
                ret=mail.ret,
            )
        return mail_command(mail.sender, parameters)


def _waited_for(heard: int, mail: Mail) -> str:
    """What the next reply of a group answers, for an error."""
    if heard < 1:
        return "after MAIL" if heard == 0 else "after RSET"
    return "after RCPT" if heard <= len(mail.recipients) else "after DATA"


def _final(reply: Reply) -> Reply:
    """The reply to a final dot; 3xx there is no answer."""
    if reply.kind is Kind.INTERMEDIATE:
        raise Broken(garbled(f"{reply.code} after the final dot"))
    return reply


def too_large(mail: Mail, offers: Mapping[str, str]) -> bool:
    """Whether the next hop has said that it takes no message of this size."""
    limit = offers.get("SIZE", "")
    return limit.isascii() and limit.isdigit() and 0 < int(limit[:20]) < mail.payload.size
