"""The way out of reports and notices: deliveries of kind REPORT on the express lane, from the null sender, one a next hop.

`post_id` is the report's own id, made from what it is about, so that the sender's record makes one message of any number of publications.
Routing is by HORO_ROUTES like any mail's. A failure of such a delivery is told to nobody: the null sender and the kind see to that.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.address import key
from shared.bus import Bus, Outgoing
from shared.messages import Content, Delivery, DeliveryKind, Lane, Recipient, encode
from shared.routes import Routes
from shared.topology import Queue


class PostOffice:
    """Publishes mail of our own."""

    def __init__(self, routes: Routes, bus: Bus) -> None:
        self._routes = routes
        self._bus = bus

    async def send(
        self, report_id: str, group: str, to: Sequence[str], content: Content, *, at: float, mail_from: str = ""
    ) -> None:
        """Make the deliveries of one report durable. `at` starts the clock of their retries; `mail_from` is where a probe's failure comes to.

        Raises `BusUnavailable`.
        """
        deliveries = (
            Delivery(
                post_id=report_id,
                group=group,
                cell=cell,
                hop=hop,
                mail_from=mail_from,
                recipients=tuple(Recipient(address=address) for address in addresses),
                content=content,
                accepted_at=at,
                kind=DeliveryKind.REPORT,
                lane=Lane.EXPRESS,
                smtputf8=bool(cell),
            )
            for (hop, cell), addresses in self._batches(to).items()
        )
        await self._bus.publish_all(
            [Outgoing(queue=Queue.DELIVERIES_EXPRESS, payload=encode(each)) for each in deliveries]
        )

    def _batches(self, to: Sequence[str]) -> dict[tuple[str, int], list[str]]:
        """Recipients by next hop; UTF-8 addresses apart (cell 1), so that a server without SMTPUTF8 still gets the others' mail."""
        batches: dict[tuple[str, int], list[str]] = {}
        for address in to:
            hop = str(self._routes.hop(key(address).rpartition("@")[2]))
            batches.setdefault((hop, 0 if address.isascii() else 1), []).append(address)
        return batches
