"""The mail systems that are measured, each behind the same few verbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.measure import Roots


class CannotRun(Exception):
    """The system cannot be had on this machine. The text says why, in one sentence."""


@dataclass(frozen=True)
class Group:
    """A group and who is in it: addresses of people, or of groups that come earlier in the same list."""

    address: str
    members: Sequence[str]


@dataclass(frozen=True)
class Setup:
    """How a system is to be started for a workload."""

    next_hop: int
    """Port of the sink."""
    folder: Path
    """Exists, empty, on a real disk; the system's own until it is stopped."""
    single: bool = False
    """One recipient a transaction, as per-recipient envelope senders (VERP) need."""
    processes: Mapping[str, int] = field(default_factory=dict)
    """Horo's service -> how many processes, where it is not one."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of Horo's over the bench's own."""


class System(Protocol):
    """A mail system that takes mail for groups and delivers to a next hop. All calls block."""

    name: str
    protocol: str
    """What it takes mail by: smtp or lmtp."""
    port: int
    """Where it takes mail."""

    def start(self, setup: Setup) -> None:
        """Start it and wait until it takes mail. Raises `CannotRun`."""

    def load(self, groups: Sequence[Group]) -> None:
        """Make groups and members, by the quickest way that the system has."""

    def bulk(self, group: str, path: Path) -> None:
        """Add the addresses of a CSV file (one column, `address`) to a group that exists, by the system's own command. This is timed: no more."""

    def count(self, group: str) -> int:
        """How many different members the group has, asked of what the system keeps, not of what a command said."""

    def bus(self) -> dict[str, int]:
        """Connection -> octets that the broker has received on it since it was opened; empty where there is no broker."""

    def roots(self) -> Roots:
        """Role -> the processes whose trees are that role's."""

    def versions(self) -> Mapping[str, str]:
        """Program -> its version."""

    def said(self) -> str:
        """The end of what it has logged, for when it fails."""

    def stop(self) -> None:
        """End all of it, whatever state it is in."""
