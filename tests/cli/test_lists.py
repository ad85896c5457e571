"""Member lists in and out: all or nothing, with the numbers of the lines that are wrong, and what goes out comes in again."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shared.directory import csvfile
from shared.groups import Member
from tests.cli.conftest import Done, Horo

GROUP = "office@example.test"


@pytest.fixture(autouse=True)
def _group(horo: Horo) -> None:
    assert horo("group", "create", GROUP, "--member", "ana@example.test").status == 0


def members(horo: Horo) -> list[str]:
    return [row["address"] for row in horo("member", "list", GROUP, "--json").json]


def test_a_file_with_bad_lines_changes_nothing_and_each_line_is_named(horo: Horo, tmp_path: Path) -> None:
    path = tmp_path / "members.csv"
    lines = ["address,name", *(f"m{number}@x.test,M" for number in range(500))]
    lines[100], lines[300] = "no address,X", "a@@b.test,Y"
    path.write_text("\n".join([*lines, "late@x.test,Z,neither,no"]))
    done = horo("member", "import", GROUP, str(path), "--json")
    assert done.status == 2
    assert done.out == ""
    for number in (101, 301):
        assert f"line {number}: " in done.err
    assert "nothing was imported" in done.err
    assert members(horo) == ["ana@example.test"]
    assert horo("member", "import", GROUP, str(path), "--replace").status == 2
    assert members(horo) == ["ana@example.test"]


def test_a_file_of_bytes_that_are_no_text_is_refused(horo: Horo, tmp_path: Path) -> None:
    path = tmp_path / "members.csv"
    path.write_bytes(b"address\nana@x.test\n" + bytes(range(256)))
    done = horo("member", "import", GROUP, str(path))
    assert done.status == 2
    assert "line " in done.err
    assert members(horo) == ["ana@example.test"]


def test_what_goes_out_comes_in_again(horo: Horo, tmp_path: Path) -> None:
    path, again = tmp_path / "members.csv", tmp_path / "again.csv"
    path.write_text(
        'address,name,paused,own_copies\nВера@пример.test,"Вера, ""В""",yes,no\nboris@x.test,,no,yes\nana@example.test,Ана,,\n'
    )
    done = horo("member", "import", GROUP, str(path), "--json").json
    assert (done["added"], done["removed"]) == (2, 0)
    first = horo("member", "list", GROUP, "--json").json
    assert horo("member", "export", GROUP, str(again), "--json").json == {"exported": 3, "file": str(again)}
    assert horo("group", "create", "other@example.test").status == 0
    assert horo("member", "import", "other@example.test", str(again), "--json").json["added"] == 3
    assert horo("member", "list", "other@example.test", "--json").json == first
    once_more = horo("member", "import", GROUP, str(again), "--replace", "--json").json
    assert (once_more["added"], once_more["removed"]) == (0, 0)


def test_replace_removes_who_is_not_in_the_file(horo: Horo, tmp_path: Path) -> None:
    path = tmp_path / "members.csv"
    path.write_text("address\nvera@x.test\n")
    done = horo("member", "import", GROUP, str(path), "--replace", "--json").json
    assert (done["added"], done["removed"]) == (1, 1)
    assert members(horo) == ["vera@x.test"]


def test_standard_input_and_output_by_a_dash(process: Callable[..., Done]) -> None:
    done = process("member", "import", GROUP, "-", stdin=b"address,name\nvera@x.test,V\n")
    assert done.status == 0, done
    exported = process("member", "export", GROUP, "-")
    assert exported.out.splitlines()[0].startswith("address")
    assert "vera@x.test" in exported.out
    assert process("member", "export", GROUP).out == exported.out


def test_a_file_that_cannot_be_written_is_told(horo: Horo) -> None:
    done = horo("member", "export", GROUP, "/proc/nowhere/members.csv")
    assert (done.status, "cannot write" in done.err) == (2, True)


def test_an_export_replaces_the_file_when_it_is_whole(
    horo: Horo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lists" / "members.csv"
    path.parent.mkdir()
    path.write_text("what was there")
    path.chmod(0o640)

    def full(members: Sequence[Member]) -> bytes:
        assert path.read_text() == "what was there"
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(csvfile, "write_members", full)
        done = horo("member", "export", GROUP, str(path))
    assert (done.status, "No space left" in done.err) == (2, True)
    assert (path.read_text(), list(path.parent.iterdir())) == ("what was there", [path])
    assert horo("member", "export", GROUP, str(path)).status == 0
    assert "ana@example.test" in path.read_text()
    assert (list(path.parent.iterdir()), stat.S_IMODE(path.stat().st_mode)) == ([path], 0o640)


def test_an_export_to_a_link_or_a_pipe_writes_where_it_leads(horo: Horo, tmp_path: Path) -> None:
    path, link, pipe = tmp_path / "members.csv", tmp_path / "link.csv", tmp_path / "pipe"
    link.symlink_to(path)
    assert horo("member", "export", GROUP, str(link)).status == 0
    assert link.is_symlink()
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        assert horo("member", "export", GROUP, str(pipe)).status == 0
        assert reader.communicate(timeout=30)[0] == path.read_bytes()
    assert pipe.is_fifo()
