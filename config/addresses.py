"""Which addresses an upstream may have. Pure, and about addresses alone: a name means another one tomorrow, so that
names are judged when they are connected to."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import inet_aton
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

LOOPBACK, PRIVATE, PUBLIC = "loopback", "private", "public"
KINDS = (LOOPBACK, PRIVATE, PUBLIC)


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


# Whatever is allowed: where clouds hand out their credentials, and where no server can be.
_NEVER = {
    "link-local, where clouds hand out credentials": _networks("169.254.0.0/16", "fe80::/10"),
    "the metadata service of a cloud": _networks(
        *("fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42"),  # AWS, Google, Oracle, Scaleway
        *("100.100.100.200", "168.63.129.16", "192.0.0.192"),  # Alibaba, Azure, Oracle
    ),
    "unspecified": _networks("0.0.0.0/8", "::/128"),
    "multicast": _networks("224.0.0.0/4", "ff00::/8"),
    "reserved": _networks("240.0.0.0/4", "100::/64", "5f00::/16"),
    # Its IPv4 address may sit at several places in it, so that nobody can say where it leads.
    "of a local NAT64": _networks("64:ff9b:1::/48"),
}
_KINDS = {
    LOOPBACK: _networks("127.0.0.0/8", "::1/128"),
    PRIVATE: _networks(
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
        *("100.64.0.0/10", "192.0.0.0/24", "198.18.0.0/15"),  # behind a carrier or a tunnel, of a device, of a test rig
    ),
}
# The last 32 bits are an IPv4 address: mapped, translated, NAT64, compatible.
_CARRIERS = _networks("::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "::/96")
_NO_CARRIED = {IPv6Address("::"), IPv6Address("::1")}


@dataclass(frozen=True, slots=True)
class Policy:
    """`allowed`: `loopback`, `private`, `public`, or networks such as 10.1.0.0/16. Some addresses never are."""

    allowed: Sequence[str] = KINDS

    def objection(self, address: str) -> str | None:
        """A sentence that says why nothing is sent to `address`; None where something may be."""
        for one in _meant(ip_address(address.partition("%")[0])):
            if why := _never(one) or self._unlisted(one):
                return f"The address {address} is {why}."
        return None

    def objection_to_url(self, url: str) -> str | None:
        """As far as the URL itself tells, which has a host."""
        address = _written(urlsplit(url).hostname or "")
        return None if address is None else self.objection(str(address))

    def _unlisted(self, address: Address) -> str | None:
        kind = _kind(address)
        if kind in self.allowed or any(address in ip_network(word) for word in self.allowed if word not in KINDS):
            return None
        return f"{kind}, and UPSTREAM_ADDRESSES allows only {', '.join(self.allowed)}"


def is_word(word: str) -> bool:
    """Whether a policy can allow it."""
    try:
        return word in KINDS or bool(ip_network(word))
    except ValueError:
        return False


def _never(address: Address) -> str | None:
    found = (why for why, networks in _NEVER.items() if any(address in network for network in networks))
    return next((f"never an upstream's: it is {why}" for why in found), None)


def _kind(address: Address) -> str:
    found = (kind for kind, networks in _KINDS.items() if any(address in network for network in networks))
    return next(found, PUBLIC)


def _meant(address: Address) -> Sequence[Address]:
    """The IPv4 addresses that an IPv6 address leads to or through; else itself."""
    if isinstance(address, IPv4Address) or address in _NO_CARRIED:
        return (address,)
    if any(address in network for network in _CARRIERS):
        return (IPv4Address(int(address) & 0xFFFFFFFF),)
    if address.sixtofour:
        return (address.sixtofour,)
    return address.teredo or (address,)  # of Teredo its server, and the client behind it


def _written(host: str) -> Address | None:
    """The address that a host is written as, in all the ways that libcurl takes: also 0x7f.1 and 2130706433."""
    host = host.rstrip(".").partition("%")[0]
    if host == "localhost" or host.endswith(".localhost"):
        return IPv4Address("127.0.0.1")
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(inet_aton(host))
    except OSError:
        return None
