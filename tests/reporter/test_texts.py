"""The words: every text in both languages, and nothing of one language in a mail of the other."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from services.reporter import dsn
from services.reporter.causes import Cause
from services.reporter.decide import Action
from services.reporter.dsn import Block
from services.reporter.notices import About, Counts, Line
from services.reporter.texts import LANGUAGES, Texts, texts
from shared.messages import Reason
from shared.settings import Settings
from tests.reporter.rfc3464 import Status
from tests.reporter.test_dsn import report
from tests.reporter.test_notices import about, day, ended, head, notice, shown
from tests.reporter.world import MEMBERS, NOW, fate, octets

STATUSES = {
    Cause.UNKNOWN: "5.1.1", Cause.DOMAIN: "5.1.2", Cause.DISABLED: "5.2.1", Cause.FULL: "5.2.2", Cause.TOO_LARGE: "5.3.4",
    Cause.REFUSED: "5.7.1", Cause.EXPIRED: "5.4.7", Cause.UNREACHABLE: "4.4.1", Cause.ALPHABET: "5.6.7", Cause.LOOP: "5.4.6",
    Cause.BUSY: "4.2.1", Cause.OTHER: "5.5.0",
}  # fmt: skip
FATES = tuple(fate(f"m{n:02}@x.test", status=status, text="1234") for n, status in enumerate(STATUSES.values()))
OWN = {Action.FAILED: "5.1.1", Action.DELAYED: "4.2.1"}
RUSSIAN_ONLY = set("ыэёЫЭЁ")


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a table, by where it stands."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name}")
    elif isinstance(value, tuple):
        for number, each in enumerate(value):
            yield from leaves(each, f"{path}.{number}")
    else:
        for field in msgspec.structs.fields(value):
            yield from leaves(getattr(value, field.name), f"{path}.{field.name}")


def test_every_language_has_every_text_with_the_same_names_to_fill_in() -> None:
    english, bulgarian = dict(leaves(texts("en"))), dict(leaves(texts("bg")))
    assert english.keys() == bulgarian.keys()
    for path, text in english.items():
        assert text.strip(), path
        assert bulgarian[path].strip(), path
        names = [{name for _, name, _, _ in string.Formatter().parse(each) if name} for each in (text, bulgarian[path])]
        assert names[0] - {"n"} == names[1] - {"n"}, path
        assert bulgarian[path].endswith(text[-1]) or text[-1] not in ".:", path


@pytest.mark.parametrize("words", LANGUAGES.values(), ids=LANGUAGES)
def test_a_table_has_every_cause_action_and_reason(words: Texts) -> None:
    assert set(words.causes) == set(Cause)
    assert set(words.subject) == set(Action)
    assert set(words.reasons) == set(Reason)
    assert words.causes.keys() == {*STATUSES, Cause.UNSURE}


def test_every_language_that_can_be_set_has_words_and_an_unknown_one_has_english() -> None:
    for language in LANGUAGES:
        assert texts("", language).language == language
        assert Settings(language=language).language == language
    assert texts("", "xx").language == "en"
    assert texts("xx", "bg", "en").language == "bg"


def test_bulgarian_is_bulgarian() -> None:
    for path, text in leaves(texts("bg")):
        if path not in (".language",):
            bare = re.sub(r"\{\w+\}|notify_owners|failures|posts|daily|none|UTC", "", text)
            assert not re.search(r"[A-Za-z]", bare), path
            assert not RUSSIAN_ONLY & set(text), path
    assert not re.search(r"[А-Яа-я]", str(list(leaves(texts("en")))))


@pytest.mark.parametrize(("language", "words"), [("en", "3 May 2027, 06:05 UTC"), ("bg", "3 май 2027 г., 06:05 UTC")])
def test_dates_are_the_languages_own_and_name_their_zone(language: str, words: str) -> None:
    assert texts(language).time(1809324300.9) == words


# --- whole mails -----------------------------------------------------------------------------------------------------
def bulgarian_mails() -> Iterator[str]:
    """Subject and text of every mail there is."""
    fates = dsn.blocks_of_fates(FATES, action=Action.FAILED, orcpt=None)
    late = dsn.blocks_of_fates(FATES[-2:-1], action=Action.DELAYED, orcpt=None, retry_until=NOW + 432000)
    for action in Action:
        own = Block(final="office@example.test", action=action, status=OWN.get(action, "2.1.5"))
        for blocks in {Action.FAILED: [fates, fates[:1], (own,)], Action.DELAYED: [late, late * 2]}.get(
            action, [(own,)]
        ):
            for more in ({"settled": True}, {"waiting": 1}, {"waiting": 2, "unnamed": 3}):
                made = report(
                    *blocks, language="bg", address="office@example.test", subject="План", action=action, **more
                )
                yield Status(octets(dsn.build(made))).text
    bg, post = head(language="bg"), about(subject="План")
    yield from shown(notice(*FATES, of=bg, post=post, failures=400, waiting=2, until=NOW))
    yield from shown(notice(FATES[0], of=bg, post=post, waiting=1, until=NOW, again=True))
    yield from shown(notice(*FATES[:2], of=bg, post=post, forward=True))
    reasons = {reason.value: 2 for reason in Reason}
    for counts in (Counts(delivered=3, failed=12, left_out=4), Counts(), Counts(waiting=1)):
        yield from shown(ended(head=bg, about=post, counts=counts, reasons=reasons, failed=FATES))
    for verdict in ("gone", "loop"):
        yield from shown(ended(head=bg, about=post, verdict=verdict, failed=()))
    empty = Line(about=About(post_id="01k4post", accepted_at=NOW), counts=Counts())
    yield from shown(day(head=bg, posts=(empty,), failed=FATES))
    yield from shown(day(head=bg, count=1, posts=(), failures=1, failed=FATES[:1], suspended=1))
    yield from shown(day(head=bg, count=0, posts=(), failures=2, failed=FATES[:2], suspended=0))


TECHNICAL = re.compile(
    r"<\S+>|\S+@\S+|mx\.example\.test|[245]\d\d [245]\.\d+\.\d+ \d+|horo \w+ \w+|01k4post|notify_owners(=failures)?|"
    r"failures, posts, daily (или )?none|\bUTC\b|\bPlan\b"
)


def test_no_english_is_left_in_a_bulgarian_mail() -> None:
    seen = 0
    for text in bulgarian_mails():
        plain = TECHNICAL.sub("", text)
        assert not re.search(r"[A-Za-z]{2,}", plain), plain
        assert "{" not in plain
        seen += 1
    assert seen > 40


def test_every_mail_in_either_language_is_dated_signed_and_readable_as_lines() -> None:
    for language in LANGUAGES:
        for action in (Action.DELIVERED, Action.EXPANDED, Action.RELAYED):
            own = Block(final=MEMBERS[0], action=action, status="2.1.5")
            status = Status(octets(dsn.build(report(own, language=language, subject="1234"))))
            assert all(len(line) <= 78 for line in status.text.split("\r\n"))
            assert octets(dsn.build(report(own, language=language))).isascii(), "7-bit to an ASCII author"
            assert status.language == language
