"""`horo doctor`: each fault is found, named and comes with what mends it; nothing secret is printed; the status is for scripts."""

from __future__ import annotations

import asyncio
import datetime
import time
from pathlib import Path
from typing import Any

import pytest
import trustme

from cli import doctor
from services.sender import lookups
from shared.parts import open_parts
from shared.settings import Settings
from tests.cli.conftest import Horo


def found(horo: Horo, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = horo("doctor", "--json", *words)
    return done.status, {one["check"]: one for one in done.json}


def _started(tmp_path: Path, **settings: Any) -> None:
    """A service has been up on these files once."""

    async def start() -> None:
        async with open_parts(Settings(data=str(tmp_path / "var"), **settings), consuming=True):
            pass

    asyncio.run(start())


def test_an_installation_that_is_well_has_nothing_to_mend(
    horo: Horo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HORO_POSTMASTER", "postmaster@example.test")
    _started(tmp_path)
    status, checks = found(horo)
    assert status == 0
    assert {one["state"] for one in checks.values()} <= {"ok", "skipped"}
    assert {"schema", "clock", "secret", "9 queues", "disk of HORO_DATA", "database version"} <= set(checks)
    assert checks["secret"]["state"] == "ok"
    assert "Nothing to mend." in horo("doctor").out


def test_a_database_that_was_never_migrated_is_left_alone_and_told(horo: Horo, tmp_path: Path) -> None:
    for _ in range(2):  # the first look does not mend it
        status, checks = found(horo)
        assert status == 1
        assert checks["schema"]["state"] == "fault"
        assert "horo migrate" in checks["schema"]["mend"]
    assert not (tmp_path / "var/secret").exists()


def test_another_secret_is_found_by_the_doctor_refused_at_the_start_and_taken_when_it_is_meant(
    horo: Horo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _started(tmp_path, secret="the-first-secret-of-all")
    monkeypatch.setenv("HORO_SECRET", "wholly-confidential-words")
    done = horo("doctor", "--json")
    assert done.status == 1
    assert "wholly-confidential-words" not in done.out + done.err
    (secret,) = [one for one in done.json if one["check"] == "secret"]
    assert (secret["state"], "horo doctor --new-secret" in secret["mend"]) == ("fault", True)
    refused = horo("up")
    assert (refused.status, "horo doctor --new-secret" in refused.err) == (2, True)
    status, checks = found(horo, "--new-secret")
    assert (status, checks["secret"]["state"]) == (0, "ok")
    _started(tmp_path, secret="wholly-confidential-words")


def test_p_nothing_secret_is_printed(horo: Horo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HORO_CACHE_URL", "redis://user:hush-hush@127.0.0.1:1/0")
    done = horo("doctor")
    assert done.status == 1
    assert "hush-hush" not in done.out + done.err


@pytest.mark.parametrize(
    ("days", "state"), [(400, "ok"), (10, "warning"), (-3, "fault")], ids=["good", "soon", "expired"]
)
def test_certificates_are_looked_at_before_they_expire(
    horo: Horo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, days: int, state: str
) -> None:
    expires = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    issued = trustme.CA().issue_cert("mx.example.test", not_after=expires)
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    monkeypatch.setenv("HORO_TLS_CERT", str(tmp_path / "both.pem"))
    monkeypatch.setenv("HORO_TLS_KEY", str(tmp_path / "both.pem"))
    _, checks = found(horo)
    assert checks["HORO_TLS_CERT"]["state"] == state
    assert checks["HORO_TLS_KEY"]["state"] == "ok"
    (tmp_path / "both.pem").write_text("nothing")
    _, checks = found(horo)
    assert (checks["HORO_TLS_CERT"]["state"], checks["HORO_TLS_KEY"]["state"]) == ("fault", "fault")


@pytest.mark.parametrize(("off", "state"), [(0.0, "ok"), (5.0, "warning"), (-5.0, "warning"), (600.0, "fault")])
def test_a_clock_that_is_off_is_told(off: float, state: str) -> None:
    now = time.time()
    assert doctor.clock(now + off, now - 0.1, now + 0.1).state == state


@pytest.mark.parametrize(
    ("free", "total", "state"),
    [
        (50 << 30, 100 << 30, "ok"),
        (3 << 30, 1000 << 30, "ok"),
        (1 << 30, 100 << 30, "warning"),
        (1 << 20, 100 << 30, "fault"),
    ],
)
def test_a_disk_is_full_before_it_is_full(free: int, total: int, state: str) -> None:
    assert doctor.room("disk", free, total).state == state


class World:
    """What a name server says, to a test's liking."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address: dict[str, list[str]] = {"mx.example.test": ["192.0.2.10"]}
        self.ptr: dict[str, list[str]] = {"192.0.2.10": ["mx.example.test"]}
        self.txt: dict[str, list[str]] = {}
        self.silent = False
        monkeypatch.setattr(lookups, "addresses", lambda name: self._say(self.address, name))
        monkeypatch.setattr(lookups, "name_of", lambda name: self._say(self.ptr, name))
        monkeypatch.setattr(lookups, "texts", lambda name: self._say(self.txt, name))

    async def _say(self, zone: dict[str, list[str]], name: str) -> list[str]:
        if self.silent:
            raise lookups.Unanswered("no name server")
        return zone.get(name, [])


@pytest.fixture
def world(horo: Horo, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("HORO_NEXT_HOP", "mx:")
    monkeypatch.setenv("HORO_HOSTNAME", "mx.example.test")
    assert horo("domain", "create", "example.test").status == 0
    return World(monkeypatch)


def test_the_sending_hosts_names_are_checked_both_ways(horo: Horo, world: World) -> None:
    _, checks = found(horo)
    assert (checks["host name"]["state"], checks["PTR of 192.0.2.10"]["state"]) == ("ok", "ok")
    world.ptr = {"192.0.2.10": ["static-10.hoster.test"]}
    status, checks = found(horo)
    assert (status, checks["PTR of 192.0.2.10"]["state"]) == (1, "fault")
    world.address = {}
    assert found(horo)[1]["host name"]["state"] == "fault"
    world.silent = True
    assert found(horo)[1]["host name"]["state"] == "warning"
    assert not any(name.startswith("PTR") or name == "host name" for name in found(horo, "--no-dns")[1])


@pytest.mark.parametrize(
    ("records", "state"),
    [
        (["v=spf1 ip4:192.0.2.0/24 -all"], "ok"),
        (["v=spf1 ip4:192.0.2.10 ~all", "another text"], "ok"),
        (["v=spf1 include:_spf.else.test -all"], "warning"),
        (["v=spf1 ip4:198.51.100.1 ip4:nonsense -all"], "warning"),
        ([], "warning"),
        (["v=spf1 ip4:192.0.2.10 -all", "v=spf1 -all"], "warning"),
        (["v=spf10 ip4:192.0.2.10"], "warning"),
    ],
)
def test_spf_of_the_domains_names_the_sending_host(horo: Horo, world: World, records: list[str], state: str) -> None:
    world.txt = {"example.test": records}
    spf = found(horo)[1]["SPF of example.test"]
    assert spf["state"] == state
    assert ("ip4:192.0.2.10" in spf["mend"]) == (state == "warning")


def test_names_are_another_servers_business_behind_a_smarthost(horo: Horo) -> None:
    assert found(horo)[1]["names of the sending host"]["state"] == "skipped"
