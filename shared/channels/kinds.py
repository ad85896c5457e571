"""Which URLs are channels. Pure.

An allow-list: of the services that Apprise knows some read files, run programs or send mail, and so do some options of those that stand here
(a template is a path, an attachment a URL). What is no known option is refused, not ignored.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import msgspec

from shared.channels import ChannelError
from shared.identity import keyed

MOST = 2000
"""Characters of a URL."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9]*)://([!-~]+)")


class Kind(msgspec.Struct, frozen=True):
    """A kind of channel: its `name`, the module and class of Apprise that reach it, the options that its URL may have.

    `named`: the URL names the host; otherwise it is the service's own. `plain`: the scheme is one without TLS.
    """

    name: str
    plugin: str
    options: frozenset[str] = frozenset()
    named: bool = True
    plain: bool = False


def _pair(name: str, plugin: str, plain: str, secure: str, *options: str) -> dict[str, Kind]:
    return {
        plain: Kind(name, plugin, frozenset(options), plain=True),
        secure: Kind(name, plugin, frozenset(options)),
    }


_TEAMS = ("api-version", "sp", "sv", "sig", "ver", "signature", "workflow", "id", "pa", "powerautomate", "route")

KINDS: dict[str, Kind] = {
    "slack": Kind("slack", "slack:NotifySlack", frozenset(("to", "token", "footer", "blocks", "mode")), named=False),
    **_pair("matrix", "matrix.base:NotifyMatrix", "matrix", "matrixs", "to", "token", "version", "v", "msgtype"),
    **_pair(
        "mattermost",
        "mattermost:NotifyMattermost",
        "mmost",
        "mmosts",
        "to",
        "channel",
        "channels",
        "team",
        "botname",
        "mode",
    ),
    "workflow": Kind("teams", "workflows:NotifyWorkflows", frozenset(_TEAMS)),
    "workflows": Kind("teams", "workflows:NotifyWorkflows", frozenset(_TEAMS)),
    "tgram": Kind("telegram", "telegram:NotifyTelegram", frozenset(("to", "topic", "thread", "silent")), named=False),
    **_pair("rocketchat", "rocketchat:NotifyRocketChat", "rocket", "rockets", "to", "webhook", "mode"),
    **_pair("ntfy", "ntfy:NotifyNtfy", "ntfy", "ntfys", "to", "token", "auth", "mode", "priority", "tags", "xtags"),
    **_pair("webhook", "custom_json:NotifyJSON", "json", "jsons"),
    "xmpp": Kind("xmpp", ""),  # by a client of our own
    "xmpps": Kind("xmpp", ""),
}
"""Kinds by the scheme of the URL."""

WEB = {"https": "jsons", "http": "json"}
"""What the web's own schemes stand for, where the URL is not known to be one of the services'."""

_NO_HEADERS = frozenset(("host", "content-length", "transfer-encoding", "connection", "upgrade", "expect"))


class Parsed(msgspec.Struct, frozen=True):
    """A URL that may be a channel's. `scheme` is in `KINDS`, or one of the web's."""

    scheme: str
    url: str


def parse(url: str) -> Parsed:
    """A URL as somebody wrote it. Raises `ChannelError`, whose text holds nothing of it but its scheme."""
    url = url.strip()
    if len(url) > MOST:
        raise ChannelError(f"the URL has more than {MOST} characters")
    match = _URL.fullmatch(url)
    if match is None:
        raise ChannelError("that is no URL: scheme://..., in printable ASCII without spaces")
    scheme = match[1].lower()
    if scheme not in KINDS and scheme not in WEB:
        known = ", ".join([*WEB, *KINDS])
        raise ChannelError(f"{scheme[:20]}:// is no channel; there are {known}")
    return Parsed(scheme, f"{scheme}://{match[2]}")


def check_options(kind: Kind, url: str) -> None:
    """Raise `ChannelError` for an option that this kind has not."""
    _, _, query = url.partition("?")
    for part in re.split("[&;]", query):
        name = unquote(part.partition("=")[0]).strip().lower()
        if not name or name in kind.options:
            continue
        if kind.name == "webhook" and name.startswith("+") and name[1:] not in _NO_HEADERS:
            continue  # a header of the request: most webhooks know their callers by one
        raise ChannelError(f"the option {_word(name)} is none of a {kind.name} channel's")


def label(kind: Kind, url: str, secret: str) -> str:
    """The channel's name in the ledger and on the bus: lower-case ASCII, equal for equal URLs; nobody finds the URL by it."""
    return f"{kind.name}:{keyed(secret, 'channel', url, octets=10)}"


def quiet(text: str) -> str:
    """The text without the words that call everybody in a room to the screen: what a stranger wrote in a subject may hold one."""
    return re.sub(r"@(?=(?:all|channel|here|everyone|room|group)\b)", "@\u2060", text, flags=re.IGNORECASE)


def _word(name: str) -> str:
    """An option's name, if it looks like one: in its place may stand a part of a secret."""
    return name if re.fullmatch(r"[a-z_+:-]{1,20}", name) else "in it"
