"""Whether a failure says that an address does not work: the one question on which a member's suspension depends. Pure.

When in doubt, it does not: of somebody who is wrongly taken for dead the group loses a reader, of a dead address it sends a copy too many. So what a
server says of policy, of spam or of the sender never counts, whichever status stands before it (peers-and-pains.md 3), nor what says that the mailbox
is full, that the way to it is not found, or that it may work later.

| status (RFC 3463, IANA registry) | counts |
|---|---|
| 5.1.1 no such mailbox, 5.1.2 no such domain, 5.1.3 bad syntax, 5.1.4 ambiguous, 5.1.6 moved, 5.1.10 null MX (RFC 7505) | yes |
| 5.1.0, 5.0.0, none at all | where the text says that there is no such address |
| 5.2.1 mailbox disabled | where the text says that it is closed for good |
| 5.1.5 (valid), 5.1.7 and 5.1.8 (the sender's address), 5.1.9 | never |
| 5.2.2 full, other 5.2.x, 5.3.x, 5.4.x, 5.5.x, 5.6.x | never |
| 5.7.x policy, security, spam, authentication | never |
| 4.x.x, 2.x.x | never |
"""

from __future__ import annotations

import re

_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?!\.?\d)")
_OURS_ALONE = re.compile(r"\S*[@/]\S*|\b[\w-]+(?:\.[\w-]+)+\b")
"""Addresses, URLs, host names: what stands in them are names, not words of the server."""

_YES = frozenset(("5.1.1", "5.1.2", "5.1.3", "5.1.4", "5.1.6", "5.1.10"))
_BY_TEXT = frozenset(("5.0.0", "5.1.0", ""))
_CLOSED = "5.2.1"

_POLICY = re.compile(
    r"\b(?:dmarc|dkim|spf|arc|rbl|dnsbl|spam\w*|junk|unsolicited|listed|bann?ed|reverse|ptr|helo|client host|hosts?name|"
    r"your (?:host|ip|server|network)|"
    r"virus\w*|malware|phish\w*|blocked|block ?list\w*|black ?list\w*|denied|deny|"
    r"polic(?:y|ies)|reputation|unauthenticated|authenticat\w*|authoriz\w*|permission|not permitted|not allowed|"
    r"relay(?! recipient table)\w*|senders?|"
    r"sent too|rate|limit\w*|throttl\w*|greylist\w*|too many|quota|full|over ?quota|content|attachment\w*|size|tls|encrypt\w*|"
    r"try again|temporar\w*|later|забранен\w*|спам|политика\w*|подател\w*|квота\w*|пълна|временн\w*)\b",
    re.IGNORECASE,
)
_UNKNOWN = re.compile(
    r"user unknown|unknown (?:user|recipient|address|mailbox|account|local part)|(?:addressee|recipient|mailbox|address) unknown|"
    r"no such (?:user|recipient|mailbox|account|address|person|local user|email)|"
    r"(?:user|recipient|mailbox|account|address|person)\W(?:\S+ )?(?:was |is |could )?not (?:be )?(?:found|known|exist)|non-?existent|"
    r"does(?: not|n't) exist|does(?: not|n't) have an?\b.{0,40}\baccount|no (?:mailbox|account|user)s? (?:here )?(?:by|with) that|"
    r"invalid (?:recipient|mailbox|user|address)|(?:recipient|mailbox|user) (?:is )?invalid|unroute?able address|not a registered|"
    r"not (?:a |our )?(?:valid )?(?:customer|user|mailbox|recipient)\b|no longer (?:exists?|valid|active|available|with|works?)|"
    r"няма така(?:ва|във) (?:потребител|пощенска кутия|адрес|получател)|няма такъв (?:потребител|адрес|получател)|"
    r"(?:потребител|получател|адрес|кутия)(?:ят|ът|та)? не съществува|несъществуващ|непознат (?:потребител|получател|адрес)",
    re.IGNORECASE,
)
_GONE = re.compile(
    r"\b(?:disabled|inactive|closed|deactivated|suspended|cancell?ed|expired|terminated|закрит[аи]?|деактивиран[аи]?)\b",
    re.IGNORECASE,
)


def counts(code: int, status: str, text: str) -> bool:
    """Whether a failure counts against the address. `code` is SMTP's, 0 where there is none; `status` the enhanced one, or empty; `text` the reply's.

    Every code in the text is heard too: of two that disagree, the one that does not count wins.
    """
    if code // 100 in (2, 4):
        return False
    codes = {status, *_STATUS.findall(text)} - {""}
    if any(each[0] != "5" for each in codes):
        return False
    words = _OURS_ALONE.sub(" ", text.replace("\u2019", "'"))
    if _POLICY.search(words):
        return False
    exact = {each for each in codes if each not in _BY_TEXT}
    if not exact:
        return bool(_UNKNOWN.search(words))
    return all(each in _YES or (each == _CLOSED and bool(_GONE.search(words))) for each in exact)
