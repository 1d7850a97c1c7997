"""Finds the client behind trusted proxies by X-Forwarded-For, X-Forwarded-Proto and Forwarded (RFC 7239).

Such a field is only as reliable as its writer. So the lists are read from the right, where the nearest proxy
has added what it saw, and only across trusted addresses; the first other address is the client's.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MAX_HOPS = 100
"""Most entries of a list that are read."""

MAX_ELEMENT_CHARS = 512
"""Longest element of Forwarded that is read."""

ANY, X_FORWARDED_FOR, FORWARDED = "any", "X-Forwarded-For", "Forwarded"
"""The fields that may be believed: whichever comes, or one of them alone."""

CLIENTS_KEPT = 1024
"""Most lists whose client is cached: a viewer sends the same ones with each request."""

MAX_KEPT_CHARS = 256
"""Longest lists that are cached."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# This matches an address with or without a port. RFC 7239 §6: IPv6 is in brackets, and ports may be
# obfuscated; X-Forwarded-For often has IPv6 without brackets.
_NODE = re.compile(
    r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15}))(?::(?:[0-9]{1,5}|_[A-Za-z0-9._-]{1,64}))?|([0-9A-Fa-f:.]{2,45})"
)
# RFC 7239 §4: an element consists of forwarded-pairs, whose values are tokens or quoted strings.
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # a rule of the grammar
_PAIR = rf'({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)")'
# Each space can match in one place only: with two, the time would grow as two to the power of the length.
_ELEMENT = re.compile(rf"(?:{_PAIR})?[ \t]*(?:;[ \t]*(?:{_PAIR}[ \t]*)?)*")
_PAIRS = re.compile(_PAIR)
_SCHEMES = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class Client:
    """The client that sent a request.

    Attributes:
        scheme: the scheme of the requested URL; None for that of the connection.
    """

    host: str
    scheme: str | None = None


class _Hop(NamedTuple):
    """A peer that a proxy has forwarded for, by the proxy's word; the address is None if it can't be used."""

    address: Address | None
    scheme: str | None = None


def read_address(text: str) -> Address | None:
    """Parse an IP address, optionally with a port; None for anything else.

    IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2) are returned as IPv4.
    """
    found = _NODE.fullmatch(text.strip(' \t"'))
    if found is None:
        return None
    try:
        address = ipaddress.ip_address(found[1] or found[2] or found[3])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class TrustedProxies:
    """The configured proxies whose X-Forwarded-For, X-Forwarded-Proto and Forwarded are believed.

    Args:
        networks: addresses and networks, such as ``10.0.0.1`` or ``2001:db8::/32``.
        field: the field that they write: `ANY`, `X_FORWARDED_FOR` (with X-Forwarded-Proto) or `FORWARDED`.

    Raises:
        ValueError: one of them is neither.
    """

    def __init__(self, networks: Iterable[str] = (), field: str = ANY) -> None:
        self._field = field
        self._networks: tuple[Network, ...] = tuple(
            ipaddress.ip_network(one, strict=False) for one in networks
        )
        self._known = functools.lru_cache(maxsize=CLIENTS_KEPT)(self._decide)

    def __bool__(self) -> bool:
        """Return whether any proxy is trusted."""
        return bool(self._networks)

    def trusts(self, host: str) -> bool:
        """Return whether an address is that of a trusted proxy."""
        address = read_address(host.partition("%")[0])
        return address is not None and self._trusts(address)

    def client(self, peer: str, fields: Iterable[tuple[bytes, bytes]]) -> Client:
        """Determine the client of a request from its peer and its header fields, names in lower case."""
        if not self._networks:
            return Client(peer)
        lists: dict[bytes, list[bytes]] = {b"x-forwarded-for": [], b"x-forwarded-proto": [], b"forwarded": []}
        for name, value in fields:
            if (found := lists.get(name)) is not None:
                found.append(value)
        # RFC 9110 §5.3: several lines of one name form one list.
        texts = [b",".join(found).decode("latin-1") for found in lists.values()]
        decide = self._known if sum(map(len, texts)) <= MAX_KEPT_CHARS else self._decide
        return decide(peer, *texts)

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def _decide(self, peer: str, addresses: str, schemes: str, forwarded: str) -> Client:
        if not self.trusts(peer):
            return Client(peer)
        if self._field == FORWARDED:
            addresses = schemes = ""
        elif self._field == X_FORWARDED_FOR:
            forwarded = ""
        protocols = [_scheme(text) for text in _from_the_right(schemes)]
        common = self._outermost(_hops(addresses, protocols))
        standard = self._outermost(_elements(forwarded))
        # A proxy that writes only one of the two fields passes the other on as the client has written it.
        # Most proxies write X-Forwarded-For.
        if common.address not in (None, standard.address):
            standard = _Hop(None)
        address = common.address or standard.address
        scheme = common.scheme or (protocols[0] if len(protocols) == 1 else None) or standard.scheme
        return Client(peer if address is None else str(address), scheme)

    def _outermost(self, hops: Iterable[_Hop]) -> _Hop:
        """Return the first hop from the right that isn't trusted, or else the leftmost one."""
        outermost = _Hop(None)
        for hop in hops:
            if hop.address is None:
                # Entries left of an unreadable one weren't written by a trusted proxy.
                return outermost if outermost.address is not None else hop
            outermost = hop
            if not self._trusts(hop.address):
                break
        return outermost


def _from_the_right(text: str) -> Iterator[str]:
    """Return the entries of a list, last first, without empty ones (RFC 9110 §5.6.1.2)."""
    entries = (entry.strip(" \t") for entry in reversed(text.rsplit(",", MAX_HOPS)[-MAX_HOPS:]))
    return filter(None, entries)


def _hops(addresses: str, schemes: Sequence[str | None]) -> Iterator[_Hop]:
    """Parse X-Forwarded-For from the right, with one scheme for all or one for each."""
    for number, entry in enumerate(_from_the_right(addresses)):
        place = 0 if len(schemes) == 1 else number
        yield _Hop(read_address(entry), schemes[place] if place < len(schemes) else None)


def _elements(text: str) -> Iterator[_Hop]:
    """Parse Forwarded (RFC 7239) from the right, as far as it can be read."""
    end = start = len(text)
    for _ in range(MAX_HOPS):
        start = text.rfind(",", 0, start)
        element = text[start + 1 : end].strip(" \t")
        if len(element) > MAX_ELEMENT_CHARS:
            break
        # A comma in quotes doesn't end the element, which then goes on to the left.
        if _ELEMENT.fullmatch(element):
            if element:
                yield _hop(element)
            end = start
        if start < 0:
            break
    if end > 0:
        yield _Hop(None)


def _hop(element: str) -> _Hop:
    address, scheme = None, None
    for name, token, quoted in _PAIRS.findall(element):
        value = token or re.sub(r"\\(.)", r"\1", quoted)
        # RFC 7239 §4: names of parameters are case-insensitive; §6.2, §6.3: "unknown" and obfuscated
        # identifiers are no addresses.
        if name.lower() == "for":
            address = read_address(value)
        elif name.lower() == "proto":
            scheme = _scheme(value)
    return _Hop(address, scheme)


def _scheme(text: str) -> str | None:
    return text.lower() if text.lower() in _SCHEMES else None
