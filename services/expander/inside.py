"""Posts made inside: a sub-group that is not expanded in place gets the parent's copy as a post of its own, under its own policy (P2)."""

from __future__ import annotations

import hashlib
import time

from services.expander.graph import HandedOn
from shared import identity, journal, policy
from shared.bus import Bus, Outgoing
from shared.directory import Directory
from shared.groups import Group
from shared.ledger import Ledger
from shared.membership import is_member
from shared.messages import Attempted, Content, DeliveryKind, Fate, Origin, Post, State, Target, encode
from shared.replies import AUTOMATIC, TOO_LARGE, Reply
from shared.settings import Settings
from shared.topology import Queue


class Inside:
    """Hands posts on to sub-groups, and records what became of that as the fate of the parent's member."""

    def __init__(self, settings: Settings, *, bus: Bus, directory: Directory, ledger: Ledger, secret: str) -> None:
        self._bus = bus
        self._directory = directory
        self._ledger = ledger
        self._secret = secret

    async def hand_on(self, post: Post, holder: Group, handed: HandedOn, content: Content, mail_from: str) -> None:
        """Publish the sub-group's post, or refuse it as ingress would; either way the parent's row for the sub-group is final."""
        child = identity.derive(post.id, handed.group.address)
        refusal = await self._refusal(post, handed.group, content)
        if refusal is None:
            await self._bus.publish(
                Outgoing(
                    queue=Queue.POSTS, payload=encode(self._child(child, post, holder, handed, content, mail_from))
                )
            )
            journal.handed_on(post.id, group=holder.address, subgroup=handed.group.address, child=child)
        fate = Fate(
            address=handed.address,
            state=State.DELIVERED if refusal is None else State.FAILED,
            code=refusal.code if refusal else 250,
            status=refusal.status if refusal else "2.1.5",
            text=refusal.text if refusal else f"handed on as post {child}",
            hop="inside",
            attempt=0,
            at=time.time(),
        )
        await self._ledger.record(post.id, holder.address, (fate,))
        if refusal is not None:
            told = Attempted(post_id=post.id, group=holder.address, kind=DeliveryKind.POST, fates=(fate,))
            await self._bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=encode(told)))

    async def _refusal(self, post: Post, group: Group, content: Content) -> Reply | None:
        """What ingress would answer if the copy came to the sub-group from outside; its being disabled was seen before."""
        if group.settings.max_size and content.size > group.settings.max_size:
            return TOO_LARGE
        if not post.mail_from:
            return AUTOMATIC
        if group.settings.reject_automatic and policy.automatic(post.content.head, post.mail_from):
            return AUTOMATIC
        author = policy.author(post.content.head)
        member = group.settings.who_can_post == "members" and await is_member(self._directory, group, author or "")
        return policy.may_post(
            group,
            author=author,
            mail_from=post.mail_from,
            authenticated=post.authenticated,
            verdict=None,
            is_member=member,
        )

    @staticmethod
    def _child(child: str, post: Post, holder: Group, handed: HandedOn, content: Content, mail_from: str) -> Post:
        digest = hashlib.sha256(b"inside\0" + post.digest + child.encode()).digest()
        return Post(
            id=child,
            accepted_at=post.accepted_at,
            mail_from=mail_from,
            targets=(Target(group=handed.group.address, recipient=handed.address, notify=("NEVER",)),),
            content=content,
            digest=digest,
            origin=Origin(ip=post.origin.ip, helo=holder.address, protocol="local"),
            smtputf8=post.smtputf8,
            authenticated=post.authenticated,
            parent=post.id,
            root=post.root or post.id,
            trail=(*post.trail, holder.address),
        )
