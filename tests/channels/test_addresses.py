"""Which addresses and ports a channel may reach."""

from __future__ import annotations

import pytest

from shared.channels.addresses import networks, permitted, port_permitted

PUBLIC = ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254"),
    *("192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "192.0.0.192"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::127.0.0.1", "::a9fe:a9fe"),
    *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    *("", "localhost", "nonsense", "1.2.3"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_public_may_be_reached_with_tls_alone(address: str) -> None:
    assert permitted(address, (), plain=False)
    assert not permitted(address, (), plain=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_may_not(address: str) -> None:
    assert not permitted(address, (), plain=False)
    assert not permitted(address, networks("10.99.0.0/16, fd99::/16"), plain=False)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("10.1.2.3", "10.0.0.0/8"),
        ("::ffff:10.1.2.3", "10.0.0.0/8"),
        ("fd00::7", "192.0.2.1, fd00::/8"),
        ("127.0.0.1", "127.0.0.1"),
    ],
)
def test_the_operators_networks_may_be_reached_even_without_tls(address: str, allowed: str) -> None:
    assert permitted(address, networks(allowed), plain=True)
    assert not permitted(address, networks("172.16.0.0/12"), plain=True)


@pytest.mark.parametrize(("port", "good"), [(443, True), (80, True), (8065, True), (18080, True)])
def test_the_webs_ports_and_free_ones(port: int, good: bool) -> None:
    assert port_permitted(port) is good


@pytest.mark.parametrize("port", [0, 22, 25, 587, 6379, 5672, 5432, 11211, 10250, 65536])
def test_no_other_protocols_port(port: int) -> None:
    assert not port_permitted(port)


def test_networks_that_are_none() -> None:
    with pytest.raises(ValueError, match="0/99"):
        networks("10.0.0.0/8, 10.0.0.0/99")
