"""From a reply to a fate: a table row for each kind of answer."""

from __future__ import annotations

import pytest

from services.sender.answers import UNKNOWN, Answer
from services.sender.outcome import MOST_UNKNOWNS, Policy, by_answer, decide, retries, softened, too_many
from shared.messages import Fate, State
from shared.replies import Reply

POLICY = Policy((60.0, 300.0), 86400.0)


def fate(reply: Reply, *, attempt: int = 0, age: float = 1.0, unknown: bool = False) -> Fate:
    answer = Answer(reply, "mx.example.test", unknown=unknown)
    return decide("ana@x.test", answer, attempt=attempt, now=1000.0, age=age, policy=POLICY)


@pytest.mark.parametrize(
    ("reply", "attempt", "age", "state", "code", "status", "next_at"),
    [
        (Reply(250, "1.5", "ok"), 0, 1.0, State.DELIVERED, 250, "2.1.5", None),
        (Reply(250, "", "ok"), 3, 1e9, State.DELIVERED, 250, "2.0.0", None),
        (Reply(550, "1.1", "no"), 0, 1.0, State.FAILED, 550, "5.1.1", None),
        (Reply(550, "", "no"), 0, 1.0, State.FAILED, 550, "5.0.0", None),
        (Reply(450, "7.1", "grey"), 0, 1.0, State.DEFERRED, 450, "4.7.1", 1060.0),
        (Reply(421, "3.2", "bye"), 1, 1.0, State.DEFERRED, 421, "4.3.2", 1300.0),
        (Reply(450, "7.1", "grey"), 1, 86400.0, State.FAILED, 554, "5.4.7", None),
        (Reply(450, "7.1", "grey"), 0, 86400.0, State.DEFERRED, 450, "4.7.1", 1060.0),
        (Reply(354, "", "??"), 0, 1.0, State.DEFERRED, 354, "4.0.0", 1060.0),
    ],
)
def test_fate(
    reply: Reply, attempt: int, age: float, state: State, code: int, status: str, next_at: float | None
) -> None:
    got = fate(reply, attempt=attempt, age=age)
    assert (got.state, got.code, got.status, got.next_at) == (state, code, status, next_at)
    assert (got.attempt, got.hop, got.at) == (attempt, "mx.example.test", 1000.0)


def test_an_unknown_outcome_waits_longer_than_a_refusal() -> None:
    got = fate(UNKNOWN, unknown=True)
    assert (got.state, got.status, got.next_at) == (State.DEFERRED, "4.4.2", 1300.0)


def test_f28_replies_that_are_lost_again_and_again_end_it() -> None:
    """A next hop that always takes the message and hangs up must not send a copy at every attempt for days."""
    answer = Answer(UNKNOWN, "mx", unknown=True)
    found = [
        decide("a@x.test", answer, attempt=9, now=1.0, age=1.0, policy=POLICY, unknowns=unknowns).state
        for unknowns in range(MOST_UNKNOWNS + 1)
    ]
    assert found == [State.DEFERRED] * (MOST_UNKNOWNS - 1) + [State.FAILED] * 2
    known = decide(
        "a@x.test",
        Answer(Reply(450, "", "x"), "mx"),
        attempt=9,
        now=1.0,
        age=1.0,
        policy=POLICY,
        unknowns=9,
    )
    assert known.state is State.DEFERRED


def test_a_refusal_of_the_transaction_stays_known_as_one() -> None:
    policy = Policy((60.0,), 1000.0)
    for common in (True, False):
        answer = Answer(Reply(550, "1.1", "no"), "h", common=common)
        assert decide("b@x.test", answer, attempt=0, now=1.0, age=1.0, policy=policy).common is common
        assert by_answer(["b@x.test"], [answer]) == [(answer, ["b@x.test"])]


def test_expiry_says_what_the_last_answer_was() -> None:
    assert "450 4.7.1 grey" in fate(Reply(450, "7.1", "grey"), attempt=1, age=1e6).text


@pytest.mark.parametrize(
    ("reply", "accepted", "full"),
    [
        (Reply(452, "5.3", "too many"), 3, True),
        (Reply(452, "5.3", "too many"), 0, False),  # another transaction would be told the same
        (Reply(452, "", "Too many recipients"), 3, True),
        (Reply(452, "3.1", "no storage"), 3, False),
        (Reply(552, "", "Too many recipients"), 3, True),
        (Reply(552, "5.3", "x"), 3, True),
        (Reply(552, "2.2", "mailbox full"), 3, False),
        (Reply(552, "", "quota"), 3, False),
        (Reply(450, "5.3", "too many"), 3, False),
    ],
)
def test_too_many_recipients_is_told_from_a_refusal(reply: Reply, accepted: int, full: bool) -> None:
    assert too_many(reply, accepted) is full


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (Reply(552, "", "too many recipients"), 452),
        (Reply(552, "5.3", "x"), 452),
        (Reply(552, "2.2", "mailbox full"), 552),
        (Reply(550, "1.1", "no"), 550),
    ],
)
def test_552_too_many_is_temporary(reply: Reply, code: int) -> None:
    assert softened(reply).code == code


def test_retries_are_grouped_by_when_they_are_due() -> None:
    fates = [
        fate(Reply(450, "", "a")),
        fate(Reply(250, "", "b")),
        fate(Reply(451, "", "c")),
        fate(UNKNOWN, unknown=True),
    ]
    assert {due: len(group) for due, group in retries(fates).items()} == {1060.0: 2, 1300.0: 1}


def test_recipients_are_gathered_by_what_they_were_answered() -> None:
    """Equal answers are one, whether they are one object or several; each keeps its order, and trouble of ours is no answer."""
    ok, again, no = (Answer(Reply(*one), "h") for one in ((250, "1.5", "ok"), (250, "1.5", "ok"), (550, "1.1", "no")))
    elsewhere, unknown = Answer(ok.reply, "i"), Answer(ok.reply, "h", unknown=True)
    answers = [ok, no, again, None, ok, elsewhere, unknown]
    assert by_answer(list("abcdefg"), answers) == [
        (ok, ["a", "e", "c"]),
        (no, ["b"]),
        (elsewhere, ["f"]),
        (unknown, ["g"]),
    ]
