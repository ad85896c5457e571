"""The socketmap: a mail server in front asks which addresses are ours, in netstrings, and is never told "no" when we do not know."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from cli.neighbours import neighbours
from shared.groups import Domain
from shared.settings import Settings
from tests.ingress.conftest import House, Start
from tests.ingress.dialogue import Client, eventually
from tests.support.doubles import directory_unavailable
from tests.support.ports import free_port


@pytest.fixture
async def asked(start: Start) -> House:
    house = await start(socketmap_listen=f"127.0.0.1:{free_port()}", max_connections_per_ip=3)
    directory = house.directory
    directory.add("closed@example.test", disabled=True)
    directory.add("late@suspended.test", "ana@x.test")
    directory.add("gone@disabled.test", "ana@x.test")
    directory.domains["suspended.test"] = Domain(name="suspended.test", suspended=True)
    directory.domains["disabled.test"] = Domain(name="disabled.test", disabled=True)
    return house


async def ask(house: House, *requests: str) -> list[str]:
    """The answers to questions over one connection."""
    async with await Client.connect(house.ingress.addresses["socketmap"]) as client:
        for request in requests:
            await client.send(b"%d:%s," % (len(request.encode()), request.encode()))
        return [await answer(client) for _ in requests]


async def answer(client: Client) -> str:
    async with asyncio.timeout(10):
        length = int((await client.reader.readuntil(b":"))[:-1])
        told = await client.reader.readexactly(length + 1)
    assert told.endswith(b",")
    return told[:-1].decode()


async def test_horo_doctor_s_question_is_understood(asked: House) -> None:
    host, port = asked.ingress.addresses["socketmap"]
    found = await neighbours(Settings(socketmap_listen=f"{host}:{port}"))
    assert [(one.state, one.told) for one in found] == [("ok", "answers")]


@pytest.mark.parametrize(
    ("question", "told"),
    [
        ("groups office@example.test", "OK office@example.test"),
        ("groups Office+tag@Example.TEST", "OK Office+tag@Example.TEST"),
        ("groups office-owner@example.test", "OK office-owner@example.test"),
        ("groups office-bounces+t0-k3n@example.test", "OK office-bounces+t0-k3n@example.test"),
        ("groups postmaster@example.test", "OK postmaster@example.test"),
        ("groups nobody@example.test", "NOTFOUND "),
        ("groups nobody-owner@example.test", "NOTFOUND "),
        ("groups office@elsewhere.test", "NOTFOUND "),
        ("groups postmaster@elsewhere.test", "NOTFOUND "),
        ("groups @example.test", "NOTFOUND "),
        ("groups office", "NOTFOUND "),
        ("groups ", "NOTFOUND "),
        ("groups a b@@example.test", "NOTFOUND "),
        ("groups closed@example.test", "NOTFOUND "),
        ("groups closed-owner@example.test", "OK closed-owner@example.test"),
        ("groups gone@disabled.test", "NOTFOUND "),
        ("groups postmaster@disabled.test", "OK postmaster@disabled.test"),
        ("groups late@suspended.test", "TEMP please try again later"),
        ("groups nobody@suspended.test", "NOTFOUND "),
        ("domains example.test", "OK example.test"),
        ("domains EXAMPLE.test", "OK example.test"),
        ("domains suspended.test", "OK suspended.test"),
        ("domains disabled.test", "NOTFOUND "),
        ("domains elsewhere.test", "NOTFOUND "),
        ("domains .example.test", "NOTFOUND "),
        ("domains \N{SNOWMAN}\n", "NOTFOUND "),
        ("aliases office@example.test", "PERM no such map, or a bad request"),
        ("", "PERM no such map, or a bad request"),
    ],
)
async def test_p5_each_question_is_answered_as_rcpt_would_be(asked: House, question: str, told: str) -> None:
    assert await ask(asked, question) == [told]


async def test_many_questions_on_one_connection_are_answered_in_order(asked: House) -> None:
    questions = [f"groups {name}@example.test" for name in ("office", "nobody") * 50]
    assert await ask(asked, *questions) == ["OK office@example.test", "NOTFOUND "] * 50


async def test_p6_what_the_directory_cannot_say_is_temporary_and_never_not_found(asked: House) -> None:
    asked.directory.fault.error = directory_unavailable()
    questions = ["groups office@example.test", "groups nobody@example.test", "domains example.test"]
    assert await ask(asked, *questions) == ["TEMP please try again later"] * 3
    asked.directory.fault.error = None
    assert await ask(asked, questions[0]) == ["OK office@example.test"]


async def test_a_directory_that_hangs_is_temporary_in_time(asked: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.ingress.socketmap.ANSWER", 0.05)
    asked.directory.fault.hanging = True
    assert await ask(asked, "groups office@example.test") == ["TEMP please try again later"]


@pytest.mark.parametrize(
    "junk",
    [b"GET / HTTP/1.1\r\n\r\n", b"99999:", b"-1:,", b"5:groupsX,", b"1001:" + b"x" * 1001 + b",", b"1" * 3000],
    ids=["http", "too long", "negative", "no comma", "over the limit", "endless digits"],
)
async def test_p10_what_is_no_request_ends_the_connection_and_no_other(asked: House, junk: bytes) -> None:
    async with await Client.connect(asked.ingress.addresses["socketmap"]) as client:
        await client.send(junk)
        assert await client.reply() == []
    assert await ask(asked, "domains example.test") == ["OK example.test"]


async def test_p10_connections_are_bounded_and_a_silent_one_is_let_go(
    asked: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = asked.ingress.addresses["socketmap"]
    held: Sequence[Client] = [await Client.connect(address) for _ in range(3)]
    for client in held:  # an answer says that it is counted
        await client.send(b"20:domains example.test,")
        await answer(client)
    async with await Client.connect(address) as fourth:
        assert await fourth.reply() == []
    held[0].writer.transport.abort()
    await eventually(lambda: len(asked.ingress._socketmap._tasks) == 2, "the place of the one that left")
    assert await ask(asked, "domains example.test") == ["OK example.test"]
    monkeypatch.setattr("services.ingress.socketmap.IDLE", 0.05)
    async with await Client.connect(address) as silent:
        assert await silent.reply() == []
    for client in held:
        client.writer.transport.abort()
