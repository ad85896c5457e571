"""The image's bill of materials (CycloneDX 1.5, JSON): what uv.lock says of the Python packages, and what dpkg says of the base.

    python sbom.py LOCK.json SITE_PACKAGES VERSION > sbom.json

LOCK.json is `uv export --format cyclonedx1.5`. The same image gives the same bytes: no time of making, and a serial number made from the contents.
Of the lock's packages those are named that are installed here, each with the one wheel that this platform takes and its hash; one that is
installed without being in the lock stops the build.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Mapping
from importlib.metadata import distributions
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

Component = dict[str, Any]
OURS = "horo"


class NotLocked(SystemExit):
    """Something is installed that the lock does not know."""


def main() -> None:
    """Print the bill."""
    lock, site, version = sys.argv[1:]
    bill = made(json.loads(Path(lock).read_text("utf-8")), installed(site), debian(), version)
    json.dump(bill, sys.stdout, indent=1, sort_keys=True)


def made(lock: dict[str, Any], names: dict[str, str], packages: list[Component], version: str) -> dict[str, Any]:
    """The bill from the lock's own one, what is installed (name: version), and the packages of the base. Raises `NotLocked`."""
    locked = {(canonicalize_name(one["name"]), one["version"]): one for one in lock["components"]}
    if strangers := sorted(set(names.items()) - set(locked)):
        raise NotLocked(f"installed, but not in uv.lock: {strangers}")
    order = {tag: rank for rank, tag in enumerate(sys_tags())}
    python = [{**locked[found], "externalReferences": [wheel(locked[found], order)]} for found in sorted(names.items())]
    root = lock["metadata"]["component"]["bom-ref"]
    known = {one["bom-ref"] for one in python} | {root}
    depends = [
        {"ref": one["ref"], "dependsOn": [ref for ref in one.get("dependsOn", ()) if ref in known]}
        for one in lock["dependencies"]
        if one["ref"] in known
    ]
    bill: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": lock["specVersion"],
        "version": 1,
        "metadata": {
            "component": {"type": "container", "bom-ref": root, "name": OURS, "version": version},
            "lifecycles": [{"phase": "build"}],
        },
        "components": [*python, *packages],
        "dependencies": depends,
    }
    bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True))}"
    return bill


def wheel(component: Component, order: Mapping[Tag, int]) -> Component:
    """The reference to the wheel that is installed: of those that fit, the one that fits best (the lowest rank). Raises `NotLocked`."""
    ranks: list[tuple[int, Component]] = []
    for reference in component["externalReferences"]:
        try:
            tags = parse_wheel_filename(unquote(reference["url"].rpartition("/")[2]))[3]
        except InvalidWheelFilename:  # a source distribution: nothing is built from one
            continue
        ranks += [(order[tag], reference) for tag in tags if tag in order]
    if not ranks:
        raise NotLocked(f"{component['name']}: uv.lock has no wheel for this platform")
    return min(ranks, key=itemgetter(0))[1]


def installed(site: str) -> dict[str, str]:
    """The distributions in that folder and their versions."""
    return {canonicalize_name(one.metadata["Name"]): one.version for one in distributions(path=[site])}


def debian() -> list[Component]:
    """The packages of the base, which is Debian's."""
    form = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\n"
    text = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout  # noqa: S603, S607
    release = re.search(r'^VERSION_ID="?([\d.]+)', Path("/etc/os-release").read_text("utf-8"), re.MULTILINE)
    distro = f"debian-{release[1]}" if release else "debian"
    rows = (line.split("\t") for line in text.splitlines())
    return [_deb(name, version, arch, distro) for status, name, version, arch in sorted(rows) if status == "installed"]


def _deb(name: str, version: str, arch: str, distro: str) -> Component:
    purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={arch}&distro={distro}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


if __name__ == "__main__":
    main()
