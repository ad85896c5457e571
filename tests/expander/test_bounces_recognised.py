"""What mail to a bounce address says: the ways in which mail systems say it, and the octets that say nothing.

The samples in tests/messages/bounces are written by hand after the formats of the systems whose names they bear, with addresses of ours.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.expander.bounces import guess, mime, status
from services.expander.bounces.recognise import Recognised, recognise
from services.expander.bounces.status import Told

SAMPLES = Path(__file__).parent.parent / "messages" / "bounces"
BORIS = ("boris@x.test",)


def sample(name: str) -> bytes:
    return (SAMPLES / f"{name}.eml").read_bytes()


async def read(name: str, mail_from: str = "", *, own: bool = False) -> Recognised | None:
    return await recognise(sample(name), mail_from, own=own)


FAILED = {
    # sample: status, a word of the diagnosis
    "postfix": ("5.1.1", "User unknown in virtual mailbox table"),
    "gmail": ("5.1.1", "does not exist"),
    "exchange": ("5.1.10", "RecipientNotFound"),
    "outlook_com": ("5.5.0", "mailbox unavailable"),
    "exim_dsn": ("5.0.0", "Unrouteable address"),
    "exim_plain": ("5.1.1", "User unknown"),
    "qmail": ("5.1.1", "no mailbox here by that name"),
    "sendmail": ("5.1.1", "User unknown"),
    "yahoo": ("", "doesn't have a yahoo.test account"),
    "zimbra": ("5.1.1", "Recipient address rejected"),
    "mail_bg": ("5.0.0", "Няма такъв потребител"),
    "abv_bg": ("", "Потребителят не съществува"),
    "opensmtpd": ("5.0.0", ""),
    "base64_status": ("5.1.1", ""),
}


@pytest.mark.parametrize("name", FAILED)
@pytest.mark.parametrize("lines", [b"\r\n", b"\n"])
async def test_a_bounce_says_who_and_why(name: str, lines: bytes) -> None:
    found = await recognise(sample(name).replace(b"\r\n", lines), "", own=False)
    assert found is not None
    assert found.kind == "bounce"
    ((addresses, action, code, text),) = found.told
    assert (addresses, action, code) == (BORIS, "failed", FAILED[name][0])
    assert FAILED[name][1] in text


async def test_a_delay_is_no_failure() -> None:
    found = await read("postfix_delayed")
    assert found is not None
    assert [(one.addresses, one.action, one.status) for one in found.told] == [(BORIS, "delayed", "4.4.1")]


async def test_the_examples_of_rfc_3464() -> None:
    simple, many = await read("rfc3464_simple"), await read("rfc3464_many")
    assert simple is not None
    assert many is not None
    assert [tuple(one)[:3] for one in simple.told] == [(("louisl@larry.slip.umd.test",), "failed", "4.0.0")]
    assert [tuple(one)[:3] for one in many.told] == [
        (("arathib@vnet.ibm.test",), "failed", "5.0.0"),
        (("johnh@hpnjld.njd.hp.test",), "delayed", "4.0.0"),
        (("wsnell@sdcc13.ucsd.test",), "failed", "5.0.0"),
    ]
    assert many.told[0].text == "550 'arathib@vnet.IBM.TEST' is not a registered gateway user"


async def test_the_addresses_of_rfc_6533() -> None:
    plain, escaped = await read("rfc6533_utf8"), await read("rfc6533_unitext")
    assert plain is not None
    assert escaped is not None
    assert plain.told[0].addresses == ("борис@xn--e1afmkfd.test",)
    assert escaped.told[0].addresses == ("борис@x.test",)


@pytest.mark.parametrize("name", ["vacation", "exchange_away"])
async def test_f43_an_automatic_answer_is_no_bounce(name: str) -> None:
    assert await read(name) == Recognised("auto_reply", [])
    assert await read(name, own=True) == Recognised("auto_reply", [])


@pytest.mark.parametrize("name", ["human", "abuse_report", "bounce_of_a_bounce"])
async def test_what_a_person_wrote_or_must_see_is_for_people(name: str) -> None:
    assert await read(name, "boris@x.test") is None
    assert await read(name, "boris@x.test", own=True) is None


async def test_a_message_that_names_nobody_is_a_bounce_at_somebodys_own_address_alone() -> None:
    assert await read("nameless") is None
    found = await read("nameless", own=True)
    assert found == Recognised("bounce", [Told((), "failed", "5.1.1", "The server said: 550 5.1.1 User unknown")])


async def test_a_bounce_inside_a_bounce_says_nothing() -> None:
    outer = sample("postfix").replace(b"Action: failed", b"Action: delayed").replace(b"Status: 5.1.1", b"Status: 4.2.0")
    inner = sample("postfix").replace(b"boris@", b"vera@").replace(b"=_postfix", b"=_inner")
    found = await recognise(outer.replace(b"From: Ana <ana@example.test>", inner), "", own=False)
    assert found is not None
    assert [(one.addresses, one.action) for one in found.told] == [(BORIS, "delayed")]


BLOCKS = [
    (b"Final-Recipient: boris@x.test\nAction: failed\nStatus: 5.1.1\n", (BORIS, "failed", "5.1.1")),
    (b"Final-Recipient: <boris@x.test>\nAction: Failed (really)\nStatus: 5.1.1 (bad)\n", (BORIS, "failed", "5.1.1")),
    (b"Final-Recipient: rfc822; boris@x.test (Boris)\nStatus: 5.1.1\n", (BORIS, "failed", "5.1.1")),
    (
        b"Final-Recipient: LOCAL; boris\nOriginal-Recipient: rfc822;boris+40x.test\nAction: failed\n",
        (BORIS, "failed", ""),
    ),
    (b"Final-Recipient: rfc822; <>\nAction: failed\n", ((), "failed", "")),
    (b"Final-Recipient: rfc822;boris@x.test\nAction: relayed\nStatus: 2.1.9\n", (BORIS, "relayed", "2.1.9")),
    (b"Final-Recipient: rfc822;boris@x.test\nStatus: 4.4.7\n", (BORIS, "delayed", "4.4.7")),
    (
        b"Final-Recipient: rfc822;boris@x.test\nStatus: 5.0.0\nDiagnostic-Code: smtp; 550 192.5.1.1 5.7.1 no\n",
        (BORIS, "failed", "5.7.1"),
    ),
    (b"Reporting-MTA: dns; x.test\nFinal-Recipient: rfc822;boris@x.test\nAction: failed\n", (BORIS, "failed", "")),
    (b"Action: failed\nStatus: 5.1.1\n", None),
]


@pytest.mark.parametrize(("block", "wanted"), BLOCKS)
def test_blocks_of_all_kinds(block: bytes, wanted: tuple[object, ...] | None) -> None:
    message = b"Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\n" + block
    assert [tuple(one)[:3] for one in status.told(message + b"\n--b--\n")] == ([] if wanted is None else [wanted])


def test_codes_are_no_parts_of_addresses_and_versions() -> None:
    text = "550 5.1.1. From 192.0.2.1: 5.1.1.9, 10.5.2.2 and (5.7.1) 4.2.1; 6.1.1 5.1.1"
    assert status.codes(text) == ["5.1.1", "5.7.1", "4.2.1"]


# --- octets of an attacker ----------------------------------------------------------------------------------------------
def _deep(depth: int) -> bytes:
    lines = [f"Content-Type: multipart/mixed; boundary=b{n}\n\n--b{n}\n" for n in range(depth)]
    return "".join(lines).encode() + b"Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; boris@x.test\n"


HOSTILE = {
    "empty": b"",
    "deep": _deep(5000),
    "many parts": b"Content-Type: multipart/report; boundary=b\n\n" + b"--b\n\nx\n" * 130_000,
    "many blocks": b"Content-Type: message/delivery-status\n\n" + b"Final-Recipient: rfc822; b@x.test\n\n" * 28_000,
    "many fields": b"Content-Type: message/delivery-status\n\n" + b"Final-Recipient: rfc822; b@x.test\n" * 30_000,
    "long line": b"From: postmaster@x.test\n\n" + b"<" * 1_000_000,
    "ats": b"From: postmaster@x.test\n\nThe following addresses had\n" + b"a@" * 500_000,
    "spaces": b"From: postmaster@x.test\n\nYour message could not be delivered to\n" + (b" " * 490 + b"\n") * 2000,
    "words": b"From: mailer-daemon@x.test\n\n"
    + b"this message was created automatically by mail delivery software\n" * 15_000,
    "numbers": b"From: mailer-daemon@x.test\n\n" + b"5." * 500_000,
    "brackets": b"From: mailer-daemon@x.test\n\nmessage from yahoo.x\n" + b"<a@b>: <" * 125_000,
    "qp": b"Content-Type: message/delivery-status\nContent-Transfer-Encoding: quoted-printable\n\n" + b"=" * 1_000_000,
    "base64": b"Content-Type: message/delivery-status\nContent-Transfer-Encoding: base64\n\n" + b"A" * 999_999,
    "charset": b'From: postmaster@x.test\nContent-Type: text/plain; charset="hex"\n\n550 <boris@x.test> \xff\xfe',
    "nul": b"From: postmaster@x.test\nContent-Type: text/plain; charset=\0\n\n\0<boris@x.test>\0 550\n",
    "comments": b"Content-Type: message/delivery-status\n\nFinal-Recipient: rfc822; " + b"(" * 500_000 + b"\n",
    "xtext": b"Content-Type: message/delivery-status\n\nFinal-Recipient: utf-8; "
    + b"\\x{FFFFFF}\\x{D800}" * 9000
    + b"\n",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_p10_hostile_octets_are_read_in_bounded_time(name: str) -> None:
    for own in (False, True):
        started = time.process_time()
        await recognise(HOSTILE[name][: 1 << 20], "", own=own)
        assert time.process_time() - started < 3.0


_PIECES = st.sampled_from(
    [
        b"\n", b"\r\n", b"\n\n", b"--b\n", b"--b--\n", b" ", b"\t", b";", b"\0", b"\xff", b"(", b"<", b">", b"@", b"=", b'"',
        b"Content-Type: multipart/report; boundary=b\n", b"Content-Type: message/delivery-status\n", b"Content-Transfer-Encoding: base64\n",
        b"Final-Recipient: rfc822;", b"Original-Recipient: utf-8;", b"Action: failed\n", b"Status: 5.1.1\n", b"Diagnostic-Code: smtp; 550 5.7.1 x\n",
        b"From: MAILER-DAEMON@x.test\n", b"boris@x.test", b"Hi. This is the qmail-send program", b"X-Failed-Recipients: ", b"Subject: =?utf-8?q?=",
        b"The following addresses had\n", b"transcript of session follows\n", b"550 ", b"charset=utf-16", b"Auto-Submitted: auto-replied\n",
    ]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(_PIECES | st.binary(max_size=20), max_size=60).map(b"".join), st.booleans())
async def test_no_octets_raise(message: bytes, own: bool) -> None:
    found = await recognise(message, "", own=own)
    for part in mime.parts(message):
        assert isinstance(part.octets, bytes)
    for one in [] if found is None else found.told:
        assert one.action in ("failed", "delayed", "delivered", "relayed", "expanded", "")
        assert len(one.text) <= status.MAX_TEXT
        assert all("@" in address for address in one.addresses)


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(FAILED)))
async def test_a_cut_or_flipped_bounce_does_not_raise(data: st.DataObject, name: str) -> None:
    message = bytearray(sample(name))
    for _ in range(data.draw(st.integers(0, 8))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    await recognise(bytes(message[: data.draw(st.integers(0, len(message)))]), "", own=data.draw(st.booleans()))


def test_what_the_library_raises_means_not_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_message: object) -> None:
        raise RecursionError("deep")

    message = b"From: postmaster@x.test\n\nFailed addresses follow:\n boris@x.test\nMessage text follows:\n"
    assert [one.addresses for one in guess.guess(message)] == [BORIS]
    monkeypatch.setattr(guess, "all_failures", broken)
    assert guess.guess(message) == []
    assert [one.addresses for one in guess.guess(sample("qmail"))] == [BORIS]  # its own words name the address
