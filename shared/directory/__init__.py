"""The directory: domains, groups and members. SQL is the truth, Redis and the process are caches (P6).

`Directory` is what the pipeline reads; `Registry` is what the command line and the console write. `tests/contract/test_directory.py`
holds both databases and every stack of caches to it. Addresses given to reads are keys (`shared.address.key`); a reader never has to
know about caches: an answer is at most one second old, or comes from SQL, or `DirectoryUnavailable` is raised.

Every write transaction first takes and bumps the change counter, so that changes are totally ordered as they are committed, and appends the keys
it changed (`group:ADDRESS`, `domain:NAME`) to the change log that caches poll.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from shared.directory.channels import ChannelRegistry, Channels
from shared.groups import SLOTS, Domain, Group, Member, Roll
from shared.replies import TROUBLE, TransientError


class DirectoryUnavailable(TransientError):
    """Neither SQL nor a confirmed cache can answer. The client's answer is 451, never 550."""

    def __init__(self, why: str) -> None:
        super().__init__(TROUBLE, why=why)


class DirectoryError(Exception):
    """A change that cannot be made, in words for the person who asked for it."""


class NotFound(DirectoryError):
    """No such domain, group or member."""


class Conflict(DirectoryError):
    """It is there already, or the name is reserved."""


MOST_IN_ROLLS = 250_000
"""Members that one answer of `Directory.rolls` has at most."""


class NewMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member to add: `address` may be a bare name (an object of the group's own domain).

    What is not said (an empty `name`, None) is off for a new member, and left as it is by an import over one who is there.
    """

    address: str
    name: str = ""
    paused: bool | None = None
    own_copies: bool | None = None


class Added(msgspec.Struct, frozen=True, kw_only=True):
    """What an addition did: how many were added, were there already (and left as they are), or (import only) changed, removed."""

    added: int = 0
    present: int = 0
    updated: int = 0
    removed: int = 0


class Directory(Channels, Protocol):
    """What the pipeline reads."""

    async def domain(self, name: str) -> Domain | None:
        """The domain, if it is ours."""

    async def group(self, key: str) -> Group | None:
        """The group of this canonical address (no +tag: `shared.address.split_role` takes it off)."""

    async def subgroups(self, key: str) -> Sequence[Member]:
        """The group's members that are groups themselves (their `group` is set). Groups among members are few, so this is one list."""

    async def nested(self, keys: Sequence[str]) -> Mapping[str, Sequence[Member]]:
        """`subgroups` of many groups, each with its key, in few questions: a graph of a hundred groups is walked before anybody gets a copy."""

    def members(self, key: str, *, low: int = 0, high: int = SLOTS) -> AsyncIterator[Sequence[Member]]:
        """The group's members whose slot is in [low, high), groups among them, in key order, in pages of at most 1,000 (P10)."""

    async def rolls(
        self, keys: Sequence[str], *, cells: int, low: int = 0, high: int = SLOTS
    ) -> Mapping[str, Mapping[int, Roll]]:
        """The members of several groups whose slot is in [low, high), by group and by cell (`shared.groups.cell`), groups among them.

        What has no members is not there, nor is what is no group. Raises `DirectoryUnavailable` for more than `MOST_IN_ROLLS` members:
        a caller asks for ranges that hold fewer (P10).
        """

    async def is_member(self, key: str, member: str) -> bool:
        """Whether `member` (a key) is a member of the group itself (not through a sub-group)."""

    async def check(self) -> None:
        """Whether SQL answers and its schema is ours; raises `DirectoryUnavailable`."""

    async def close(self) -> None:
        """Let go of everything."""


class Registry(Directory, ChannelRegistry, Protocol):
    """What the command line and the console write. Every method is one transaction, visible everywhere within a second."""

    async def create_domain(self, name: str, **changes: Any) -> Domain: ...

    async def set_domain(self, name: str, **changes: Any) -> Domain: ...

    async def delete_domain(self, name: str) -> None:
        """Raises `Conflict` while the domain has groups."""

    async def domains(self, *, after: str = "", limit: int = 100, search: str = "") -> Sequence[Domain]: ...

    async def create_group(self, address: str, *, members: Iterable[NewMember] = (), **settings: Any) -> Group:
        """A new group; adds a missing domain. Raises `Conflict` for a name taken or reserved, `DirectoryError` for a bad setting or address."""

    async def set_group(self, address: str, **settings: Any) -> Group: ...

    async def delete_group(self, address: str) -> None: ...

    async def groups(
        self, *, domain: str = "", after: str = "", limit: int = 100, search: str = ""
    ) -> Sequence[Group]: ...

    async def add_members(self, address: str, members: Iterable[NewMember]) -> Added: ...

    async def remove_members(self, address: str, members: Iterable[str]) -> int:
        """How many were removed."""

    async def set_member(self, address: str, member: str, **changes: Any) -> Member:
        """Change `name`, `paused`, `own_copies` or `bounce`. Raises `NotFound`."""

    async def list_members(
        self, address: str, *, after: str = "", limit: int = 100, search: str = "", suspended: bool = False
    ) -> Sequence[Member]:
        """Members by key, the page after the key `after`; `suspended` are those alone whose address does not work. Raises `NotFound`."""

    async def import_members(
        self, address: str, members: AsyncIterator[Sequence[NewMember]], *, replace: bool = False
    ) -> Added:
        """All or nothing, in one transaction, page by page; `replace` removes members that are not in the import."""
