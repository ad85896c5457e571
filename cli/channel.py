"""`horo channel`: chats and webhooks that a group's signals go to, the group's own or one of its members'."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import msgspec
from cyclopts import App, Parameter

from cli import access
from cli.output import CommandError, Exit, Json, Limit, print_json, print_table, say, when
from shared.channels import ChannelError, End
from shared.directory.channels import Channel
from shared.settings import Settings

if TYPE_CHECKING:
    from shared.channels.courier import Courier

app = App(name="channel", help="Channels of signals: add, list, remove, test.")

Member = Annotated[str, Parameter(name="--member")]
Url = Annotated[str, Parameter(allow_leading_hyphen=True)]

TEXT = "This is a test: signals of {group} will arrive here."


@app.command
async def add(group: str, url: Url, /, *, member: Member = "", json: Json = False) -> None:
    """Add a channel: every signal to the group is given to it. The URL is kept encrypted and never shown again.

    Parameters
    ----------
    group
        The group's address.
    url
        Where to: slack://TOKEN_A/TOKEN_B/TOKEN_C or an incoming webhook of Slack or Teams, matrixs://USER:PASSWORD@HOST/#ROOM, mmosts://HOST/TOKEN,
        tgram://TOKEN/CHAT, xmpps://USER:PASSWORD@HOST/PERSON@DOMAIN or .../#ROOM@CONFERENCE, rockets://TOKEN_A/TOKEN_B@HOST/#ROOM,
        ntfys://HOST/TOPIC, or https://... for a webhook that takes JSON.
        `-` reads it from standard input, so that it stands in no list of processes and no history.
    member
        A member whose channel it is; empty for the group's own.
    """
    loaded = access.settings()
    async with _courier(loaded) as courier:
        try:
            sealed = await courier.sealed(_given(url))
        except ChannelError as error:
            raise CommandError(str(error), Exit.USAGE) from None
        except TimeoutError:
            raise CommandError("the host cannot be found from here in time", Exit.UNAVAILABLE) from None
    async with access.registry() as registry:
        made = await registry.add_channel(group, sealed, member=member)
    if json:
        print_json(made)
    else:
        say(f"channel {made.id} of {made.member or made.group}: {made.shown}", "green")
        say(f"  horo channel test {made.group} {made.id}", "dim")


@app.command(name="list")
async def list_(group: str, /, *, member: Member = "", after: int = 0, limit: Limit = 100, json: Json = False) -> None:
    """List the channels of a group and of its members.

    Parameters
    ----------
    group
        The group's address.
    member
        Only this member's.
    after
        Begin after this number (the last of the page before).
    limit
        At most so many.
    """
    async with access.registry() as registry:
        found = await registry.channels(group, member=member or None, after=after, limit=limit)
    if json:
        print_json(found)
        return
    rows = [(one.id, one.member or "(the group)", one.shown, when(one.at), one.label) for one in found]
    print_table("", ("number", "whose", "channel", "since", "in traces"), rows, empty="no channels")


@app.command
async def remove(group: str, number: int, /, *, json: Json = False) -> None:
    """Remove a channel; what is on its way to it fails.

    Parameters
    ----------
    group
        The group's address.
    number
        Its number in the list.
    """
    async with access.registry() as registry:
        await registry.remove_channel(group, number)
    print_json({"removed": number}) if json else say(f"removed channel {number}", "green")


@app.command
async def test(group: str, number: int, /, *, json: Json = False) -> None:
    """Give a channel a test message, from here and at once, and tell what it answers.

    Parameters
    ----------
    group
        The group's address.
    number
        Its number in the list.
    """
    async with access.registry() as registry:
        page = await registry.channels(group, after=number - 1, limit=1)
        sealed = await registry.sealed_channel(number) if page and page[0].id == number else None
    if sealed is None:
        raise CommandError(f"{group} has no channel {number}; `horo channel list {group}` lists them", Exit.NOT_FOUND)
    async with _courier(access.settings()) as courier:
        called = await courier.call(sealed, title="Horo", text=TEXT.format(group=page[0].group))
    _tell(page[0], called.end, called.text, json)
    if called.end is not End.TAKEN:
        sys.exit(Exit.UNAVAILABLE if called.end is End.LATER else Exit.FAILED)


def _tell(channel: Channel, end: End, text: str, json: bool) -> None:
    if json:
        print_json({**msgspec.to_builtins(channel), "end": end, "answer": text})
    else:
        say(f"channel {channel.id}, {channel.shown}: {text}", "green" if end is End.TAKEN else "yellow")


def _given(url: str) -> str:
    return sys.stdin.readline() if url == "-" else url


@asynccontextmanager
async def _courier(loaded: Settings) -> AsyncIterator[Courier]:
    """A courier of this process; the secret is the services'."""
    from shared.channels.addresses import networks
    from shared.channels.courier import Courier
    from shared.parts import effective_secret

    loaded.data_path.mkdir(parents=True, exist_ok=True)
    courier = Courier(effective_secret(loaded), networks(loaded.channel_networks), ca=loaded.tls_ca)
    try:
        yield courier
    finally:
        courier.close()
