"""What stops a start. A file of its own, so that the command line knows the word without loading every port."""

from __future__ import annotations


class StartError(Exception):
    """A service cannot start; the text says what to do."""
