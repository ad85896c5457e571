"""Authentication-Results: only the topmost field of a relay counts, and only for the author's own domain (RFC 8601)."""

from __future__ import annotations

import time

import pytest

from shared.authresults import trusted_author


def head(*lines: bytes | str) -> bytes:
    return b"".join((line if isinstance(line, bytes) else line.encode()) + b"\r\n" for line in lines) + b"\r\n"


# --- a trusted relay's verdict ------------------------------------------------------------------------------------------------------
AR = "Authentication-Results: mx.example.com; "
FROM = "From: ana@example.org"


@pytest.mark.parametrize(
    ("result", "verdict"),
    [
        ("dmarc=pass header.from=example.org", "pass"),
        ("dmarc=pass (p=REJECT dis=NONE) header.from=Example.ORG", "pass"),
        ("dmarc=fail (p=none; x) header.from=example.org", "fail"),
        ("dmarc=fail header.from=example.org; dkim=pass header.d=example.org", "fail"),
        ("dmarc=pass header.from=evil.example", "fail"),
        ("dmarc=pass", "fail"),
        ("dmarc=none header.from=example.org; dkim=pass header.d=example.org", "pass"),
        ("dkim=pass header.d=example.org header.s=s1", "pass"),
        ('dkim=pass reason="good; dkim=fail" header.d="example.org"', "pass"),
        ("dkim=pass header.i=@example.org", "pass"),
        ("dkim=pass header.i=ana@example.org", "pass"),
        ("dkim/1 = pass header.d = example.org", "pass"),
        ("dkim=pass header.d=evil.example", "fail"),
        ("dkim=pass header.d=notexample.org", "fail"),
        ("dkim=pass header.d=sub.example.org", "fail"),
        ("dkim=fail header.d=example.org", "fail"),
        ("dkim=fail header.d=example.org; spf=pass smtp.mailfrom=bounce@example.org", "pass"),
        ("spf=pass smtp.mailfrom=ana@example.org", "pass"),
        ("spf=pass smtp.mailfrom=example.org", "pass"),
        ("spf=pass smtp.mailfrom=evil.example", "fail"),
        ("spf=fail smtp.mailfrom=ana@example.org", "fail"),
        ("spf=softfail smtp.mailfrom=ana@example.org", "fail"),
        ("none", None),
        ("(dmarc=pass header.from=example.org)", None),
        ("x=y (; dmarc=pass header.from=example.org", None),
        ("spf=pass smtp.mailfrom=x@evil.example; dkim=none; dmarc=none header.from=example.org", "fail"),
        ("spf=none smtp.mailfrom=x@evil.example; dkim=none", "fail"),
        ("dmarc=temperror header.from=example.org", "unsure"),
        ("spf=temperror smtp.mailfrom=ana@example.org; dkim=pass header.d=example.org", "pass"),
        ("arc=pass; iprev=pass", None),
        ("auth=pass smtp.auth=ana@example.org", "pass"),
        ("auth=pass smtp.auth=Ana+work@Example.org; dmarc=fail header.from=example.org", "pass"),
        ("auth=pass smtp.auth=boris@example.org; spf=pass smtp.mailfrom=example.org", "fail"),
        ("auth=pass smtp.auth=ana; spf=none", None),
        ("auth=pass smtp.auth=ana; spf=pass smtp.mailfrom=example.org", "pass"),
        ("auth=fail smtp.auth=ana@example.org", None),
        ("", None),
    ],
)
def test_verdicts(result: str, verdict: str | None) -> None:
    assert trusted_author(head(AR + result, FROM)) == verdict


def test_the_author_may_be_of_a_domain_below_the_signers() -> None:
    assert trusted_author(head(AR + "dkim=pass header.d=example.org", "From: ana@mail.example.org")) == "pass"


def test_only_the_topmost_results_count() -> None:
    good, bad = AR + "dmarc=pass header.from=example.org", AR + "dmarc=fail header.from=example.org"
    assert trusted_author(head(bad, good, FROM)) == "fail"
    assert trusted_author(head(AR + "none", good, FROM)) is None
    assert trusted_author(head("Received: from client by relay", good, FROM)) == "pass"
    assert trusted_author(head("Received: by relay", "Received: from evil", good, FROM)) is None
    assert trusted_author(head(good, FROM, "From: boris@example.org")) is None
    assert trusted_author(head(FROM)) is None
    assert trusted_author(head(good + " x" * 9000, FROM)) is None


def test_a_relay_of_several_filters_writes_several_fields() -> None:
    """OpenDKIM and OpenDMARC do. They stand above the relay's own Received; what stands below it was there before."""
    received, dkim = "Received: from client by mx.example.com", AR + "dkim=none"
    good, bad = AR + "dmarc=pass header.from=example.org", AR + "dmarc=fail header.from=example.org"
    foreign = "Authentication-Results: other.example; dmarc=pass header.from=example.org"
    assert trusted_author(head(dkim, good, received, FROM)) == "pass"
    assert trusted_author(head(AR + "dkim=pass header.d=example.org", bad, received, FROM)) == "fail"
    assert trusted_author(head(dkim, foreign, received, FROM)) == "fail"
    assert trusted_author(head(dkim, received, good, FROM)) == "fail"
    assert trusted_author(head(received, dkim, good, FROM)) == "fail"
    assert trusted_author(head(dkim, good, FROM)) == "fail"
    assert trusted_author(head(*[dkim] * 1000, good, received, FROM)) is None


def test_p10_white_space_is_cheap() -> None:
    started = time.process_time()
    trusted_author(head(AR + "x;" + " " * 16000 + "z", FROM))
    assert time.process_time() - started < 0.1


def test_only_believed_names_count() -> None:
    top = head("Authentication-Results: (c) MX.example.com 1; dmarc=pass header.from=example.org", FROM)
    assert trusted_author(top, authserv={"mx.example.com"}) == "pass"
    assert trusted_author(top, authserv={"other.example.com"}) is None
