"""Whom we may call: base URLs compared part by part, and network addresses that nobody on the outside has.

``ipaddress.is_global`` alone lets translated loopback, 6to4 and some clouds' metadata pass (threat I1); those
are named here. An EHR in a hospital's own network is reached by registering that network for its client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address

# Never called, whatever is registered: link-local (with every cloud's metadata), multicast, "this host", and
# the addresses of cloud services that look public.
_NEVER = [ip_network(text) for text in (
    "169.254.0.0/16", "fe80::/10", "224.0.0.0/4", "ff00::/8", "0.0.0.0/8", "::/128", "240.0.0.0/4",
    "168.63.129.16/32", "192.0.0.0/24", "100.100.100.200/32", "fd00:ec2::254/128",
)]  # fmt: skip
# Public by their looks, but they carry an IPv4 address inside which may not be.
_CARRIERS = [ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")]
_HOST = re.compile(r"[A-Za-z0-9.\-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9\-._~+]+)*/?", re.ASCII)
PORTS = {"https": 443, "http": 80}


class Base(NamedTuple):
    """A base URL in parts that can be compared: two bases are the same only when all parts are."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def is_loopback(self) -> bool:
        """Whether the host is written as an address of this machine."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def holds(self, url: Base) -> bool:
        """Whether ``url`` is of the same origin and lies on or below this path."""
        below = url.path == self.path or url.path.startswith(self.path + "/")
        return url[:3] == self[:3] and below

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def parse_base(url: str) -> Base:
    """The parts of an http(s) URL without query. Raises ValueError, saying what is wrong, for any odd one.

    Odd are: user names, queries, fragments, dot segments, escapes, empty path segments, anything not ASCII, and
    numbers that resolvers take for addresses (``127.1``, ``0x7f000001``).
    """
    if any(c.isspace() or c == "\\" or not c.isprintable() for c in url):
        raise ValueError("it holds characters that have no place in a base URL")
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise ValueError("it is not an https URL")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError("a base URL has no user name, query or fragment")
    try:
        port = parts.port
    except ValueError:
        raise ValueError("the port is not a number from 1 to 65535") from None
    host = parts.hostname or ""
    written = parts.netloc.removesuffix(f":{port}") if port is not None else parts.netloc
    if not _HOST.fullmatch(written) or _is_odd_number(host):
        raise ValueError("the host is not a name or an address in its usual form")
    if not _PATH.fullmatch(parts.path) or any(part in (".", "..") for part in parts.path.split("/")):
        raise ValueError("the path holds escapes, dot segments or empty segments")
    return Base(parts.scheme, host.rstrip("."), port if port is not None else PORTS[parts.scheme],
                parts.path.rstrip("/"))  # fmt: skip


def _is_odd_number(host: str) -> bool:
    """Whether the host is a number but not an address in full: resolvers read such as addresses."""
    try:
        ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2].lower()
        return bool(re.fullmatch(r"\d+|0x[0-9a-f]*", last)) or ":" in host
    return False


def may_call(address: str, networks: Iterable[str]) -> bool:
    """Whether a resolved address may be called: public, or in a network registered for this client."""
    try:
        found: Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if any(found in network for network in _NEVER):
        return False
    if any(found in ip_network(network) for network in networks):
        return True
    carried = any(found in network for network in _CARRIERS if isinstance(network, IPv6Network))
    return found.is_global and not carried
