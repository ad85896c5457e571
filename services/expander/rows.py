"""What the reporter is told of a share: every address with the path of groups that led to it. Pure."""

from __future__ import annotations

import msgspec

from services.expander.graph import Scope
from services.expander.judging import Judged
from shared.messages import Brief, Expanded, Queued, Suppressed, encode
from shared.topology import MAX_PAYLOAD


def told(
    post_id: str, scope: Scope, judged: Judged, *, index: int, of: int, at: float, brief: Brief | None = None
) -> tuple[Expanded, bytes]:
    """The message about one share, and its octets; the first share's tells of the sub-groups too.

    A share of very many people in very long paths of groups would not fit the bus: it goes without the paths then, for the counts are
    what is owed (P4).
    """
    queued, suppressed = judged.queued, judged.suppressed
    if index == 0 and scope.asides:
        queued, suppressed = list(queued), list(suppressed)
        for aside in scope.asides:
            via = scope.via(aside.parent)
            if aside.reason is None:
                queued.append(Queued(addresses=(aside.address,), via=via))
            else:
                suppressed.append(Suppressed(addresses=(aside.address,), reason=aside.reason, via=via))
    message = Expanded(
        post_id=post_id,
        group=scope.group,
        index=index,
        of=of,
        queued=tuple(queued),
        suppressed=tuple(suppressed),
        at=at,
        brief=brief,
    )
    payload = encode(message)
    if len(payload) > MAX_PAYLOAD:
        message = without_paths(message)
        payload = encode(message)
    return message, payload


def without_paths(message: Expanded) -> Expanded:
    """The same people and reasons; rows of one address that differ in their path alone are told apart by a number."""
    queued = tuple(Queued(addresses=row.addresses) for row in message.queued)
    suppressed = tuple(
        Suppressed(addresses=row.addresses, reason=row.reason, via=(message.group, str(number)))
        for number, row in enumerate(message.suppressed)
    )
    return msgspec.structs.replace(message, queued=queued, suppressed=suppressed)
