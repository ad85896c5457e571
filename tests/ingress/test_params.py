"""ESMTP parameters: the table of RFC 3461, SIZE, BODY, SMTPUTF8; a valid one never changes the reply, a wrong one is 501, an unknown one 555."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingress.params import MailParams, RcptParams, mail_params, rcpt_params
from shared.replies import PermanentError
from tests.ingress.conftest import House
from tests.ingress.dialogue import Client

MAIL = [
    ("", MailParams()),
    ("SIZE=0", MailParams(size=0)),
    ("size=100 body=7bit", MailParams(size=100, body="7BIT")),
    ("BODY=8BITMIME SMTPUTF8", MailParams(body="8BITMIME", smtputf8=True)),
    ("RET=FULL", MailParams(ret="FULL")),
    ("ret=hdrs ENVID=QQ314159", MailParams(ret="HDRS", envid="QQ314159")),
    ("ENVID=a+2Bb+3Dc+20d", MailParams(envid="a+2Bb+3Dc+20d")),
    ("ENVID=" + "x" * 100, MailParams(envid="x" * 100)),
    ("  RET=FULL   ", MailParams(ret="FULL")),
]
BAD_MAIL = [
    ("SIZE", 501), ("SIZE=", 501), ("SIZE=-1", 501), ("SIZE=1x", 501), ("SIZE=" + "9" * 21, 501), ("SIZE=\u0661", 501),
    ("SIZE=1 SIZE=1", 501), ("BODY", 501), ("BODY=BINARYMIME", 501), ("BODY=7BIT BODY=7BIT", 501),
    ("SMTPUTF8=yes", 501), ("SMTPUTF8 SMTPUTF8", 501),
    ("RET", 501), ("RET=", 501), ("RET=ALL", 501), ("RET=FULL RET=HDRS", 501), ("RET=FULL ret=FULL", 501),
    ("ENVID", 501), ("ENVID=", 501), ("ENVID=a+2b", 501), ("ENVID=a+", 501), ("ENVID=a+2", 501), ("ENVID=a=b", 501),
    ("ENVID=a+0D+0Ab", 501), ("ENVID=a+00", 501), ("ENVID=a+FF", 501), ("ENVID=x ENVID=x", 501),
    ("ENVID=" + "x" * 101, 501), ("ENVID=\u0431", 501),
    ("NOTIFY=NEVER", 555), ("ORCPT=rfc822;a@b", 555), ("AUTH=<>", 555), ("XYZ", 555), ("X-Y=1", 555), ("BODY7", 555),
    ("=1", 501), ("-X=1", 501), ("A_B=1", 501), ("RET=FULL,HDRS", 501), ("RET=FULL\tSIZE=1", 501),
]  # fmt: skip
RCPT = [
    ("", RcptParams()),
    ("NOTIFY=NEVER", RcptParams(notify=("NEVER",))),
    ("notify=success,Failure,DELAY", RcptParams(notify=("SUCCESS", "FAILURE", "DELAY"))),
    ("NOTIFY=DELAY,DELAY", RcptParams(notify=("DELAY",))),
    ("ORCPT=rfc822;Bob+2Bx@example.net", RcptParams(orcpt="rfc822;Bob+2Bx@example.net")),
    ("ORCPT=RFC822;a@b NOTIFY=FAILURE", RcptParams(notify=("FAILURE",), orcpt="RFC822;a@b")),
    ("ORCPT=x400;/C+3Dus/", RcptParams(orcpt="x400;/C+3Dus/")),
    (r"ORCPT=utf-8;\x{431}@example.net", RcptParams(orcpt=r"utf-8;\x{431}@example.net")),
    ("ORCPT=rfc822;" + "x" * 493, RcptParams(orcpt="rfc822;" + "x" * 493)),
]
BAD_RCPT = [
    ("NOTIFY", 501), ("NOTIFY=", 501), ("NOTIFY=NEVER,SUCCESS", 501), ("NOTIFY=SUCCESS,NEVER", 501), ("NOTIFY=,", 501),
    ("NOTIFY=SUCCESS,", 501), ("NOTIFY=ALWAYS", 501), ("NOTIFY=NEVER NOTIFY=NEVER", 501), ("NOTIFY=SUCCESS;FAILURE", 501),
    ("ORCPT", 501), ("ORCPT=", 501), ("ORCPT=a@b", 501), ("ORCPT=;a@b", 501), ("ORCPT=rfc822;", 501),
    ("ORCPT=rfc822;a=b", 501), ("ORCPT=rfc822;a+0Ab", 501), ("ORCPT=rfc822;a+zz", 501), ("ORCPT=rfc822;a ORCPT=rfc822;a", 501),
    ("ORCPT=rfc822;" + "x" * 494, 501), ("ORCPT=(x);a", 501), (r"ORCPT=utf-8;\x{D800}", 501), (r"ORCPT=utf-8;\x{0A}", 501),
    (r"ORCPT=utf-8;\x{}", 501), ("ORCPT=utf-8;\u0431", 501),
    ("RET=FULL", 555), ("SIZE=1", 555), ("BODY=7BIT", 555), ("FOO=BAR", 555),
]  # fmt: skip


@pytest.mark.parametrize(("text", "params"), MAIL)
def test_mail(text: str, params: MailParams) -> None:
    assert mail_params(text.encode(), extended=True) == params


@pytest.mark.parametrize(("text", "code"), BAD_MAIL)
def test_bad_mail(text: str, code: int) -> None:
    with pytest.raises(PermanentError) as refused:
        mail_params(text.encode(), extended=True)
    assert refused.value.reply.code == code


@pytest.mark.parametrize(("text", "params"), RCPT)
def test_rcpt(text: str, params: RcptParams) -> None:
    assert rcpt_params(text.encode(), extended=True, utf8=False) == params


@pytest.mark.parametrize(("text", "code"), BAD_RCPT)
def test_bad_rcpt(text: str, code: int) -> None:
    with pytest.raises(PermanentError) as refused:
        rcpt_params(text.encode(), extended=True, utf8=False)
    assert refused.value.reply.code == code


def test_utf8_orcpt_needs_smtputf8() -> None:
    text = "ORCPT=utf-8;\u0431@example.net"
    assert rcpt_params(text.encode(), extended=True, utf8=True) == RcptParams(orcpt="utf-8;\u0431@example.net")
    with pytest.raises(PermanentError):
        rcpt_params(b"ORCPT=utf-8;\xff@example.net", extended=True, utf8=True)


@given(st.binary(max_size=200), st.booleans(), st.booleans())
def test_whatever_comes_is_read_or_refused(rest: bytes, extended: bool, utf8: bool) -> None:
    for read in (
        lambda: mail_params(rest, extended=extended),
        lambda: rcpt_params(rest, extended=extended, utf8=utf8),
    ):
        try:
            read()
        except PermanentError as error:
            assert error.reply.code in (501, 555)


async def test_dsn_parameters_travel_as_they_came(house: House) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk("""
            s: 220
            c: EHLO x
            s: 250
            c: MAIL FROM:<a@example.net> RET=HDRS ENVID=Case+2BKept
            s: 250 2.1.0
            c: RCPT TO:<office@example.test> NOTIFY=success,DELAY ORCPT=rfc822;Old+2BName@example.net
            s: 250 2.1.5
            c: DATA
            s: 354
            c: Subject: x
            c:
            c: .
            s: 250
        """)
    [post] = house.bus.posts
    assert (post.ret, post.envid) == ("HDRS", "Case+2BKept")
    assert post.targets[0].notify == ("SUCCESS", "DELAY")
    assert post.targets[0].orcpt == "rfc822;Old+2BName@example.net"


ARGUMENTS = [
    ("MAIL FROM:<a@example.net> RET=BOTH", "501 5.5.4"),
    ("MAIL FROM:<a@example.net> FUTURE=1", "555 5.5.4"),
    ("MAIL FROM:<a@example.net> SIZE=99999999999", "552 5.3.4"),
    ("MAIL FROM:<a@example.net> SIZE=-1", "501 5.5.4"),
    ("MAIL FROM:a@example.net", "501 5.1.7"),
    ("MAIL FROM:<", "501 5.1.7"),
    ("MAIL FROM:<a@example.net", "501 5.1.7"),
    ("MAIL FROM:<a@b@example.net>", "501 5.1.7"),
    ("MAIL FROM:<postmaster>", "501 5.1.7"),
    ("MAIL FROM:<a@example.net>SIZE=1", "501 5.1.7"),
    ("MAIL TO:<a@example.net>", "501 5.5.4"),
    ("MAIL", "501 5.5.4"),
    ("MAIL FROM:<\u0431@example.net>", "553 5.6.7"),
    ("MAIL FROM:<\u0431@example.net> SMTPUTF8", "250 2.1.0"),
    ("mail from:<a@example.net>", "250 2.1.0"),
    ("MAIL FROM: <a@example.net>", "250 2.1.0"),
    ("MAIL FROM:<>", "250 2.1.0"),
]


@pytest.mark.parametrize(("command", "reply"), ARGUMENTS)
async def test_mail_arguments(house: House, command: str, reply: str) -> None:
    async with await Client.connect(house.smtp) as client:
        await client.talk("""
            s: 220
            c: EHLO x
            s: 250
        """)
        assert (await client.ask(command)).startswith(reply)
        assert (await client.ask("NOOP")).startswith("250")
