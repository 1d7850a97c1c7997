"""Listening sockets that were there before the process: systemd's socket activation, sd_listen_fds(3).

Who keeps them open lets a server be replaced without a connection that is refused: those that come while none
runs wait in the kernel, and the next one answers them. The next one may be started while the one before still
serves: it gets everything ready, and takes its turn in the moment in which that one closes the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
from collections.abc import MutableMapping, Sequence
from typing import NamedTuple

from origin.config.options import Config
from origin.server.server import BindError, bind, notice_the_dead

FIRST = 3
"""The first descriptor that is handed over."""

MAX_SOCKETS = 64

ASK_SECONDS = 0.01
"""Between two looks whether the server before has closed the sockets; who connects then waits so long."""


class Sockets(NamedTuple):
    """What is listened on.

    Attributes:
        handed: those that were handed over.
        every: all of them.
    """

    handed: list[socket.socket]
    every: list[socket.socket]


def or_bound(config: Config) -> Sockets:
    """Take what was handed over, and bind the rest: the port for all, and the administrator's if wanted.

    Raises:
        BindError: an address can't be listened on, or what was handed over.
    """
    server, patience = config.server, config.limits.unacknowledged_seconds
    handed = sockets(os.environ, patience)
    every = handed or bind(server.host, server.port, patience)
    if server.admin_port and server.admin_port not in {one.getsockname()[1] for one in handed}:
        try:
            return Sockets(handed, [*every, *bind(server.admin_host, server.admin_port, patience)])
        except BaseException:
            for sock in every:
                sock.close()
            raise
    return Sockets(handed, every)


def sockets(environment: MutableMapping[str, str], unacknowledged_seconds: float) -> list[socket.socket]:
    """Take what was handed over to this process; nothing where that wasn't done.

    Args:
        environment: its variables; those that tell of it are removed, for child processes get nothing.
        unacknowledged_seconds: after how long a client that confirms nothing is taken for gone.

    Raises:
        BindError: what was handed over isn't listened on, or not by TCP.
    """
    told = {name: environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")}
    count = told["LISTEN_FDS"]
    if told["LISTEN_PID"] != str(os.getpid()) or not (count.isascii() and count.isdecimal()):
        return []
    found: list[socket.socket] = []
    for descriptor in range(FIRST, FIRST + min(int(count), MAX_SOCKETS)):
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
    """Tell whether no other server listens on these sockets; if so, this process does from now on.

    The sign is a lock of the process on each socket (fcntl(2), "advisory record locking"), which the kernel
    takes away when the process closes it, however it ends.

    Args:
        found: the sockets.
    """
    try:
        for one in found:
            fcntl.lockf(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a system that can't lock sockets: then whoever is there listens
        return True
    return True


async def turn(found: Sequence[socket.socket]) -> None:
    """Wait until no other server listens on these sockets, for as long as that one runs."""
    while True:
        if is_free(found):
            return
        await asyncio.sleep(ASK_SECONDS)
