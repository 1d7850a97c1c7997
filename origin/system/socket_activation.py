"""Inherits listening sockets from systemd's socket activation, sd_listen_fds(3), and takes them over in turn.

A server can be replaced without a refused connection: connections wait in the kernel while no server runs.
The next server may be started while the previous one runs; it prepares everything, and serves from the moment
in which the previous one closes the sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import socket
from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

from origin.config.options import Config
from origin.system.binding import BindError, bind, bind_datagrams, notice_the_dead

FIRST = 3
"""Number of the first inherited descriptor."""

INHERITED_SOCKETS = 64
"""Most listening sockets that are inherited."""


class Sockets(NamedTuple):
    """The sockets that a server listens on.

    Attributes:
        inherited: the sockets among these that were inherited.
        quic: the sockets of HTTP/3, which are UDP's.
    """

    inherited: list[socket.socket]
    http: list[socket.socket]
    rtmp: list[socket.socket]
    https: list[socket.socket]
    rtmps: list[socket.socket]
    quic: list[socket.socket]

    @property
    def tcp(self) -> list[socket.socket]:
        """All sockets of TCP."""
        return [*self.http, *self.rtmp, *self.https, *self.rtmps]

    @property
    def every(self) -> list[socket.socket]:
        """All listening sockets."""
        return [*self.tcp, *self.quic]


def inherit_or_bind(config: Config) -> Sockets:
    """Inherit sockets, or bind them; the administrator's and other protocols' are bound if not inherited.

    Raises:
        BindError: an address can't be bound, or an inherited socket isn't TCP.
    """
    server, patience = config.server, config.limits.unacknowledged_seconds
    inherited = inherited_sockets(os.environ, patience)
    tls = config.tls
    ports = {"server.rtmp_port": server.rtmp_port}
    if tls.certificate:
        ports |= {"tls.port": tls.port, "tls.rtmps_port": tls.rtmps_port}
    others = {
        option: [one for one in inherited if port and one.getsockname()[1] == port]
        for option, port in ports.items()
    }
    http = [one for one in inherited if not any(one in found for found in others.values())]
    try:
        http = http or bind(server.host, server.port, patience)
        if server.admin_port and server.admin_port not in {one.getsockname()[1] for one in inherited}:
            options = "server.admin_port", "server.admin_host"
            http = [*http, *bind(server.admin_host, server.admin_port, patience, *options)]
        for option, port in ports.items():
            if (port or option == "tls.port") and not others[option]:
                others[option] = bind(server.host, port, patience, option)
        quic = bind_datagrams(others["tls.port"]) if tls.certificate and tls.http3 else []
    except BaseException:
        for sock in itertools.chain(http, *others.values()):
            sock.close()
        raise
    rtmp, https, rtmps = (
        others.get(option, []) for option in ("server.rtmp_port", "tls.port", "tls.rtmps_port")
    )
    return Sockets(inherited, http, rtmp, https, rtmps, quic)


def inherited_sockets(
    environment: MutableMapping[str, str],
    unacknowledged_seconds: float,
) -> list[socket.socket]:
    """Return the sockets that were passed to this process, if any.

    Args:
        environment: the process's variables; those of socket activation are removed, so that children don't
            inherit them.
        unacknowledged_seconds: after which a client that acknowledges nothing is disconnected.

    Raises:
        BindError: a socket isn't TCP.
    """
    told = {name: environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    count = told["LISTEN_FDS"]
    if told["LISTEN_PID"] != str(os.getpid()) or not (count.isascii() and count.isdecimal()):
        return []
    found: list[socket.socket] = []
    for descriptor in range(FIRST, FIRST + min(int(count), INHERITED_SOCKETS)):
        with contextlib.suppress(OSError):
            os.set_inheritable(descriptor, False)
            found.append(socket.socket(fileno=descriptor))
    families = (socket.AF_INET, socket.AF_INET6)
    if any(one.family not in families or one.type != socket.SOCK_STREAM for one in found):
        raise BindError("a socket of LISTEN_FDS isn't TCP's; name an address and a port in ListenStream=")
    for one in found:
        notice_the_dead(one, unacknowledged_seconds)
    return found


def is_free(found: Sequence[socket.socket]) -> bool:
    """Return whether no other server listens on these sockets; if so, lock them for this process.

    The lock is a process's record lock on each socket (fcntl(2)), which the kernel releases when the process
    closes the socket or ends.
    """
    try:
        for one in found:
            fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a system that can't lock sockets: every server then listens at once
        return True
    return True


async def wait_until_free(found: Sequence[socket.socket], look_seconds: float) -> None:
    """Wait until no other server listens on these sockets, looking at them so often."""
    while True:
        if is_free(found):
            return
        await asyncio.sleep(look_seconds)
