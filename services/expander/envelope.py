"""The envelope under which a group's copies leave, and the DSN parameters that may go with it (RFC 3461 5.2.7). Pure."""

from __future__ import annotations

from typing import Literal, NamedTuple

from shared.address import bounce_address
from shared.groups import Group
from shared.identity import bounce_token
from shared.messages import Post, Recipient, Target


class Envelope(NamedTuple):
    """MAIL FROM, and what each RCPT carries. `envid` and `ret` go out only where RFC 3461 lets them."""

    mail_from: str
    like: Recipient
    envid: str | None
    ret: Literal["FULL", "HDRS"] | None


def envelope(post: Post, target: Target, group: Group, secret: str) -> Envelope:
    """The envelope of a group's copies.

    A list's own bounce address: nothing of the original's parameters may go on (5.2.7.1b). An alias: the author's, and with a report of ours
    ("expanded", 5.2.7.3c) all parameters but SUCCESS; without one ("relayed", 5.2.7.3a) none.
    """
    if group.settings.envelope == "list":
        return Envelope(
            bounce_address(group.address, bounce_token(secret, post.id, group.address)),
            Recipient(address=""),
            None,
            None,
        )
    if not group.settings.report_delivery:
        return Envelope(post.mail_from, Recipient(address=""), None, None)
    like = Recipient(address="", notify=without_success(target.notify), orcpt=target.orcpt)
    return Envelope(post.mail_from, like, post.envid, post.ret)


def without_success(notify: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """NOTIFY less SUCCESS, which our own report answers; NEVER where nothing else was asked for, as Postfix does."""
    if notify is None:
        return None
    return tuple(word for word in notify if word != "SUCCESS") or ("NEVER",)
