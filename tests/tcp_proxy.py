"""A TCP proxy before a server, which writes down what is asked, and may refuse, or hold requests back."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

LOOK_SECONDS = 0.02


class TcpProxy:
    """A TCP proxy before the server of a port, which may be cut off from who uses the proxy.

    Attributes:
        requests: first lines of requests, in their order.
        connections: how many there were.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.requests: list[str] = []
        self._refuses = False
        self._held: tuple[str, ...] = ()
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def asked(self, *words: str) -> list[str]:
        """Return the requests that have all these words in their first line."""
        return [line for line in list(self.requests) if all(word in line for word in words)]

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Close all connections, as those of a server that is gone."""
        self._refuses = True
        self._close_all()
        try:
            yield
        finally:
            self._refuses = False

    @contextlib.contextmanager
    def holding(self, *words: str) -> Iterator[None]:
        """Hold requests back that have all these words in their first line, until the end of the context."""
        self._held = words
        try:
            yield
        finally:
            self._held = ()

    def close(self) -> None:
        self._refuses = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close_all()

    def _close_all(self) -> None:
        with self._lock:
            gone, self._open = self._open, []
        for one in gone:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open += [client, server]
            threading.Thread(target=self._copy, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, False), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, of_client: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if of_client:  # requests without bodies come whole
                    line = data.split(b"\r\n", 1)[0].decode("latin-1")
                    self.requests.append(line)
                    while (held := self._held) and all(word in line for word in held):
                        time.sleep(LOOK_SECONDS)
                target.sendall(data)
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
