"""The decision at RCPT: which group, owner, bounce or postmaster address this is, and whether mail for it may come in.

What can be refused is refused here (P5). The directory decides; when it cannot answer, the reply is 451 and never 550.
"""

from __future__ import annotations

from collections.abc import Hashable

import msgspec

from services.ingress.params import MailParams, RcptParams
from services.ingress.quota import Quota
from shared import policy
from shared.address import Address, split_role
from shared.directory import Directory
from shared.groups import Group
from shared.messages import Target, TargetKind
from shared.replies import (
    AUTOMATIC,
    DOMAIN_SUSPENDED,
    FOREIGN_DOMAIN,
    GROUP_DISABLED,
    GROUP_UNKNOWN,
    SEPARATE_TRANSACTION,
    TOO_LARGE,
    TOO_MANY_RECIPIENTS,
    Reply,
)

_KINDS = {
    "group": TargetKind.GROUP,
    "owner": TargetKind.OWNER,
    "bounces": TargetKind.BOUNCES,
    "postmaster": TargetKind.POSTMASTER,
}


class Refusal(Exception):
    """A recipient that is refused. `group` is its key where the group exists, for then the refusal is an outcome that is counted."""

    def __init__(self, reply: Reply, *, group: str = "") -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.group = group


class Accepted(msgspec.Struct, frozen=True):
    """A recipient that is accepted so far: its target, and its group where the target is one."""

    target: Target
    group: Group | None
    metered: str = ""  # its domain, where that has a quota for the day

    @property
    def identity(self) -> tuple[str, str, str]:
        """What makes two recipients one target: a group is one however it is written, a bounce address has its token."""
        tagged = self.target.kind in (TargetKind.BOUNCES, TargetKind.POSTMASTER)
        return self.target.kind, self.target.group, self.target.recipient.lower() if tagged else ""

    @property
    def data_policy(self) -> Hashable:
        """What DATA will be judged by: over SMTP, recipients of one transaction share it (P5)."""
        return None if self.group is None else (policy.data_policy(self.group), self.metered)


class Transaction(msgspec.Struct, kw_only=True):
    """A mail transaction from its MAIL on. `accepted` has an entry for every RCPT that got 250, `targets` one for every target."""

    mail_from: str
    params: MailParams
    accepted: list[Accepted] = msgspec.field(default_factory=list)
    targets: dict[tuple[str, str, str], Accepted] = msgspec.field(default_factory=dict)
    refused: int = 0

    def add(self, recipient: Accepted) -> None:
        """Take a recipient; one that is there already shares its target."""
        self.accepted.append(self.targets.setdefault(recipient.identity, recipient))


Verdicts = dict[tuple[str, str, str], Reply | None]
"""The refusal of each target by its identity, None for those that pass."""


class Recipients:
    """Decides about recipients by the directory."""

    def __init__(self, directory: Directory, *, max_recipients: int, quota: Quota) -> None:
        self._directory = directory
        self._quota = quota
        self._max_recipients = max_recipients

    async def decide(self, mail: Transaction, address: Address, params: RcptParams, *, one_answer: bool) -> Accepted:
        """The recipient, if it is accepted; `one_answer` says that one reply after the dot must do for all (SMTP, not LMTP).

        Raises `Refusal`; `DirectoryUnavailable`, `LedgerUnavailable` when they do not answer. How long it is waited for is the caller's.
        """
        if len(mail.accepted) >= self._max_recipients:
            raise Refusal(TOO_MANY_RECIPIENTS)
        recipient = await self._find(address, params)
        _check(mail, recipient)
        if one_answer and mail.accepted and mail.accepted[0].data_policy != recipient.data_policy:
            raise Refusal(SEPARATE_TRANSACTION)
        return recipient

    async def _find(self, address: Address, params: RcptParams) -> Accepted:
        role, key, _ = split_role(address.key)
        kind = _KINDS[role]
        domain = None
        if address.domain:
            domain = await self._directory.domain(address.domain)
            if domain is None:
                raise Refusal(FOREIGN_DOMAIN)
            if domain.disabled and kind is not TargetKind.POSTMASTER:
                raise Refusal(GROUP_DISABLED)
        target = Target(group=key, recipient=str(address), kind=kind, notify=params.notify, orcpt=params.orcpt)
        if kind is TargetKind.POSTMASTER:
            return Accepted(target, None)
        group = await self._directory.group(key)
        if group is None:
            raise Refusal(GROUP_UNKNOWN)
        if domain is not None and domain.suspended:
            raise Refusal(DOMAIN_SUSPENDED, group=group.address)
        if kind is not TargetKind.GROUP:
            return Accepted(target, None)
        if domain is not None and (over := await self._quota.refusal(domain)) is not None:
            raise Refusal(over, group=group.address)
        return Accepted(target, group, domain.name if domain is not None and domain.metered else "")


def _check(mail: Transaction, recipient: Accepted) -> None:
    """What a group refuses before it has seen the message. Owner, bounce and postmaster addresses take what comes."""
    group = recipient.group
    if group is None:
        return
    if group.settings.disabled:
        raise Refusal(GROUP_DISABLED, group=group.address)
    if not mail.mail_from:
        # A bounce or another report: expanded, it would go to everybody, and be answered by nobody. Whatever reject_automatic says.
        raise Refusal(AUTOMATIC, group=group.address)
    if group.settings.max_size and (mail.params.size or 0) > group.settings.max_size:
        raise Refusal(TOO_LARGE, group=group.address)
