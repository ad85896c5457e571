"""The desk for mail to bounce addresses: whose copy came back is found by the address's token, what became of it by the message.

What is recognised is told to the reporter and goes no further; everything else goes to the people who answer for the group. A token that is none of
ours, of another group, or forged makes a message that nobody recognised: nobody's score depends on it. Repeating any of it changes nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from services.expander.bounces.recognise import recognise
from services.expander.bounces.status import Told, printable
from shared import journal, policy
from shared.address import key, split_role
from shared.bodies import Bodies, BodyMissing
from shared.bus import Bus, Outgoing
from shared.directory import Directory
from shared.identity import same, verp_slot, verp_token
from shared.ledger import Ledger
from shared.messages import Bounced, Comeback, Content, Post, Target, TargetKind, encode
from shared.topology import Queue

MAX_READ = 1 << 20
"""Octets of a message that are looked at: what a bounce says stands in front of what it gives back."""
MAX_LOOKED_UP = 20
"""Addresses of one message that are looked up."""


class Known(NamedTuple):
    """What a bounce address stands for: the copies of a post in a group, or a probe of one member. `own` is the rest of its token, the
    recipient's own, where it has one; `person` the one address that the whole address stands for, where that is known."""

    post_id: str
    group: str
    own: str = ""
    person: str = ""
    probe: str = ""


class Desk:
    """Looks at mail to bounce addresses."""

    def __init__(self, *, bus: Bus, directory: Directory, ledger: Ledger, bodies: Bodies, secret: str) -> None:
        self._bus = bus
        self._directory = directory
        self._ledger = ledger
        self._bodies = bodies
        self._secret = secret

    async def take(self, post: Post, target: Target) -> str:
        """What the message is, once the reporter will hear of it: "bounce" or "auto_reply"; "" where it is for people."""
        known = await self._known(target)
        if known is None:
            return ""
        found = await recognise(await self._read(post.content), post.mail_from, own=bool(known.own or known.person))
        if found is None:
            return ""
        if known.own and not (known := await self._with_person(known, found.told)).person:
            return ""  # forged, or nobody of this post
        recipients = await self._recipients(known, found.kind, found.told, post)
        if recipients is None:
            return ""
        message = Bounced(
            id=post.id,
            post_id=known.post_id,
            group=known.group,
            recipients=tuple(recipients),
            at=post.accepted_at,
            probe=known.probe,
        )
        await self._bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=encode(message)))
        about = ", ".join(one.address for one in recipients[:MAX_LOOKED_UP])
        journal.bounced(known.post_id, group=known.group, kind=found.kind, about=about)
        return found.kind

    # --- the address --------------------------------------------------------------------------------------------------
    async def _known(self, target: Target) -> Known | None:
        """What the address that was written to stands for."""
        role, holder, tag = split_role(key(target.recipient))
        token, _, own = tag.partition("-")
        if role not in ("bounces", "postmaster") or not token:
            return None
        if (found := await self._ledger.target_of_token(token)) is not None:
            known = Known(*found, own=own)
        elif not own and (probe := await self._ledger.probe_of_token(token)) is not None:
            known = Known("", probe.group, person=probe.member, probe=token)
        else:
            return None
        ours = known.group.rpartition("@")[2] if target.kind is TargetKind.POSTMASTER else known.group
        return known if ours == holder else None

    async def _with_person(self, known: Known, told: Sequence[Told]) -> Known:
        """With the person whose own address it is: one who is named and whose token it is, else the one in the slot that it names."""
        named = [address for one in told for address in one.addresses][:MAX_LOOKED_UP]
        person = next((address for address in named if self._is_token_of(known, address)), "")
        if not person and (slot := verp_slot(known.own)) is not None:
            rows = await self._ledger.at_slot(known.post_id, slot)
            person = next((row.address for row in rows if self._is_token_of(known, row.address)), "")
        return known._replace(person=person)

    def _is_token_of(self, known: Known, address: str) -> bool:
        return same(known.own, verp_token(self._secret, known.post_id, key(address)))

    # --- the message --------------------------------------------------------------------------------------------------
    async def _read(self, content: Content) -> bytes:
        """The message, as much of it as counts; its header section alone where the body has gone."""
        if content.ref is None:
            return (content.head + content.tail)[:MAX_READ]
        read = [content.head]
        size = len(content.head)
        try:
            async with contextlib.aclosing(self._bodies.stream(content.ref, content.offset)) as chunks:  # type: ignore[type-var]
                async for chunk in chunks:
                    read.append(chunk)
                    size += len(chunk)
                    if size >= MAX_READ:
                        break
        except BodyMissing:
            return content.head  # the forward that follows is parked for it
        return b"".join(read)[:MAX_READ]

    async def _recipients(self, known: Known, kind: str, told: Sequence[Told], post: Post) -> Sequence[Comeback] | None:
        """What the reporter is told of whom; None where a failure is told of people who have nothing to do with the post."""
        if kind == "auto_reply":
            words = printable(
                f"{policy.author(post.content.head) or post.mail_from}: {policy.subject_text(post.content.head)}"
            )
            return [Comeback(address=known.person, action="auto_reply", text=words, sure=bool(known.person))]
        if known.person:
            one = _about(told, known.person)
            return [Comeback(address=known.person, action=one.action, status=one.status, text=one.text, sure=True)]
        found = []
        strangers = failures = 0
        for number, one in enumerate(told):
            address = await self._member_among(known, one.addresses) if number < MAX_LOOKED_UP else ""
            if one.action == "failed":
                failures += 1
                strangers += not address
            found.append(
                Comeback(
                    address=address or "".join(one.addresses[:1]), action=one.action, status=one.status, text=one.text
                )
            )
        return None if failures and strangers == failures else found

    async def _member_among(self, known: Known, addresses: Sequence[str]) -> str:
        """The address of a member, or else of a recipient of the post; "" where it is neither's."""
        for address in addresses:
            if await self._directory.is_member(known.group, key(address)):
                return address
        if not addresses:
            return ""
        standings = await self._ledger.standings(known.post_id, [key(address) for address in addresses])
        return next((address for address in addresses if key(address) in standings), "")


def _about(told: Sequence[Told], person: str) -> Told:
    """Of all that is told, what concerns a person: what names them, else a failure, else the first."""
    named = [one for one in told if key(person) in {key(address) for address in one.addresses}]
    return next((one for one in (*named, *(one for one in told if one.action == "failed"))), told[0])
