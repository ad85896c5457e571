"""`horo signal`: a real-time request to a group, for a chat system to deliver."""

from __future__ import annotations

import getpass

from cli import access
from cli.output import CommandError, Exit, Json, print_json, say
from shared import signals


async def signal(
    group: str,
    text: str,
    /,
    *,
    title: str = "",
    link: str = "",
    origin: str = "",
    id_: str = "",
    json: Json = False,
) -> None:
    """Send a signal to a group: a `signal.delivered` event for each member and a message to each channel, or one `signal.suppressed` where the
    group refuses signals. `horo trace ID` tells what became of it.

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
    id_
        An id of your own: repeated with the same id and origin, it is one signal.
    """
    try:
        asked = signals.request(group=group, text=text, title=title, link=link, origin=origin, id=id_)
        made = signals.signal_of(asked, origin=_user())
    except signals.SignalError as error:
        raise CommandError(str(error), Exit.USAGE) from error
    async with access.parts() as parts:
        found = await parts.directory.group(made.group)
        if found is None:
            raise CommandError(f"no group {group}; `horo group list` lists them", Exit.NOT_FOUND)
        sent = await signals.accept(parts.bus, asked, origin=_user())
    refused = found.settings.disable_signals
    if json:
        print_json({"signal": sent.id, "group": sent.group, "refused": refused})
    elif refused:
        say(f"signal {sent.id}: {sent.group} refuses signals; a signal.suppressed event says so", "yellow")
    else:
        say(f"signal {sent.id} is on its way to {sent.group}; `horo trace {sent.id}` tells what becomes of it", "green")


def _user() -> str:
    return f"cli:{getpass.getuser()}"
