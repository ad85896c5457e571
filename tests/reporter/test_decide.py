"""Who is told what: the whole matrix as a table, and its laws as properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporter import decide
from services.reporter.decide import Action, Tell
from shared.messages import State, TargetKind
from tests.reporter.world import AUTHOR, NOW, fate, record, target

D, E, R, F = Action.DELIVERED, Action.EXPANDED, Action.RELAYED, Action.FAILED
SUCCESS, FAILURE, DELAY, NEVER, ALL = (
    ("SUCCESS",),
    ("FAILURE",),
    ("DELAY",),
    ("NEVER",),
    ("SUCCESS", "FAILURE", "DELAY"),
)

# envelope, NOTIFY, report_delivery -> the report on a complete fan-out
MATRIX = [
    ("list", None, False, None),
    ("list", None, True, D),
    ("list", SUCCESS, False, D),
    ("list", SUCCESS, True, D),
    ("list", ALL, False, D),
    ("list", ALL, True, D),
    ("list", FAILURE, False, None),
    ("list", FAILURE, True, None),
    ("list", DELAY, False, None),
    ("list", DELAY, True, None),
    ("list", NEVER, False, None),
    ("list", NEVER, True, None),
    ("alias", None, False, None),
    ("alias", None, True, E),
    ("alias", SUCCESS, False, R),
    ("alias", SUCCESS, True, E),
    ("alias", ALL, False, R),
    ("alias", ALL, True, E),
    ("alias", FAILURE, False, None),
    ("alias", FAILURE, True, None),
    ("alias", DELAY, False, None),
    ("alias", DELAY, True, None),
    ("alias", NEVER, False, None),
    ("alias", NEVER, True, None),
]


@pytest.mark.parametrize(("envelope", "notify", "switch", "expected"), MATRIX)
def test_matrix_of_success_reports(
    envelope: str, notify: tuple[str, ...] | None, switch: bool, expected: Action | None
) -> None:
    aim = target(envelope=envelope, notify=notify, report=switch)
    assert decide.of_expansion(record(), aim, "open") is expected


@pytest.mark.parametrize(("envelope", "notify", "switch", "expected"), MATRIX)
def test_matrix_of_an_empty_result_is_delivered_where_asked_never_a_bounce(
    envelope: str, notify: tuple[str, ...] | None, switch: bool, expected: Action | None
) -> None:
    aim = target(envelope=envelope, notify=notify, report=switch)
    assert decide.of_expansion(record(), aim, "no_recipients") is (D if expected else None)


@pytest.mark.parametrize(("envelope", "notify", "switch", "_"), MATRIX)
@pytest.mark.parametrize("verdict", ["open", "no_recipients", "gone", "loop", "repetition"])
def test_p5_nothing_ever_goes_to_the_null_sender_or_to_a_list_of_ours(
    envelope: str, notify: tuple[str, ...] | None, switch: bool, _: object, verdict: str
) -> None:
    aim = target(envelope=envelope, notify=notify, report=switch)
    deferred = [fate(state=State.DEFERRED, at=NOW + 1e6)]
    for unreachable in (record(mail_from=""), record(parent="01parent"), record(mail_from="a\r\nb@c.example")):
        assert decide.of_expansion(unreachable, aim, verdict) is None
        assert decide.of_failure(unreachable, aim) is not Tell.AUTHOR
        assert decide.late(unreachable, aim, deferred, 3600) == ()


@pytest.mark.parametrize(
    ("notify", "expected"),
    [(None, F), (FAILURE, F), (ALL, F), (SUCCESS, None), (DELAY, None), (NEVER, None)],
)
@pytest.mark.parametrize("switch", [True, False])
def test_matrix_of_a_group_that_is_gone(notify: tuple[str, ...] | None, expected: Action | None, switch: bool) -> None:
    assert decide.of_expansion(record(), target(notify=notify, report=switch), "gone") is expected


@pytest.mark.parametrize("verdict", ["loop", "repetition"])
@pytest.mark.parametrize("notify", [None, SUCCESS, ALL])
def test_what_came_back_or_came_again_is_not_reported_again(verdict: str, notify: tuple[str, ...] | None) -> None:
    assert decide.of_expansion(record(), target(notify=notify, report=True), verdict) is None


@pytest.mark.parametrize(
    ("kind", "notify", "expected"),
    [
        (TargetKind.OWNER, None, None),
        (TargetKind.OWNER, SUCCESS, R),
        (TargetKind.POSTMASTER, SUCCESS, R),
        (TargetKind.POSTMASTER, FAILURE, None),
        (TargetKind.BOUNCES, SUCCESS, D),
        (TargetKind.BOUNCES, None, None),
        (TargetKind.BOUNCES, NEVER, None),
    ],
)
def test_matrix_of_role_addresses_the_switch_is_not_theirs(
    kind: TargetKind, notify: tuple[str, ...] | None, expected: Action | None
) -> None:
    assert decide.of_expansion(record(), target(kind=kind, notify=notify, report=True), "open") is expected


@pytest.mark.parametrize(
    "robot",
    [
        f"{local}@x.example"
        for local in ("MAILER-DAEMON", "listserv", "owner-news", "news-request", "news-bounces+t", "no-reply")
    ],
)
def test_p5_programs_get_the_report_they_asked_for_and_no_other(robot: str) -> None:
    assert decide.of_expansion(record(mail_from=robot), target(report=True), "open") is None
    assert decide.of_expansion(record(mail_from=robot), target(report=True, notify=SUCCESS), "open") is D


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


@pytest.mark.parametrize(
    ("envelope", "notify", "age", "told"),
    [
        ("alias", DELAY, 3601, True),
        ("alias", ALL, 3600, True),
        ("alias", DELAY, 3599, False),
        ("alias", None, 1e6, False),
        ("alias", FAILURE, 1e6, False),
        ("alias", NEVER, 1e6, False),
        ("list", DELAY, 1e6, False),
        ("list", ALL, 1e6, False),
    ],
)
def test_matrix_of_delays(envelope: str, notify: tuple[str, ...] | None, age: float, told: bool) -> None:
    fates = (fate(state=State.DEFERRED, at=NOW + age), fate(state=State.FAILED, at=NOW + age))
    late = decide.late(record(), target(envelope=envelope, notify=notify), fates, 3600)
    assert late == (fates[:1] if told else ())


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
    action = decide.of_expansion(record(mail_from=mail_from), aim, verdict)
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
