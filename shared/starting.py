"""What stops a start, and what ends a process later. A file of its own, so that the command line knows the words without loading every port."""

from __future__ import annotations


class StartError(Exception):
    """A service cannot start; the text says what to do."""


class ServiceEnded(Exception):
    """A service ended although nobody told it to. The others were drained, for a process that does half of its work looks well and is not."""
