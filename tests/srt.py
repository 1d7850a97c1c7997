"""A caller of SRT that shows why it was refused, and sends anything or nothing."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import random
import select
import socket
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from origin.ingest.libsrt import LIBRARIES, Option

KEY_BYTES = 27
"""The option that chooses AES-128, 192 or 256 (``SRTO_PBKEYLEN``)."""


@functools.cache
def _started_library() -> ctypes.CDLL:
    """Load libsrt, whose threads must have ended when the process ends: they crash it else."""
    library = ctypes.CDLL(LIBRARIES[0])
    library.srt_startup()
    library.srt_setloglevel(2)
    atexit.register(library.srt_cleanup)
    return library


class Caller:
    """A connection, or a refusal.

    Attributes:
        refusal: libsrt's reason; 0 where it was let in.
    """

    def __init__(self, port: int, stream_id: str, passphrase: str = "", key_bytes: int = 16) -> None:
        self._library = _started_library()
        self._socket = self._library.srt_create_socket()
        told = stream_id.encode()
        if told:
            self._set(Option.STREAM_ID, told, len(told))
        if passphrase:
            secret, size = passphrase.encode(), ctypes.c_int(key_bytes)
            self._set(Option.PASSPHRASE, secret, len(secret))
            self._set(KEY_BYTES, ctypes.byref(size), ctypes.sizeof(size))
        # A sockaddr_in as Linux has it (ip(7)).
        packed = struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, bytes((127, 0, 0, 1)))
        failed = self._library.srt_connect(self._socket, packed, len(packed)) < 0
        self.refusal = int(self._library.srt_getrejectreason(self._socket)) if failed else 0

    def _set(self, option: int, value: object, size: int) -> None:
        assert self._library.srt_setsockflag(self._socket, int(option), value, size) == 0

    def send(self, data: bytes) -> bool:
        """Send a message; tell whether the connection is still there."""
        return int(self._library.srt_send(self._socket, data, len(data))) > 0

    @property
    def is_connected(self) -> bool:
        """Whether the connection is there (``SRTS_CONNECTED``)."""
        return int(self._library.srt_getsockstate(self._socket)) == 5

    def close(self) -> None:
        """End it."""
        self._library.srt_close(self._socket)


@contextlib.contextmanager
def calling(port: int, stream_id: str, passphrase: str = "", key_bytes: int = 16) -> Iterator[Caller]:
    """Call, and hang up at the end of the block."""
    caller = Caller(port, stream_id, passphrase, key_bytes)
    try:
        yield caller
    finally:
        caller.close()


@dataclass(frozen=True)
class Faults:
    """What a bad path does to packets of data.

    Attributes:
        lost: share that is lost.
        swapped: share that comes behind its follower.
        missing_every: of so many packets one never comes, however often it is sent.
    """

    lost: float = 0.1
    swapped: float = 0.05
    missing_every: int = 150


@contextlib.contextmanager
def bad_path(port: int, faults: Faults) -> Iterator[int]:
    """Pass a caller's datagrams on to a port, some of them not; give the port to call."""
    rng = random.Random(7)
    near = socket.socket(type=socket.SOCK_DGRAM)
    far = socket.socket(type=socket.SOCK_DGRAM)
    near.bind(("127.0.0.1", 0))
    far.connect(("127.0.0.1", port))
    ended = threading.Event()

    def pass_on() -> None:
        caller, kept = None, list[bytes]()
        while not ended.is_set():
            for one in select.select([near, far], [], [], 0.1)[0]:
                if one is far:
                    with contextlib.suppress(ConnectionError):
                        data = far.recv(2048)
                        if caller is not None:
                            near.sendto(data, caller)
                    continue
                data, caller = near.recvfrom(2048)
                number = int.from_bytes(data[:4], "big")
                # Packets of data begin with a 0 and their number (draft-sharabayko-srt §3.1).
                if number < 1 << 31:
                    if number % faults.missing_every == 0 or rng.random() < faults.lost:
                        continue
                    if not kept and rng.random() < faults.swapped:
                        kept.append(data)
                        continue
                with contextlib.suppress(ConnectionError):
                    for datagram in (data, *kept):
                        far.send(datagram)
                    kept.clear()

    thread = threading.Thread(target=pass_on)
    thread.start()
    try:
        yield int(near.getsockname()[1])
    finally:
        ended.set()
        thread.join()
        near.close()
        far.close()


def udp_port() -> int:
    """Give a UDP port of 127.0.0.1 that nobody has now; a server whose port is taken tries again."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class HandshakeSender:
    """Sends conclusions of handshakes as fast as asked, each of a new socket (draft-sharabayko-srt §3.2.1).

    Args:
        host: of 127.0.0.0/8, from which they come.
    """

    def __init__(self, port: int, host: str, stream_id: bytes) -> None:
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.settimeout(10)
        self._socket.connect(("127.0.0.1", port))
        self._socket.send(_handshake(4, 2, 1, 1, 0))
        answer = self._socket.recv(2048)
        self._cookie = int.from_bytes(answer[44:48], "big")
        self._next = 1000
        padded = stream_id + bytes(-len(stream_id) % 4)
        words = b"".join(padded[place : place + 4][::-1] for place in range(0, len(padded), 4))
        request = struct.pack("!HHIIHH", 1, 3, 0x010405, 0xBF, 120, 120)
        self._extensions = request + struct.pack("!HH", 5, len(words) // 4) + words

    def send(self, count: int) -> None:
        """Send some conclusions."""
        for _ in range(count):
            self._next += 1
            head = _handshake(5, 5, 0xFFFFFFFF, self._next, self._cookie)
            with contextlib.suppress(ConnectionError):
                self._socket.send(head + self._extensions)

    def close(self) -> None:
        """Send no more."""
        self._socket.close()


def _handshake(version: int, extension: int, kind: int, number: int, cookie: int) -> bytes:
    control = struct.pack("!IIII", 0x80000000, 0, 0, 0)
    peer = struct.pack("<I12x", 0x7F000001)
    return (
        control + struct.pack("!IHHIIIIII", version, 0, extension, 1, 1500, 8192, kind, number, cookie) + peer
    )
