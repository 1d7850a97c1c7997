"""Starts the processes of a run of tests as forks of one that has collected them.

Each process of pytest-xdist imports the program and all tests, and collects these, before it runs some of
them: six seconds of processor time, which the first of them spends for all here. execnet starts what it takes
for a Python, with the arguments of one; that hands them, its standard streams and its environment to the
process that forks, and ends as the fork does.

python -m tests.forked_workers DESCRIPTOR ARGUMENTS...  collects by pytest's arguments, forks who connects
python tests/forked_workers.py PATH -u -c STATEMENTS    connects, and stands for a Python with these options
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    from _pytest.nodes import Node
    from execnet.xspec import XSpec

REQUEST_BYTES = 1 << 20
STREAMS = 3
END_SECONDS = 60.0


class ForkedWorkers:
    """A pytest plug-in of the process that distributes a run's tests to others."""

    def __init__(self) -> None:
        self._ended = contextlib.ExitStack()

    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: Sequence[XSpec]) -> None:
        """Have those forked that would be processes of this Python; start the fork server that they share."""
        # Here, as this file is a script of its own, too.
        from tests.fork_server import SHARED, start_fork_server

        folder = self._ended.enter_context(tempfile.TemporaryDirectory(prefix="headwater-workers-"))
        path = str(Path(folder, "socket"))
        # Whoever is to be forked connects at once, and waits until all is collected.
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen(socket.SOMAXCONN)
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(listener.fileno()), *config.invocation_params.args],
                stdin=subprocess.PIPE,
                pass_fds=[listener.fileno()],
            )
        self._ended.callback(process.communicate, timeout=END_SECONDS)
        os.environ[SHARED] = str(Path(folder, "servers"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(os.environ[SHARED])
            listener.listen(socket.SOMAXCONN)
            process = start_fork_server(listener, subprocess.PIPE)
        self._ended.callback(process.communicate, timeout=END_SECONDS)
        for spec in specs:
            if spec.popen and not spec.python:
                spec.python = shlex.join([sys.executable, "-I", "-S", __file__, path])

    def pytest_unconfigure(self) -> None:
        """End the process that forks, and with it what it has forked."""
        self._ended.close()


class CollectedTests:
    """A pytest plug-in of the process that collects a run's tests, and of its forks, which run some of them.

    A fork has a configuration and a session of its own, to which the plug-in hands the collected tests over.
    """

    def __init__(self) -> None:
        self._session: pytest.Session | None = None

    def pytest_collection(self, session: pytest.Session) -> bool | None:
        """Hand the collected tests over to a fork's session; None: the session is to collect them itself."""
        if self._session is None or self._session.testsfailed or not hasattr(session.config, "workerinput"):
            return None
        session._fixturemanager = manager = self._session._fixturemanager
        manager.session, manager.config = session, session.config
        # The root of their tree stays, too: fixtures are registered by the nodes for which they are.
        nodes: set[Node] = {node for item in self._session.items for node in item.iter_parents()}
        for node in nodes:
            node.session, node.config = session, session.config
        session.items, session.testscollected = self._session.items, len(self._session.items)
        session.config.hook.pytest_collection_finish(session=session)
        return True

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep the session that has collected."""
        self._session = session


COLLECTED_TESTS = CollectedTests()
"""This process's own, which its forks inherit."""


class Request:
    """What a process is to be started with, and the connection on which its end is told."""

    def __init__(self, connection: socket.socket) -> None:
        data, self.streams, _, _ = socket.recv_fds(connection, REQUEST_BYTES, STREAMS)
        self.arguments, self.folder, self.environment = json.loads(data)
        self.connection = connection

    def become(self) -> None:
        """Be the Python that is asked for, until its statements have ended."""
        for descriptor, stream in enumerate(self.streams):
            os.dup2(stream, descriptor)
            os.close(stream)
        os.chdir(self.folder)
        os.environ.clear()
        os.environ.update(self.environment)
        sys.argv = ["-c"]
        exec(self.arguments[-1], {"__name__": "__main__"})


def fork_each(listener: socket.socket) -> Request | None:
    """Fork for each request until standard input ends, which ends them all.

    Returns:
        The request in the process that has been forked for it; None where standard input has ended.
    """
    children: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
    with selectors.DefaultSelector() as selector:
        selector.register(0, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj == 0:
                    for pidfd in children:
                        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                    return None
                if key.fileobj is listener:
                    request = Request(listener.accept()[0])
                    pid = os.fork()
                    if not pid:
                        for pidfd, (_, connection) in children.items():
                            os.close(pidfd)
                            connection.close()
                        request.connection.close()
                        return request
                    for stream in request.streams:
                        os.close(stream)
                    pidfd = os.pidfd_open(pid)
                    children[pidfd] = pid, request.connection
                    selector.register(pidfd, selectors.EVENT_READ, pidfd)
                    # Nothing comes there but its end: who stands for the process has been killed.
                    selector.register(request.connection, selectors.EVENT_READ, pidfd)
                elif isinstance(key.fileobj, socket.socket):
                    selector.unregister(key.fileobj)
                    signal.pidfd_send_signal(key.data, signal.SIGKILL)
                else:
                    pid, connection = children.pop(key.data)
                    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                    with contextlib.suppress(KeyError):
                        selector.unregister(connection)
                    selector.unregister(key.data)
                    os.close(key.data)
                    with connection, contextlib.suppress(OSError):
                        connection.send(bytes([status % 256]))


def collect(arguments: Sequence[str]) -> None:
    """Import what a run with these arguments imports. What can't be, each process tries, and tells, again."""
    pytest: Any = importlib.import_module("pytest")
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        pytest.main([*arguments, "--collect-only", "--quiet", "--numprocesses=0"])
    gc.collect()
    gc.freeze()


def main() -> None:
    with socket.socket(fileno=int(sys.argv[1])) as listener:
        collect(sys.argv[2:])
        request = fork_each(listener)
    if request is not None:
        request.become()


def stand_for(path: str, arguments: Sequence[str]) -> int:
    """Ask for a process with our own streams and environment; return its exit status."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(path)
        data = json.dumps((arguments, os.getcwd(), dict(os.environ))).encode()
        socket.send_fds(connection, [data], range(STREAMS))
        for descriptor in range(2):
            os.close(descriptor)
        return (connection.recv(1) or b"\1")[0]


if __name__ == "__main__":
    if __spec__ is None:
        sys.exit(stand_for(sys.argv[1], sys.argv[2:]))
    main()
