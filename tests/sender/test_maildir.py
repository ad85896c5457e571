"""Maildirs: one file a recipient, whatever the address, however often."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.sender import maildir
from services.sender.maildir import file_name, folder_of
from shared.messages import Content
from shared.routes import NextHop
from tests.sender.making import CONTENT, HEAD, ShelfOfBodies, codes, envelope, hops


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def new(root: Path, recipient: str) -> list[Path]:
    return sorted((folder_of(root, recipient) / "new").iterdir())


async def test_one_file_a_recipient_with_its_trace_lines_and_the_bytes_as_they_came(tmp_path: Path) -> None:
    async with hops() as made:
        sent = await made.deliver(
            NextHop("maildir", path=str(tmp_path)), envelope("ana@x.test", "Boris@x.test"), CONTENT
        )
    assert codes(sent) == [(250, "2.0.0")] * 2
    assert len(files(tmp_path)) == 2
    (copy,) = new(tmp_path, "ana@x.test")
    trace = b"Return-Path: <office-bounces+t0@example.test>\r\nDelivered-To: ana@x.test\r\n"
    assert copy.read_bytes() == trace + CONTENT.head + CONTENT.tail
    assert folder_of(tmp_path, "Boris@x.test") == tmp_path / "x.test" / "boris"
    assert {path.name for path in folder_of(tmp_path, "ana@x.test").iterdir()} == {"tmp", "new", "cur"}


async def test_p3_a_repeated_delivery_replaces_nothing_and_makes_no_second_file(tmp_path: Path) -> None:
    hop = NextHop("maildir", path=str(tmp_path))
    async with hops() as made:
        await made.deliver(hop, envelope("ana@x.test", "eva@x.test"), CONTENT)
        (ana,), (eva,) = new(tmp_path, "ana@x.test"), new(tmp_path, "eva@x.test")
        read = eva.parent.parent / "cur" / f"{eva.name}:2,S"  # a mail reader has seen eva's copy
        eva.rename(read)
        inode = ana.stat().st_ino
        sent = await made.deliver(hop, envelope("eva@x.test", "ANA@x.test"), CONTENT)
    assert codes(sent) == [(250, "2.0.0")] * 2
    assert ana.stat().st_ino == inode
    assert len(files(tmp_path)) == 2
    assert read.exists()


async def test_p3_a_crash_before_the_link_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hop = NextHop("maildir", path=str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
        async with hops() as made:
            assert codes(await made.deliver(hop, envelope("ana@x.test"), CONTENT)) == [(451, "4.3.0")]
    assert files(tmp_path) == {}
    async with hops() as made:
        assert codes(await made.deliver(hop, envelope("ana@x.test"), CONTENT)) == [(250, "2.0.0")]
    assert len(files(tmp_path)) == 1


async def test_a_full_disk_is_temporary_and_one_bad_mailbox_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = maildir._make

    def full(folder: Path) -> None:
        if folder.name == "ana":
            raise OSError(errno.ENOSPC, "No space left on device")
        original(folder)

    monkeypatch.setattr(maildir, "_make", full)
    (tmp_path / "x.test").mkdir()
    (tmp_path / "x.test" / "file").write_text("in the way")
    async with hops() as made:
        sent = await made.deliver(
            NextHop("maildir", path=str(tmp_path)), envelope("ana@x.test", "file@x.test", "eva@x.test"), CONTENT
        )
    assert codes(sent) == [(452, "4.3.1"), (451, "4.3.0"), (250, "2.0.0")]


async def test_a_large_body_is_streamed_and_a_missing_one_delivers_nothing(tmp_path: Path) -> None:
    shelf = ShelfOfBodies()
    body = b"".join(b"line %d\r\n" % number for number in range(50_000))
    content = Content(head=HEAD, ref=await shelf.put(b"Old: head\r\n\r\n" + body), offset=13)
    hop = NextHop("maildir", path=str(tmp_path))
    async with hops(bodies=shelf) as made:
        assert codes(await made.deliver(hop, envelope("ana@x.test"), content)) == [(250, "2.0.0")]
        assert new(tmp_path, "ana@x.test")[0].read_bytes().endswith(HEAD + body)
        shelf.blobs.clear()
        sent = await made.deliver(hop, envelope("eva@x.test"), content)
    assert sent.answers == [None]
    assert sent.trouble is not None
    assert not (tmp_path / "x.test" / "eva").exists()


@pytest.mark.parametrize(
    "recipient",
    ["../../etc/passwd@x.test", "..@..", ".@.", "/abs@/etc", "a\0b@x", "a/b@c/d", "~root@x", "%2e%2e@x", ".hidden@.x",
        "x" * 300 + "@x", "жаба" * 40 + "@x", "\ud800@x", "@", ""],
)  # fmt: skip
def test_no_address_leaves_its_folder(tmp_path: Path, recipient: str) -> None:
    folder = folder_of(tmp_path, recipient)
    assert len(folder.relative_to(tmp_path).parts) == 2
    for part in folder.relative_to(tmp_path).parts:
        assert part not in (".", "..", "")
        assert not part.startswith(".")
        assert "/" not in part and "\0" not in part
        assert len(part.encode()) <= 255


@given(st.text(max_size=400), st.text(max_size=400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_are_safe_and_different_for_different_people(tmp_path: Path, left: str, right: str) -> None:
    from shared.address import key

    name = file_name("01post", left, 1.0)
    assert "/" not in name and "\0" not in name and ":" not in name and not name.startswith(".")
    assert len(name.encode()) <= 255
    assert (name == file_name("01post", right, 1.0)) is (key(left) == key(right))
    assert (folder_of(tmp_path, f"{left}@x") / "new").relative_to(tmp_path).parts[0] == "x"


async def test_a_disk_that_takes_no_large_message_is_temporary_for_everybody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool's disk too: a full one is a reply for each recipient, not a fault that ends in `parked`."""

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(maildir, "_spool", full)
    async with hops() as made:
        sent = await made.deliver(NextHop("maildir", path=str(tmp_path)), envelope("ana@x.test", "eva@x.test"), CONTENT)
    assert sent.trouble is None
    assert codes(sent) == [(452, "4.3.1")] * 2


async def test_no_folder_but_the_mailboxes_own_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "not there"))
    content = Content(head=HEAD, tail=b"x" * (2 << 20) + b"\r\n")
    async with hops() as made:
        sent = await made.deliver(NextHop("maildir", path=str(tmp_path / "mail")), envelope("ana@x.test"), content)
    assert codes(sent) == [(250, "2.0.0")]
    assert new(tmp_path / "mail", "ana@x.test")[0].stat().st_size > 2 << 20
