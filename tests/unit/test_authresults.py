"""Authentication-Results: only the topmost field of a relay counts, and only for the author's own domain (RFC 8601)."""

from __future__ import annotations

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
        ("dmarc=pass header.from=evil.example", None),
        ("dmarc=pass", None),
        ("dmarc=none header.from=example.org; dkim=pass header.d=example.org", "pass"),
        ("dkim=pass header.d=example.org header.s=s1", "pass"),
        ('dkim=pass reason="good; dkim=fail" header.d="example.org"', "pass"),
        ("dkim=pass header.i=@example.org", "pass"),
        ("dkim=pass header.i=ana@example.org", "pass"),
        ("dkim/1 = pass header.d = example.org", "pass"),
        ("dkim=pass header.d=evil.example", None),
        ("dkim=pass header.d=notexample.org", None),
        ("dkim=pass header.d=sub.example.org", None),
        ("dkim=fail header.d=example.org", "fail"),
        ("dkim=fail header.d=example.org; spf=pass smtp.mailfrom=bounce@example.org", "pass"),
        ("spf=pass smtp.mailfrom=ana@example.org", "pass"),
        ("spf=pass smtp.mailfrom=example.org", "pass"),
        ("spf=pass smtp.mailfrom=evil.example", None),
        ("spf=fail smtp.mailfrom=ana@example.org", "fail"),
        ("spf=softfail smtp.mailfrom=ana@example.org", None),
        ("none", None),
        ("(dmarc=pass header.from=example.org)", None),
        ("x=y (; dmarc=pass header.from=example.org", None),
        ("arc=pass; auth=pass smtp.auth=ana@example.org", None),
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


def test_only_believed_names_count() -> None:
    top = head("Authentication-Results: (c) MX.example.com 1; dmarc=pass header.from=example.org", FROM)
    assert trusted_author(top, authserv={"mx.example.com"}) == "pass"
    assert trusted_author(top, authserv={"other.example.com"}) is None
