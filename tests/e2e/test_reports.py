"""Reports end to end, on one running Horo: what a next hop hears of MAIL and RCPT (RFC 3461 5.2.7), what authors and owners get."""

from __future__ import annotations

import email
import email.policy
import smtplib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.client import compose
from tests.e2e.conftest import Starts
from tests.e2e.sinks import NextHop
from tests.e2e.system import System
from tests.support.processes import Processes
from tests.support.waiting import wait_until

pytestmark = pytest.mark.e2e


class Place(NamedTuple):
    """A running Horo: mail for home.test goes to Maildirs, all else to a next hop that writes down what it hears."""

    system: System
    hop: NextHop
    home: Path

    def mailbox(self, person: str) -> list[Any]:
        """The mail of name@home.test, in the order in which it came."""
        folder = self.home / "home.test" / person.partition("@")[0] / "new"
        found = [path.read_bytes() for path in sorted(folder.glob("*"))]
        return [email.message_from_bytes(each, policy=email.policy.default) for each in found]

    def mails(self, person: str, count: int) -> list[Any]:
        """The mails of a mailbox, once there are so many."""
        wait_until(lambda: len(self.mailbox(person)) >= count, f"mail {count} for {person}")
        found = self.mailbox(person)
        assert len(found) == count
        return found

    def heard(self, word: str) -> list[str]:
        """The commands with a word in them."""
        return [command for command in self.hop.commands if word in command]

    def send(self, group: str, author: str, *, mail: tuple[str, ...] = (), rcpt: tuple[str, ...] = ()) -> str:
        """A message with these parameters; its Message-ID."""
        message = compose(group, mail_from=author)
        with smtplib.SMTP("127.0.0.1", self.system.smtp, timeout=30) as smtp:
            smtp.sendmail(author, [group], message.content, mail_options=mail, rcpt_options=rcpt)
        return message.id


def actions(report: Any) -> list[str]:
    """What a report says of each recipient."""
    return [group["Action"] for group in report.get_payload()[1].get_payload()[1:]]


def text(mail: Any) -> str:
    part = mail.get_body(("plain",)) if not mail.is_multipart() else mail.get_payload()[0]
    return " ".join(str(part.get_content()).split())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("reports")
    processes, hop = Processes(folder), NextHop()
    home = folder / "home"
    settings = {"HORO_NEXT_HOP": hop.url, "HORO_ROUTES": f"home.test=maildir:{home}", "HORO_RETRY_SCHEDULE": "1s"}
    try:
        system = System(processes, folder, settings)
        yield Place(system, hop, home)
        assert system.terminate() == [0]
    finally:
        processes.close()
        hop.close()


@pytest.mark.parametrize(
    ("number", "switch", "notify", "passed", "action"),
    [
        (0, "on", "SUCCESS,FAILURE,DELAY", " NOTIFY=FAILURE,DELAY ORCPT=rfc822;First@example.test", "expanded"),
        (1, "on", "SUCCESS", " NOTIFY=NEVER ORCPT=rfc822;First@example.test", "expanded"),
        (2, "off", "SUCCESS,FAILURE", "", "relayed"),
    ],
)
def test_an_alias_passes_on_what_rfc_3461_lets_it_and_says_which(
    place: Place, number: int, switch: str, notify: str, passed: str, action: str
) -> None:
    group, writer = f"alias{number}@example.test", f"alias{number}@home.test"
    place.system.group(group, [f"m@alias{number}.test"], "envelope=alias", f"report_delivery={switch}")
    orcpt = "ORCPT=rfc822;First@example.test"
    post = place.send(group, writer, mail=("RET=HDRS", "ENVID=job+2B7"), rcpt=(f"NOTIFY={notify}", orcpt))
    place.system.settled(post)
    (rcpt,) = place.heard(f"RCPT TO:<m@alias{number}.test>")
    assert rcpt == f"RCPT TO:<m@alias{number}.test>{passed}"
    (mail,) = place.heard(f"MAIL FROM:<{writer}>")
    assert ("ENVID=job+2B7" in mail, "RET=HDRS" in mail) == (bool(passed), bool(passed))
    (report,) = place.mails(writer, 1)
    assert actions(report) == [action]
    assert f"m@alias{number}.test" not in report.as_string()


def test_a_list_passes_on_nothing_and_with_its_switch_off_reports_once_when_all_is_over(place: Place) -> None:
    place.system.group("off@example.test", ["450-2_slow@off.test", "fast@off.test"])
    post = place.send(
        "off@example.test", "asker@home.test", mail=("RET=FULL", "ENVID=E7"), rcpt=("NOTIFY=SUCCESS,FAILURE,DELAY",)
    )
    wait_until(lambda: place.hop.counts["fast@off.test"] == 1, "the first copy")
    assert place.mailbox("asker@home.test") == []
    place.system.settled(post)
    (report,) = place.mails("asker@home.test", 1)
    assert place.hop.counts["450-2_slow@off.test"] == 1
    assert actions(report) == ["delivered"]
    assert "no copy is still waiting" in text(report)
    assert "E7" in report.as_string()
    mine = [command for command in place.heard("@off.test>") if command.startswith("RCPT")]
    assert mine
    assert not any(word in command for command in mine for word in ("NOTIFY", "ORCPT"))
    assert not place.heard("ENVID=E7")


def test_the_author_of_an_alias_gets_all_failures_in_one_report_in_the_groups_language(place: Place) -> None:
    people = ["550_a@dead.test", "552_b@dead.test", "ok@dead.test"]
    place.system.group("bg@example.test", people, "envelope=alias", "language=bg")
    place.system.settled(place.send("bg@example.test", "bgnever@home.test", rcpt=("NOTIFY=NEVER",)))
    place.system.settled(place.send("bg@example.test", "bgauthor@home.test"))
    (report,) = place.mails("bgauthor@home.test", 1)
    assert report["Subject"] == "Недоставено: съобщението Ви до bg@example.test"
    assert actions(report) == ["failed", "failed"]
    assert "не можа да бъде доставено на 2 от хората зад този адрес" in text(report)
    assert report.get_payload()[0]["Content-Language"] == "bg"
    assert place.mailbox("bgnever@home.test") == []


def test_p3_what_waits_survives_kill_9_and_is_told_once(
    embedded: Starts, hops: Callable[..., NextHop], tmp_path: Path
) -> None:
    hop, home = hops(), tmp_path / "home"
    routes = {"HORO_ROUTES": f"home.test=maildir:{home}", "HORO_RETRY_SCHEDULE": "1s"}
    system = embedded({"HORO_NEXT_HOP": hop.url, **routes})
    at, role = Place(system, hop, home), next(iter(system.children))
    system.group("list@example.test", ["450-8_a@x.test", "ok@x.test"])
    system.group("alias@example.test", ["550_b@x.test", "450-8_c@x.test"], "envelope=alias")
    posts = [
        at.send("list@example.test", "one@home.test", rcpt=("NOTIFY=SUCCESS",)),
        at.send("alias@example.test", "two@home.test"),
    ]
    wait_until(lambda: hop.counts["ok@x.test"] == 1, "the first copy")
    for _ in range(
        2
    ):  # while the slow ones are still put off: no report is on its way that SMTP would force us to repeat
        system.kill(role)
        system.restart(role)
    for post in posts:
        system.settled(post)
    assert [actions(at.mails(who, 1)[0]) for who in ("one@home.test", "two@home.test")] == [["delivered"], ["failed"]]
    system.settled(at.send("list@example.test", "one@home.test", rcpt=("NOTIFY=SUCCESS",)))
    assert len(at.mails("one@home.test", 2)) == 2, "one a post"
    assert len(at.mails("two@home.test", 1)) == 1
    assert hop.counts["450-8_c@x.test"] == 1


def test_owners_get_one_notice_a_post_or_a_summary_as_they_choose(place: Place) -> None:
    dead = [f"550_m{number}@gone{number % 3}.test" for number in range(6)]
    for mode in ("none", "failures", "posts"):  # what is not sent would have come before the others
        group = f"{mode}@example.test"
        place.system.group(
            group, [*dead, "ok@gone.test"], f"owners={mode}@home.test", f"notify_owners={mode}", "language=bg"
        )
        place.system.settled(place.send(group, "writer@home.test"))
    (notice,) = place.mails("failures@home.test", 1)
    assert notice["Subject"] == "6 абонати на failures@example.test не получиха съобщение"
    assert all(person in text(notice) for person in dead)
    (summary,) = place.mails("posts@home.test", 1)
    assert summary["Subject"] == "posts@example.test: доставени копия 1 от 7"
    assert place.mailbox("none@home.test") == []
    assert place.mailbox("writer@home.test") == []
