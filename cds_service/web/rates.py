"""How often one address and one client may call: beyond that, 429 until they may again.

A bucket of calls (GCRA): so many a second for long, twice as many at once. Each worker counts for itself, in memory;
an address is limited before its token is looked at, a client after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from flask import g, request
from throttled import Throttled, rate_limiter, store

from cds_service.errors import TooManyCalls
from cds_service.settings import Settings

REMEMBERED = 20_000  # addresses or clients of which the last calls are known; the longest silent one is forgotten
NEIGHBOURS = 64  # bits of an IPv6 address that one subscriber cannot choose
BURST_SECONDS = 2
UNLIMITED = frozenset({"operations.healthz", "operations.readyz"})
Networks = Sequence[IPv4Network | IPv6Network]


class Rates:
    """The limits of one worker; either may be off."""

    def __init__(self, settings: Settings) -> None:
        self._proxies = settings.proxy_networks
        self._by_address = _bucket(settings.rate_of_addresses)
        self._by_client = _bucket(settings.rate_of_clients)

    def limit_address(self) -> None:
        """Before a request. Raises TooManyCalls."""
        if self._by_address is not None and request.endpoint not in UNLIMITED:
            forwarded = request.headers.getlist("X-Forwarded-For")
            wait = _wait(self._by_address, address_of(request.remote_addr or "", forwarded, self._proxies))
            if wait:
                raise TooManyCalls("rate.address", "This address calls too often; see Retry-After.", wait)

    def limit_client(self) -> None:
        """Before a request of a known client. Raises TooManyCalls."""
        client = g.get("client")
        if self._by_client is not None and client is not None:
            wait = _wait(self._by_client, f"client {client.id}")  # the sandbox's visitors have no id
            if wait:
                raise TooManyCalls("rate.client", "This client calls too often; see Retry-After.", wait)


def _bucket(per_second: int) -> Throttled | None:
    if not per_second:
        return None
    quota = rate_limiter.per_sec(per_second, burst=per_second * BURST_SECONDS)
    return Throttled(using="gcra", quota=quota, store=store.MemoryStore(options={"MAX_SIZE": REMEMBERED}))


def _wait(bucket: Throttled, key: str) -> int:
    """Seconds until this key may call again; 0 when it may now."""
    result = bucket.limit(key)
    return max(1, math.ceil(result.state.retry_after)) if result.limited else 0


def address_of(peer: str, forwarded: Sequence[str], proxies: Networks) -> str:
    """The caller's address: of the connection, or the one that our own proxies say they were called from.

    Of X-Forwarded-For only what our proxies have added is believed: the last address that is none of theirs. An IPv6
    address counts with its neighbours of the same /64.
    """
    address = peer
    hops = [hop.strip() for line in forwarded for hop in line.split(",")]
    while hops and _is_within(address, proxies):
        address = hops.pop()
    try:
        known = ip_address(address)
    except ValueError:
        return "unreadable"
    if isinstance(known, IPv6Address):
        if known.ipv4_mapped is not None:
            return str(known.ipv4_mapped)
        return str(IPv6Network((int(known), NEIGHBOURS), strict=False))
    return str(known)


def _is_within(address: str, networks: Networks) -> bool:
    try:
        known = ip_address(address)
    except ValueError:
        return False
    return any(known in network for network in networks)
