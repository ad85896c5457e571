"""Events for other systems: JSON on the topic exchange `events`, for consumers in any language. Pure.

At least once: a consumer may see an event again, with the same `id`, and keeps the first. `version` counts up when a field changes its
meaning or goes away; new fields may appear at any time. Events hold member addresses: the exchange is for systems that the operator trusts.
`docs/events.md`, the schemas and the AsyncAPI page beside it are made from this file. A new version of an event is `version: int = 2` in its class.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.identity import derive, new_id
from shared.ledger import PostRecord, PostSummary, Totals
from shared.messages import Brief, Expanded, Fate, Refused, SignalExpanded


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What every event has. The routing key is its `type`."""

    id: Annotated[str, Meta(description="The same however often the event is sent: keep the first", min_length=1)]
    at: Annotated[datetime, Meta(description="When it happened, RFC 3339, UTC", tz=True)]
    version: Annotated[int, Meta(description="Version of this event's schema")] = 1


class PostAccepted(Event, frozen=True, kw_only=True, tag="post.accepted"):
    """A message for one or more groups was accepted; `at` is when the client saw 250."""

    post: Annotated[str, Meta(description="The post's id, as `horo trace` takes it")]
    groups: Annotated[list[str], Meta(description="The addresses of the groups it was sent to")]
    mail_from: Annotated[str, Meta(description="Envelope sender, empty for the null sender")]
    message_id: Annotated[str, Meta(description="The message's own Message-ID")]
    subject: Annotated[str, Meta(description="Decoded, at most 200 characters")]
    size: Annotated[int, Meta(description="Octets of the message", ge=0)]
    parent: Annotated[
        str | None, Meta(description="The post that this one was made from, for a group inside a group")
    ] = None


class PostRefused(Event, frozen=True, kw_only=True, tag="post.refused"):
    """A recipient was refused in the SMTP session: nothing was accepted for it."""

    group: Annotated[str, Meta(description="The address that was asked for")]
    mail_from: Annotated[str, Meta(description="Envelope sender, empty for the null sender")]
    code: Annotated[int, Meta(description="SMTP reply code")]
    status: Annotated[str, Meta(description="Enhanced status code")]
    text: Annotated[str, Meta(description="Text of the reply")]
    ip: Annotated[str, Meta(description="Address of the client")]


class PostExpanded(Event, frozen=True, kw_only=True, tag="post.expanded"):
    """All deliveries of a post to one group are durable; the counts are final, what becomes of the copies is not."""

    post: Annotated[str, Meta(description="The post's id")]
    group: Annotated[str, Meta(description="The group's address")]
    verdict: Annotated[
        str,
        Meta(
            description='"open", or why there are no copies: "no_recipients", "gone", "loop", "repetition", "null_sender"; '
            'of mail to a bounce address "bounce" or "auto_reply"'
        ),
    ]
    recipients: Annotated[int, Meta(description="How many people get a copy", ge=0)]
    suppressed: Annotated[int, Meta(description="How many addresses were left out (`horo trace` says why)", ge=0)]


class DeliveryFailed(Event, frozen=True, kw_only=True, tag="delivery.failed"):
    """A copy could not be delivered to one recipient and is not tried again."""

    post: Annotated[str, Meta(description="The post's id")]
    group: Annotated[str, Meta(description="The group's address")]
    recipient: Annotated[str, Meta(description="The recipient's address")]
    code: Annotated[
        int, Meta(description="SMTP reply code; where no server answered it is ours, and `text` says what happened")
    ]
    status: Annotated[str, Meta(description="Enhanced status code")]
    text: Annotated[str, Meta(description="What the server said, or what came of reaching it")]
    host: Annotated[str, Meta(description="The server that was asked, or the next hop")]
    attempts: Annotated[int, Meta(description="How many attempts were made", ge=0)]


class ReportSent(Event, frozen=True, kw_only=True, tag="report.sent"):
    """A delivery report to an author, or a notice to a group's owners, is on its way."""

    post: Annotated[
        str, Meta(description="The post that it is about; empty for mail about no single one, as the one about a day")
    ]
    group: Annotated[str, Meta(description="The group that it is about")]
    report: Annotated[str, Meta(description="The report's own id")]
    kind: Annotated[
        str,
        Meta(
            description='To an author "delivered", "expanded", "relayed", "failed" or "delayed"; to those who look after the group '
            '"owners" (failures, a suspension), "summary" (how a post ended) or "day" (a day of posts)'
        ),
    ]
    to: Annotated[list[str], Meta(description="Who gets it")]


class MemberSuspended(Event, frozen=True, kw_only=True, tag="member.suspended"):
    """A member gets no more copies because its address does not work; a person or one click brings it back."""

    group: Annotated[str, Meta(description="The group's address")]
    member: Annotated[str, Meta(description="The member's address")]
    reason: Annotated[str, Meta(description="Why, in words")]


class SignalDelivered(Event, frozen=True, kw_only=True, tag="signal.delivered"):
    """A signal for one member of a group: one event a member, for a chat system to consume."""

    signal: Annotated[str, Meta(description="The signal's id")]
    group: Annotated[str, Meta(description="The group's address")]
    member: Annotated[str, Meta(description="The member's address")]
    text: Annotated[str, Meta(description="The message; text, not markup")]
    title: Annotated[str, Meta(description="A title, or empty")]
    link: Annotated[str, Meta(description="A link as the origin gave it (not checked), or empty")]
    origin: Annotated[str, Meta(description="The system or person that sent the signal")]


class SignalSuppressed(Event, frozen=True, kw_only=True, tag="signal.suppressed"):
    """A signal was refused for a whole group, for instance because the group has `disable_signals`."""

    signal: Annotated[str, Meta(description="The signal's id")]
    group: Annotated[str, Meta(description="The group's address")]
    reason: Annotated[str, Meta(description='Why: "disabled", "unknown_group", "no_members" or "repetition"')]
    origin: Annotated[str, Meta(description="The system or person that sent the signal")]
    spared: Annotated[int, Meta(description="How many members did not get it", ge=0)]


ALL: tuple[type[Event], ...] = (
    PostAccepted,
    PostRefused,
    PostExpanded,
    DeliveryFailed,
    ReportSent,
    MemberSuspended,
    SignalDelivered,
    SignalSuppressed,
)
"""Every event there is."""

_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    """The event as JSON."""
    return _encoder.encode(event)


def routing_key(event: Event | type[Event]) -> str:
    """The event's routing key, which is its `type`."""
    return str(event.__struct_config__.tag)


def version(kind: type[Event]) -> int:
    """The version of an event's schema."""
    return int(next(field.default for field in msgspec.structs.fields(kind) if field.name == "version"))


def _when(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


def post_accepted(post_id: str, record: PostRecord | Brief, groups: Sequence[str]) -> PostAccepted:
    """The event of a post's acceptance."""
    return PostAccepted(
        id=derive(post_id, "post.accepted"),
        at=_when(record.accepted_at),
        post=post_id,
        groups=list(groups),
        mail_from=record.mail_from,
        message_id=record.message_id,
        subject=record.subject,
        size=record.size,
        parent=record.parent,
    )


def post_refused(refused: Refused) -> PostRefused:
    """The event of a refusal. A refusal has no id of its own: the event's is made of all that is known of it."""
    facts = (
        refused.group,
        refused.mail_from,
        refused.ip,
        str(refused.code),
        refused.status,
        refused.text,
        repr(refused.at),
    )
    return PostRefused(
        id=derive(new_id(refused.at)[:10], "post.refused", *facts),
        at=_when(refused.at),
        group=refused.group,
        mail_from=refused.mail_from,
        code=refused.code,
        status=refused.status,
        text=refused.text,
        ip=refused.ip,
    )


def post_expanded(summary: PostSummary, group: str, verdict: str, totals: Totals, at: float) -> PostExpanded:
    """The event of a complete fan-out."""
    return PostExpanded(
        id=derive(summary.record.id, group, "post.expanded"),
        at=_when(at),
        post=summary.record.id,
        group=group,
        verdict=verdict,
        recipients=totals.expanded - totals.suppressed,
        suppressed=totals.suppressed,
    )


def post_expanded_whole(share: Expanded, brief: Brief) -> PostExpanded:
    """The event of a fan-out that came in one share."""
    return PostExpanded(
        id=derive(share.post_id, share.group, "post.expanded"),
        at=_when(share.at),
        post=share.post_id,
        group=share.group,
        verdict=brief.verdict,
        recipients=share.copies,
        suppressed=share.left_out,
    )


def delivery_failed(post_id: str, group: str, fate: Fate) -> DeliveryFailed:
    """The event of one recipient's failure."""
    return DeliveryFailed(
        id=derive(post_id, group, fate.address, "delivery.failed"),
        at=_when(fate.at),
        post=post_id,
        group=group,
        recipient=fate.address,
        code=fate.code,
        status=fate.status,
        text=fate.text,
        host=fate.hop,
        attempts=fate.attempt + 1,
    )


def report_sent(report: str, *, post_id: str, group: str, kind: str, to: Sequence[str], at: float) -> ReportSent:
    """The event of a report or notice that is on its way."""
    return ReportSent(
        id=derive(report, "report.sent"), at=_when(at), post=post_id, group=group, report=report, kind=kind, to=list(to)
    )


def member_suspended(group: str, member: str, reason: str, *, at: float) -> MemberSuspended:
    """The event of a suspension; a member that is suspended again, later, is another event."""
    return MemberSuspended(
        id=derive(new_id(at)[:10], group, member, "member.suspended"),
        at=_when(at),
        group=group,
        member=member,
        reason=reason,
    )


def signal_delivered(message: SignalExpanded, member: str) -> SignalDelivered:
    """The event of a signal for one member."""
    signal = message.signal
    return SignalDelivered(
        id=derive(signal.id, signal.group, member, "signal.delivered"),
        at=_when(signal.sent_at),
        signal=signal.id,
        group=signal.group,
        member=member,
        text=signal.text,
        title=signal.title,
        link=signal.link,
        origin=signal.origin,
    )


def signal_suppressed(message: SignalExpanded, reason: str) -> SignalSuppressed:
    """The event of a signal that was refused."""
    signal = message.signal
    return SignalSuppressed(
        id=derive(signal.id, signal.group, "signal.suppressed"),
        at=_when(signal.sent_at),
        signal=signal.id,
        group=signal.group,
        reason=reason,
        origin=signal.origin,
        spared=message.spared,
    )
