"""What the ledger is told of a post and its targets. Pure."""

from __future__ import annotations

import hashlib

from services.expander.plan import Plan
from shared import headers, policy
from shared.groups import Group
from shared.identity import bounce_token
from shared.ledger import PostRecord, TargetRecord
from shared.messages import Brief, Post, Target, TargetKind

SUMMARIES = ("posts", "daily")
"""`notify_owners` of a group whose owners hear of every post."""

ROLES = {TargetKind.OWNER: "-owner", TargetKind.BOUNCES: "-bounces"}


def post_record(post: Post, plan: Plan, graph: bytes = b"") -> PostRecord:
    """The post as the ledger keeps it; header texts are decoded and bounded by `shared.policy`."""
    head = post.content.head
    return PostRecord(
        id=post.id,
        accepted_at=post.accepted_at,
        mail_from=post.mail_from,
        author=policy.author_address(head) or "",
        message_id=policy.message_id(head) or "",
        subject=policy.subject_text(head),
        size=post.content.size,
        ip=post.origin.ip,
        cells=plan.cells,
        slices=plan.slices,
        envid=post.envid,
        ret=post.ret,
        body=post.content.ref,
        parent=post.parent,
        graph=graph,
    )


def target_record(post: Post, target: Target, group: Group | None, secret: str) -> TargetRecord:
    """One target as the ledger keeps it; `group` is None where the group is gone or the target is no group."""
    return TargetRecord(
        group=target_name(target),
        recipient=target.recipient,
        kind=target.kind,
        token=bounce_token(secret, post.id, target.group) if group else "",
        fingerprint=fingerprint(post, target_name(target)) if group or target.kind is not TargetKind.GROUP else None,
        references=policy.references(post.content.head),
        notify=target.notify,
        orcpt=target.orcpt,
        # P5: what no human wrote gets only the report that it asked for, whatever the switch says
        report=bool(
            group and group.settings.report_delivery and not policy.automatic(post.content.head, post.mail_from)
        ),
        envelope=group.settings.envelope if group else "list",
        owners=group.settings.owners if group else (),
        # a group that refuses such mail has got none but from `<>`: an ordinary post is not looked at again
        automatic=not post.mail_from
        or bool(group and not group.settings.reject_automatic and policy.automatic(post.content.head, post.mail_from)),
    )


def brief(post: Post, record: PostRecord, target: Target, group: Group, verdict: str) -> Brief | None:
    """What the events say of the post; None where the reporter may owe the author a report, or the owners a summary, for which it asks the ledger."""
    settings = group.settings
    if settings.report_delivery or settings.notify_owners in SUMMARIES or "SUCCESS" in (target.notify or ()):
        return None
    names = {(other.kind is not TargetKind.GROUP, target_name(other)) for other in post.targets}
    return Brief(
        accepted_at=record.accepted_at,
        mail_from=record.mail_from,
        message_id=record.message_id,
        subject=record.subject,
        size=record.size,
        groups=tuple(name for _, name in sorted(names)),
        verdict=verdict,
        parent=record.parent,
    )


def target_name(target: Target) -> str:
    """The name under which a target stands in the ledger: the group's key, or the role address that was written to."""
    if target.kind is TargetKind.GROUP:
        return target.group
    if target.kind is TargetKind.POSTMASTER:
        return f"postmaster@{target.group}"
    local, _, domain = target.group.rpartition("@")
    return f"{local}{ROLES[target.kind]}@{domain}"


def fingerprint(post: Post, group: str) -> bytes | None:
    """What a post is: sender, group and a hash of every octet (P3). None for a message with neither Date nor Message-ID.

    A post made inside is known by the post from outside that it stems from, so that a sub-group gets one however many paths lead to it.
    """
    if post.root is not None:
        return hashlib.sha256("\0".join(("inside", post.root, group)).encode()).digest()
    if not policy.message_id(post.content.head) and not headers.first(post.content.head, b"Date"):
        return None
    return hashlib.sha256(
        "\0".join(("outside", post.mail_from, group, "")).encode("utf-8", "surrogatepass") + post.digest
    ).digest()
