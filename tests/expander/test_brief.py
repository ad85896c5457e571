"""When a share says all that the events need, so that the reporter has nothing to ask; and when something may be due of its post."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.messages import Target
from tests.expander.world import open_world, post

OFFICE = "office@a.test"


@pytest.mark.parametrize(
    ("settings", "notify", "brief"),
    [
        ({}, None, True),
        ({"notify_owners": "failures"}, ("FAILURE", "DELAY"), True),
        ({"notify_owners": "none"}, ("NEVER",), True),
        ({"notify_owners": "posts"}, None, False),
        ({"notify_owners": "daily"}, None, False),
        ({"report_delivery": True}, None, False),
        ({}, ("SUCCESS",), False),
        ({"envelope": "alias"}, ("SUCCESS", "FAILURE"), False),
        ({"envelope": "alias"}, ("FAILURE", "DELAY"), True),
    ],
)
async def test_p10_a_post_of_which_nothing_is_due_says_all_itself(
    tmp_path: Path, settings: dict[str, Any], notify: tuple[str, ...] | None, brief: bool
) -> None:
    async with open_world(tmp_path) as world:
        world.directory.add(OFFICE, "boris@x.test", **settings)
        result = await world.run(post(Target(group=OFFICE, recipient=OFFICE, notify=notify)))
        assert [one.brief is not None for one in result.expanded] == [brief]


async def test_p3_a_repeated_expansion_asks_the_ledger_what_is_due_whatever_the_settings_say_by_now(
    tmp_path: Path,
) -> None:
    """The first telling was lost, and meanwhile the switch was turned off: the report that is recorded as due is sent all the same."""
    async with open_world(tmp_path) as world:
        world.directory.add(OFFICE, "boris@x.test", report_delivery=True)
        given = post(OFFICE)
        await world.run(given)
        world.directory.add(OFFICE, "boris@x.test", report_delivery=False)
        again = await world.run(given)
        assert [one.brief for one in again.expanded] == [None]
        summary = await world.ledger.post(given.id)
        assert summary is not None
        assert [target.report for target, _, _ in summary.targets] == [True]
