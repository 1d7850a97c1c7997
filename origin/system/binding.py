"""Binds listening sockets, with advice where an address can't be bound."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Sequence

from origin.config.errors import CommandError

BIND_ADVICE = {
    errno.EADDRINUSE: "stop what uses it or choose another with {option}",
    errno.EADDRNOTAVAIL: "{host_option} is an address of this machine, or 0.0.0.0 for all of them",
    errno.EACCES: "ports below 1024 are the administrator's: choose another with {option}",
}
"""Advice for addresses that can't be bound."""


KEEPALIVE_IDLE_SECONDS = 20
"""Silence after which a connection is probed (tcp(7), TCP_KEEPIDLE)."""

KEEPALIVE_PROBE_SECONDS = 5
"""Pause between two probes (tcp(7), TCP_KEEPINTVL)."""

KEEPALIVE_PROBES = 3
"""Unanswered probes after which a connection is closed (tcp(7), TCP_KEEPCNT)."""


class BindError(CommandError):
    """The address can't be bound; the text is one line that says what to do."""


def bind(
    host: str,
    port: int,
    unacknowledged_seconds: float,
    option: str = "--port or server.port",
    host_option: str = "--host or server.host",
) -> list[socket.socket]:
    """Bind all addresses of a host, without listening yet.

    Args:
        host: name or address.
        port: number; 0 chooses a free one, the same for all addresses.
        unacknowledged_seconds: after which a client that acknowledges nothing is disconnected.
        option: where the port is chosen.
        host_option: where the host is chosen.

    Raises:
        BindError: the host has no address, or one of them can't be bound.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise BindError(
            f"{host}: no such host ({error.strerror}); set {host_option} to an address"
        ) from error
    sockets: list[socket.socket] = []
    for family, kind, protocol, _, address in dict.fromkeys(found):
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        notice_the_dead(sock, unacknowledged_seconds)
        chosen = sockets[0].getsockname()[1] if sockets else port
        try:
            sock.bind((address[0], chosen, *address[2:]))
        except OSError as error:
            for other in (*sockets, sock):
                other.close()
            advice = BIND_ADVICE.get(error.errno or 0, "choose another with {option}, or {host_option}")
            advised = advice.format(option=option, host_option=host_option)
            raise BindError(f"{host}:{port}: {error.strerror}; {advised}") from error
        sockets.append(sock)
    return sockets


def bind_datagrams(beside: Sequence[socket.socket]) -> list[socket.socket]:
    """Bind UDP sockets at the addresses of other sockets.

    Raises:
        BindError: one of them can't be bound.
    """
    sockets: list[socket.socket] = []
    for other in beside:
        sock = socket.socket(other.family, socket.SOCK_DGRAM)
        sockets.append(sock)
        if other.family == socket.AF_INET6:
            only = other.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        address = other.getsockname()
        try:
            sock.bind(address)
        except OSError as error:
            for one in sockets:
                one.close()
            told = f"{address[0]}:{address[1]} (UDP): {error.strerror}"
            raise BindError(f"{told}; stop what uses it or set tls.http3 to false") from error
    return sockets


def notice_the_dead(sock: socket.socket, seconds: float) -> None:
    """Make the kernel end connections whose client has vanished; by default that takes hours.

    Accepted connections inherit these options. A client that keeps its receive window closed counts as
    vanished, too.

    Args:
        seconds: after which a client that acknowledges nothing is disconnected.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_PROBE_SECONDS)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
