"""The source and the sink: exact counts at both ends, whatever arrives in whatever pieces."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from bench.programs import Load, Sink, Source, fingerprint, message_id
from bench.workloads import Expected, expected_lines, fan_out, flat
from tests.support.ports import free_port, release_port

TIMEOUT = 30


@contextmanager
def session(port: int) -> Iterator[tuple[socket.socket, BinaryIO]]:
    """A connection to the sink after EHLO, and its answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as raw, raw.makefile("rb") as answers:
        assert answers.readline().startswith(b"220 ")
        raw.sendall(b"EHLO me\r\n")
        offered = []
        while (line := answers.readline())[3:4] == b"-":
            offered.append(line[4:].strip())
        offered.append(line[4:].strip())
        assert {b"PIPELINING", b"8BITMIME", b"SMTPUTF8", b"DSN", b"ENHANCEDSTATUSCODES"} <= set(offered)
        yield raw, answers


def envelope(*recipients: str) -> bytes:
    lines = ["MAIL FROM:<a@example.org>", *(f"RCPT TO:<{one}>" for one in recipients), "DATA"]
    return "".join(f"{line}\r\n" for line in lines).encode()


def message(identity: str, body: str = "text\r\n") -> bytes:
    return f"Subject: s\r\nMESSAGE-id:\r\n <{identity}>\r\n\r\n{body}.\r\n".encode()


def codes(answers: BinaryIO, count: int) -> list[int]:
    return [int(answers.readline()[:3]) for _ in range(count)]


def check(sink: Sink, folder: Path, every: Sequence[Expected]) -> dict[str, int]:
    path = folder / "expected"
    path.write_text("".join(expected_lines(every)))
    return sink.check(path)


def test_every_message_of_a_load_arrives_and_is_known_to_both_ends(
    built: Path, sinks: Callable[..., Sink], tmp_path: Path
) -> None:
    sink = sinks()
    load = Load([f"r{number}@example.org" for number in range(7)], 300, connections=5, recipients=3, prefix="p")
    source = Source(built, sink.port, "smtp", load)
    assert sink.wait(900, TIMEOUT)
    sent = source.finish(TIMEOUT)
    seen = sink.messages()
    assert [one.code for one in sent] == [250] * 300
    assert {one.id for one in sent} == set(seen) == {fingerprint(message_id("p", number)) for number in range(300)}
    assert {one.copies for one in seen.values()} == {3}
    assert all(one.began <= seen[one.id].first <= seen[one.id].last <= one.answered for one in sent)
    counts = sink.counts()
    assert (counts["copies"], counts["pairs"], counts["twice"], counts["connections"]) == (900, 900, 0, 5)


def test_what_is_lost_doubled_and_unexpected_is_told_exactly(sinks: Callable[..., Sink], tmp_path: Path) -> None:
    sink = sinks()
    groups = flat("team", [2, 2])
    expected = fan_out(groups, 2, prefix="p")
    first, second, third, _ = [one for group in groups for one in group.members]
    with session(sink.port) as (raw, answers):
        raw.sendall(envelope(first, second, first.upper()))
        assert codes(answers, 5) == [250, 250, 250, 250, 354]
        raw.sendall(message(message_id("p", 0)) + envelope(third, "stranger@example.org"))
        assert codes(answers, 5) == [250, 250, 250, 250, 354]
        raw.sendall(message(message_id("p", 1)) + b"QUIT\r\n")
        assert codes(answers, 2) == [250, 221]
    counts = sink.counts()
    assert (counts["copies"], counts["pairs"], counts["twice"], counts["messages"]) == (5, 4, 1, 2)
    assert check(sink, tmp_path, [expected]) == {"expected": 4, "lost": 1, "unexpected": 1}
    sink.reset()
    assert sink.counts()["copies"] == 0
    assert check(sink, tmp_path, [expected]) == {"expected": 4, "lost": 4, "unexpected": 0}


def test_two_loads_are_checked_together(built: Path, sinks: Callable[..., Sink], tmp_path: Path) -> None:
    sink = sinks()
    one = Expected(Load(["a@example.org", "b@example.org"], 4, 2, prefix="one"), [["a@example.org"], ["b@example.org"]])
    two = Expected(Load(["c@example.org"], 3, 1, prefix="two"), [["c@example.org"]])
    for expected in (one, two):
        assert {sent.code for sent in Source(built, sink.port, "smtp", expected.load).finish(TIMEOUT)} == {250}
    assert check(sink, tmp_path, [one, two]) == {"expected": 7, "lost": 0, "unexpected": 0}


def test_a_message_is_the_same_however_it_is_cut(sinks: Callable[..., Sink]) -> None:
    sink = sinks()
    content = message("cut@example.org", "one\r\n..two\r\n. three\r\n.four\r\n")
    with session(sink.port) as (raw, answers):
        for size in (1, 2, 3, 5, len(content)):
            raw.sendall(envelope(f"size-{size}@example.org"))
            assert codes(answers, 3) == [250, 250, 354]
            for start in range(0, len(content), size):
                raw.sendall(content[start : start + size])
            assert codes(answers, 1) == [250]
    assert {identity: seen.copies for identity, seen in sink.messages().items()} == {fingerprint("cut@example.org"): 5}


def test_a_message_without_a_name_or_of_nothing_at_all_is_counted_too(sinks: Callable[..., Sink]) -> None:
    sink = sinks()
    with session(sink.port) as (raw, answers):
        for content in (b".\r\n", b"Subject: s\r\n\r\nx\r\n.\r\n"):
            raw.sendall(envelope("a@example.org"))
            assert codes(answers, 3) == [250, 250, 354]
            raw.sendall(content)
            assert codes(answers, 1) == [250]
    assert sink.counts()["nameless"] == 2


def test_bad_commands_are_refused_and_count_for_nothing(sinks: Callable[..., Sink]) -> None:
    sink = sinks()
    with session(sink.port) as (raw, answers):
        raw.sendall(b"RCPT TO:nobody\r\nDATA\r\nVRFY x\r\nRSET\r\n")
        assert codes(answers, 4) == [501, 554, 500, 250]
    assert sink.counts()["transactions"] == 0


def test_a_distant_sink_answers_each_group_of_commands_later_and_connections_do_not_wait_for_each_other(
    built: Path, sinks: Callable[..., Sink]
) -> None:
    delay, connections = 0.1, 20
    sink = sinks(delay)
    began = time.monotonic()
    load = Load(["a@example.org"], connections, connections=connections, prefix="far")
    sent = Source(built, sink.port, "smtp", load).finish(TIMEOUT)
    took = max(one.answered for one in sent) - began
    # the greeting, EHLO, the envelope and the message: four groups, for twenty connections at once
    assert 4 * delay <= took < 4 * delay * connections / 2
    assert min(one.answered - one.began for one in sent) >= 2 * delay


def test_waiting_for_more_than_comes_ends_and_the_sink_still_answers(sinks: Callable[..., Sink]) -> None:
    sink = sinks()
    assert not sink.wait(1, 0.2)
    assert sink.counts()["pairs"] == 0


def test_a_source_notes_what_was_refused_and_what_broke(built: Path) -> None:
    port = free_port()
    server = socket.create_server(("127.0.0.1", port))
    server.settimeout(TIMEOUT)
    source = Source(built, port, "smtp", Load(["a@example.org"], 3, connections=1, prefix="bad"))
    connection, _ = server.accept()
    with server, connection, connection.makefile("rb") as commands:
        connection.sendall(b"220 hello\r\n")
        assert commands.readline() == b"EHLO source.example.test\r\n"
        connection.sendall(b"250-hello\r\n250 PIPELINING\r\n")
        assert [commands.readline()[:4] for _ in range(3)] == [b"MAIL", b"RCPT", b"DATA"]
        connection.sendall(b"250 ok\r\n550 no\r\n554 nobody\r\n")
        assert commands.readline() == b"RSET\r\n"
        connection.sendall(b"250 ok\r\n")
        assert [commands.readline()[:4] for _ in range(3)] == [b"MAIL", b"RCPT", b"DATA"]
    sent = source.finish(TIMEOUT)
    release_port(port)
    assert [one.code for one in sent] == [550, 0, 0]


def test_a_rate_spreads_the_messages(built: Path, sinks: Callable[..., Sink]) -> None:
    sink = sinks()
    sent = Source(built, sink.port, "smtp", Load(["a@example.org"], 20, connections=2, rate=50, prefix="slow")).finish(
        TIMEOUT
    )
    began = sorted(one.began for one in sent)
    assert began[-1] - began[0] >= 19 / 50 - 0.05


@pytest.mark.parametrize("text", ["", "a", "Load.17@Source.Example.TEST", "йордан@example.org"])
def test_a_fingerprint_does_not_see_the_case_of_letters(text: str) -> None:
    assert fingerprint(text) == fingerprint(text.swapcase() if text.isascii() else text)
    assert 0 < fingerprint(text) < 1 << 64
