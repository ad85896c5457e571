"""`horo backup` and `horo restore`: the file, what a restore refuses, and that a refusal changes nothing."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import random
import sqlite3
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cli import archive
from cli import backup as command
from cli.output import Exit
from shared.bodies.files import FileBodies
from shared.bus import Outgoing
from shared.bus.embedded import Embedded
from shared.bus.embedded import locked as bus_locked
from shared.database import migrate
from shared.database.snapshot import snapshot
from shared.topology import Queue
from tests.cli.conftest import Horo

TEAM = "team@example.test"


async def fill(folder: Path, messages: int = 3, bodies: int = 2) -> None:
    """Messages in the queue, and bodies."""
    bus = await Embedded.open(folder / "queue.db")
    await bus.publish_all([Outgoing(queue=Queue.POSTS, payload=b"post %d" % number) for number in range(messages)])
    await bus.close()
    store = FileBodies(folder / "bodies")
    for number in range(bodies):
        await store.put(b"body %d" % number)
    await store.close()


@pytest.fixture
def data(tmp_path: Path, horo: Horo) -> Path:
    """A Horo with a group, messages and bodies."""
    assert horo("group", "create", TEAM, "--member", "ana@example.test").status == Exit.OK
    folder = tmp_path / "var"
    (folder / "secret").write_text("a secret of sixteen or more")
    asyncio.run(fill(folder))
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Path]:
    """A function that goes to another, empty HORO_DATA."""

    def go() -> Path:
        monkeypatch.setenv("HORO_DATA", str(tmp_path / "other"))
        return tmp_path / "other"

    return go


def bodies(folder: Path) -> dict[str, bytes]:
    """All files under `bodies`, by their path in it."""
    root = folder / "bodies"
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def messages(folder: Path) -> list[bytes]:
    with sqlite3.connect(folder / "queue.db") as connection:
        found = [row[0] for row in connection.execute("SELECT payload FROM payloads ORDER BY id")]
    connection.close()
    return found


def epoch(folder: Path) -> str:
    with sqlite3.connect(folder / "horo.db") as connection:
        found = str(connection.execute("SELECT epoch FROM directory_state").fetchone()[0])
    connection.close()
    return found


def members(file: Path) -> list[tuple[str, bytes]]:
    with tarfile.open(file) as tar:
        return [(info.name, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def pack(file: Path, content: list[tuple[str, bytes]]) -> None:
    with tarfile.open(file, "w:gz") as tar:
        for name, octets in content:
            info = tarfile.TarInfo(name)
            info.size = len(octets)
            tar.addfile(info, io.BytesIO(octets))


def test_p1_everything_comes_back_elsewhere(
    horo: Horo, data: Path, tmp_path: Path, elsewhere: Callable[[], Path]
) -> None:
    file = tmp_path / "b.tar.gz"
    done = horo("backup", str(file), "--json").json
    assert (done["file"], done["bodies"], done["secret"]) == (str(file), 2, True)
    assert done["database"] == migrate.head()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept, before = bodies(data), epoch(data)
    assert len(kept) == 2  # no pins are left

    other = elsewhere()
    assert horo("restore", str(file), "--json").json["kept"] == []
    assert horo("group", "show", TEAM, "--json").json["members"] == 1
    assert bodies(other) == kept
    assert messages(other) == [b"post 0", b"post 1", b"post 2"]
    assert (other / "secret").read_text() == "a secret of sixteen or more"
    assert stat.S_IMODE((other / "secret").stat().st_mode) == 0o600
    assert epoch(other) != before  # or a shared cache would be believed about changes that this database never saw
    assert sorted(path.name for path in other.iterdir()) == ["bodies", "horo.db", "queue.db", "queue.db.lock", "secret"]


def test_a_backup_into_a_folder_is_named_by_its_time_and_none_is_ever_overwritten(
    horo: Horo, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "backups").mkdir()
    written = Path(horo("backup", str(tmp_path / "backups"), "--json").json["file"])
    assert [written] == list((tmp_path / "backups").iterdir())
    content = written.read_bytes()
    assert horo("backup", str(written)).status == Exit.CONFLICT
    assert written.read_bytes() == content


def test_the_sums_in_an_archive_are_those_that_sha256sum_checks(horo: Horo, data: Path, tmp_path: Path) -> None:
    assert horo("backup", str(tmp_path / "b.tar.gz")).status == Exit.OK
    (tmp_path / "by-hand").mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "b.tar.gz"], cwd=tmp_path / "by-hand", check=True)
    checked = subprocess.run(
        ["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "by-hand", check=True, capture_output=True, text=True
    )
    assert checked.stdout.count(": OK") == 1 + 1 + 2 + 2  # about, secret, two databases, two bodies


def test_a_secret_of_the_environment_stays_out_and_that_is_said(
    horo: Horo, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Callable[[], Path]
) -> None:
    monkeypatch.setenv("HORO_SECRET", "another secret, of the environment")
    done = horo("backup", str(tmp_path / "b.tar.gz"))
    assert "HORO_SECRET is not in it" in done.out
    assert archive.SECRET not in dict(members(tmp_path / "b.tar.gz"))
    elsewhere()
    assert "HORO_SECRET must be what it was" in horo("restore", str(tmp_path / "b.tar.gz")).out


def test_data_that_is_there_is_refused_and_with_force_kept_under_another_name(
    horo: Horo, data: Path, tmp_path: Path
) -> None:
    assert horo("backup", str(tmp_path / "b.tar.gz")).status == Exit.OK
    assert horo("member", "add", TEAM, "later@example.test").status == Exit.OK
    refused = horo("restore", str(tmp_path / "b.tar.gz"))
    assert refused.status == Exit.CONFLICT
    assert "there is data already" in refused.err
    assert horo("group", "show", TEAM, "--json").json["members"] == 2

    done = horo("restore", str(tmp_path / "b.tar.gz"), "--force", "--json").json
    assert horo("group", "show", TEAM, "--json").json["members"] == 1
    kept = {Path(path).name.partition(".before-restore-")[0]: Path(path) for path in done["kept"]}
    assert kept.keys() == {"horo.db", "queue.db", "bodies", "secret"}
    connection = sqlite3.connect(kept["horo.db"])
    assert connection.execute("SELECT count(*) FROM members").fetchone() == (2,)
    connection.close()


def test_a_log_that_a_crash_left_is_not_read_into_the_restored_database(
    horo: Horo, data: Path, tmp_path: Path, elsewhere: Callable[[], Path]
) -> None:
    assert horo("backup", str(tmp_path / "b.tar.gz")).status == Exit.OK
    other = elsewhere()
    other.mkdir()
    (other / "horo.db-wal").write_bytes(b"of another database")
    assert horo("restore", str(tmp_path / "b.tar.gz")).status == Exit.CONFLICT
    assert horo("restore", str(tmp_path / "b.tar.gz"), "--force").status == Exit.OK
    assert not (other / "horo.db-wal").exists()
    (aside,) = other.glob("horo.db.before-restore-*-wal")
    assert aside.read_bytes() == b"of another database"


def test_a_running_horo_is_not_restored_over(
    horo: Horo, data: Path, tmp_path: Path, elsewhere: Callable[[], Path]
) -> None:
    assert horo("backup", str(tmp_path / "b.tar.gz")).status == Exit.OK
    other = elsewhere()
    other.mkdir()
    lock = bus_locked(other / "queue.db")
    refused = horo("restore", str(tmp_path / "b.tar.gz"), "--force")
    os.close(lock)
    assert refused.status == Exit.CONFLICT
    assert "Horo is running" in refused.err
    assert [path.name for path in other.iterdir()] == ["queue.db.lock"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": archive.FORMAT + 1}, "newer than this one"),
        ({"database": "9999"}, "newer than this one"),
        ({"queue": 99}, "newer than this one"),
        ({"format": "one"}, "about.json cannot be read"),
    ],
    ids=["format", "database", "queue", "nonsense"],
)
def test_a_backup_of_a_newer_horo_is_refused_before_anything_is_unpacked(
    horo: Horo, data: Path, tmp_path: Path, elsewhere: Callable[[], Path], change: dict[str, object], says: str
) -> None:
    assert horo("backup", str(tmp_path / "b.tar.gz")).status == Exit.OK
    (name, about), *rest = members(tmp_path / "b.tar.gz")
    pack(tmp_path / "newer.tar.gz", [(name, json.dumps({**json.loads(about), **change}).encode()), *rest])
    other = elsewhere()
    refused = horo("restore", str(tmp_path / "newer.tar.gz"))
    assert refused.status == Exit.USAGE
    assert says in refused.err
    assert [path.name for path in other.iterdir()] == ["queue.db.lock"]


Content = list[tuple[str, bytes]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: [*content[:-2], content[-1]],
        lambda content: content[:-1],
        lambda content: [(name, octets[:-1] + b"!" if name == "horo.db" else octets) for name, octets in content],
        lambda content: [content[0], ("../../escaped", b"x"), *content[1:]],
        lambda content: [content[0], ("bodies/00/00/../../../escaped", b"x"), *content[1:]],
        lambda content: [content[0], content[2], *content[1:]],
        lambda content: content[1:],
        lambda content: [one for one in content if one[0] != "queue.db"],
        lambda content: [one for one in content if one[0] != "secret"],
    ],
    ids=[
        "a body gone",
        "no sums",
        "an octet",
        "outside",
        "outside by a body",
        "twice",
        "no about",
        "no queue",
        "no secret",
    ],
)
def test_an_archive_that_is_not_what_was_written_is_refused_and_changes_nothing(
    horo: Horo, data: Path, tmp_path: Path, elsewhere: Callable[[], Path], spoil: Callable[[Content], Content]
) -> None:
    assert horo("backup", str(tmp_path / "b.tar.gz")).status == Exit.OK
    pack(tmp_path / "spoilt.tar.gz", spoil(members(tmp_path / "b.tar.gz")))
    other = elsewhere()
    assert horo("restore", str(tmp_path / "spoilt.tar.gz")).status == Exit.USAGE
    assert [path.name for path in other.iterdir()] == ["queue.db.lock"]
    assert not list(tmp_path.glob("**/escaped"))


def test_an_archive_cut_or_flipped_anywhere_is_refused_and_changes_nothing(
    horo: Horo, data: Path, tmp_path: Path, elsewhere: Callable[[], Path]
) -> None:
    assert horo("backup", str(tmp_path / "b.tar.gz")).status == Exit.OK
    whole = (tmp_path / "b.tar.gz").read_bytes()
    plain = gzip.decompress(whole)
    other, noise = elsewhere(), random.Random(7)
    for round_ in range(12):
        at = noise.randrange(len(whole) - 100)  # what follows the sums is zeros
        place = noise.randrange(plain.index(b"SHA256SUMS"))
        flipped = plain[:place] + bytes([plain[place] ^ 0x10]) + plain[place + 1 :]
        spoilt = whole[:at] if round_ % 2 else gzip.compress(flipped, 1)
        if not round_ % 2 and _padding(plain, place):
            continue  # what pads a member to whole blocks is nobody's content
        (tmp_path / "spoilt.tar.gz").write_bytes(spoilt)
        done = horo("restore", str(tmp_path / "spoilt.tar.gz"))
        assert done.status == Exit.USAGE, (at, place)
        assert [path.name for path in other.iterdir()] == ["queue.db.lock"]


def _padding(plain: bytes, place: int) -> bool:
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        return not any(info.offset_data <= place < info.offset_data + info.size for info in tar)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HORO_DATABASE_URL", "postgresql://u:hidden@127.0.0.1:1/horo"),
        ("HORO_BROKER_URL", "amqp://u:hidden@127.0.0.1:1/"),
        ("HORO_BODIES_URL", "s3://bucket"),
    ],
)
def test_what_is_on_servers_is_refused_by_name(
    horo: Horo, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str
) -> None:
    monkeypatch.setenv(key, value)
    for words in (["backup", str(tmp_path / "b.tar.gz")], ["restore", str(tmp_path / "b.tar.gz"), "--force"]):
        done = horo(*words)
        assert done.status == Exit.USAGE
        assert key in done.err
        assert "hidden" not in done.err
    assert not (tmp_path / "b.tar.gz").exists()


def test_nothing_to_back_up_and_nothing_to_restore_are_told_in_a_sentence(horo: Horo, tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    assert "horo.db: unable to open" in horo("backup", str(tmp_path / "b.tar.gz")).err
    assert horo("restore", str(tmp_path / "none.tar.gz")).status == Exit.FAILED
    assert list(tmp_path.glob("*.tar.gz*")) == list(tmp_path.glob(".*part")) == []


def test_p1_a_body_that_goes_while_the_backup_runs_is_in_it(
    horo: Horo, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper may delete what the databases, as they were at their instant, still name; and a post may come after the first look."""
    old = bodies(data)
    caught = snapshot

    def meanwhile(*copies: object, **more: object) -> float:
        taken_at = caught(*copies, **more)  # type: ignore[arg-type]
        for name in old:
            (data / "bodies" / name).unlink()
        return taken_at

    asyncio.run(fill(data, bodies=0))
    monkeypatch.setattr("shared.database.snapshot.snapshot", meanwhile)
    assert horo("backup", str(tmp_path / "b.tar.gz"), "--json").json["bodies"] == len(old) == 2
    kept = {name.removeprefix("bodies/"): octets for name, octets in members(tmp_path / "b.tar.gz")}
    assert {name: kept[name] for name in old} == old


def test_p1_where_a_disk_knows_no_links_bodies_are_copied(
    horo: Horo, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert horo("backup", str(tmp_path / "b.tar.gz"), "--json").json["bodies"] == 2


def test_pins_that_a_killed_backup_left_go_with_the_next_and_two_at_once_are_refused(
    horo: Horo, data: Path, tmp_path: Path
) -> None:
    left = data / "bodies" / f"{command.PINS}killed"
    left.mkdir()
    (left / "00").write_bytes(b"")
    with command._alone(data / "backup.lock"):
        assert horo("backup", str(tmp_path / "b.tar.gz")).status == Exit.CONFLICT
    assert horo("backup", str(tmp_path / "b.tar.gz")).status == Exit.OK
    assert not left.exists()
