"""What `horo doctor` says of each thing that it looked at."""

from __future__ import annotations

from typing import Literal

import msgspec

State = Literal["ok", "warning", "fault", "skipped"]


class Finding(msgspec.Struct, frozen=True):
    """What one look found; `mend` says what to do where something is wrong."""

    check: str
    state: State
    told: str
    mend: str = ""
