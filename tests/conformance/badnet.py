"""A proxy that is a bad network: late, slow, in crumbs, cut in the middle, or silent without a word."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

READ_BYTES = 1 << 14


@dataclass(frozen=True)
class Toxic:
    """What is wrong with the way from the server to the client.

    Attributes:
        delay: seconds before each piece.
        bytes_per_second: 0 for as fast as it goes.
        slice_bytes: length of the pieces in which bytes arrive.
        reset_after: bytes after which each connection is reset; 0 for never.
        silent_after: bytes after which each connection carries nothing more; 0 for never.
    """

    delay: float = 0.0
    bytes_per_second: int = 0
    slice_bytes: int = READ_BYTES
    reset_after: int = 0
    silent_after: int = 0


class BadNetwork:
    """Forwards connections to a server; ``address`` is where it listens."""

    def __init__(self, server: tuple[str, int], toxic: Toxic) -> None:
        self._server = server
        self._toxic = toxic
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listener.getsockname()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = []
        self.connections = 0

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._end.is_set():
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(self._server)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)
            self._sockets += (client, server)
            asking = threading.Thread(target=self._requests, args=(client, server))
            answering = threading.Thread(target=self._answers, args=(client, server, asking))
            self._threads += (asking, answering)
            asking.start()
            answering.start()

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(READ_BYTES):
                server.sendall(data)
            server.shutdown(socket.SHUT_RDWR)

    def _answers(self, client: socket.socket, server: socket.socket, asking: threading.Thread) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            self._forward(client, server)
            client.shutdown(socket.SHUT_RD)
        # A socket that another thread reads from isn't reset by being closed.
        asking.join()
        client.close()
        server.close()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        toxic, passed = self._toxic, 0
        while data := server.recv(toxic.slice_bytes):
            if toxic.silent_after and passed >= toxic.silent_after:
                self._end.wait()
                return
            if toxic.reset_after and passed >= toxic.reset_after:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            time.sleep(toxic.delay)
            if toxic.bytes_per_second:
                time.sleep(len(data) / toxic.bytes_per_second)
            client.sendall(data)
            passed += len(data)
