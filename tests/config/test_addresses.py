"""Which addresses an upstream may have."""

import pytest

from config.addresses import Policy, is_word

METADATA = (
    "169.254.169.254",  # AWS, Google, Azure, OpenStack and others
    "169.254.170.2",  # of AWS's containers
    "fd00:ec2::254",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
    "100.100.100.200",
    "168.63.129.16",
)
DISGUISED = (
    "::ffff:169.254.169.254",
    "::ffff:0:169.254.169.254",
    "::169.254.169.254",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1",
    "2001::5601:5601",  # Teredo writes the client's address with every bit turned round
)
NOWHERE = (
    *("0.0.0.0", "0.1.2.3", "::", "224.0.0.1", "239.1.1.1", "ff02::1", "255.255.255.255", "240.0.0.1"),
    *("169.254.0.1", "fe80::1", "fe80::1%eth0", "::ffff:0.0.0.0", "64:ff9b::e000:1"),
)


@pytest.mark.parametrize("address", [*METADATA, *DISGUISED, *NOWHERE])
def test_some_addresses_are_no_upstream_s_whatever_is_allowed(address: str) -> None:
    everything = ("loopback", "private", "public", "0.0.0.0/0", "::/0")
    objection = Policy(everything).objection(address)
    assert objection is not None
    assert objection.startswith(f"The address {address} is never an upstream's: it is ")


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        *(("127.0.0.1", "loopback"), ("127.8.8.8", "loopback"), ("::1", "loopback"), ("::ffff:127.0.0.1", "loopback")),
        *(("10.0.0.1", "private"), ("172.31.0.1", "private"), ("192.168.1.1", "private"), ("fd12::1", "private")),
        *(("100.64.0.1", "private"), ("64:ff9b::10.0.0.1", "private"), ("2002:a00:1::", "private")),
        *(("8.8.8.8", "public"), ("172.32.0.1", "public"), ("2606:4700::1", "public"), ("64:ff9b::8.8.8.8", "public")),
    ],
)
def test_the_others_are_of_one_kind_and_each_kind_can_be_allowed(address: str, kind: str) -> None:
    assert Policy().objection(address) is None
    assert Policy((kind,)).objection(address) is None
    others = tuple({"loopback", "private", "public"} - {kind})
    named = f"The address {address} is {kind}, and UPSTREAM_ADDRESSES allows only {', '.join(others)}."
    assert Policy(others).objection(address) == named


def test_a_network_can_be_allowed_whatever_its_kind() -> None:
    policy = Policy(("public", "10.1.0.0/16", "fd12:3::/32"))
    assert [policy.objection(address) for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12:3::1", "1.1.1.1")] == [
        None
    ] * 4
    assert policy.objection("10.2.0.1") is not None
    assert policy.objection("127.0.0.1") is not None


@pytest.mark.parametrize(
    "host",
    [
        *("169.254.169.254", "169.254.169.254.", "2852039166", "0xa9fea9fe", "0xa9.0xfe.43518", "0251.0376.0251.0376"),
        *("[fd00:ec2::254]", "[::ffff:a9fe:a9fe]", "[fe80::1%25eth0]", "0", "[::]"),
    ],
)
def test_an_address_is_known_in_every_way_of_writing_it(host: str) -> None:
    assert Policy().objection_to_url(f"http://{host}:8000/v1")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST.", "vllm.localhost", "127.1", "2130706433", "[::1]"])
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert Policy().objection_to_url(f"http://{host}/v1") is None
    assert "is loopback" in str(Policy(("public",)).objection_to_url(f"http://{host}/v1"))


@pytest.mark.parametrize("host", ["vllm", "api.example.com", "169.254.169.254.example.com", "metadata.google.internal"])
def test_a_name_is_not_judged_before_it_is_connected_to(host: str) -> None:
    assert Policy(("loopback",)).objection_to_url(f"http://{host}/v1") is None


def test_what_can_be_allowed() -> None:
    assert all(map(is_word, ("loopback", "private", "public", "10.0.0.0/8", "10.0.0.1", "fd12::/16")))
    assert not any(map(is_word, ("", "any", "10.1.2.3/16", "10.0.0.0/33", "vllm", "Public")))
