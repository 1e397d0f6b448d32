"""Addresses that exports may be sent to: nothing inside the operator's own network, unless the operator names it.

A URL comes from whoever configures an export; the process that follows it stands inside the network. So the name is resolved once,
every address it has must be a public one, and the connection goes to that address and no other, whatever the name resolves to later.
Redirects are never followed. `ENCORE_ALLOWED_HOSTS` names hosts (`crm.internal, 127.0.0.1:9000`) that may be private and without TLS.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from features.errors import InvalidUse

PORTS = {"https": 443, "http": 80}
NUMERIC = re.compile(r"(0x[0-9a-f]+|\d+)(\.(0x[0-9a-f]+|\d+)){0,3}\.?")  # as old resolvers read an IPv4 address: decimal, octal, hex, short
HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*\.?")
# Prefixes whose addresses carry an IPv4 address: NAT64, and its local form.
NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))

IP = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(InvalidUse):
    """An address that nothing may be sent to. The text names the host at most: a path or a query may hold a secret."""

    def __init__(self, why: str) -> None:
        super().__init__(f"Nothing is sent there: {why}. Give an https:// URL of a public host, or name the host in ENCORE_ALLOWED_HOSTS.")


@dataclass(frozen=True)
class Address:
    """Where to connect. host: as the certificate and the Host header name it; ips: the addresses that were checked, in order of preference;
    target: path and query."""

    scheme: str
    host: str
    port: int
    target: str
    ips: tuple[str, ...]

    @property
    def authority(self) -> str:
        """Host and port as the Host header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def resolved(url: str, allowed: Iterable[str] = ()) -> Address:
    """Check a URL and resolve its host, once.

    Args:
        allowed: hosts, or host:port, that may be private and without TLS.

    Raises:
        AddressRefused: with the reason.
    """
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        raise AddressRefused("the URL cannot be read") from None
    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise AddressRefused("the URL has a space, a backslash or a control character in it")
    if parts.scheme not in PORTS:
        raise AddressRefused(f"the scheme is '{parts.scheme}', not https")
    if parts.username is not None or parts.password is not None:
        raise AddressRefused("the URL has a user name or password in it")
    is_allowed = {host, f"{host}:{port}"} & {name.strip().lower() for name in allowed}
    if parts.scheme == "http" and not is_allowed:
        raise AddressRefused(f"http://{host} is not encrypted")
    found = _addresses(host, port)
    if not is_allowed:
        for ip in found:
            if not is_public(ip):
                raise AddressRefused(f"{host} is or resolves to an address that is not public")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(parts.scheme, host, port, target, tuple(map(str, found)))


def is_public(ip: IP) -> bool:
    """Whether an address is one of the public internet, and so is the IPv4 address that it may carry."""
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if any(ip in network for network in NAT64):
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(carried)
    if isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local:
        return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def _addresses(host: str, port: int) -> list[IP]:
    try:
        return [ipaddress.ip_address(host)]
    except ValueError:
        pass
    if not host or NUMERIC.fullmatch(host):
        raise AddressRefused("the host is written as a number, or missing" if host else "there is no host in the URL")
    try:
        name = host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not HOST.fullmatch(name) or len(name) > 253:
        raise AddressRefused("the host is no host name")
    try:
        told = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError:
        raise AddressRefused(f"{host} cannot be resolved") from None
    return list(dict.fromkeys(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in told))
