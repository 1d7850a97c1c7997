"""Limits how many SRT handshakes reach libsrt, which makes a socket of some 20 KB for each before it asks.

Refusals can't help there: the kernel drops the handshakes of networks that send too many, by a filter of the
UDP socket (socket(7), SO_ATTACH_FILTER). Packets of publishers that are connected pass it.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
import threading
import time
from collections.abc import Callable, Collection

import structlog

from origin.http.client_limits import network_of
from origin.http.token_bucket import TokenBucket
from packager.bounded_dict import BoundedDict

log = structlog.get_logger()

NETWORK_AT_ONCE, NETWORK_A_SECOND = 32, 8.0
"""Handshakes of a network, an IPv4 address or an IPv6 /64, that reach libsrt."""

AT_ONCE, A_SECOND = 256, 64.0
"""Handshakes of all networks together that reach libsrt."""

PAUSE_SECONDS = 2.0
"""For which a network's handshakes are dropped."""

ALL_PAUSE_SECONDS = 0.2
"""For which all are dropped at least, so that the filter isn't changed for each."""

NETWORKS = 4096
"""Most networks whose handshakes are counted."""

DROPPED_NETWORKS = 64
"""Most networks that a filter names."""

# linux/filter.h, asm-generic/socket.h
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
LOAD_WORD, LOAD_HALF, JUMP_EQUAL, RETURN = 0x20, 0x28, 0x15, 0x06
NETWORK_HEADER = -0x100000 & 0xFFFFFFFF
"""Offset of the IP header; offset 0 is the UDP header's."""

SOURCE_OFFSETS = {socket.AF_INET: (12,), socket.AF_INET6: (8, 12)}
"""Where the words of a source's network are in the IP header (RFC 791 §3.1, RFC 8200 §3)."""

HANDSHAKE = 0x8000
"""First two bytes of a handshake's packet (draft-sharabayko-srt §3.2)."""

ACCEPTED = 0xFFFFFFFF


class HandshakeLimit:
    """Counts the handshakes of each network, and has the kernel drop those beyond. Any thread may call.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._all = TokenBucket(AT_ONCE, A_SECOND, clock)
        self._networks = BoundedDict[str, TokenBucket](NETWORKS)
        # Until when each network's handshakes are dropped, and all networks'.
        self._dropped = BoundedDict[str, float](DROPPED_NETWORKS)
        self._all_until = 0.0
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def guard(self, sockets: Collection[socket.socket]) -> None:
        """Set the UDP sockets on which libsrt listens."""
        with self._lock:
            self._sockets = list(sockets)
            self._dropped.clear()
            self._all_until = 0.0

    def acquire(self, address: str) -> bool:
        """Count a handshake; return False if it is beyond the limit, and then none follows for a while."""
        network = network_of(address)
        with self._lock:
            bucket = self._networks.use(network)
            if bucket is None:
                bucket = TokenBucket(NETWORK_AT_ONCE, NETWORK_A_SECOND, self._clock)
                self._networks[network] = bucket
            now = self._clock()
            if bucket.acquire() > 0:
                is_new = network not in self._dropped
                self._dropped[network] = now + PAUSE_SECONDS
            elif (seconds := self._all.acquire()) > 0:
                network, is_new = "all", self._all_until <= now
                self._all_until = now + max(seconds, ALL_PAUSE_SECONDS)
            else:
                return True
            if is_new:
                self._attach()
        if is_new:
            log.debug("srt handshakes are dropped", network=network)
        return False

    def lift(self) -> None:
        """Hear again whose pause is over."""
        now = self._clock()
        with self._lock:
            over = [network for network, until in self._dropped.items() if until <= now]
            for network in over:
                del self._dropped[network]
            if over or 0 < self._all_until <= now:
                if self._all_until <= now:
                    self._all_until = 0.0
                self._attach()

    def _attach(self) -> None:
        for sock in self._sockets:
            if self._all_until > 0:
                program = dropping_program(sock.family, None)
            elif self._dropped:
                program = dropping_program(sock.family, self._dropped)
            else:
                with contextlib.suppress(FileNotFoundError):  # the socket has no filter
                    sock.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
                continue
            steps = ctypes.create_string_buffer(program, len(program))
            told = struct.pack("@HP", len(program) // 8, ctypes.addressof(steps))
            sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, told)


def dropping_program(family: int, networks: Collection[str] | None) -> bytes:
    """Return the classic BPF program that drops the handshakes of some networks and accepts all else.

    Args:
        networks: as ``network_of`` returns them, those of other families included; None for all.
    """
    offsets = SOURCE_OFFSETS[socket.AddressFamily(family)]
    checks = list[tuple[int, int, int, int]]()
    for words in [()] if networks is None else _words(family, networks):
        # One check: all words are equal, or on to the next check.
        for place, (offset, word) in enumerate(zip(offsets, words, strict=False)):
            further = 2 * (len(words) - place) - 1
            checks += [(LOAD_WORD, 0, 0, NETWORK_HEADER + offset), (JUMP_EQUAL, 0, further, word)]
        checks.append((RETURN, 0, 0, 0))
    steps = [
        (LOAD_HALF, 0, 0, 8),
        (JUMP_EQUAL, 1, 0, HANDSHAKE),
        (RETURN, 0, 0, ACCEPTED),
        *checks,
        (RETURN, 0, 0, ACCEPTED),
    ]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _words(family: int, networks: Collection[str]) -> list[tuple[int, ...]]:
    found = list[tuple[int, ...]]()
    for network in networks:
        try:
            address = ipaddress.ip_network(network).network_address
        except ValueError:
            continue
        if family == socket.AF_INET and address.version == 4:
            found.append(struct.unpack("!I", address.packed))
        elif family == socket.AF_INET6 and address.version == 6:
            found.append(struct.unpack("!II", address.packed[:8]))
    return found
