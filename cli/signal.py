"""`horo signal`: a real-time request to a group, for a chat system to deliver."""

from __future__ import annotations

import getpass
import time

from cli import access
from cli.output import CommandError, Exit, Json, print_json, say
from shared.address import key
from shared.bus import Outgoing
from shared.identity import new_id
from shared.messages import Signal, encode
from shared.topology import Queue


async def signal(
    group: str, text: str, /, *, title: str = "", link: str = "", origin: str = "", json: Json = False
) -> None:
    """Send a signal to a group: a `signal.delivered` event for each member, or one `signal.suppressed` where the group refuses signals.

    Parameters
    ----------
    group
        The group's address.
    text
        What to say.
    title
        A heading.
    link
        A link to more.
    origin
        Who or what sends it; empty for the user of this shell.
    """
    if len(text) > 10_000:
        raise CommandError("a signal's text has at most 10,000 characters", Exit.USAGE)
    message = Signal(
        id=new_id(),
        group=key(group),
        text=text,
        title=title,
        link=link,
        origin=origin or f"cli:{getpass.getuser()}",
        sent_at=time.time(),
    )
    async with access.parts() as parts:
        found = await parts.directory.group(message.group)
        if found is None:
            raise CommandError(f"no group {group}; `horo group list` lists them", Exit.NOT_FOUND)
        await parts.bus.publish(Outgoing(queue=Queue.SIGNALS, payload=encode(message)))
    refused = found.settings.disable_signals
    if json:
        print_json({"signal": message.id, "group": message.group, "refused": refused})
    elif refused:
        say(f"signal {message.id}: {message.group} refuses signals; a signal.suppressed event says so", "yellow")
    else:
        say(f"signal {message.id} is on its way to {message.group}", "green")
