"""What the ledger's rows hold, and how it is read back. Pure.

Everything here was written by strangers: other servers' replies, addresses, Message-IDs. SQL takes neither NUL nor lone surrogates, an index no
key of any length; so text is cleaned and keys are bounded here, and one strange recipient cannot spoil the batch that it shares.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from shared.address import key
from shared.ledger import PostRecord, TargetRecord
from shared.messages import BodyRef, Reason, State, TargetKind

T = TypeVar("T")

STATES: tuple[State, ...] = (State.QUEUED, State.DEFERRED, State.DELIVERED, State.FAILED)
"""States by the number they are stored as."""
NUMBERS = {state: number for number, state in enumerate(STATES)}
FINAL = NUMBERS[State.DELIVERED]
"""States from this number on are final."""

KEY_LIMIT = 300
"""Characters of a key: an address has at most 320 octets, a row of an index in PostgreSQL some 2,700."""
TEXT_LIMIT = 500
"""Characters kept of a reply."""
REFERENCES_LIMIT = 50
"""Message-IDs that are looked at to find the thread: the first, and the nearest."""
_SMALL = 32767


def clean(text: str) -> str:
    """The text as SQL takes it: no NUL, no lone surrogate."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def bounded(text: str) -> str:
    """A text as part of an index: itself, or where it is too long its beginning and a digest."""
    text = clean(text)
    if len(text) <= KEY_LIMIT:
        return text
    return f"{text[: KEY_LIMIT - 40]}#{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"


def recipient_key(address: str) -> str:
    """The key a recipient is stored under."""
    return bounded(key(address))


def message_key(message_id: str) -> str:
    """What a Message-ID is found by: without brackets and white space around it."""
    return bounded(message_id.strip().removeprefix("<").removesuffix(">").strip())


def small(number: int) -> int:
    """A number that fits a small column."""
    return max(0, min(number, _SMALL))


DIRECT = "/"
"""The path of a direct member, as stored."""


def via_text(via: Sequence[str], group: str) -> str | None:
    """A path of groups as stored: lines after a slash, the target itself an empty one; so a direct member's is `DIRECT`, and None is no path at all.

    The slash keeps a path from looking like an address.
    """
    return None if not via else "/" + "\n".join("" if step == group else clean(step).replace("\n", " ") for step in via)


def via_path(text: str | None, group: str) -> tuple[str, ...]:
    """The path that `via_text` stored."""
    return () if text is None else tuple(step or group for step in text[1:].split("\n"))


SqlRow = tuple[object, ...]


def reason_of(text: str) -> Reason | None:
    """The reason as stored; None for one that a later version wrote."""
    return Reason(text) if text in Reason.__members__.values() else None


# --- posts and targets -----------------------------------------------------------------------------------------------
class Detail(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The part of a target's record that is read back as a whole and never searched."""

    recipient: str
    kind: TargetKind = TargetKind.GROUP
    fingerprint: bytes | None = None
    references: tuple[str, ...] = ()
    notify: tuple[str, ...] | None = None
    orcpt: str | None = None
    report: bool = False
    envelope: Literal["list", "alias"] = "list"
    owners: tuple[str, ...] = ()
    automatic: bool = False


POST_COLUMNS = {
    "id": "text",
    "accepted_at": "float8",
    "size": "int8",
    "body_size": "int8",
    "cells": "int4",
    "slices": "int4",
    "mail_from": "text",
    "author": "text",
    "message_id": "text",
    "message_key": "text",
    "subject": "text",
    "ip": "text",
    "envid": "text",
    "ret": "text",
    "parent": "text",
    "body_key": "text",
    "body_sha256": "text",
    "graph": "text",
}
TARGET_COLUMNS = {
    "post_id": "text",
    "group_key": "text",
    "position": "int4",
    "verdict": "text",
    "token": "text",
    "thread_author": "text",
    "detail": "text",
}


def post_row(post: PostRecord) -> SqlRow:
    """A post as stored."""
    body = post.body
    return (
        bounded(post.id),
        post.accepted_at,
        post.size,
        body.size if body else None,
        post.cells,
        post.slices,
        clean(post.mail_from),
        clean(post.author),
        clean(post.message_id)[:1000],
        message_key(post.message_id),
        clean(post.subject)[:TEXT_LIMIT],
        clean(post.ip),
        None if post.envid is None else clean(post.envid),
        post.ret,
        None if post.parent is None else clean(post.parent),
        bounded(body.key) if body else None,
        body.sha256.hex() if body else None,
        base64.b64encode(post.graph).decode() or None,
    )


def body_ref(get: Mapping[str, Any]) -> BodyRef | None:
    """The body that a row of `posts` names, by column."""
    if get["body_key"] is None:
        return None
    return BodyRef(key=get["body_key"], size=get["body_size"], sha256=bytes.fromhex(get["body_sha256"]))


def graph_octets(text: str | None) -> bytes:
    """The graph that a row of `posts` holds."""
    return base64.b64decode(text or "")


def post_record(get: Mapping[str, Any]) -> PostRecord:
    """The post that a row of `posts` holds, by column."""
    plain = {name: get[name] for name in PostRecord.__struct_fields__ if name not in ("body", "graph")}
    return PostRecord(**plain, body=body_ref(get), graph=graph_octets(get["graph"]))


def target_row(post: PostRecord, position: int, target: TargetRecord, verdict: str, thread_author: str) -> SqlRow:
    """A target as stored."""
    detail = Detail(
        recipient=clean(target.recipient),
        kind=target.kind,
        fingerprint=target.fingerprint,
        references=tuple(clean(reference)[:1000] for reference in nearest(target.references)),
        notify=target.notify,
        orcpt=None if target.orcpt is None else clean(target.orcpt),
        report=target.report,
        envelope=target.envelope,
        owners=tuple(clean(owner) for owner in target.owners),
        automatic=target.automatic,
    )
    text = msgspec.json.encode(detail).decode()
    return (bounded(post.id), bounded(target.group), position, verdict, bounded(target.token), thread_author, text)


def target_record(group: str, token: str, detail: str) -> TargetRecord:
    """The target that a row holds."""
    rest = msgspec.json.decode(detail, type=Detail)
    return TargetRecord(group=group, token=token, **{name: getattr(rest, name) for name in Detail.__struct_fields__})


def nearest(references: Sequence[str]) -> tuple[str, ...]:
    """The Message-IDs that are looked at: all, or the first and the nearest ones of a long list."""
    if len(references) <= REFERENCES_LIMIT:
        return tuple(references)
    return (references[0], *references[1 - REFERENCES_LIMIT :])


# --- many at once ----------------------------------------------------------------------------------------------------
def waves(items: Iterable[tuple[Iterable[Hashable], T]]) -> list[list[T]]:
    """Items in as few groups as it takes that no key is twice in a group; what shares a key keeps its order."""
    groups: list[list[T]] = []
    reached: dict[Hashable, int] = {}
    for names, item in items:
        own = tuple(names)
        number = max((reached.get(name, 0) for name in own), default=0)
        for name in own:
            reached[name] = number + 1
        if number == len(groups):
            groups.append([])
        groups[number].append(item)
    return groups
