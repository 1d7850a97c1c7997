"""Calls libsrt, the library for SRT that Debian's ffmpeg uses, as far as a server of publishers needs it."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog

from packager.sources.publication import LinkStatistics

log = structlog.get_logger()

LIBRARIES = ("libsrt-gnutls.so.1.5", "libsrt.so.1.5")
PACKAGE = "libsrt1.5-gnutls"
"""Debian's package of it."""

NONE_YET = 6002
"""The code of ``SRT_EASYNCRCV``: nothing has come (srt.h)."""

MESSAGE_BYTES = 1456
"""Longest message of a live stream (``SRT_LIVE_MAX_PLSIZE``)."""

ADDRESS_BYTES = 128
"""Room for any ``sockaddr``."""

OVERLOAD = 1402
"""The reason of a refusal for too many callers (``SRT_REJX_OVERLOAD``)."""

CRITICAL = 2
"""The level of syslog(3) below which libsrt writes nothing to the standard error."""


class Option(enum.IntEnum):
    """Options of sockets (``SRT_SOCKOPT``)."""

    RECEIVE_BLOCKING = 2
    RECEIVE_BYTES = 6
    PASSPHRASE = 26
    RECEIVE_LATENCY = 43
    STREAM_ID = 46
    IPV6_ONLY = 54
    PEER_IDLE_MILLISECONDS = 55


class SocketEvents(enum.IntFlag):
    """A change of a socket's state (``SRT_EPOLL_OPT``)."""

    IN = 0x1
    ERROR = 0x8


class LibsrtMissingError(Exception):
    """Libsrt isn't installed."""


class SrtError(Exception):
    """A call of libsrt failed, with the text that libsrt has for it."""


@dataclass(frozen=True, slots=True)
class HandshakeAnswer:
    """The answer to a caller's SRT handshake.

    Attributes:
        code: of the refusal; 0 to let it in.
        passphrase: with which it must encrypt; empty for not at all.
    """

    code: int = 0
    passphrase: str = field(default="", repr=False)


class _EpollEvent(ctypes.Structure):
    _fields_ = (("socket", ctypes.c_int), ("events", ctypes.c_int))


def _fields(kind: type[ctypes._SimpleCData[Any]], names: str) -> tuple[tuple[str, Any], ...]:
    return tuple((name, kind) for name in names.split())


class _Statistics(ctypes.Structure):
    """``CBytePerfMon`` of srt.h, to the field before which nothing was ever added."""

    _fields_ = (
        *_fields(ctypes.c_int64, "msTimeStamp pktSentTotal pktRecvTotal"),
        *_fields(ctypes.c_int, "pktSndLossTotal pktRcvLossTotal pktRetransTotal pktSentACKTotal"),
        *_fields(ctypes.c_int, "pktRecvACKTotal pktSentNAKTotal pktRecvNAKTotal"),
        *_fields(ctypes.c_int64, "usSndDurationTotal"),
        *_fields(ctypes.c_int, "pktSndDropTotal pktRcvDropTotal pktRcvUndecryptTotal"),
        *_fields(ctypes.c_uint64, "byteSentTotal byteRecvTotal byteRcvLossTotal byteRetransTotal"),
        *_fields(ctypes.c_uint64, "byteSndDropTotal byteRcvDropTotal byteRcvUndecryptTotal"),
        *_fields(ctypes.c_int64, "pktSent pktRecv"),
        *_fields(ctypes.c_int, "pktSndLoss pktRcvLoss pktRetrans pktRcvRetrans"),
        *_fields(ctypes.c_int, "pktSentACK pktRecvACK pktSentNAK pktRecvNAK"),
        *_fields(ctypes.c_double, "mbpsSendRate mbpsRecvRate"),
        *_fields(ctypes.c_int64, "usSndDuration"),
        *_fields(ctypes.c_int, "pktReorderDistance"),
        *_fields(ctypes.c_double, "pktRcvAvgBelatedTime"),
        *_fields(ctypes.c_int64, "pktRcvBelated"),
        *_fields(ctypes.c_int, "pktSndDrop pktRcvDrop pktRcvUndecrypt"),
        *_fields(ctypes.c_uint64, "byteSent byteRecv byteRcvLoss byteRetrans"),
        *_fields(ctypes.c_uint64, "byteSndDrop byteRcvDrop byteRcvUndecrypt"),
        *_fields(ctypes.c_double, "usPktSndPeriod"),
        *_fields(ctypes.c_int, "pktFlowWindow pktCongestionWindow pktFlightSize"),
        *_fields(ctypes.c_double, "msRTT"),
        # libsrt writes the rest, too, about 200 bytes; later releases may write more.
        ("rest", ctypes.c_char * 2048),
    )


_ListenCallback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
)

Judge = Callable[[str, bytes], HandshakeAnswer]
"""Called with a caller's address and stream ID; gives what it hears.

It is called in a thread of libsrt, which reads nothing from anybody meanwhile: it must not wait.
"""


class Libsrt:
    """The library; its functions raise ``SrtError`` instead of giving -1.

    Raises:
        LibsrtMissingError: there is none.
    """

    def __init__(self) -> None:
        self._library = _load()
        self._callbacks: list[object] = []
        self._buffer = ctypes.create_string_buffer(MESSAGE_BYTES)

    def startup(self) -> None:
        """Start the threads of libsrt."""
        self._library.srt_setloglevel(CRITICAL)
        self._check(self._library.srt_startup())

    def cleanup(self) -> None:
        """Close all sockets that are left, and end its threads."""
        self._library.srt_cleanup()
        self._callbacks.clear()

    def create_socket(self, options: dict[Option, int]) -> int:
        """Create a socket."""
        sock = self._check(self._library.srt_create_socket())
        try:
            for option, value in options.items():
                given = ctypes.c_int(value)
                size = ctypes.c_int(ctypes.sizeof(given))
                self._check(
                    self._library.srt_setsockopt(sock, 0, ctypes.c_int(option), ctypes.byref(given), size)
                )
        except SrtError:
            self.close(sock)
            raise
        return sock

    def listen(self, sock: int, udp: socket.socket, backlog: int, judge: Judge) -> None:
        """Listen on a bound UDP socket, of which libsrt gets a copy.

        Args:
            judge: admits or refuses callers.
        """

        def on_caller(
            _opaque: object, caller: int, _version: int, peer: int | None, stream_id: bytes | None
        ) -> int:
            code = 1500  # of an error of ours
            try:
                raw = b"" if peer is None else ctypes.string_at(peer, 28)
                answer = judge(_read_address(raw), stream_id or b"")
                if answer.passphrase:
                    self._require_passphrase(caller, answer.passphrase)
                code = answer.code
            except Exception:  # libsrt knows no exceptions
                log.exception("an SRT caller is refused for an error of this server")
            if code:
                self._library.srt_setrejectreason(caller, code)
            return -1 if code else 0

        callback = _ListenCallback(on_caller)
        self._callbacks.append(callback)
        self._check(self._library.srt_bind_acquire(sock, os.dup(udp.fileno())))
        self._check(self._library.srt_listen_callback(sock, callback, None))
        self._check(self._library.srt_listen(sock, backlog))

    def _require_passphrase(self, sock: int, passphrase: str) -> None:
        """Refuse who doesn't encrypt with it; the caller says whether by AES-128, 192 or 256."""
        told = passphrase.encode()
        self._check(self._library.srt_setsockflag(sock, int(Option.PASSPHRASE), told, len(told)))

    def accept(self, listener: int) -> tuple[int, str, bytes]:
        """Accept who was let in; return its socket, its address and its stream ID."""
        address = ctypes.create_string_buffer(ADDRESS_BYTES)
        size = ctypes.c_int(ADDRESS_BYTES)
        sock = self._check(self._library.srt_accept(listener, address, ctypes.byref(size)))
        stream_id = ctypes.create_string_buffer(513)
        size = ctypes.c_int(len(stream_id))
        try:
            self._check(
                self._library.srt_getsockflag(sock, int(Option.STREAM_ID), stream_id, ctypes.byref(size))
            )
        except SrtError:
            self.close(sock)
            raise
        return sock, _read_address(address.raw), stream_id.raw[: size.value]

    def latency(self, sock: int) -> float:
        """Return the seconds for which libsrt holds received data of a connection."""
        found, size = ctypes.c_int(), ctypes.c_int(ctypes.sizeof(ctypes.c_int))
        option = int(Option.RECEIVE_LATENCY)
        self._check(self._library.srt_getsockflag(sock, option, ctypes.byref(found), ctypes.byref(size)))
        return found.value / 1000

    def receive_message(self, sock: int) -> bytes | None:
        """Return the next message; None while there is none, and nothing at the end."""
        size = self._library.srt_recv(sock, self._buffer, MESSAGE_BYTES)
        if size > 0:
            return self._buffer.raw[:size]
        if size < 0 and self._library.srt_getlasterror(None) == NONE_YET:
            return None
        return b""

    def statistics(self, sock: int) -> LinkStatistics:
        """Return libsrt's counters of a connection."""
        found = _Statistics()
        self._check(self._library.srt_bstats(sock, ctypes.byref(found), 0))
        return LinkStatistics(
            found.msRTT / 1000, found.pktRcvLossTotal, found.pktRcvRetrans, found.pktRcvDropTotal
        )

    def close(self, sock: int) -> None:
        """Close a socket; nothing if it is closed already."""
        self._library.srt_close(sock)

    def create_epoll(self) -> int:
        """Create an epoll, which waits for several sockets at once."""
        return self._check(self._library.srt_epoll_create())

    def release_epoll(self, epoll: int) -> None:
        """Release an epoll; the sockets that it waited for stay open."""
        self._library.srt_epoll_release(epoll)

    def watch(self, epoll: int, sock: int) -> None:
        """Add a socket to an epoll."""
        events = ctypes.c_int(SocketEvents.IN | SocketEvents.ERROR)
        self._check(self._library.srt_epoll_add_usock(epoll, sock, ctypes.byref(events)))

    def ignore(self, epoll: int, sock: int) -> None:
        """Remove a socket from an epoll."""
        self._library.srt_epoll_remove_usock(epoll, sock)

    def wait(self, epoll: int, most: int, seconds: float) -> Iterator[int]:
        """Wait until something happens to sockets, and give those."""
        events = (_EpollEvent * most)()
        count = self._library.srt_epoll_uwait(epoll, events, most, ctypes.c_int64(round(seconds * 1000)))
        return iter([one.socket for one in events[: max(count, 0)]])

    def _check(self, result: int) -> int:
        if result < 0:
            raise SrtError(os.fsdecode(self._library.srt_getlasterror_str()))
        return int(result)


def _load() -> ctypes.CDLL:
    for name in LIBRARIES:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(name)
            library.srt_getlasterror_str.restype = ctypes.c_char_p
            return library
    raise LibsrtMissingError(os.strerror(errno.ENOENT))


def _read_address(raw: bytes) -> str:
    """Read the address of one; empty for none that is known."""
    family = struct.unpack_from("=H", raw)[0] if len(raw) >= 28 else 0
    if family == socket.AF_INET:
        return socket.inet_ntop(family, raw[4:8])
    if family == socket.AF_INET6:
        text = socket.inet_ntop(family, raw[8:24])
        return text.removeprefix("::ffff:") if "." in text else text
    return ""
