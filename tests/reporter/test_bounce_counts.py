"""Which failures count against an address: what mail systems say, and what each of it means. In doubt, it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reporter.bounces.counts import counts

GOOGLE = (
    "The email account that you tried to reach does not exist. Please try double-checking the recipient's email address for typos or "
    "unnecessary spaces. For more information, go to https://support.google.com/mail/?p=NoSuchUser a640c23a62f3a-b7f.32 - gsmtp"
)
DEAD = [
    # code, status, text
    (550, "5.1.1", "<boris@x.test>: Recipient address rejected: User unknown in virtual mailbox table"),  # Postfix
    (
        550,
        "5.1.1",
        "<boris@x.test>: Recipient address rejected: User unknown in relay recipient table",
    ),  # Postfix before another
    (550, "5.1.1", GOOGLE),  # Gmail
    (
        550,
        "5.1.10",
        "RESOLVER.ADR.RecipientNotFound; Recipient boris@x.test not found by SMTP address lookup",
    ),  # Exchange Online
    (550, "5.1.1", "RESOLVER.ADR.RecipNotFound; not found"),  # Exchange
    (550, "5.1.1", "<boris@x.test>... User unknown"),  # sendmail
    (550, "5.1.1", "sorry, no mailbox here by that name (#5.1.1 - chkuser)"),  # qmail
    (550, "5.0.0", "Unrouteable address"),  # Exim
    (550, "", "Unknown user"),  # an old server
    (
        554,
        "5.0.0",
        "delivery error: dd This user doesn't have a yahoo.test account (boris@x.test) [-5] - mta.mail.test",
    ),  # Yahoo
    (0, "5.0.0", "550 5.1.1 User unknown"),  # the code in the text alone
    (0, "", "550 Няма такъв потребител"),  # mail.bg
    (0, "5.0.0", "Потребителят не съществува"),  # abv.bg
    (0, "", "Несъществуваща пощенска кутия"),
    (
        550,
        "5.0.0",
        "Message was not accepted -- invalid mailbox. Local mailbox boris@x.test is unavailable: user not found",
    ),  # mail.ru
    (550, "5.1.0", "Address rejected. No such user here"),
    (550, "5.2.1", "The email account that you tried to reach is inactive."),  # Gmail
    (550, "5.2.1", "mailbox disabled, not accepting messages"),
    (550, "5.1.2", "The domain does not exist"),  # our own word
    (556, "5.1.10", "The domain accepts no mail (null MX)"),
    (553, "5.1.3", "The recipient address cannot be sent over SMTP"),
    (550, "5.1.6", "User has moved; please try another address"),
    (550, "5.1.1", "<spam@policy.test>: no such user, see https://dmarc.test/blocked"),  # names are no words
    (551, "5.1.1", "not our customer"),
    (550, "", "No such recipient here"),
]
ALIVE = [
    (550, "5.7.1", "Message rejected due to content restrictions"),
    (550, "5.7.1", "No such user!"),  # whatever it says
    (550, "5.7.26", "Unauthenticated email from author.test is not accepted due to domain's DMARC policy"),  # Gmail
    (554, "5.0.0", "Transaction failed: message rejected per DMARC policy"),
    (550, "5.1.1", "Rejected: SPF check failed for the sender domain"),
    (550, "5.1.1", "550 5.7.1 blocked using zen.spamhaus.test"),
    (554, "5.1.1", "Your IP is on a blacklist"),
    (550, "5.1.1", "rejected: your host is listed in zen.spamhaus.test"),
    (550, "5.1.1", "Your mail was identified as junk"),
    (550, "5.1.1", "banned sending IP [192.0.2.1]"),
    (550, "5.1.0", "Client host rejected: cannot find your reverse hostname: unknown user"),
    (550, "5.1.1", "relay recipient table: relaying to unknown user"),
    (550, "5.1.0", "<office-bounces@example.test>: Sender address rejected: User unknown"),
    (550, "5.1.0", "Address rejected"),  # of whom, it does not say
    (553, "5.1.7", "The sender address cannot be sent over SMTP"),
    (550, "5.1.8", "Domain of sender address does not exist"),
    (550, "5.1.5", "Destination valid"),
    (550, "5.1.9", "relayed to a non-compliant mailer"),
    (552, "5.2.2", "mailbox full"),
    (552, "5.2.2", "user unknown or over quota"),
    (550, "5.1.1", "mailbox over quota"),
    (
        550,
        "5.2.1",
        "The user you are trying to contact is receiving mail at a rate that prevents additional messages",
    ),  # Gmail
    (550, "5.2.1", "not accepting messages"),
    (552, "5.2.3", "message too large"),
    (550, "5.3.4", "message too big"),
    (550, "5.4.1", "Recipient address rejected: Access denied"),  # Exchange Online
    (554, "5.4.6", "too many hops"),
    (554, "5.4.7", "Delivery time expired; the last answer was: 450 4.1.1 user unknown"),
    (550, "5.4.4", "None of the domain's mail exchangers has an address"),
    (550, "5.5.0", "Requested action not taken: mailbox unavailable (S2017062302)"),  # Outlook.com
    (550, "5.0.0", "Requested action not taken: mailbox unavailable"),
    (554, "5.5.1", "no valid recipients"),
    (550, "5.6.7", "The next hop does not support internationalized mail (SMTPUTF8)"),
    (554, "5.4.2", "No reply after the final dot, again and again: the message may have been taken more than once"),
    (450, "4.1.1", "User unknown (greylisted)"),
    (451, "", "user unknown"),
    (0, "4.0.0", "426 connection timed out"),
    (0, "4.4.7", "user unknown"),
    (0, "5.1.1", "450 4.2.0 mailbox busy"),
    (250, "2.1.5", "ok"),
    (0, "", ""),
    (550, "", "Relaying denied"),
    (550, "5.0.0", "Съобщението е спам"),
    (550, "5.1.1", "Кутията е пълна"),
    (550, "5.9.9", "user unknown"),
]


@pytest.mark.parametrize(("code", "status", "text"), DEAD)
def test_a_dead_address_counts(code: int, status: str, text: str) -> None:
    assert counts(code, status, text)
    assert counts(code, status, text.upper())


@pytest.mark.parametrize(("code", "status", "text"), ALIVE)
def test_what_is_not_the_addresss_fault_never_counts(code: int, status: str, text: str) -> None:
    assert not counts(code, status, text)
    assert not counts(code, status, text.upper())


@given(st.integers(0, 700), st.text(max_size=12), st.text(max_size=600))
def test_it_answers_whatever_it_is_asked(code: int, status: str, text: str) -> None:
    assert counts(code, status, text) in (True, False)


@given(
    st.sampled_from(DEAD), st.sampled_from(["5.7.1", "5.7.26", "4.2.2", "5.2.2", "DMARC", "spam", "blacklisted sender"])
)
def test_a_word_of_policy_undoes_the_rest(dead: tuple[int, str, str], word: str) -> None:
    code, status, text = dead
    assert not counts(code, status, f"{text} ({word})")
