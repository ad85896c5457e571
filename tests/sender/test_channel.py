"""Replies out of a stream of octets: the same however they are cut into packets, bounded, and never waited for past their time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.sender.answers import Broken
from services.sender.channel import Channel
from services.sender.wire import parse_reply
from shared.replies import Reply
from shared.routes import NextHop
from tests.sender.making import CONTENT, codes, envelope, hops
from tests.support.ports import free_port

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def naive(stream: bytes) -> tuple[list[Reply], bool]:
    """The replies of a stream, and whether something that is none comes behind them: line by line, as RFC 5321 4.2 has it."""
    replies: list[Reply] = []
    lines: list[bytes] = []
    for whole in stream.split(b"\n")[:-1]:
        line = whole.removesuffix(b"\r")
        if not re.fullmatch(rb"[2-5][0-9][0-9]([ -].*)?", line, re.S):
            return replies, True
        lines.append(line)
        if line[3:4] != b"-":
            if len({each[:3] for each in lines}) > 1:
                return replies, True
            replies.append(parse_reply(lines))
            lines = []
    return replies, False


_line = st.sampled_from(
    [b"250 2.1.5 ok", b"250 2.1.5 ok", b"250 2.1.5 ok", b"354 go on", b"250", b"550 5.1.1 no", b"250-more", b"250-more", b"421 4.3.2 bye",
     b"450 4.7.1 \xd0\xb6", b"hello", b"", b"25", b"250x", b"550-no"]
)  # fmt: skip
_ending = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])


def stream_of(lines: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(line + ending for line, ending in lines)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(_line, _ending), max_size=12).map(stream_of),
    st.lists(st.integers(1, 40), max_size=20),
    st.integers(1, 5),
)
async def test_replies_are_the_same_wherever_packets_end(stream: bytes, cuts: list[int], most: int) -> None:
    channel, heard, broken, start = Channel(), [], False, 0
    for cut in [*cuts, len(stream)]:
        channel.data_received(stream[start : start + cut])
        start += cut
        try:
            while replies := channel.ready(most):
                assert len(replies) <= most
                assert all(reply.code != 421 for reply in replies[:-1])
                heard += replies
        except Broken:
            broken = True
            break
    assert (heard, broken) == naive(stream)


async def test_what_is_no_reply_stays_trouble_and_the_connection_is_not_used_again() -> None:
    channel = Channel()
    channel.data_received(b"250 ok\r\nhello\r\n250 ok\r\n")
    assert [reply.code for reply in channel.ready(5)] == [250]
    for _ in range(2):
        with pytest.raises(Broken):
            channel.ready(5)
    assert not channel.quiet


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[NextHop]:
    """A server that does what a function does with each connection."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.CancelledError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    port = free_port()
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield NextHop("smtp", host="127.0.0.1", port=port)
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 hello\r\n")
    await reader.readline()
    writer.write(b"250-me\r\n250 PIPELINING\r\n")


async def group(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"DATA\r\n")


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        (b"250 s\r\n250 a\r\n550 5.1.1 b\r\n421 4.3.2 bye\r\n", [421, 550, 421, 421]),  # in mid pipeline
        (b"250 s\r\n250 a\r\n450 4.2.1 b\r\n250 c\r\n250 d\r\n421 4.3.2 bye\r\n", [421, 450, 421, 421]),
        (b"250 s\r\n250 a\r\n550 5.1.1 b\r\n", [451, 550, 451, 451]),  # it closes
        (b"250 s\r\n250 a\r\n550 5.1.1 b\r\nwhat?\r\n", [451, 550, 451, 451]),
        (b"421 4.3.2 bye\r\n", [421] * 4),
        (b"", [451] * 4),
        (b"250 s\r\n250 a\r\n354 b\r\n", [451] * 4),  # 3xx is no answer to RCPT
    ],
)
async def test_p4_a_conversation_that_ends_in_mid_pipeline_keeps_what_was_said(
    replies: bytes, expected: list[int]
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greeting(reader, writer)
        await group(reader)
        writer.write(replies)
        await writer.drain()

    async with scripted(script) as hop, hops(hop_timeout="5s") as made:
        sent = await made.deliver(hop, envelope(*(f"{name}@x.test" for name in "abcd")), CONTENT)
    assert [code for code, _ in codes(sent)] == expected


@pytest.mark.parametrize("flood", [b"250 2.0.0 ok\r\n", b"250-ok\r\n", b"x"])
async def test_p10_a_flood_of_replies_is_neither_believed_nor_stored(flood: bytes) -> None:
    taken = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await greeting(reader, writer)
        await group(reader)
        block = flood * (65536 // len(flood))
        while taken < 64 << 20:
            writer.write(block)
            await asyncio.wait_for(writer.drain(), 1)
            taken += len(block)

    async with scripted(script) as hop, hops(hop_timeout="5s") as made:
        sent = await made.deliver(hop, envelope("ana@x.test", "b@x.test"), CONTENT)
        assert [code for code, _ in codes(sent)] == [451, 451]
    assert taken < 32 << 20  # what the two systems' buffers hold, and no more


async def test_a_server_that_drips_replies_does_not_keep_us_past_the_time_of_a_whole_message() -> None:
    """Each reply comes in time, and a hundred of them would take ten times as long as any server gets after a final dot."""
    dripped = 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greeting(reader, writer)
        await group(reader)
        nonlocal dripped
        while True:
            writer.write(b"250 ok\r\n")
            dripped += 1
            await asyncio.sleep(0.03)

    names = [f"{number}@x.test" for number in range(100)]
    async with scripted(script) as hop, hops(hop_timeout="0.1s") as made:
        sent = await made.deliver(hop, envelope(*names), CONTENT)
    assert {code for code, _ in codes(sent)} == {451}
    assert dripped < 100


async def test_replies_that_come_one_by_one_or_together_are_heard_alike() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greeting(reader, writer)
        await group(reader)
        for octet in b"250-s\r\n250 s\r\n250 a\r\n550 5.1.1 b\r\n354 go\r\n":
            writer.write(bytes([octet]))
            await asyncio.sleep(0)
        await reader.readuntil(b"\r\n.\r\n")
        writer.write(b"250 2.0.0 taken\r\n")
        await reader.read()

    async with scripted(script) as hop, hops(hop_timeout="5s") as made:
        sent = await made.deliver(hop, envelope("a@x.test", "b@x.test"), CONTENT)
    assert codes(sent) == [(250, "2.0.0"), (550, "5.1.1")]
