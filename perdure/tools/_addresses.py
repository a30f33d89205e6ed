"""Which addresses are out of bounds for what a model asks to fetch. Activity side; pure.

Everything is judged by the address that the resolver gave, never by how the host was written: so decimal,
octal and hexadecimal forms, and names that point inwards, are all the same.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

_INWARD = (
    IPv4Network("168.63.129.16/32"),  # Azure's metadata and DHCP
    IPv4Network("192.0.0.0/24"),  # for protocols; Oracle's metadata. Python knows a part of it
    IPv4Network("192.88.99.0/24"),  # relays of 6to4
)
"""Public by `is_global`, but not by their use."""
_GLOBAL = IPv6Network("2000::/3")
"""All that was ever given out for public hosts."""
_TRANSLATED = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""NAT64: the last four bytes are the address that is reached."""
_COMPATIBLE = IPv6Network("::/96")
"""Long gone, but some stacks still send to the IPv4 address in the last four bytes."""
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")


def why_refused(text: str) -> str:
    """Return why a resolved address can't be fetched from; empty when it is a public one."""
    if "%" in text:
        return "a link-local address"
    address = ip_address(text)
    inner = address if isinstance(address, IPv4Address) else _embedded(address)
    if inner is not None and _is_inward(inner):
        return _kind(inner)
    if isinstance(address, IPv6Address) and inner is None and (_is_inward(address) or address not in _GLOBAL):
        return _kind(address)
    return ""


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that a packet to `address` is sent on to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in _SIX_TO_FOUR:
        return IPv4Address(address.packed[2:6])
    if address in _TEREDO:  # tunnels to anywhere: none of them is worth the doubt
        return IPv4Address(0)
    if address in _COMPATIBLE or any(address in network for network in _TRANSLATED):
        return IPv4Address(address.packed[12:])
    return None


def _is_inward(address: IPv4Address | IPv6Address) -> bool:
    is_cloud = isinstance(address, IPv4Address) and any(address in network for network in _INWARD)
    return is_cloud or not address.is_global or address.is_multicast or address.is_reserved


def _kind(address: IPv4Address | IPv6Address) -> str:
    kinds = {
        "the machine itself": address.is_loopback or address.is_unspecified,
        "a link-local or metadata address": address.is_link_local,
        "a multicast address": address.is_multicast,
        "a private address": address.is_private,
    }
    return next((name for name, holds in kinds.items() if holds), "no public address")
