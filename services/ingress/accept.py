"""The decision after the final dot, and the durable acceptance: judge, commit the body, publish one `Post`, and only then 250 (P1).

It runs to its end even when the client is gone, for a publish in flight may have happened; it is bounded in time, and whatever
goes wrong with ourselves is a 451 of fixed text. Over SMTP one answer must do for all recipients; LMTP answers each.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Sequence
from functools import cached_property

import msgspec

from services.ingress.data import Received
from services.ingress.quota import Quota
from services.ingress.recipients import Accepted, Transaction, Verdicts
from services.ingress.screen import MARK, UNSCREENED, Screen, Screened
from shared import authresults, journal, policy
from shared.bus import Bus, Outgoing
from shared.directory import Directory
from shared.identity import new_id
from shared.membership import is_member
from shared.messages import Origin, Post, encode
from shared.replies import (
    AUTOMATIC,
    DOMAIN_SUSPENDED,
    GROUP_DISABLED,
    GROUP_UNKNOWN,
    LOOP,
    OK,
    TOO_LARGE,
    TROUBLE,
    Reply,
    TransientError,
)
from shared.settings import Settings, SettingsError
from shared.topology import Queue

MAX_RECEIVED = 100
"""Received fields in a message that is not yet taken for a loop (RFC 5321 6.3)."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def relays(text: str) -> tuple[Network, ...]:
    """The networks in HORO_TRUSTED_RELAYS. Raises `SettingsError`."""
    try:
        return tuple(ipaddress.ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise SettingsError(f"HORO_TRUSTED_RELAYS: {error}") from error


def is_relay(ip: str, networks: Sequence[Network]) -> bool:
    """Whether a client is one of the trusted relays."""
    if not networks:
        return False
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return any((mapped or address) in network for network in networks)


class _Seen:
    """What is asked of a message: found out once, and only if it is asked, for a large header takes a while and there may be a thousand groups."""

    def __init__(self, received: Received, mail_from: str, *, relayed: bool) -> None:
        self._head = received.head
        self.size = received.size
        self.mail_from = mail_from
        self._relayed = relayed

    @cached_property
    def automatic(self) -> bool:
        """Whether no human wrote it."""
        return policy.automatic(self._head, self.mail_from) is not None

    @cached_property
    def author(self) -> str | None:
        """The key of its one author."""
        return policy.author(self._head)

    @cached_property
    def verdict(self) -> authresults.Verdict | None:
        """What a trusted relay says of the author; what anybody else says of it is no evidence."""
        return authresults.trusted_author(self._head) if self._relayed else None


class Acceptance:
    """Judges received messages and makes the accepted ones durable."""

    def __init__(
        self, settings: Settings, *, bus: Bus, directory: Directory, timeout: float, quota: Quota, screen: Screen
    ) -> None:
        self._bus = bus
        self._directory = directory
        self._quota = quota
        self._screen = screen
        self._timeout = timeout
        self._relays = relays(settings.trusted_relays)

    async def accept(self, mail: Transaction, received: Received, origin: Origin, *, one_answer: bool) -> list[Reply]:
        """The reply for each accepted RCPT, in their order. Never raises: trouble of our own is a 451 for all of them.

        With `one_answer` all replies are the same one.
        """
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._timeout):
                return await self._accept(mail, received, origin, one_answer=one_answer, started=started)
        except TransientError as error:
            journal.session_trouble(origin.ip, error.why or str(error.reply))
            return [error.reply] * len(mail.accepted)
        except TimeoutError:
            journal.session_trouble(origin.ip, f"not durable after {self._timeout:.0f} s")
        except asyncio.CancelledError:
            # A broker client may raise it when its connection dies. Nobody has cancelled us: this task is the drain's, which waits.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            journal.session_trouble(origin.ip, "the publish was cancelled from inside")
        except Exception as error:
            journal.crashed("ingress.accept", error)
        return [TROUBLE] * len(mail.accepted)

    async def _accept(
        self, mail: Transaction, received: Received, origin: Origin, *, one_answer: bool, started: float
    ) -> list[Reply]:
        seen = _Seen(received, mail.mail_from, relayed=is_relay(origin.ip, self._relays))
        verdicts = await self._judge(mail, received, seen)
        screened = await self._screened(mail, received, origin, verdicts)
        async with self._quota.spending(mail.targets, verdicts) as spent:
            refused = {identity for identity, reply in verdicts.items() if reply is not None}
            if one_answer and refused and len(refused) < len(verdicts):
                # Changed by an administrator since RCPT: one answer cannot be right for all. The client comes again, and RCPT sorts them.
                return [TROUBLE] * len(mail.accepted)
            passed = [accepted for identity, accepted in mail.targets.items() if identity not in refused]
            done = OK
            if passed:
                post = await self._publish(mail, passed, received, origin, seen, screened)
                spent.clear()  # it is sent, and stays counted
                done = Reply(OK.code, OK.detail, f"OK queued as {post.id}")
                journal.accepted(
                    post.id,
                    mail_from=mail.mail_from,
                    groups=tuple(target.group for target in post.targets),
                    size=received.size,
                    ip=origin.ip,
                    took=time.monotonic() - started,
                )
        return [verdicts[accepted.identity] or done for accepted in mail.accepted]

    async def _screened(self, mail: Transaction, received: Received, origin: Origin, verdicts: Verdicts) -> Screened:
        """The spam check of a message that a group would take; what it refuses is refused to groups alone."""
        posts = [
            identity
            for identity, accepted in mail.targets.items()
            if accepted.group is not None and verdicts[identity] is None
        ]
        if not posts or not self._screen.active:
            return UNSCREENED
        screened = await self._screen.screen(mail, received, origin, relayed=is_relay(origin.ip, self._relays))
        if screened.reply is not None:
            verdicts.update(dict.fromkeys(posts, screened.reply))
        return screened

    async def _judge(self, mail: Transaction, received: Received, seen: _Seen) -> Verdicts:
        """The refusal of each target, None for those that pass."""
        if policy.received_count(received.head) > MAX_RECEIVED:
            return dict.fromkeys(mail.targets, LOOP)
        return {identity: await self._refusal(accepted, seen) for identity, accepted in mail.targets.items()}

    async def _refusal(self, accepted: Accepted, seen: _Seen) -> Reply | None:
        if accepted.group is None:
            return None
        # Both again, for DATA may have taken long: a change holds within a second (P6).
        domain = await self._directory.domain(accepted.group.domain)
        group = await self._directory.group(accepted.group.address)
        if domain is None or group is None:
            return GROUP_UNKNOWN
        settings = group.settings
        if domain.disabled or settings.disabled:
            return GROUP_DISABLED
        if domain.suspended:
            return DOMAIN_SUSPENDED
        if settings.max_size and seen.size > settings.max_size:
            return TOO_LARGE
        if settings.reject_automatic and seen.automatic:
            return AUTOMATIC
        if settings.who_can_post == "anyone":  # then nobody asks who the author is
            return None
        asked = settings.who_can_post == "members" and seen.author is not None
        return policy.may_post(
            group,
            author=seen.author,
            mail_from=seen.mail_from,
            authenticated=None,
            verdict=seen.verdict,
            is_member=asked and await is_member(self._directory, group, seen.author or ""),
        )

    async def _publish(
        self,
        mail: Transaction,
        passed: Sequence[Accepted],
        received: Received,
        origin: Origin,
        seen: _Seen,
        screened: Screened,
    ) -> Post:
        content = screened.content or await received.commit()
        if screened.marked:
            content = msgspec.structs.replace(content, head=MARK + content.head)
        post = Post(
            id=new_id(),
            accepted_at=time.time(),
            mail_from=mail.mail_from,
            targets=tuple(accepted.target for accepted in passed),
            content=content,
            digest=received.digest,
            origin=origin,
            smtputf8=mail.params.smtputf8,
            envid=mail.params.envid,
            ret=mail.params.ret,
            authenticated=seen.author if seen.verdict == "pass" else None,
            verdict=seen.verdict,
            checked=screened.checked,
        )
        await self._bus.publish(Outgoing(queue=Queue.POSTS, payload=encode(post)), timeout=self._timeout)
        return post
