"""What a spam check said of a post stands in its trace, once, however often the post is expanded."""

from __future__ import annotations

from pathlib import Path

from shared.messages import Checked
from tests.expander.world import open_world, post

OFFICE = "office@a.test"


async def test_p4_the_verdict_is_a_note_of_the_post(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        world.directory.add(OFFICE, "ana@x.test")
        judged = post(
            OFFICE, checked=Checked(action="add header", score=7.5, required=15.0, symbols=("HEAVY", "LIGHT"))
        )
        unjudged = post(OFFICE, checked=Checked(action="unchecked"))
        plain = post(OFFICE)
        await world.run(judged, judged, unjudged, plain)
        told = {each.id: await world.ledger.real.notes(each.id) for each in (judged, unjudged, plain)}
        assert [(note.kind, note.detail) for note in told[judged.id]] == [
            ("checked", {"action": "add header", "score": "7.5 of 15", "symbols": "HEAVY LIGHT"})
        ]
        assert [note.detail for note in told[unjudged.id]] == [{"action": "unchecked"}]
        assert list(told[plain.id]) == []
