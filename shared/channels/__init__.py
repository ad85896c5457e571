"""Channels: chats and webhooks that signals go to. What a URL may be, how it is kept, and how it is reached without reaching anything else.

A channel's URL is written by somebody whom the operator need not trust with the network that Horo runs in, and it is a secret of theirs:
- `kinds` says which URLs there are, and shows one without its secrets. Pure.
- `vault` encrypts them at rest, by a key made of the installation's secret.
- `addresses` says which addresses may be reached, `guard` holds every connection to it.
- `courier` gives a signal to a channel through Apprise, which is imported with the first one.
No error, log line, event, trace or JSON of ours holds a URL.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

THREADS = 8
"""Calls to channels that one process makes at a time."""


class ChannelError(Exception):
    """A URL that is no channel, in words for whoever wrote it; never with a part of it that may be secret."""


class End(StrEnum):
    """How a call to a channel ended."""

    TAKEN = "taken"
    LATER = "later"
    NEVER = "never"  # the channel refuses it, and would again


class Called(msgspec.Struct, frozen=True):
    """What came of a call: `text` says so in words that give nothing away of a network (threats: error text is uniform)."""

    end: End
    text: str
