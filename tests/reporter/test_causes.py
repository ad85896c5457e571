"""Why a copy did not arrive, in one plain cause; and whether a server said so."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporter.causes import Cause, cause_of, ours
from services.sender import answers
from services.sender.answers import Answer
from services.sender.outcome import Policy, decide
from shared.messages import State
from shared.replies import Reply
from tests.reporter.world import NOW, fate


@pytest.mark.parametrize(
    ("code", "status", "text", "cause"),
    [
        (550, "5.1.1", "whatever", Cause.UNKNOWN),
        (550, "5.1.10", "RecipientNotFound", Cause.DOMAIN),
        (550, "5.1.2", "bad destination system", Cause.DOMAIN),
        (550, "5.1.8", "sender's domain does not exist", Cause.REFUSED),
        (550, "5.2.1", "disabled", Cause.DISABLED),
        (552, "5.2.2", "over quota", Cause.FULL),
        (452, "4.2.2", "over quota", Cause.FULL),
        (552, "5.2.3", "too long", Cause.TOO_LARGE),
        (552, "5.3.4", "too big", Cause.TOO_LARGE),
        (550, "5.7.1", "user unknown, says our policy", Cause.REFUSED),
        (550, "5.7.26", "unauthenticated mail (DMARC)", Cause.REFUSED),
        (451, "4.7.1", "greylisted", Cause.BUSY),
        (450, "4.2.1", "rate limit", Cause.BUSY),
        (554, "5.4.7", "Delivery time expired; the last answer was: 451 4.7.1 greylisted", Cause.EXPIRED),
        (554, "5.4.6", "loop", Cause.LOOP),
        (550, "5.6.7", "SMTPUTF8 needed", Cause.ALPHABET),
        (451, "4.4.1", "Cannot reach the next hop: refused", Cause.UNREACHABLE),
        (550, "5.0.0", "User unknown", Cause.UNKNOWN),
        (550, "5.0.0", "Requested action not taken: mailbox unavailable", Cause.OTHER),
        (554, "5.0.0", "Message rejected as SPAM", Cause.REFUSED),
        (552, "5.0.0", "Quota exceeded", Cause.FULL),
        (550, "", "No such user here", Cause.UNKNOWN),
        (550, "5.5.0", "no", Cause.OTHER),
        (421, "", "later", Cause.BUSY),
    ],
)
def test_statuses_are_told_in_plain_causes(code: int, status: str, text: str, cause: Cause) -> None:
    assert cause_of(fate(code=code, status=status, text=text)) is cause


@given(st.integers(), st.text(max_size=12), st.text(max_size=600))
def test_no_answer_is_without_a_cause(code: int, status: str, text: str) -> None:
    assert cause_of(fate(code=code, status=status, text=text)) in Cause


def own_replies() -> list[Reply]:
    """All that the sender says itself where no server answered."""
    made = [value for value in vars(answers).values() if isinstance(value, Reply)]
    for name, function in inspect.getmembers(answers, inspect.isfunction):
        if function.__module__ == answers.__name__ and inspect.signature(function).return_annotation == "Reply":
            made.append(function("something"))
            assert isinstance(made[-1], Reply), name
    return made


def test_what_the_sender_says_itself_is_known_from_what_servers_say() -> None:
    """RFC 3464 2.3.6: a diagnostic code of type smtp is the reply of a server."""
    own = own_replies()
    assert len(own) >= 18
    for reply in own:
        assert ours(fate(code=reply.code, status=reply.status, text=reply.text)), reply
    old = decide(
        "a@x.test", Answer(Reply(450, "2.1", "later"), "mx"), attempt=9, now=NOW, age=1e9, policy=Policy((60,), 1)
    )
    assert old.state is State.FAILED
    assert ours(old)
    for text in ("5.1.1 No such user", "Domain does not exist", "<a@x.test>: what the server said", ""):
        assert not ours(fate(text=text))
    assert ours(fate(code=0, status="", text="anything"))
