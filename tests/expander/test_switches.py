"""Every switch of a group, row by row, as DESIGN.md and the page on semantics have it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from shared import headers
from shared.address import bounce_address
from shared.headers import loop_mark
from shared.identity import bounce_token, new_id
from shared.messages import Content, DeliveryKind, Lane, Target
from tests.expander.town import person
from tests.expander.world import HOP, SECRET, World, head, open_world, post

OFFICE, BOARD = "office@a.test", "board@a.test"
ANA = "ana@example.test"


def field(top: bytes, name: str) -> list[str]:
    """The values of a field, stripped."""
    return [value.decode().strip() for value in headers.values(top, name)]


# --- who gets a copy ----------------------------------------------------------------------------------------------------
FILTERS: list[tuple[str, dict[str, Any], Any, dict[str, str], str | None]] = [
    # what, settings, the member, the header, the reason (None: a copy)
    ("the author", {}, ANA, {}, "author"),
    ("the author, switched off", {"remove_author": False}, ANA, {}, None),
    ("the author in capitals", {}, "ANA@Example.TEST", {}, "author"),
    ("the author by a tag", {}, "ana+work@example.test", {}, "author"),
    ("the author writes with a tag", {}, ANA, {"author": "ana+x@example.test"}, "author"),
    ("the second author", {}, "boris@x.test", {"author": f"{ANA}, boris@x.test"}, "author"),
    ("a display name is nobody", {}, "boris@x.test", {"author": '"boris@x.test" <ana@example.test>'}, None),
    ("the author wants own copies", {}, person(ANA, own_copies=True), {}, None),
    ("own copies, but paused", {}, person(ANA, own_copies=True, paused=True), {}, "paused"),
    ("in To:", {}, "boris@x.test", {"to": "Boris <BORIS@x.test>"}, "to_cc"),
    ("in Cc:", {}, "boris@x.test", {"cc": "vera@x.test, boris@x.test"}, "to_cc"),
    ("in Cc:, switched off", {"remove_to_cc": False}, "boris@x.test", {"cc": "boris@x.test"}, None),
    ("another tag in Cc:", {}, "boris@x.test", {"cc": "boris+x@x.test"}, None),
    ("own copies do not help in To:", {}, person("boris@x.test", own_copies=True), {"to": "boris@x.test"}, "to_cc"),
    ("the group's own address", {}, "boris@x.test", {"to": OFFICE}, None),
    ("paused", {}, person("boris@x.test", paused=True), {}, "paused"),
    ("suspended", {}, person("boris@x.test", bounce="suspended"), {}, "suspended"),
    ("author before To:", {}, ANA, {"to": ANA}, "author"),
    ("To: before pause", {}, person("boris@x.test", paused=True), {"to": "boris@x.test"}, "to_cc"),
    ("IDN, A-label in Cc:", {}, "boris@пример.org", {"cc": "boris@xn--e1afmkfd.org"}, "to_cc"),
    ("IDN, U-label in From:", {}, "boris@xn--e1afmkfd.org", {"author": "boris@ПРИМЕР.org"}, "author"),
    ("a bare name", {}, "boris", {"cc": "boris@a.test"}, "to_cc"),
]


@pytest.mark.parametrize(
    ("settings", "member", "top", "reason"), [row[1:] for row in FILTERS], ids=[r[0] for r in FILTERS]
)
async def test_who_gets_a_copy(
    world: World, settings: dict[str, Any], member: Any, top: dict[str, str], reason: str | None
) -> None:
    world.directory.add(OFFICE, member, "other@x.test", **settings)
    result = await world.run(
        post(OFFICE, head=head(top.get("author", ANA), to=top.get("to", ""), cc=top.get("cc", "")))
    )
    (row,) = [row for row in world.directory.rows[OFFICE] if row.key != "other@x.test"]
    assert result.reasons(row.key) == ([reason] if reason else [])
    assert len(result.copies.get(row.key, [])) == (reason is None)
    assert len(result.copies["other@x.test"]) == 1


async def test_the_authenticated_sender_is_an_author(world: World) -> None:
    world.directory.add(OFFICE, "boris+x@x.test", "vera@x.test")
    result = await world.run(post(OFFICE, authenticated="Boris@x.test"))
    assert result.people == ["vera@x.test"]


async def test_a_pause_in_one_group_does_not_hold_in_another(world: World) -> None:
    world.directory.add(BOARD, "vera@x.test")
    world.directory.add(OFFICE, person("vera@x.test", paused=True), BOARD)
    result = await world.run(post(OFFICE))
    assert result.people == ["vera@x.test"]
    assert result.reasons("vera@x.test") == ["paused"]


async def test_p2_spellings_of_one_address_get_one_copy(world: World) -> None:
    world.directory.add("c@a.test", "Boris@ПРИМЕР.org")
    world.directory.add(BOARD, "BORIS@xn--e1afmkfd.org", "c@a.test")
    world.directory.add(OFFICE, "boris@пример.org", BOARD)
    result = await world.run(post(OFFICE))
    assert result.people == ["boris@xn--e1afmkfd.org"]
    assert result.reasons("boris@xn--e1afmkfd.org") == ["duplicate", "duplicate"]


async def test_p2_two_groups_in_one_transaction(world: World) -> None:
    """One copy, of the first that gives one; each group's own filters."""
    world.directory.add(OFFICE, "boris@x.test", ANA)
    world.directory.add(BOARD, "boris@x.test", ANA, remove_author=False)
    result = await world.run(post(OFFICE, BOARD))
    assert result.one("boris@x.test").group == OFFICE
    assert result.one(ANA).group == BOARD
    assert result.reasons("boris@x.test") == ["duplicate"]


async def test_no_recipients_is_an_outcome(world: World) -> None:
    world.directory.add(OFFICE, ANA)
    message = post(OFFICE)
    result = await world.run(message)
    await world.file(result)
    assert result.deliveries == []
    assert result.reasons(ANA) == ["author"]
    summary = await world.ledger.post(message.id)
    assert [verdict for _, verdict, _ in summary.targets] == ["no_recipients"]


async def test_a_group_that_only_hands_on_has_recipients(world: World) -> None:
    world.directory.add("sub@b.test", "vera@x.test")
    world.directory.add(OFFICE, "sub@b.test")
    message = post(OFFICE)
    await world.file(await world.run(message))
    summary = await world.ledger.post(message.id)
    assert [verdict for _, verdict, _ in summary.targets] == ["open"]


# --- what a copy looks like -------------------------------------------------------------------------------------------------
async def test_reply_to_group(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test", title="The Office")
    copy = (await world.run(post(OFFICE, head=head(ANA, "Reply-To: ana@home.test")))).one("boris@x.test")
    assert field(copy.head, "Reply-To") == [f"The Office <{OFFICE}>"]
    assert field(copy.head, "X-Original-Reply-To") == ["ana@home.test"]


async def test_reply_to_group_is_the_addressed_groups(world: World) -> None:
    world.directory.add(BOARD, "vera@x.test", title="Board")
    world.directory.add(OFFICE, BOARD, title="Office")
    copy = (await world.run(post(OFFICE))).one("vera@x.test")
    assert field(copy.head, "Reply-To") == [f"Office <{OFFICE}>"]


async def test_without_reply_to_group_the_authors_stays(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test", reply_to_group=False)
    copy = (await world.run(post(OFFICE, head=head(ANA, "Reply-To: ana@home.test")))).one("boris@x.test")
    assert field(copy.head, "Reply-To") == ["ana@home.test"]


async def test_subject_prefix(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test", subject_prefix="[office]")
    assert field((await world.run(post(OFFICE))).one("boris@x.test").head, "Subject") == ["[office] News"]


async def test_p8_p9_the_body_is_the_same_and_no_member_is_named(world: World) -> None:
    tail = bytes(range(256)) * 3
    world.directory.add(OFFICE, "boris@x.test", "vera@x.test")
    result = await world.run(post(OFFICE, tail=tail))
    assert [one.content.tail for one in result.deliveries] == [tail]
    assert b"boris" not in result.deliveries[0].content.head
    assert b"vera" not in result.deliveries[0].content.head


@pytest.mark.parametrize(
    ("verp", "envelope", "asked"), [(True, "list", True), (True, "alias", False), (False, "list", False)]
)
async def test_verp_is_of_list_envelopes(world: World, verp: bool, envelope: str, asked: bool) -> None:
    world.directory.add(OFFICE, "boris@x.test", verp=verp, envelope=envelope)
    assert (await world.run(post(OFFICE))).deliveries[0].verp is asked


# --- the envelope, and the parameters of RFC 3461 5.2.7 -----------------------------------------------------------------------
ENVELOPES: list[tuple[str, bool, tuple[str, ...] | None, tuple[str, ...] | None, bool]] = [
    # envelope, report_delivery, NOTIFY that came, NOTIFY that leaves, whether ENVID, RET and ORCPT leave
    ("list", False, ("SUCCESS",), None, False),
    ("list", True, ("SUCCESS", "FAILURE"), None, False),
    ("list", True, ("NEVER",), None, False),
    ("alias", False, ("SUCCESS", "FAILURE"), None, False),
    ("alias", True, ("SUCCESS", "FAILURE"), ("FAILURE",), True),
    ("alias", True, ("SUCCESS",), ("NEVER",), True),
    ("alias", True, ("NEVER",), ("NEVER",), True),
    ("alias", True, ("FAILURE", "DELAY"), ("FAILURE", "DELAY"), True),
    ("alias", True, None, None, True),
]


@pytest.mark.parametrize(("envelope", "report", "came", "leaves", "others"), ENVELOPES)
async def test_what_goes_on_of_a_dsn_request(
    world: World,
    envelope: str,
    report: bool,
    came: tuple[str, ...] | None,
    leaves: tuple[str, ...] | None,
    others: bool,
) -> None:
    world.directory.add(OFFICE, "boris@x.test", envelope=envelope, report_delivery=report)
    target = Target(group=OFFICE, recipient=OFFICE, notify=came, orcpt="rfc822;office@a.test")
    message = post(target, envid="E+2B1", ret="HDRS")
    (delivery,) = (await world.run(message)).deliveries
    token = bounce_token(SECRET, message.id, OFFICE)
    assert delivery.mail_from == (bounce_address(OFFICE, token) if envelope == "list" else message.mail_from)
    (recipient,) = delivery.recipients
    assert recipient.notify == leaves
    assert recipient.orcpt == ("rfc822;office@a.test" if others else None)
    assert (delivery.envid, delivery.ret) == (("E+2B1", "HDRS") if others else (None, None))
    assert await world.ledger.target_of_token(token) == (message.id, OFFICE)


# --- the author of the thread ---------------------------------------------------------------------------------------------------
THREADS: list[tuple[str, dict[str, Any], Any, str, list[str]]] = [
    # what, settings, the member beside boris, Cc: of the answer, who gets the answer (boris apart)
    ("no member", {}, None, "", ["customer@x.test"]),
    ("switched off", {"thread_author": False}, None, "", []),
    ("a member", {}, "customer@x.test", "", ["customer@x.test"]),
    ("in Cc: already", {}, None, "customer@x.test", []),
    ("in Cc:, not removed", {"remove_to_cc": False}, None, "customer@x.test", ["customer@x.test"]),
]


@pytest.mark.parametrize(("settings", "member", "cc", "got"), [row[1:] for row in THREADS], ids=[r[0] for r in THREADS])
async def test_a_reply_reaches_the_author_of_the_thread(
    world: World, settings: dict[str, Any], member: Any, cc: str, got: list[str]
) -> None:
    world.directory.add(OFFICE, "boris@x.test", *([member] if member else []), **settings)
    await world.run(post(OFFICE, head=head("customer@x.test", message_id="<t@x>")))
    answer = await world.run(post(OFFICE, head=head(ANA, "In-Reply-To: <t@x>", cc=cc), mail_from=ANA))
    assert [who for who in answer.people if who != "boris@x.test"] == got


async def test_the_author_of_a_thread_is_no_group(world: World) -> None:
    """A From: that names a group must not make every answer a post to that group."""
    world.directory.add(BOARD, "vera@x.test", who_can_post="members")
    world.directory.add(OFFICE, "boris@x.test")
    await world.run(post(OFFICE, head=head(BOARD, message_id="<t@x>")))
    answer = await world.run(post(OFFICE, head=head(ANA, "In-Reply-To: <t@x>")))
    assert answer.people == ["boris@x.test"]


async def test_p2_p3_the_author_of_a_thread_gets_one_copy_of_an_answer_that_is_handed_on(world: World) -> None:
    world.directory.add("sub@b.test", "vera@x.test")
    world.directory.add(OFFICE, "boris@x.test", "sub@b.test")
    await world.run(post(OFFICE, head=head("customer@x.test", message_id="<t@x>")))
    answer = await world.run(post(OFFICE, head=head(ANA, "In-Reply-To: <t@x>")))
    assert answer.people == ["boris@x.test", "customer@x.test", "vera@x.test"]


# --- batches, lanes, hops, bodies -----------------------------------------------------------------------------------------------
async def test_batches_keep_to_their_size_and_hop(tmp_path: Path) -> None:
    routes = "big.test=lmtp://127.0.0.1:2424, .mx.test=mx:"
    async with open_world(tmp_path, batch_size=7, routes=routes) as world:
        people = [
            f"p{n}@{domain}" for n in range(25) for domain in ("big.test", "x.test", "one.mx.test", "two.mx.test")
        ]
        world.directory.add(OFFICE, *people)
        result = await world.run(post(OFFICE))
        assert result.people == sorted(people)
        assert {len(one.recipients) <= 7 for one in result.deliveries} == {True}
        hops = {
            "big.test": "lmtp://127.0.0.1:2424",
            "x.test": HOP,
            "one.mx.test": "mx:one.mx.test",
            "two.mx.test": "mx:two.mx.test",
        }
        for one in result.deliveries:
            assert {hops[recipient.address.partition("@")[2]] for recipient in one.recipients} == {one.hop}
            assert (one.kind, one.lane, one.attempt) == (DeliveryKind.POST, Lane.EXPRESS, 0)


@pytest.mark.parametrize(("people", "lane"), [(20, Lane.EXPRESS), (21, Lane.BULK), (100, Lane.BULK), (101, Lane.BULK)])
async def test_p7_more_than_the_express_limit_is_bulk(tmp_path: Path, people: int, lane: Lane) -> None:
    async with open_world(tmp_path, express_limit=20, slice_size=100) as world:
        world.directory.add(OFFICE, *(f"p{n}@x.test" for n in range(people)))
        result = await world.run(post(OFFICE))
        assert {one.lane for one in result.deliveries} == {lane}
        assert bool(result.slices) is (lane is Lane.BULK)
        assert {message.queue for message, wire in result.wires if wire in result.deliveries} == {f"deliveries.{lane}"}


@pytest.mark.parametrize("express_limit", [10_000, 100])
async def test_p1_a_large_body_goes_to_the_store_once_and_is_kept(tmp_path: Path, express_limit: int) -> None:
    async with open_world(tmp_path, batch_size=5, express_limit=express_limit, slice_size=100) as world:
        world.directory.add(OFFICE, *(f"p{n}@x.test" for n in range(300)))
        message = post(OFFICE, tail=b"x" * 400_000)
        result = await world.run(message)
        assert len(result.people) == 300
        (blob,) = world.bodies.blobs.items()
        for one in result.deliveries:
            assert one.content.ref is not None
            assert (one.content.ref.key, one.content.tail, one.content.offset) == (blob[0], b"", 0)
            assert one.content.size == len(one.content.head) + 400_000
        assert await world.ledger.body_in_use(blob[0]), "the sweeper would take it"


async def test_a_body_that_is_a_reference_stays_one(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    ref = await world.bodies.put(b"From: x\r\n\r\nbody\r\n")
    message = msgspec.structs.replace(post(OFFICE), content=Content(head=head(), ref=ref, offset=11))
    (delivery,) = (await world.run(message)).deliveries
    assert (delivery.content.ref, delivery.content.offset) == (ref, 11)


# --- posts that end early ---------------------------------------------------------------------------------------------------------
async def test_p3_the_same_message_under_another_id_is_a_repetition(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    message = post(OFFICE)
    await world.run(message)
    again = await world.run(msgspec.structs.replace(message, id=new_id()))
    assert again.people == []
    assert again.reasons(OFFICE) == ["repetition"]


@pytest.mark.parametrize("changed", ["mail_from", "digest", "group", "unnamed"])
async def test_p3_another_message_is_none(world: World, changed: str) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    world.directory.add(BOARD, "boris@x.test")
    bare = b"From: ana@example.test\r\n\r\n"
    message = post(OFFICE, head=bare if changed == "unnamed" else None)
    other = {
        "mail_from": {"mail_from": "vera@x.test"},
        "digest": {"digest": b"another"},
        "group": {"targets": (Target(group=BOARD, recipient=BOARD),)},
        "unnamed": {},
    }[changed]
    await world.run(message)
    again = await world.run(msgspec.structs.replace(message, id=new_id(), **other))
    assert again.people == ["boris@x.test"]


async def test_a_group_deleted_since_its_rcpt_is_gone_and_told(world: World) -> None:
    world.directory.add(OFFICE, "boris@x.test")
    message = post("deleted@a.test", OFFICE)
    result = await world.run(message)
    await world.file(result)
    assert result.people == ["boris@x.test"]
    summary = await world.ledger.post(message.id)
    assert {target.group: verdict for target, verdict, _ in summary.targets} == {
        "deleted@a.test": "gone",
        OFFICE: "open",
    }
    assert summary.totals.complete


@pytest.mark.parametrize("first", ["deleted@a.test", "marked@a.test"])
async def test_p7_p10_a_target_that_ends_early_does_not_make_the_plan_of_a_large_one(
    tmp_path: Path, first: str
) -> None:
    async with open_world(tmp_path, express_limit=10, slice_size=100) as world:
        world.directory.add("marked@a.test", "vera@x.test")
        world.directory.add(OFFICE, *(f"p{n}@x.test" for n in range(300)))
        result = await world.run(post(first, OFFICE, head=loop_mark("marked@a.test", SECRET) + head()))
        assert len(result.people) == 300
        assert len(result.slices) == 3
        assert {one.lane for one in result.deliveries} == {Lane.BULK}


async def test_p4_a_group_deleted_between_its_slices_still_ends(tmp_path: Path) -> None:
    async with open_world(tmp_path, express_limit=10, slice_size=100) as world:
        world.directory.add(OFFICE, *(f"p{n}@x.test" for n in range(300)))
        message = post(OFFICE)

        class Delete:
            async def __call__(self) -> None:
                if "deliveries" in world.bus.published[-1].queue and OFFICE in world.directory.groups:
                    world.directory.delete(OFFICE)

        world.bus.late = Delete()
        result = await world.run(message)
        await world.file(result)
        assert (await world.ledger.totals(message.id, OFFICE)).complete
