"""The wire is a contract: golden bytes, one version before and after, and no bytes that crash a reader."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.messages import (
    Attempted,
    BodyRef,
    Bounced,
    Comeback,
    Content,
    Delivery,
    DeliveryKind,
    Expanded,
    Fate,
    Lane,
    Notification,
    Origin,
    Post,
    Queued,
    Reason,
    Recipient,
    Refused,
    Signal,
    SignalExpanded,
    Slice,
    State,
    Suppressed,
    Target,
    TargetKind,
    Undecodable,
    Wire,
    decode,
    encode,
)

ID = "01h2xcejqtf2nbrexx3vqjhp41"
CONTENT = Content(head=b"From: ana@example.test\r\n\r\n", tail=b"hi\r\n")
POST = Post(
    id=ID,
    accepted_at=1.5,
    mail_from="ana@example.test",
    targets=(
        Target(group="office@example.test", recipient="Office@example.test", notify=("SUCCESS",), orcpt="rfc822;x"),
    ),
    content=CONTENT,
    digest=b"\0" * 32,
    origin=Origin(ip="192.0.2.1", helo="client.test", protocol="ESMTP"),
    envid="e",
    ret="HDRS",
)
FATE = Fate(
    address="b@x.test",
    state=State.DEFERRED,
    code=451,
    status="4.3.0",
    text="later",
    hop="h",
    attempt=0,
    at=2.0,
    next_at=62.0,
)
ALL: list[Wire] = [
    POST,
    Slice(post=POST, cells=8, index=1, of=2, low=4, high=8),
    Signal(id=ID, group="office@example.test", text="здрасти", origin="cli", sent_at=1.0),
    Delivery(
        post_id=ID,
        group="office@example.test",
        cell=3,
        hop="smtp://h:25",
        mail_from="office-bounces+t@example.test",
        recipients=(Recipient(address="b@x.test"),),
        content=Content(head=b"h", ref=BodyRef(key="k", size=9, sha256=b"s"), offset=4),
        accepted_at=1.5,
        kind=DeliveryKind.POST,
        lane=Lane.BULK,
        attempt=2,
    ),
    Notification(
        signal=Signal(id=ID, group="g@x.test", text="t", origin="o", sent_at=1.0, once="7"),
        channel=3,
        label="webhook:abc",
        cell=1,
        attempt=2,
    ),
    Expanded(
        post_id=ID,
        group="office@example.test",
        index=0,
        of=1,
        queued=(Queued(addresses=("b@x.test",), via=("office@example.test",)),),
        suppressed=(Suppressed(addresses=("ana@example.test",), reason=Reason.AUTHOR),),
        at=3.0,
    ),
    Attempted(post_id=ID, group="office@example.test", kind=DeliveryKind.POST, fates=(FATE,)),
    Bounced(
        id=ID,
        post_id=ID,
        group="office@example.test",
        recipients=(
            Comeback(address="b@x.test", action="failed", status="5.1.1", text="550 5.1.1 no such user", sure=True),
        ),
        at=4.0,
    ),
    Refused(group="office@example.test", mail_from="", code=550, status="5.7.1", text="no", ip="192.0.2.1", at=1.0),
    SignalExpanded(
        signal=Signal(id=ID, group="g@x.test", text="t", origin="o", sent_at=1.0), suppressed="disabled", spared=3
    ),
]


@pytest.mark.parametrize("message", ALL, ids=lambda message: type(message).__name__)
def test_a_message_reads_as_it_was_written(message: Wire) -> None:
    assert decode(encode(message)) == message


def test_the_bytes_of_a_post_are_what_they_were() -> None:
    document = msgspec.msgpack.decode(encode(POST))
    assert document["type"] == "post.v1"
    assert document["targets"] == [
        {"group": "office@example.test", "recipient": "Office@example.test", "notify": ["SUCCESS"], "orcpt": "rfc822;x"}
    ]
    assert document["content"] == {"head": CONTENT.head, "tail": CONTENT.tail}
    assert "parent" not in document


def test_the_bytes_of_a_failed_attempt_are_what_they_were() -> None:
    failed = {
        "address": "b@x.test",
        "state": "failed",
        "code": 550,
        "status": "5.1.1",
        "text": "no",
        "hop": "h",
        "attempt": 0,
        "at": 2.0,
    }
    for more in ({}, {"common": True}):
        document = {
            "type": "attempted.v1",
            "post_id": ID,
            "group": "g@x.test",
            "kind": "post",
            "fates": [{**failed, **more}],
        }
        message = decode(msgspec.msgpack.encode(document))
        assert isinstance(message, Attempted)
        assert message.fates[0].common is bool(more)
        assert msgspec.msgpack.decode(encode(message)) == document


def test_the_bytes_of_a_bounce_are_what_they_were() -> None:
    bounced = Bounced(
        id=ID,
        post_id=ID,
        group="g@x.test",
        recipients=(Comeback(address="b@x.test", action="failed", status="5.1.1", text="no", sure=True),),
        at=4.0,
    )
    assert msgspec.msgpack.decode(encode(bounced)) == {
        "type": "bounced.v1",
        "id": ID,
        "post_id": ID,
        "group": "g@x.test",
        "recipients": [{"address": "b@x.test", "action": "failed", "status": "5.1.1", "text": "no", "sure": True}],
        "at": 4.0,
    }


def test_the_bytes_of_a_signal_and_of_what_becomes_of_it_are_what_they_were() -> None:
    signal = Signal(id=ID, group="g@x.test", text="t", origin="o", sent_at=1.0)
    document = {"type": "signal.v1", "id": ID, "group": "g@x.test", "text": "t", "origin": "o", "sent_at": 1.0}
    assert msgspec.msgpack.decode(encode(signal)) == document
    notification = Notification(signal=signal, channel=3, label="webhook:abc", cell=1)
    assert msgspec.msgpack.decode(encode(notification)) == {
        "type": "notification.v1",
        "signal": document,
        "channel": 3,
        "label": "webhook:abc",
        "cell": 1,
    }
    share = Expanded(post_id=ID, group="g@x.test", index=0, of=1, queued=(), suppressed=(), at=3.0)
    channels = (Queued(addresses=("webhook:abc",), via=("g@x.test",)),)
    told = msgspec.msgpack.decode(encode(SignalExpanded(signal=signal, share=share, channels=channels)))
    assert set(told) == {"type", "signal", "share", "channels"}
    assert told["channels"] == [{"addresses": ["webhook:abc"], "via": ["g@x.test"]}]
    assert told["share"]["type"] == "expanded.v1"


def test_a_share_of_a_signal_of_the_version_before_is_read() -> None:
    """It told of people as `members`, and of no share."""
    signal = {"type": "signal.v1", "id": ID, "group": "g@x.test", "text": "t", "origin": "o", "sent_at": 1.0}
    before = {"type": "signal-expanded.v1", "signal": signal, "members": ["a@x.test"]}
    message = decode(msgspec.msgpack.encode(before))
    assert isinstance(message, SignalExpanded)
    assert (message.members, message.share, message.channels, message.signal.once) == (("a@x.test",), None, (), "")


def test_a_reader_takes_the_version_after_its_own() -> None:
    document = msgspec.msgpack.decode(encode(POST))
    document["a_field_of_tomorrow"] = {"x": 1}
    document["targets"][0]["another"] = True
    assert decode(msgspec.msgpack.encode(document)) == POST


def test_a_reader_takes_the_version_before_its_own() -> None:
    """A message written before a field existed lacks it, and every field that is not of the first version has a default."""
    first = {
        "type": "post.v1",
        "id": ID,
        "accepted_at": 1.0,
        "mail_from": "",
        "targets": [],
        "content": {"head": b""},
        "digest": b"",
        "origin": {"ip": "", "helo": "", "protocol": ""},
    }
    assert decode(msgspec.msgpack.encode(first)) == Post(
        id=ID,
        accepted_at=1.0,
        mail_from="",
        targets=(),
        content=Content(head=b""),
        digest=b"",
        origin=Origin(ip="", helo="", protocol=""),
    )


HOSTILE = {
    "empty": b"",
    "array of 4G": b"\xdd" + struct.pack(">I", 0xFFFFFFFF),
    "map of 4G": b"\xdf" + struct.pack(">I", 0xFFFFFFFF),
    "binary of 4G": b"\xc6" + struct.pack(">I", 0xFFFFFFFF),
    "nested a million deep": b"\x91" * 1_000_000,
    "maps nested deep": b"\x81\xa1a" * 100_000,
    "bad utf-8": msgspec.msgpack.encode({"type": "post.v1"}).replace(b"post.v1", b"post\xff\xfe1"),
    "no tag": msgspec.msgpack.encode({"id": ID}),
    "unknown tag": msgspec.msgpack.encode({"type": "post.v99"}),
    "wrong type": msgspec.msgpack.encode({"type": "post.v1", "id": 7}),
    "extension": b"\xc7\x05\x01hello",
    "json": b'{"type": "post.v1"}',
    "trailing": encode(POST) + b"x",
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_undecodable_and_no_worse(payload: bytes) -> None:
    with pytest.raises(Undecodable):
        decode(payload)


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_reader(payload: bytes) -> None:
    try:
        message = decode(payload)
    except Undecodable:
        return
    assert decode(encode(message)) == message


@given(st.data())
def test_a_flipped_message_is_read_or_undecodable(data: st.DataObject) -> None:
    payload = bytearray(encode(data.draw(st.sampled_from(ALL))))
    for _ in range(data.draw(st.integers(1, 5))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = decode(bytes(payload))
    except Undecodable:
        return
    assert type(message) in {type(one) for one in ALL}


def test_the_size_of_content() -> None:
    assert Content(head=b"12", tail=b"345").size == 5
    assert Content(head=b"12", ref=BodyRef(key="k", size=100, sha256=b""), offset=40).size == 62


def test_targets_default_to_groups() -> None:
    assert Target(group="g", recipient="g").kind is TargetKind.GROUP
