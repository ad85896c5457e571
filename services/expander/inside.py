"""Posts made inside: a sub-group that is not expanded in place gets the parent's copy as a post of its own, under its own policy (P2)."""

from __future__ import annotations

import hashlib
import time

import msgspec

from services.expander.graph import Aim, Aside
from shared import identity, journal, policy
from shared.address import key
from shared.bus import Bus, Outgoing
from shared.directory import Directory
from shared.ledger import Claim, Ledger
from shared.membership import is_member
from shared.messages import Attempted, Content, DeliveryKind, Fate, Origin, Post, State, Target, encode
from shared.replies import AUTOMATIC, GROUP_UNKNOWN, TOO_LARGE, Reply
from shared.topology import Queue


class Inside:
    """Hands posts on to sub-groups, and records what became of that as the fate of the parent's member."""

    def __init__(self, *, bus: Bus, directory: Directory, ledger: Ledger) -> None:
        self._bus = bus
        self._directory = directory
        self._ledger = ledger

    async def hand_on(self, post: Post, aim: Aim, aside: Aside, content: Content, mail_from: str) -> None:
        """Publish the sub-group's post, or refuse it as ingress would; either way the parent's row for the sub-group is final."""
        child = identity.derive(post.id, aside.group)
        refusal = await self._decided(post, aim, aside, content)
        if refusal is None:
            made = _child(child, post, aim, aside, msgspec.structs.replace(post, content=content, mail_from=mail_from))
            await self._bus.publish(Outgoing(queue=Queue.POSTS, payload=encode(made)))
            journal.handed_on(post.id, group=aim.group.address, subgroup=aside.group, child=child)
        else:
            fates = (_fate(aside, child, refusal),)
            attempted = Attempted(post_id=post.id, group=aim.group.address, kind=DeliveryKind.POST, fates=fates)
            await self._bus.publish(Outgoing(queue=Queue.OUTCOMES, payload=encode(attempted)))

    async def _decided(self, post: Post, aim: Aim, aside: Aside, content: Content) -> Reply | None:
        """Whether the sub-group refuses the post: decided once and recorded, then obeyed by every repetition, whatever was edited meanwhile."""
        who = key(aside.address)
        standing = (await self._ledger.standings(post.id, (who,))).get(who)
        if standing is not None and standing.state is State.DELIVERED:
            return None
        if standing is not None and standing.state is State.FAILED:
            return Reply(standing.code, standing.status.partition(".")[2], standing.text)
        refusal = await self._refusal(post, aside.group, content)
        fate = _fate(aside, identity.derive(post.id, aside.group), refusal)
        claim = Claim(post_id=post.id, cell=0, hop=fate.hop)  # not taken: one expander has the first share
        await self._ledger.record(claim, aim.group.address, (fate,))
        return refusal

    async def _refusal(self, post: Post, name: str, content: Content) -> Reply | None:
        """What ingress would answer if the copy came to the sub-group from outside; its being disabled was seen before."""
        group = await self._directory.group(name)
        if group is None:
            return GROUP_UNKNOWN
        if group.settings.max_size and content.size > group.settings.max_size:
            return TOO_LARGE
        if not post.mail_from or (
            group.settings.reject_automatic and policy.automatic(post.content.head, post.mail_from)
        ):
            return AUTOMATIC
        author = policy.author(post.content.head)
        member = group.settings.who_can_post == "members" and await is_member(self._directory, group, author or "")
        return policy.may_post(
            group,
            author=author,
            mail_from=post.mail_from,
            authenticated=post.authenticated,
            verdict=post.verdict,
            is_member=member,
        )


def _child(child: str, post: Post, aim: Aim, aside: Aside, copy: Post) -> Post:
    """The sub-group's post: the parent's copy (`copy`: its content and envelope sender), known by the post from outside it stems from."""
    digest = hashlib.sha256(b"inside\0" + post.digest + child.encode()).digest()
    been_through = (*post.trail, *(target.group for target in post.targets), *aim.scope.path(aside.parent))
    return Post(
        id=child,
        accepted_at=post.accepted_at,
        mail_from=copy.mail_from,
        targets=(Target(group=aside.group, recipient=aside.address),),
        content=copy.content,
        digest=digest,
        origin=Origin(ip=post.origin.ip, helo=aim.group.address, protocol="local"),
        smtputf8=post.smtputf8,
        authenticated=post.authenticated,
        verdict=post.verdict,
        parent=post.id,
        root=post.root or post.id,
        trail=tuple(dict.fromkeys(been_through)),
    )


def _fate(aside: Aside, child: str, refusal: Reply | None) -> Fate:
    return Fate(
        address=aside.address,
        state=State.DELIVERED if refusal is None else State.FAILED,
        code=refusal.code if refusal else 250,
        status=refusal.status if refusal else "2.1.5",
        text=refusal.text if refusal else f"handed on as post {child}",
        hop="inside",
        attempt=0,
        at=time.time(),
    )
