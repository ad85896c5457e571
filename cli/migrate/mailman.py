"""Lists of Mailman 3 as groups: which of their settings mean the same here, and which do not come along. Pure.

What is read is what Mailman's REST API says of a list (`mailman_rest`), kept as it came. A setting that has no like here is told for each list that
uses it, in words of what changes for its people; one that is off, or Mailman's default, is not worth a line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cli.migrate.found import Found, Raw, Refused, checked
from shared.address import key
from shared.directory import NewMember

REFUSING = ("hold", "reject", "discard")
LANGUAGES = ("en", "bg")


class Subscriber(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a list, as Mailman says: the last three are what holds for them, defaults counted in."""

    email: str
    display_name: str = ""
    delivery_mode: str = "regular"
    moderation_action: str = ""
    delivery_status: str = "enabled"
    receive_own_postings: bool = True
    receive_list_copy: bool = True


class MailmanList(msgspec.Struct, frozen=True, kw_only=True):
    """All that is read of one list."""

    address: str
    config: Mapping[str, Any]
    members: Sequence[Subscriber] = ()
    owners: Sequence[str] = ()
    moderators: Sequence[str] = ()
    nonmembers: Sequence[Subscriber] = ()
    held: int = 0
    requests: int = 0
    bans: int = 0
    header_matches: int = 0
    footer: bool = False


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What `horo import mailman --save` writes: one document, to be read where Mailman cannot be reached."""

    mailman: str
    """Its version."""
    lists: Sequence[MailmanList]
    format: int = 1


def groups(lists: Sequence[MailmanList]) -> Found:
    """The groups that lists become."""
    found = Found()
    for one in lists:
        settings = _settings(one)
        checked(Raw(where=one.address, address=one.address, settings=settings, members=_members(one, settings)), found)
        found.notes += [Refused(one.address, what, why) for what, why in _notes(one)]
    return found


def _settings(one: MailmanList) -> dict[str, Any]:
    config = one.config
    return {
        "title": _text(config, "display_name"),
        "description": _text(config, "info") or _text(config, "description"),
        "subject_prefix": str(config.get("subject_prefix") or ""),
        "owners": list(one.owners),
        "reply_to_group": _replies_to_list(one),
        "who_can_post": _who(config),
        "max_size": int(config.get("max_message_size") or 0) * 1024,
        "language": lang if (lang := config.get("preferred_language")) in LANGUAGES else "",
        "remove_author": any(not member.receive_own_postings for member in one.members),
        "remove_to_cc": bool(one.members) and not any(member.receive_list_copy for member in one.members),
        "reject_automatic": False,  # as there: lists get what machines write (commits, alerts)
        "thread_author": False,
        "disabled": False,
    }


def _text(config: Mapping[str, Any], name: str) -> str:
    return str(config.get(name) or "").strip()


def _replies_to_list(one: MailmanList) -> bool:
    way = one.config.get("reply_goes_to_list")
    if way in ("explicit_header", "explicit_header_only"):
        return key(_text(one.config, "reply_to_address")) == key(one.address)
    return way == "point_to_list"


def _who(config: Mapping[str, Any]) -> str:
    """Who may write: a list whose members are held is one for announcements, one whose strangers are held is one of its members."""
    if config.get("default_member_action") in REFUSING:
        return "owners"
    return "members" if config.get("default_nonmember_action") in REFUSING else "anyone"


def _members(one: MailmanList, settings: Mapping[str, Any]) -> list[NewMember]:
    return [
        NewMember(
            address=member.email,
            name=member.display_name,
            paused=member.delivery_status not in ("enabled", "unknown"),
            own_copies=bool(settings["remove_author"]) and member.receive_own_postings,
        )
        for member in one.members
    ]


# --- what does not come along -------------------------------------------------------------------------------------------
def _notes(one: MailmanList) -> list[tuple[str, str]]:
    """(what, how it is here), for what a list uses."""
    return [*_of_posting(one), *_of_members(one), *_of_queues(one), *_of_content(one)]


def _of_posting(one: MailmanList) -> list[tuple[str, str]]:
    config, notes = one.config, list[tuple[str, str]]()
    held = config.get("default_nonmember_action") == "hold"
    match _who(config):
        case "owners":
            notes.append(("posts of members are held or refused", "only owners may write; others are refused at once"))
            if allowed := sum(member.moderation_action == "accept" for member in one.members):
                notes.append(
                    (f"posts of {_members_of(allowed)} are let through", "make them owners, or they are refused")
                )
        case "members" if held:
            notes.append(("posts of strangers are held for a moderator", "strangers are refused at once, and told so"))
    if _who(config) != "owners" and (moderated := sum(member.moderation_action in REFUSING for member in one.members)):
        notes.append((f"posts of {_members_of(moderated)} are held or refused", "they may write like all others"))
    listed = [name for name in ("accept", "hold", "reject", "discard") if config.get(f"{name}_these_nonmembers")]
    let_in = sum(one.moderation_action == "accept" for one in one.nonmembers)
    if listed or let_in:
        notes.append(("rules for single strangers", "there are none here; add who may write as a paused member"))
    if config.get("reply_goes_to_list") in ("explicit_header", "explicit_header_only") and not _replies_to_list(one):
        notes.append((f"replies go to {_text(config, 'reply_to_address')}", "they go to the author"))
    if config.get("emergency"):
        notes.append(
            ("emergency moderation is on", "nothing is held here: `horo group set LIST disabled=on` stops the group")
        )
    return notes


def _of_members(one: MailmanList) -> list[tuple[str, str]]:
    notes = list[tuple[str, str]]()
    if digests := sum(member.delivery_mode != "regular" for member in one.members):
        notes.append((f"digests for {_members_of(digests)}", "they get each message; there are no digests"))
    copies = sum(not member.receive_list_copy for member in one.members)
    if copies and any(member.receive_list_copy for member in one.members):
        notes.append(
            (
                f"no second copy for {_members_of(copies)} who are in To: or Cc:",
                "they get one, for others want it",
            )
        )
    states = Counter(member.delivery_status for member in one.members)
    if bounced := states["by_bounces"]:
        notes.append((f"delivery stopped by bounces for {_members_of(bounced)}", "they are paused"))
    if one.moderators:
        notes.append(
            (f"moderators: {', '.join(one.moderators)}", "there is no moderation; make them owners if they should be")
        )
    if one.bans:
        notes.append((f"{one.bans} banned addresses", "nobody can subscribe here but through an owner"))
    return notes


def _of_queues(one: MailmanList) -> list[tuple[str, str]]:
    notes = list[tuple[str, str]]()
    if one.held:
        notes.append((f"{one.held} held messages", "decide them in Mailman before you switch"))
    if one.requests:
        notes.append((f"{one.requests} requests to join or leave", "decide them in Mailman before you switch"))
    if one.config.get("archive_policy", "never") != "never":
        notes.append(
            (
                "the archive",
                "it stays where it is; new posts do not reach it (a member of the archiver's address would)",
            )
        )
    return notes


def _of_content(one: MailmanList) -> list[tuple[str, str]]:
    config, notes = one.config, list[tuple[str, str]]()
    if config.get("anonymous_list"):
        notes.append(("authors are hidden", "authors are shown: do not switch this list if that matters"))
    if config.get("dmarc_mitigate_action", "no_mitigation") != "no_mitigation":
        notes.append(("From: is rewritten for DMARC", "it stays the author's, and their signature stays whole"))
    if config.get("filter_content"):
        notes.append(("parts of messages are filtered", "messages go out as they came"))
    if one.footer:
        notes.append(("a header or footer is added", "messages go out as they came"))
    if one.header_matches:
        notes.append((f"{one.header_matches} header rules", "there are none here; filter in front of Horo"))
    answers = [
        name for name in ("owner", "postings", "requests") if config.get(f"autorespond_{name}", "none") != "none"
    ]
    if answers:
        notes.append((f"automatic answers ({', '.join(answers)})", "there are none"))
    if config.get("gateway_to_news") or config.get("gateway_to_mail"):
        notes.append(("a gateway to a newsgroup", "there is none"))
    if aliases := config.get("acceptable_aliases"):
        notes.append((f"other names: {', '.join(map(str, aliases))}", "make each a group with this one as its member"))
    return notes


def _members_of(count: int) -> str:
    return "1 member" if count == 1 else f"{count:,} members"
