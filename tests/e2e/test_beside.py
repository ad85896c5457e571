"""Horo between the two sides of a real Postfix, with a real rspamd: what docs/how-to/beside-postfix.md says, done."""

from __future__ import annotations

import json
import os
import smtplib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.client import Message, Reply, compose, send
from tests.e2e.sinks import NextHop
from tests.e2e.system import System, sums
from tests.support import mode
from tests.support.binaries import Binary
from tests.support.neighbours import mail_log, postfix, rspamd
from tests.support.ports import free_port, release_port
from tests.support.processes import Processes
from tests.support.runner import CannotServe
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e

GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
"""What rspamd, as every spam filter, takes for spam."""


class Place(NamedTuple):
    """The world sends to `front`; Horo hands what leaves to the same Postfix, which has `hop` for all the world."""

    system: System
    postfix: Binary
    front: int
    hop: NextHop
    maps: str

    def send(self, message: Message) -> Reply:
        """Send to Postfix as the world does."""
        return send(self.front, message)

    def trace(self, message: Message) -> dict[str, Any]:
        """The trace of what came through Postfix, once nothing of it is on its way."""
        return self.system.settled(message.id)

    def refusals(self, group: str) -> list[int]:
        """The codes with which posts to a group were refused in the session, as its trace tells them; none where it tells nothing yet."""
        done = self.system.run("trace", "--group", group, "--json")
        return sorted(one["code"] for one in json.loads(done.stdout)["refusals"]) if done.returncode == 0 else []


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("beside")
    processes, hop, socketmap, lmtp = Processes(folder), NextHop(), free_port(), free_port()
    running: list[Binary] = []
    maps = f"socketmap:inet:127.0.0.1:{socketmap}"
    try:
        server, url = rspamd()
        running.append(server)
        front = {
            "relay_domains": f"{maps}:domains",
            "relay_recipient_maps": f"{maps}:groups",
            "relay_transport": f"lmtp:inet:127.0.0.1:{lmtp}",
            "relayhost": f"[127.0.0.1]:{hop.port}",
        }
        server, port, behind = postfix(front)
        running.append(server)
        settings = {
            "HORO_SOCKETMAP_LISTEN": f"127.0.0.1:{socketmap}",
            "HORO_LMTP_LISTEN": f"127.0.0.1:{lmtp}",
            "HORO_NEXT_HOP": f"smtp://127.0.0.1:{behind}",
            "HORO_RSPAMD_URL": url,
        }
        system = System(processes, folder, settings)
        yield Place(system, server, port, hop, maps)
        assert system.terminate() == [0]
    except CannotServe as why:
        if os.environ.get(mode.VARIABLE) == "containers":  # CI's: there it must be run, and not passed by in silence
            pytest.fail(str(why), pytrace=False)
        pytest.skip(str(why))
    finally:
        processes.close()
        hop.close()
        for each in running:
            each.close()
        for number in (socketmap, lmtp):
            release_port(number)


def test_p8_mail_goes_through_postfix_on_both_sides_byte_for_byte(place: Place) -> None:
    people = [f"p{n}@world.test" for n in range(12)]
    place.system.group("office@example.test", people)
    message = compose("office@example.test")
    assert place.send(message).code == 250
    wait_until(lambda: set(people) <= set(place.hop.counts), "everybody's copy")
    assert {person: place.hop.counts[person] for person in people} == dict.fromkeys(people, 1)
    copies = place.hop.of("p3@world.test")
    assert [copy.content.partition(b"\r\n\r\n")[2] for copy in copies] == [message.body]
    assert copies[0].mail_from.startswith("office-bounces+")
    document = place.trace(message)
    assert sums(document) == (12, 12, 0, 0, 0)
    assert document["notes"][0]["detail"]["action"] == "no action"


def test_p5_postfix_refuses_what_is_no_group_in_its_own_session(place: Place) -> None:
    place.system.group("known@example.test", ["one@world.test"])
    place.system.group("closed@example.test", ["one@world.test"], "disabled=on")
    for address, code in (
        ("known@example.test", 250),
        ("known+tag@example.test", 250),
        ("known-owner@example.test", 250),
        ("known-bounces+x@example.test", 250),
        ("postmaster@example.test", 250),
        ("unknown@example.test", 550),
        ("unknown-owner@example.test", 550),
        ("closed@example.test", 550),
    ):
        with smtplib.SMTP("127.0.0.1", place.front, timeout=30) as session:
            session.ehlo("client.test")
            session.mail("ana@world.test")
            assert session.rcpt(address)[0] == code, address


def test_in_a_domain_of_people_and_groups_postfix_sends_the_groups_alone_to_horo(place: Place) -> None:
    """The map of the how-to for such domains, asked as Postfix asks it."""
    place.system.group("mixed@example.test", ["one@world.test"])
    transport = f"pipemap:{{{place.maps}:groups, static:{{lmtp:inet:127.0.0.1:{place.system.lmtp}}}}}"

    def asked(name: str) -> str:
        command = ["postmap", "-c", str(place.postfix.folder / "etc"), "-q", name, transport]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.stderr == ""
        return done.stdout.strip()

    horo = f"lmtp:inet:127.0.0.1:{place.system.lmtp}"
    names = ["mixed@example.test", "mixed-bounces+x@example.test", "person@example.test", "example.test", "*"]
    assert [asked(name) for name in names] == [horo, horo, "", "", ""]


def test_a_bounce_of_a_copy_comes_back_through_postfix_to_the_members_score(place: Place) -> None:
    """Postfix took the copy, the world refused it: Postfix's own bounce goes to the group's bounce address, and Horo knows whose it is."""
    place.system.group("news@example.test", ["550_gone@world.test", "stays@world.test"])
    message = compose("news@example.test")
    assert place.send(message).code == 250

    def bounced() -> bool:
        document = place.trace(message)
        return any(note["kind"] == "bounce" for note in document["notes"])

    wait_until(bounced, "the bounce in the trace", 60)
    (note,) = [one for one in place.trace(message)["notes"] if one["kind"] == "bounce"]
    assert "550_gone@world.test" in note["detail"].values()


def test_p5_rspamds_verdict_is_obeyed_and_stands_in_the_trace(place: Place) -> None:
    place.system.group("checked@example.test", ["member@world.test"])
    direct = place.system.smtp
    for headers, body, code in (
        ((), GTUBE, 550),
        (("X-Later: yes",), b"later\r\n", 451),
        (("X-Score: 5",), b"greylisted\r\n", 451),
        (("X-Score: 20",), b"rejected\r\n", 550),
    ):
        assert send(direct, compose("checked@example.test", headers=headers, body=body)).code == code, (headers, body)
    wait_until(lambda: place.refusals("checked@example.test") == [451, 451, 550, 550], "the refusals in the trace", 30)
    message = compose("checked@example.test", headers=("X-Score: 8",))
    assert send(direct, message).code == 250
    wait_until(lambda: place.hop.of("member@world.test"), "the marked copy", 30)
    (copy,) = place.hop.of("member@world.test")
    head, _, body = copy.content.partition(b"\r\n\r\n")
    assert b"\r\nX-Spam: Yes\r\n" in head
    assert body == message.body
    (note,) = [one for one in place.trace(message)["notes"] if one["kind"] == "checked"]
    assert note["detail"] == {"action": "add header", "score": "8 of 15", "symbols": "SCORED"}


def test_horo_doctor_finds_both_neighbours_well(place: Place) -> None:
    done = place.system.run("doctor", "--no-dns", "--json")
    states = {one["check"].partition(" ")[0]: one["state"] for one in json.loads(done.stdout)}
    assert (states["rspamd"], states["socketmap"]) == ("ok", "ok")


def test_p1_while_horo_is_away_postfix_puts_mail_off_and_refuses_nobody(place: Place, tmp_path: Path) -> None:
    place.system.group("away@example.test", ["away@world.test"])
    with smtplib.SMTP("127.0.0.1", place.front, timeout=30) as session:
        session.ehlo("client.test")
        session.mail("ana@world.test")
        assert session.rcpt("away@example.test")[0] == 250
        place.system.kill("up")
        assert session.rcpt("away@example.test")[0] == 451  # never 550: Postfix cannot know
        place.system.restart("up")
    message = compose("away@example.test")
    wait_until(lambda: place.send(message).code == 250, "Postfix to ask again", 60, pause=0.5)
    wait_until(lambda: place.hop.of("away@world.test"), "the copy", 60)
    assert "User unknown in relay recipient table" not in "".join(
        line for line in mail_log(place.postfix).splitlines() if "away@" in line
    )


def test_a_suspended_domain_and_a_spent_quota_wait_and_are_told(place: Place) -> None:
    place.system.group("team@metered.test", ["team@world.test"])
    place.system.cli("domain", "set", "metered.test", "messages_per_day=1")
    direct = place.system.smtp
    wait_until(lambda: send(direct, compose("team@metered.test")).code in (452, 250), "an answer", 10)
    wait_until(lambda: send(direct, compose("team@metered.test")).code == 452, "the quota to hold", 10, pause=0.3)
    place.system.cli("domain", "set", "metered.test", "suspended=on", "messages_per_day=0")
    wait_until(lambda: send(direct, compose("team@metered.test")).code == 450, "the suspension to hold", 10, pause=0.3)
    assert place.send(compose("team@metered.test")).code == 451  # Postfix in front puts it off too
    wait_until(lambda: set(place.refusals("team@metered.test")) == {450, 452}, "both in the trace", 30)
    place.system.cli("domain", "set", "metered.test", "suspended=off")
    wait_until(lambda: place.send(compose("team@metered.test")).code == 250, "its mail again", 20, pause=0.3)
