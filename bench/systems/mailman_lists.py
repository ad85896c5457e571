"""Run by the Python of Mailman's own environment: `python mailman_lists.py CONFIG FILE SINGLE`. Makes the lists of FILE (one JSON group a line).

It writes the rows of users, addresses and subscriptions in one transaction a list, without Mailman's welcome and confirmation workflows: its own
command needs 10 ms a member. `import` measures that command; here it would only make the other workloads wait.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(config_file: str, groups_file: str, single: str) -> None:
    """Make them."""
    from mailman.app.lifecycle import create_list
    from mailman.core.initialize import initialize
    from mailman.database.transaction import transaction
    from mailman.interfaces.action import Action
    from mailman.interfaces.archiver import ArchivePolicy
    from mailman.interfaces.domain import IDomainManager
    from mailman.interfaces.mailinglist import IListArchiverSet, Personalization
    from zope.component import getUtility

    initialize(config_file)
    with transaction():
        domains = getUtility(IDomainManager)
        if "example.test" not in domains:
            domains.add("example.test")
    for line in Path(groups_file).read_text().splitlines():
        group = json.loads(line)
        with transaction():
            mlist = create_list(group["address"])
            mlist.default_nonmember_action = Action.accept
            mlist.max_message_size = 0
            mlist.send_welcome_message = False
            mlist.send_goodbye_message = False
            mlist.digests_enabled = False
            mlist.require_explicit_destination = False
            if single == "single":
                mlist.personalize = Personalization.individual
            mlist.archive_policy = ArchivePolicy.never
            # Makes the list's rows of archivers now: two runners that meet a new list at once make them twice, and shunt its posts from then on.
            IListArchiverSet(mlist)
            subscribe(mlist, group["members"])


def subscribe(mlist: Any, addresses: list[str]) -> None:
    """Add members by rows."""
    from mailman.config import config
    from mailman.interfaces.member import MemberRole
    from mailman.model.address import Address
    from mailman.model.member import Member
    from mailman.model.preferences import Preferences
    from mailman.utilities.datetime import now

    for text in addresses:
        address = Address(text, "")
        address.preferences = Preferences()
        address.verified_on = now()
        member = Member(MemberRole.member, mlist.list_id, address)
        member.preferences = Preferences()
        config.db.store.add_all([address, member])


if __name__ == "__main__":
    main(*sys.argv[1:])
