"""Who is told what: the whole matrix as a table, and its laws as properties."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporter import decide
from services.reporter.decide import Action, Owed, Tell, When
from shared.groups import NotifyOwners
from shared.ledger import Totals
from shared.messages import TargetKind
from tests.reporter.world import AUTHOR, record, target

D, E, R, F = Action.DELIVERED, Action.EXPANDED, Action.RELAYED, Action.FAILED
SUCCESS, FAILURE, DELAY, NEVER, ALL = (
    ("SUCCESS",),
    ("FAILURE",),
    ("DELAY",),
    ("NEVER",),
    ("SUCCESS", "FAILURE", "DELAY"),
)
WITH_SUCCESS = [SUCCESS, ALL, ("SUCCESS", "FAILURE"), ("SUCCESS", "DELAY")]
WITHOUT = [FAILURE, DELAY, ("FAILURE", "DELAY"), NEVER]
END = When.AT_END

# envelope, report_delivery -> the report on a complete fan-out where NOTIFY has SUCCESS, is absent, and says other things
TABLE: dict[tuple[str, bool], tuple[Owed | None, Owed | None, Owed | None]] = {
    ("list", True): (Owed(D), Owed(D), None),
    ("list", False): (Owed(D, END), None, None),
    ("alias", True): (Owed(E), Owed(E), None),
    ("alias", False): (Owed(R), None, None),
}
MATRIX = [
    (envelope, notify, switch, owed)
    for (envelope, switch), (success, absent, other) in TABLE.items()
    for notify, owed in [
        *((each, success) for each in WITH_SUCCESS),
        (None, absent),
        *((each, other) for each in WITHOUT),
    ]
]
"""Every cell: envelope x every NOTIFY there is x the switch."""


def test_the_matrix_has_every_cell() -> None:
    words = ("SUCCESS", "FAILURE", "DELAY")
    possible = {frozenset(each) for size in (1, 2, 3) for each in combinations(words, size)} | {frozenset(NEVER), None}
    cells = {
        (envelope, None if notify is None else frozenset(notify), switch) for envelope, notify, switch, _ in MATRIX
    }
    assert cells == {(e, n, s) for e in ("list", "alias") for n in possible for s in (True, False)}
    assert set(decide.MATRIX) == {
        (e, a, s) for e in ("list", "alias") for a in ("success", "absent", "other") for s in (True, False)
    }


@pytest.mark.parametrize(("envelope", "notify", "switch", "expected"), MATRIX)
def test_matrix_of_success_reports(
    envelope: str, notify: tuple[str, ...] | None, switch: bool, expected: Owed | None
) -> None:
    aim = target(envelope=envelope, notify=notify, report=switch)
    assert decide.of_expansion(record(), aim, "open") == expected


@pytest.mark.parametrize(("envelope", "notify", "switch", "expected"), MATRIX)
def test_matrix_of_an_empty_result_is_delivered_at_once_where_asked_never_a_bounce(
    envelope: str, notify: tuple[str, ...] | None, switch: bool, expected: Owed | None
) -> None:
    aim = target(envelope=envelope, notify=notify, report=switch)
    assert decide.of_expansion(record(), aim, "no_recipients") == (Owed(D) if expected else None)


@pytest.mark.parametrize(("envelope", "notify", "switch", "_"), MATRIX)
@pytest.mark.parametrize("verdict", ["open", "no_recipients", "gone", "loop", "repetition"])
def test_p5_nothing_ever_goes_to_the_null_sender_or_to_a_list_of_ours(
    envelope: str, notify: tuple[str, ...] | None, switch: bool, _: object, verdict: str
) -> None:
    aim = target(envelope=envelope, notify=notify, report=switch)
    for unreachable in (record(mail_from=""), record(parent="01parent"), record(mail_from="a\r\nb@c.example")):
        assert decide.of_expansion(unreachable, aim, verdict) is None
        assert decide.of_failure(unreachable, aim) is not Tell.AUTHOR
        assert not decide.of_delay(unreachable, aim)


@pytest.mark.parametrize(
    ("notify", "expected"),
    [(None, Owed(F)), (FAILURE, Owed(F)), (ALL, Owed(F)), (SUCCESS, None), (DELAY, None), (NEVER, None)],
)
@pytest.mark.parametrize("switch", [True, False])
def test_matrix_of_a_group_that_is_gone(notify: tuple[str, ...] | None, expected: Owed | None, switch: bool) -> None:
    assert decide.of_expansion(record(), target(notify=notify, report=switch), "gone") == expected


@pytest.mark.parametrize("verdict", ["loop", "repetition"])
@pytest.mark.parametrize("notify", [None, SUCCESS, ALL])
def test_what_came_back_or_came_again_is_not_reported_again(verdict: str, notify: tuple[str, ...] | None) -> None:
    assert decide.of_expansion(record(), target(notify=notify, report=True), verdict) is None


@pytest.mark.parametrize(
    ("kind", "notify", "expected"),
    [
        (TargetKind.OWNER, None, None),
        (TargetKind.OWNER, SUCCESS, Owed(R)),
        (TargetKind.POSTMASTER, SUCCESS, Owed(R)),
        (TargetKind.POSTMASTER, FAILURE, None),
        (TargetKind.BOUNCES, SUCCESS, Owed(D)),
        (TargetKind.BOUNCES, None, None),
        (TargetKind.BOUNCES, NEVER, None),
    ],
)
def test_matrix_of_role_addresses_the_switch_is_not_theirs(
    kind: TargetKind, notify: tuple[str, ...] | None, expected: Owed | None
) -> None:
    assert decide.of_expansion(record(), target(kind=kind, notify=notify, report=True), "open") == expected


@pytest.mark.parametrize(
    "robot",
    [
        f"{local}@x.example"
        for local in ("MAILER-DAEMON", "listserv", "owner-news", "news-request", "news-bounces+t", "no-reply")
    ],
)
def test_p5_programs_get_the_report_they_asked_for_and_no_other(robot: str) -> None:
    assert decide.of_expansion(record(mail_from=robot), target(report=True), "open") is None
    assert decide.of_expansion(record(mail_from=robot), target(report=True, notify=SUCCESS), "open") == Owed(D)


@pytest.mark.parametrize(
    ("envelope", "notify", "mail_from", "parent", "expected"),
    [
        ("list", None, AUTHOR, None, Tell.OWNERS),
        ("list", ALL, AUTHOR, None, Tell.OWNERS),
        ("list", NEVER, AUTHOR, None, Tell.OWNERS),
        ("list", None, "", None, Tell.OWNERS),
        ("alias", None, AUTHOR, None, Tell.AUTHOR),
        ("alias", FAILURE, AUTHOR, None, Tell.AUTHOR),
        ("alias", ALL, AUTHOR, None, Tell.AUTHOR),
        ("alias", SUCCESS, AUTHOR, None, Tell.NOBODY),
        ("alias", DELAY, AUTHOR, None, Tell.NOBODY),
        ("alias", NEVER, AUTHOR, None, Tell.NOBODY),
        ("alias", None, "", None, Tell.NOBODY),
        ("alias", NEVER, AUTHOR, "01parent", Tell.OWNERS),
    ],
)
def test_matrix_of_failures(
    envelope: str, notify: tuple[str, ...] | None, mail_from: str, parent: str | None, expected: Tell
) -> None:
    assert (
        decide.of_failure(record(mail_from=mail_from, parent=parent), target(envelope=envelope, notify=notify))
        is expected
    )


@pytest.mark.parametrize(("envelope", "notify", "switch", "_"), MATRIX)
def test_matrix_of_failures_and_delays(envelope: str, notify: tuple[str, ...] | None, switch: bool, _: object) -> None:
    """What an author is owed beyond success: of a list nothing, of an alias what NOTIFY says, whatever the switch."""
    aim = target(envelope=envelope, notify=notify, report=switch)
    failure = envelope == "alias" and (notify is None or "FAILURE" in notify)
    delay = envelope == "alias" and "DELAY" in (notify or ())
    expected = Tell.OWNERS if envelope == "list" else Tell.AUTHOR if failure else Tell.NOBODY
    assert (decide.of_failure(record(), aim), decide.of_delay(record(), aim)) == (expected, delay)


@pytest.mark.parametrize(
    ("mode", "verdict", "told"),
    [
        ("failures", "open", False),
        ("none", "open", False),
        ("posts", "open", True),
        ("daily", "open", True),
        ("posts", "no_recipients", True),
        ("posts", "repetition", False),
        ("daily", "loop", False),
    ],
)
def test_which_posts_owners_hear_of_though_nothing_went_wrong(mode: NotifyOwners, verdict: str, told: bool) -> None:
    assert decide.summed_up(mode, verdict) is told


@pytest.mark.parametrize(("complete", "deferred", "over"), [(True, 0, True), (True, 1, False), (False, 0, False)])
def test_a_post_is_finished_when_all_is_told_and_nobody_waits(complete: bool, deferred: int, over: bool) -> None:
    sums = {"expanded": 3, "delivered": 3 - deferred, "failed": 0, "suppressed": 0, "announced": 3}
    assert decide.finished(Totals(deferred=deferred, complete=complete, **sums)) is over


notifies = st.one_of(
    st.none(), st.just(NEVER), st.sets(st.sampled_from(ALL), min_size=1).map(lambda words: tuple(sorted(words)))
)


@given(
    envelope=st.sampled_from(["list", "alias"]),
    notify=notifies,
    switch=st.booleans(),
    mail_from=st.sampled_from([AUTHOR, "", "mailer-daemon@x.example"]),
    kind=st.sampled_from(list(TargetKind)),
    verdict=st.sampled_from(["open", "no_recipients", "gone", "loop", "repetition"]),
)
def test_success_is_said_only_when_asked_for_or_by_the_switch(
    envelope: str, notify: tuple[str, ...] | None, switch: bool, mail_from: str, kind: TargetKind, verdict: str
) -> None:
    aim = target(envelope=envelope, notify=notify, report=switch, kind=kind)
    owed = decide.of_expansion(record(mail_from=mail_from), aim, verdict)
    action = owed.action if owed is not None else None
    if owed is not None and owed.when is END:
        assert (envelope, kind, switch, verdict) == ("list", TargetKind.GROUP, False, "open")
    assert action is not Action.DELAYED
    if action in (D, E, R):
        assert mail_from
        assert "SUCCESS" in (notify or ()) or (switch and notify is None)
        assert envelope == "alias" or kind is not TargetKind.GROUP or action is D
    if action is F:
        assert verdict == "gone"
        assert notify is None or "FAILURE" in notify
    if notify == NEVER:
        assert action is None
    if "SUCCESS" in (notify or ()) and mail_from and verdict in ("open", "no_recipients"):
        assert action in (D, E, R), "RFC 3461 says MUST"


@given(st.text())
def test_no_address_makes_the_decision_fail(mail_from: str) -> None:
    decide.of_expansion(record(mail_from=mail_from), target(report=True), "open")
