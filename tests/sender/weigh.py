"""How much memory a sender takes for large messages: `python -m tests.sender.weigh FOLDER MIB HOP BATCHES RECIPIENTS` prints its growth in MiB.

BATCHES deliveries of one MIB message, RECIPIENTS each, all at once towards HOP.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from pathlib import Path
from random import Random

from services.sender.hops import Envelope, Hops
from shared.bodies.files import FileBodies
from shared.messages import Content, Recipient
from shared.routes import NextHop
from shared.settings import Settings

LINE = b"x" * 76 + b"\r\n"


def peak() -> float:
    """The peak of the resident memory so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def main(folder: Path, mib: int, hop: str, batches: int, recipients: int) -> float:
    """Deliver; the growth of the peak in MiB."""
    bodies = FileBodies(folder / "bodies")
    async with bodies.create() as writer:
        for _ in range(mib):
            await writer.write(LINE * ((1 << 20) // len(LINE)))
        content = Content(head=b"Subject: large\r\n\r\n", ref=await writer.commit())
    hops = Hops(Settings(next_hop=hop), bodies, hostname="horo.example.test", rng=Random(1))
    small = Content(head=b"Subject: small\r\n\r\n", tail=b"hello\r\n")
    await hops.deliver(NextHop.parse(hop), _envelope(0, 1), small)  # everything is loaded now
    before = peak()
    sent = await asyncio.gather(
        *(hops.deliver(NextHop.parse(hop), _envelope(number, recipients), content) for number in range(1, batches + 1))
    )
    grown = peak() - before
    assert all(answer is not None and answer.reply.code == 250 for each in sent for answer in each.answers), sent
    await hops.close()
    await bodies.close()
    return grown


def _envelope(number: int, count: int) -> Envelope:
    people = tuple(Recipient(address=f"{number}x{each}@x.test") for each in range(count))
    sender = "office-bounces@example.test"
    return Envelope(post_id=f"p{number}", accepted_at=time.time(), recipients=people, senders=(sender,) * count)


if __name__ == "__main__":
    given = sys.argv
    print(f"{asyncio.run(main(Path(given[1]), int(given[2]), given[3], int(given[4]), int(given[5]))):.1f}")
