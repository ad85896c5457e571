"""Transactions against the sink: what each recipient is answered, and how many copies the sink has."""

from __future__ import annotations

import re

import pytest

from shared.messages import Content, Recipient
from tests.sender.making import CONTENT, HEAD, ShelfOfBodies, codes, deliver, envelope, hops, towards, unknowns
from tests.support.sink import Sink

STEPWISE = ["no-pipelining"]


@pytest.mark.parametrize("faults", [[], STEPWISE])
async def test_mixed_replies_are_each_recipients_own_fate(faults: list[str]) -> None:
    async with Sink(*faults) as sink:
        sent = await deliver(
            sink, "ana@x.test", "550_b@x.test", "450-1_c@x.test", "552_d@x.test", "452_e@x.test", "eva@x.test"
        )
    assert codes(sent) == [
        (250, "2.0.0"), (550, "5.1.1"), (450, "4.7.1"), (552, "5.2.2"), (452, "4.3.1"), (250, "2.0.0"),
    ]  # fmt: skip
    assert sink.counts == {"ana@x.test": 1, "eva@x.test": 1}


@pytest.mark.parametrize("faults", [[], STEPWISE])
async def test_p8_the_content_arrives_byte_for_byte(faults: list[str]) -> None:
    async with Sink(*faults) as sink:
        await deliver(sink, "ana@x.test")
    assert sink.copies[0].content == CONTENT.head + CONTENT.tail
    assert sink.copies[0].mail_from == "office-bounces+t0@example.test"


async def test_one_transaction_is_two_round_trips_and_connections_are_reused() -> None:
    async with Sink() as sink, hops() as made:
        for _ in range(5):
            await made.deliver(towards(sink), envelope("a@x.test", "b@x.test"), CONTENT)
    assert sink.connections == 1
    assert sink.transactions == 5
    assert sink.commands.count("RSET") == 4


@pytest.mark.parametrize(
    ("sender", "recipient", "code", "unknown", "copies"),
    [
        ("550-mail_s@x.test", "ana@x.test", 550, False, 0),
        ("450-mail_s@x.test", "ana@x.test", 450, False, 0),
        ("421-mail_s@x.test", "ana@x.test", 421, False, 0),
        ("drop-mail_s@x.test", "ana@x.test", 451, False, 0),
        ("hang-mail_s@x.test", "ana@x.test", 451, False, 0),
        ("s@x.test", "421-rcpt_a@x.test", 421, False, 0),
        ("s@x.test", "drop-rcpt_a@x.test", 451, False, 0),
        ("s@x.test", "hang-rcpt_a@x.test", 451, False, 0),
        ("s@x.test", "drip-rcpt_a@x.test", 451, False, 0),
        ("s@x.test", "garbage_a@x.test", 451, False, 0),
        ("s@x.test", "longline_a@x.test", 451, False, 0),
        ("s@x.test", "manylines_a@x.test", 451, False, 0),
        ("s@x.test", "dup_a@x.test", 451, False, 0),
        ("s@x.test", "550-data_a@x.test", 550, False, 0),
        ("s@x.test", "450-data_a@x.test", 450, False, 0),
        ("s@x.test", "421-data_a@x.test", 421, False, 0),
        ("s@x.test", "drop-data_a@x.test", 451, False, 0),
        ("s@x.test", "hang-data_a@x.test", 451, False, 0),
        ("s@x.test", "250-data_a@x.test", 451, False, 0),
        ("s@x.test", "552-dot_a@x.test", 552, False, 0),
        ("s@x.test", "450-dot_a@x.test", 450, False, 0),
        ("s@x.test", "421-dot_a@x.test", 421, False, 0),
        ("s@x.test", "drop-dot-lost_a@x.test", 451, True, 0),
        ("s@x.test", "drop-dot-stored_a@x.test", 451, True, 1),
    ],
)
@pytest.mark.parametrize("faults", [[], STEPWISE])
async def test_trouble_at_every_point(
    sender: str, recipient: str, code: int, unknown: bool, copies: int, faults: list[str]
) -> None:
    async with Sink(*faults) as sink:
        sent = await deliver(sink, recipient, "eva@x.test", sender=sender)
    # the other recipient shares what befell the transaction, and never counts as delivered
    assert codes(sent)[0][0] == code
    assert codes(sent)[1][0] // 100 == code // 100
    assert unknowns(sent) == [unknown, unknown]
    assert sum(sink.counts.values()) == copies * 2


async def test_a_next_hop_that_never_answers_the_final_dot_leaves_it_unknown() -> None:
    async with Sink() as sink:
        sent = await deliver(sink, "hang-dot_a@x.test", hop_timeout="0.05s")
    assert codes(sent) == [(451, "4.4.2")]
    assert unknowns(sent) == [True]


@pytest.mark.parametrize("behaviour", ["early", "drop-body", "552-early"])
async def test_trouble_within_the_body_is_never_taken_for_delivery(behaviour: str) -> None:
    shelf = ShelfOfBodies()
    ref = await shelf.put(b"x" * 78 + b"\r\n" + (b"y" * 78 + b"\r\n") * 100_000)
    async with Sink() as sink:
        sent = await deliver(sink, f"{behaviour}_a@x.test", content=Content(head=HEAD, ref=ref), bodies=shelf)
    assert codes(sent)[0][0] in ({552, 451} if behaviour == "552-early" else {451})
    assert unknowns(sent) == [False]
    assert not sink.copies


async def test_a_server_that_says_250_before_it_saw_an_inline_message_is_not_believed() -> None:
    async with Sink() as sink:
        sent = await deliver(sink, "early_a@x.test")
    assert codes(sent) == [(451, "4.5.0")]
    assert unknowns(sent) == [False]
    assert not sink.copies


@pytest.mark.parametrize("fault", ["drop-banner", "hang-banner", "421-banner", "554-banner"])
async def test_a_greeting_that_fails_is_temporary(fault: str) -> None:
    async with Sink(fault) as sink:
        sent = await deliver(sink, "ana@x.test", hop_timeout="0.2s")
    assert codes(sent)[0][0] // 100 == 4
    assert not sink.copies


async def test_a_next_hop_that_is_not_there_is_temporary() -> None:
    async with Sink() as sink:
        pass
    sent = await deliver(sink, "ana@x.test", "eva@x.test")
    assert codes(sent) == [(451, "4.4.1")] * 2


# --- too many recipients ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fault", ["limit-3", "limit552-3"])
@pytest.mark.parametrize("faults", [[], STEPWISE])
async def test_f25_too_many_recipients_are_sent_at_once_in_further_transactions(fault: str, faults: list[str]) -> None:
    names = [f"u{number}@x.test" for number in range(10)]
    async with Sink(fault, *faults) as sink, hops() as made:
        sent = await made.deliver(towards(sink), envelope(*names), CONTENT)
        first = len([command for command in sink.commands if command.startswith("RCPT")])
        again = await made.deliver(towards(sink), envelope(*names), CONTENT)
    assert codes(sent) == codes(again) == [(250, "2.0.0")] * 10
    assert set(sink.counts.values()) == {2}
    # the limit is remembered: 10, then 3 + 3 + 1 for the 7 left; the second delivery is cut from the start
    assert first == 17
    assert len([command for command in sink.commands if command.startswith("RCPT")]) == first + 10


async def test_f25_a_split_keeps_the_permanent_and_temporary_answers_of_the_others() -> None:
    async with Sink("limit-1") as sink:
        sent = await deliver(sink, "a@x.test", "550_b@x.test", "c@x.test", "450-9_d@x.test", "e@x.test")
    assert [code for code, _ in codes(sent)] == [250, 550, 250, 450, 250]
    assert sink.counts == {"a@x.test": 1, "c@x.test": 1, "e@x.test": 1}


async def test_a_server_that_is_full_for_the_first_recipient_gets_no_second_transaction() -> None:
    async with Sink("limit-0") as sink:
        sent = await deliver(sink, "a@x.test", "b@x.test")
    assert codes(sent) == [(452, "4.5.3")] * 2
    assert sink.commands.count("DATA") == 1


# --- one transaction a recipient (verp) ------------------------------------------------------------------------------
@pytest.mark.parametrize("faults", [[], STEPWISE, ["close-after-3"], [*STEPWISE, "close-after-3"]])
async def test_a_sender_of_its_own_for_every_recipient(faults: list[str]) -> None:
    names = [f"u{number}@x.test" for number in range(20)]
    senders = tuple(f"b-{number}@example.test" for number in range(20))
    async with Sink(*faults) as sink:
        sent = await deliver(sink, *names, senders=senders)
    assert codes(sent) == [(250, "2.0.0")] * 20
    copies = [(copy.mail_from, copy.recipient) for copy in sink.copies]
    assert sorted(copies) == sorted(zip(senders, names, strict=True))


async def test_a_chain_keeps_the_answers_before_and_after_a_refusal_apart() -> None:
    names = ("a@x.test", "550_b@x.test", "c@x.test", "552-dot_d@x.test", "e@x.test")
    async with Sink() as sink:
        sent = await deliver(sink, *names, senders=tuple(f"b-{number}@example.test" for number in range(5)))
    assert [code for code, _ in codes(sent)] == [250, 550, 250, 552, 250]
    assert sink.counts == {"a@x.test": 1, "c@x.test": 1, "e@x.test": 1}


async def test_a_chain_that_breaks_leaves_one_unknown_and_the_rest_is_sent_elsewhere() -> None:
    names = ("a@x.test", "drop-dot-stored_b@x.test", "c@x.test", "e@x.test")
    async with Sink() as sink:
        sent = await deliver(sink, *names, senders=tuple(f"b-{number}@example.test" for number in range(4)))
    assert unknowns(sent) == [False, True, False, False]
    assert [code for code, _ in codes(sent)] == [250, 451, 250, 250]
    assert set(sink.counts.values()) == {1}
    assert sink.connections == 2


# --- stale connections -----------------------------------------------------------------------------------------------
async def test_a_connection_that_went_stale_is_replaced_without_a_failure() -> None:
    async with Sink("close-after-1") as sink, hops() as made:
        for _ in range(3):
            sent = await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)
            assert codes(sent) == [(250, "2.0.0")]
    assert sink.counts == {"ana@x.test": 3}
    assert sink.connections == 3


async def test_an_unasked_for_reply_ends_the_connection_before_the_next_transaction() -> None:
    async with Sink("extra-reply") as sink, hops() as made:
        for _ in range(3):
            assert codes(await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)) == [(250, "2.0.0")]
        assert codes(await made.deliver(towards(sink), envelope("550_b@x.test"), CONTENT)) == [(550, "5.1.1")]
    assert sink.counts == {"ana@x.test": 3}


@pytest.mark.parametrize("faults", [[], STEPWISE])
async def test_a_refusal_of_the_transaction_is_told_from_that_of_an_address(faults: list[str]) -> None:
    """Bounces are scored by it: a server that refuses our sender, or the message to several, says nothing of an address."""
    async with Sink(*faults) as sink:
        sender = await deliver(sink, "ana@x.test", sender="550-mail_s@x.test")
        mixed = await deliver(sink, "550_b@x.test", "ana@x.test", "552-dot_c@x.test", "eva@x.test")
        alone = await deliver(sink, "552-dot_c@x.test")
    told = [[answer is not None and answer.common for answer in sent.answers] for sent in (sender, mixed, alone)]
    assert codes(mixed)[1][0] == codes(alone)[0][0] == 552
    assert told == [[True], [False, True, True, True], [False]]


# --- everybody refused ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("faults", [[], STEPWISE, ["accept-data"]])
async def test_f27_nobody_accepted_means_nothing_is_sent(faults: list[str]) -> None:
    async with Sink(*faults) as sink, hops() as made:
        for _ in range(2):
            sent = await made.deliver(towards(sink), envelope("550_a@x.test", "550_b@x.test"), CONTENT)
            assert codes(sent) == [(550, "5.1.1")] * 2
        assert codes(await made.deliver(towards(sink), envelope("ana@x.test"), CONTENT)) == [(250, "2.0.0")]
    assert [copy.recipient for copy in sink.copies if copy.content] == ["ana@x.test"]


# --- extensions -------------------------------------------------------------------------------------------------------
async def test_parameters_follow_what_is_offered() -> None:
    recipients = (Recipient(address="ana@x.test", notify=("FAILURE",), orcpt="rfc822;ana@x.test"),)
    content = Content(head=HEAD, tail="жаба\r\n".encode())
    expected = {
        (): [
            "MAIL FROM:<s@x.test> SIZE=54 BODY=8BITMIME RET=HDRS ENVID=E1",
            "RCPT TO:<ana@x.test> NOTIFY=FAILURE ORCPT=rfc822;ana@x.test",
        ],
        ("no-dsn", "no-8bit", "no-size"): ["MAIL FROM:<s@x.test>", "RCPT TO:<ana@x.test>"],
        ("no-ehlo",): ["MAIL FROM:<s@x.test>", "RCPT TO:<ana@x.test>"],
    }
    for faults, lines in expected.items():
        async with Sink(*faults) as sink:
            sent = await deliver(
                sink, recipients=recipients, sender="s@x.test", envid="E1", ret="HDRS", content=content
            )
        assert codes(sent) == [(250, "2.0.0")]  # 8-bit content goes as it is, offered or not
        assert [line for line in sink.commands if line[:4] in ("MAIL", "RCPT")] == lines
        assert sink.copies[0].content == content.head + content.tail


async def test_f31_only_those_who_need_smtputf8_fail_where_it_is_not_offered() -> None:
    for faults, expected in (([], [250, 250]), (["no-utf8"], [550, 250])):
        async with Sink(*faults) as sink:
            sent = await deliver(sink, "жана@x.test", "ana@x.test", smtputf8=True)
        assert [code for code, _ in codes(sent)] == expected
        assert sink.counts["ana@x.test"] == 1
        assert any(line.endswith("SMTPUTF8") for line in sink.commands) is (not faults)
    assert codes(sent)[0] == (550, "5.6.7")


async def test_f31_utf8_in_the_head_needs_smtputf8_for_everybody() -> None:
    content = Content(head="Subject: жаба\r\n\r\n".encode(), tail=b"x\r\n")
    async with Sink("no-utf8") as sink:
        flagged = await deliver(sink, "ana@x.test", smtputf8=True, content=content)
        legacy = await deliver(sink, "ana@x.test", smtputf8=False, content=content)  # raw 8-bit headers of old software
    assert codes(flagged) == [(550, "5.6.7")]
    assert codes(legacy) == [(250, "2.0.0")]


async def test_a_message_larger_than_the_next_hop_takes_is_not_tried() -> None:
    async with Sink("size-20") as sink:
        sent = await deliver(sink, "ana@x.test")
    assert codes(sent) == [(552, "5.3.4")]
    assert not [line for line in sink.commands if line.startswith("MAIL")]


# --- injection ---------------------------------------------------------------------------------------------------------
async def test_addresses_that_would_inject_commands_are_refused_and_the_others_delivered() -> None:
    bad = ("a@x.test>\r\nRCPT TO:<evil@x.test", "a\rb@x.test", "a b@x.test", "no-at-sign", "a\u2028b@x.test")
    async with Sink() as sink:
        sent = await deliver(sink, *bad, "ana@x.test")
        other = await deliver(sink, "ana@x.test", sender="s@x.test>\r\nRCPT TO:<evil@x.test")
    assert codes(sent) == [(553, "5.1.3")] * 5 + [(250, "2.0.0")]
    assert codes(other) == [(553, "5.1.7")]
    assert sink.counts == {"ana@x.test": 1}
    assert not [line for line in sink.commands if "evil" in line]


async def test_control_characters_of_remote_text_are_stripped() -> None:
    async with Sink() as sink:
        sent = await deliver(sink, "bidi_a@x.test")
    assert sent.answers[0] is not None
    assert re.fullmatch(r"[ -~]+", sent.answers[0].reply.text)


# --- bodies by reference -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("faults", [[], STEPWISE])
async def test_p10_a_large_body_is_streamed_with_its_dots_stuffed_over_chunk_borders(faults: list[str]) -> None:
    shelf = ShelfOfBodies()
    shelf.chunk = 1021  # borders at every place within CRLF-dot
    stored = b"Old: head\r\n\r\n" + b".\r\n..\r\nx\r\n" * 30_000 + b"no newline at the end"
    content = Content(head=HEAD, ref=await shelf.put(stored), offset=13)
    async with Sink(*faults) as sink:
        sent = await deliver(sink, "ana@x.test", "eva@x.test", content=content, bodies=shelf)
    assert codes(sent) == [(250, "2.0.0")] * 2
    assert sink.copies[0].content == HEAD + stored[13:] + b"\r\n"
    assert sink.counts == {"ana@x.test": 1, "eva@x.test": 1}


async def test_a_body_that_breaks_off_is_never_ended_with_a_dot() -> None:
    shelf = ShelfOfBodies()
    shelf.broken_after = 3
    content = Content(head=HEAD, ref=await shelf.put(b"y" * 3_000_000))
    async with Sink() as sink:
        sent = await deliver(sink, "ana@x.test", "550_b@x.test", content=content, bodies=shelf)
    assert sent.trouble is shelf.trouble
    assert codes(sent) == [(0, ""), (550, "5.1.1")]  # what was heard before is kept
    assert not sink.copies


# --- LMTP ----------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("faults", [[], STEPWISE])
async def test_lmtp_answers_each_accepted_recipient(faults: list[str]) -> None:
    async with Sink(*faults, protocol="lmtp") as sink, hops() as made:
        for _ in range(2):
            sent = await made.deliver(
                towards(sink),
                envelope("a@x.test", "550_b@x.test", "552-dot_c@x.test", "450-dot_d@x.test", "e@x.test"),
                CONTENT,
            )
            assert [code for code, _ in codes(sent)] == [250, 550, 552, 450, 250]
    assert sink.commands[0].startswith("LHLO ")
    assert sink.counts == {"a@x.test": 2, "e@x.test": 2}
    assert sink.connections == 1


async def test_lmtp_with_a_reply_too_few_leaves_only_the_last_unknown() -> None:
    async with Sink("short-count", protocol="lmtp") as sink:
        sent = await deliver(sink, "a@x.test", "b@x.test", "c@x.test", hop_timeout="0.05s")
    assert [code for code, _ in codes(sent)] == [250, 250, 451]
    assert unknowns(sent) == [False, False, True]


async def test_lmtp_421_among_the_final_replies_is_the_answer_of_the_rest() -> None:
    async with Sink(protocol="lmtp") as sink:
        sent = await deliver(sink, "a@x.test", "421-dot_b@x.test", "c@x.test")
    assert [code for code, _ in codes(sent)] == [250, 421, 421]
    assert sink.counts == {"a@x.test": 1}


async def test_lmtp_sends_recipients_of_their_own_sender_one_by_one() -> None:
    names = [f"u{number}@x.test" for number in range(5)]
    async with Sink(protocol="lmtp") as sink:
        sent = await deliver(
            sink, *names, "552-dot_f@x.test", senders=tuple(f"b-{number}@x.test" for number in range(6))
        )
    assert [code for code, _ in codes(sent)] == [250] * 5 + [552]
    assert set(sink.counts.values()) == {1}
