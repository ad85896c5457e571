"""Open the body store that the settings name."""

from __future__ import annotations

from pathlib import Path

from shared.bodies import Bodies
from shared.bodies.files import FileBodies


def open_bodies(url: str, data: Path) -> Bodies:
    """The store of HORO_BODIES_URL: "file:" (a folder in `data`), "file:PATH" or "s3://…". Raises ValueError. Connects when first used."""
    if url.startswith("s3:"):
        from shared.bodies.s3 import open_s3  # noqa: PLC0415 - a large library that local files do without

        return open_s3(url)
    if not url.startswith("file:"):
        raise ValueError("the body store is written file:, file:PATH or s3://bucket/prefix")
    path = url.removeprefix("file:")
    if path.startswith("//"):
        path = path.removeprefix("//")
        if not path.startswith("/"):
            raise ValueError("file://HOST is nowhere: write file:PATH or file:///PATH")
    return FileBodies(Path(path) if path else data / "bodies")
