"""The head that leaves for a group's members, made once a group by splicing bytes (DESIGN.md, "Headers that Horo adds"). Pure.

The same post renders to the same octets however often it is expanded again: every time in it is the post's, every id is derived.

What is replaced is what we write ourselves. A foreign List-Unsubscribe, List-Help or List-Archive stays: it is mostly under the author's
DKIM signature, which would break. A post made inside for a sub-group keeps its List-Id (RFC 2919 6: a nested list that knows
its parent must not change it).
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote

from shared import headers, rfc2047
from shared.groups import Group, Settings
from shared.headers import LOOP_MARK, Field, loop_mark, loops, marked_by
from shared.messages import Origin, Post

_MAX_LIST_ID = 255
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_SECRET = ("bcc", "resent-bcc", "return-path")
_REMOVED = (*_SECRET, "precedence", "list-post", "list-owner")
_NOT_TOKEN = re.compile(r"[^A-Za-z0-9.:_\[\]-]")
_REPLY_MARK = re.compile(r"[^\W\d_]{1,6}(?:\[\d{1,3}\]|\d)?\s?:\s*+")  # "Re:", "RE[2]:", "Fwd:", "Отг:"
_MAX_WORDS_LINE = 76  # of a line that has encoded words (RFC 2047 2)


__all__ = ["date", "list_id", "loops", "render", "render_forward"]


# --- the head of a copy ---------------------------------------------------------------------------------------------------
def render(head: bytes, *, post: Post, group: Group, hostname: str, secret: str) -> bytes:
    """The head of the copies that a group's members get. `head` is the post's; `hostname` and `secret` are the settings'."""
    known = {field.name for field in headers.fields(head)}
    keeps_list_id = post.parent is not None and "list-id" in known
    added = [_received(post, hostname), *_fields_of(group.address, group.settings, not keeps_list_id, secret)]
    if "message-id" not in known:
        added.append(headers.field("Message-ID", f"<{post.id}@{hostname}>"))
    if "date" not in known:
        added.append(headers.field("Date", date(post.accepted_at)))
    remove = _REMOVED if keeps_list_id else (*_REMOVED, "list-id")
    return headers.splice(head, prepend=added, edit=_edits(group, secret), remove=remove)


def render_forward(head: bytes, *, post: Post, name: str, hostname: str, secret: str) -> bytes:
    """The head of mail that is handed on for a role address of ours, whose key is `name`: a trace and a loop mark, and what must not be
    passed on taken away. It is no group's mail: it gets no List-*, and a report keeps what it says."""
    edit = {LOOP_MARK.lower(): lambda field: _true_mark(field, name, secret)}
    return headers.splice(head, prepend=[_received(post, hostname), loop_mark(name, secret)], edit=edit, remove=_SECRET)


@lru_cache(maxsize=1024)
def _fields_of(address: str, settings: Settings, with_list_id: bool, secret: str) -> tuple[bytes, ...]:
    """What is the same in every copy of a group with these settings."""
    group = Group(id=0, address=address, settings=settings)
    made = [loop_mark(address, secret)]
    if with_list_id:
        made.append(list_id(group))
    made += _list_fields(group)
    if settings.reply_to_group:
        made.append(headers.field("Reply-To", headers.format_address(rfc2047.printable(settings.title), address)))
    return tuple(made)


# --- single fields ------------------------------------------------------------------------------------------------------
def list_id(group: Group) -> bytes:
    """List-Id (RFC 2919): `Title <office.example.com>`, at most 255 octets, the same for the group's whole life but for the title."""
    local = group.local if group.local.isascii() else "xn--" + group.local.encode("punycode").decode("ascii")
    name = f"{local}.{group.domain}"
    if len(name) > _MAX_LIST_ID - 2:
        name = f"{hashlib.blake2b(group.address.encode(), digest_size=16).hexdigest()}.localhost"
    phrase = headers.format_phrase(rfc2047.printable(group.settings.title))
    value = f"{phrase} <{name}>" if phrase else f"<{name}>"
    return headers.field("List-Id", value if len(value) <= _MAX_LIST_ID else f"<{name}>")


def date(at: float) -> str:
    """A time as RFC 5322 3.3 writes it, in UTC."""
    t = time.gmtime(at)
    clock = f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02}"
    return f"{_DAYS[t.tm_wday]}, {t.tm_mday} {_MONTHS[t.tm_mon - 1]} {t.tm_year} {clock} +0000"


def _list_fields(group: Group) -> list[bytes]:
    # RFC 2369 3.4: a list that its readers cannot write to says so.
    posting = "NO" if group.settings.who_can_post == "owners" else f"<{_mailto(group.local, group.domain)}>"
    return [
        headers.field("List-Post", posting),
        headers.field("List-Owner", f"<{_mailto(f'{group.local}-owner', group.domain)}>"),
        headers.field("Precedence", "list"),
    ]


def _mailto(local: str, domain: str) -> str:
    return f"mailto:{quote(local, safe='')}@{domain}"


def _received(post: Post, hostname: str) -> bytes:
    """The trace (RFC 5321 4.4). Never `for`: it would show a recipient to the others. What the client said is bounded and tamed."""
    origin = post.origin
    by = f"by {hostname} with {_token(origin.protocol) or 'local'} id {post.id};"
    value = f"Received: {_from(origin)}{by}\r\n\t{date(post.accepted_at)}\r\n"
    return value.encode("ascii", "replace")


def _from(origin: Origin) -> str:
    ip = _token(origin.ip)
    if not ip:
        return ""
    literal = f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"
    return f"from {_token(origin.helo) or 'unknown'} ({literal})\r\n\t"


def _token(text: str) -> str:
    return _NOT_TOKEN.sub("?", text[:255])


# --- fields edited in place -------------------------------------------------------------------------------------------------
def _edits(group: Group, secret: str) -> dict[str, Callable[[Field], bytes]]:
    """What becomes of fields that are already there, by name."""

    edits: dict[str, Callable[[Field], bytes]] = {
        LOOP_MARK.lower(): lambda field: _true_mark(field, group.address, secret)
    }
    if group.settings.reply_to_group:
        edits["reply-to"] = _kept_reply_to
    if prefix := rfc2047.printable(group.settings.subject_prefix):
        edits["subject"] = lambda field: _prefixed(field, prefix)
    return edits


def _kept_reply_to(field: Field) -> bytes:
    """The author's Reply-To under a name that no program answers to; folded once where the longer name would make its line too long."""
    renamed = b"X-Original-Reply-To" + field.raw[field.colon :]
    if (
        len(renamed.partition(b"\r\n")[0]) <= headers.MAX_LINE
        or len(field.raw.partition(b"\r\n")[0]) > headers.MAX_LINE
    ):
        return renamed
    return b"X-Original-Reply-To:\r\n " + field.raw[field.colon + 1 :].lstrip(b" \t")


def _true_mark(field: Field, name: str, secret: str) -> bytes:
    """A loop mark that stays; nothing where it is forged, or that of `name` already: one of each."""
    return b"" if marked_by(field.value, secret) in ("", name) else field.raw


def _prefixed(field: Field, prefix: str) -> bytes:
    """The Subject with the prefix before its own octets, unless a reader would see it there already, be it after "Re:"."""
    if _has_prefix(rfc2047.decode(field.value, limit=1000), prefix):
        return field.raw
    start = field.colon + 1
    while field.raw[start : start + 1] in (b" ", b"\t"):
        start += 1
    before, after = field.raw[:start], field.raw[start:]
    if before.endswith(b":"):
        before += b" "
    if not after.strip(b"\r\n"):
        return before + headers.format_text(prefix).encode("ascii") + after
    # White space between two encoded words is not shown: there the space goes into the prefix's own word.
    encoded = not prefix.isascii() or "=?" in prefix
    text = prefix + " " if encoded and after.lstrip().startswith(b"=?") else prefix
    words = headers.format_text(text).encode("ascii")
    if after[:1] in (b"\r", b"\n"):  # folded right after the colon: the fold is the space
        return before + words + after
    line = len(before) + len(words) + len(after.partition(b"\n")[0])
    return before + words + (b" " if line < _MAX_WORDS_LINE else b"\r\n ") + after


def _has_prefix(subject: str, prefix: str) -> bool:
    """Whether a decoded subject starts with the prefix, after however many reply marks."""
    subject, prefix = subject.casefold(), prefix.casefold()
    position = 0
    while not subject.startswith(prefix, position):
        match = _REPLY_MARK.match(subject, position)
        if match is None:
            return False
        position = match.end()
    return True
