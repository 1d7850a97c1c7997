"""The transport of an encrypted connection, of which files are sent with one reading of their bytes.

asyncio's own TLS copies each byte twice more, and lets nobody know how full the socket is. OpenSSL gets
bounded portions of what has come: a socket that it reads itself would hold the event loop for as long as a
client sends new keys.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from origin.http1.shared_turns import turns_of

READ_BYTES = 16 << 10
"""Bytes that OpenSSL gets at once: 600 messages with new keys, which take it 20 ms at most."""

SMALL_BYTES = 4 << 10
"""Records are passed on together until they have so many bytes: one may have a single byte."""

OVERHEAD_BYTES, OVERHEAD_SHARE = 64 << 10, 32
"""Bytes that a client may send beside those for the protocol: so many, and so many for each of those."""

FILE_BYTES = 64 << 10
"""Bytes of a file that are encrypted at once; a client that takes nothing keeps as many in memory."""

WRITE_BYTES = 128 << 10
"""Bytes that are encrypted at once of those in memory, which are freed then: no more is kept than before."""

REST_BYTES = 16 << 10
"""Longest rest that goes with such a portion: by itself it would take a call of the kernel of its own."""

HELD_BYTES = 4 << 10
"""Most bytes of a header that are kept for the record of the file behind it."""

HIGH_WATER_BYTES = 64 << 10
"""Bytes that may wait before the protocol is asked to pause, as with asyncio's transports."""

PLAIN_HTTP = "HTTP_REQUEST"
"""OpenSSL's reason of a handshake that began with the method of an HTTP request."""

PLAIN_HTTP_REPLY = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 38\r\n"
    b"Connection: close\r\n\r\nThis port speaks HTTPS: use https://.\n"
)

_FILE_BUFFER = bytearray(HELD_BYTES + FILE_BYTES)
"""Shared by all connections of the event loop: nothing is kept in it from one call to the next."""


class TlsTransport(asyncio.Transport):
    """An accepted connection with TLS.

    The protocol has the connection from its first byte on, so that its limits of connections and of time hold
    for the handshake, too; what it writes before the handshake's end waits.

    Args:
        connection: an accepted TCP connection that doesn't block; it is closed at the end.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        context: ssl.SSLContext,
        protocol: asyncio.Protocol,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._socket = connection
        self._address = connection.getpeername()
        self._turns = turns_of(loop)
        # Until when others have their turn before this connection, and whether it waits for its own.
        self._busy_until = self._turns.busy_until(self._host)
        self._is_turn_due = False
        self._fd = connection.fileno()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        # Bytes of the protocol that aren't encrypted yet, and encrypted ones that go before them.
        self._waiting = deque[memoryview]()
        self._buffered = 0
        self._encrypted = memoryview(b"")
        self._high, self._low = HIGH_WATER_BYTES, HIGH_WATER_BYTES // 4
        self._overhead = OVERHEAD_BYTES
        self._is_ready = False
        self._is_paused = self._is_protocol_paused = False
        # Nothing more is written; nothing more is read either; the connection is over.
        self._is_ending = self._is_closing = self._is_over = False
        protocol.connection_made(self)
        if not self._is_closing:
            loop.add_reader(self._fd, self._on_readable)

    @property
    def _host(self) -> str:
        """The client's address."""
        return str(self._address[0]) if isinstance(self._address, tuple) else ""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return a fact about the connection; `tls_output` is what files are sent with."""
        if name == "socket":
            return self._socket
        if name == "ssl_object":
            return self._ssl
        if name == "sslcontext":
            return self._ssl.context
        if name == "tls_output":
            return TlsOutput(self)
        if name == "peername":
            return self._address
        return self._socket.getsockname() if name == "sockname" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol get what comes from now on."""
        if not isinstance(protocol, asyncio.Protocol):
            raise TypeError("a protocol that reads a stream is needed")
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol that gets what comes."""
        return self._protocol

    # Reading

    def is_reading(self) -> bool:
        """Return whether bytes are read as they come."""
        return not self._is_paused and not self._is_closing

    def pause_reading(self) -> None:
        """Leave further bytes in the kernel."""
        if self.is_reading():
            self._is_paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Read on; more may have come already than was passed on."""
        if not self._is_paused or self._is_closing:
            return
        self._is_paused = False
        if self._is_turn_due:
            return
        if self._has_unread():
            self._is_turn_due = True
            self._loop.call_soon(self._take_turn)
        else:
            self._loop.add_reader(self._fd, self._on_readable)

    def _has_unread(self) -> bool:
        return bool(self._incoming.pending or (self._is_ready and self._ssl.pending()))

    def _wait_for_turn(self) -> None:
        """Read on in one of the next turns, and nothing before."""
        if not self._is_turn_due:
            self._is_turn_due = True
            self._loop.remove_reader(self._fd)
        self._busy_until = self._turns.append(self._take_turn, self._host)

    def _take_turn(self) -> None:
        self._is_turn_due = False
        if not self.is_reading():
            return
        self._loop.add_reader(self._fd, self._on_readable)
        if self._has_unread() and not self._decrypt_all(0):
            return
        self._read()

    def _on_readable(self) -> None:
        turns = self._turns
        if self._busy_until and not turns.admits(0.0, self._host, self._busy_until):
            self._wait_for_turn()
        else:
            self._read()

    def _read(self) -> None:
        """Read what has come, as far as there is time."""
        while self.is_reading() and not self._is_turn_due:
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error)
                return
            if not data:
                # Without the alert that nothing more comes (RFC 8446 §6.1), this isn't an end but a cut.
                self._lose(None)
                return
            self._incoming.write(data)
            if not self._decrypt_all(len(data)) or len(data) < READ_BYTES:
                return
            if not self._turns.has_time():
                self._wait_for_turn()

    def _decrypt_all(self, count: int) -> bool:
        """Pass on what has come; return whether there was anything for the protocol.

        Args:
            count: how many bytes came from the socket.
        """
        found = 0
        try:
            if not self._is_ready and not self._shake_hands():
                self._count(count, 0)
                return False
            # To learn by an error that nothing is left would take longer than all else here.
            while self._has_unread():
                data, is_end = self._decrypt()
                found += len(data)
                if data and not self._is_ending:
                    self._protocol.data_received(data)
                if is_end:
                    self._on_end()
                    return False
                if not data:
                    break
                if self._is_paused or self._is_closing:
                    break
                if self._has_unread() and not self._turns.has_time():
                    self._wait_for_turn()
                    break
        except ssl.SSLError as error:
            self._refuse(error)
            return False
        except BaseException:
            self.abort()
            raise
        if self._outgoing.pending and not self._is_over:
            # An answer of OpenSSL's, such as a new key.
            self._send_encrypted()
        self._count(count, found)
        return found > 0

    def _decrypt(self) -> tuple[bytes, bool]:
        """Return the bytes of the next record, or of several small ones, and whether the data end."""
        pieces, size = list[bytes](), 0
        try:
            while not pieces or (size < SMALL_BYTES and self._has_unread() and self._turns.has_time()):
                data = self._ssl.read(READ_BYTES)
                if not data:
                    return b"".join(pieces), True
                pieces.append(data)
                size += len(data)
        except ssl.SSLWantReadError:
            pass
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), False

    def _shake_hands(self) -> bool:
        """Continue the handshake; return whether it is complete."""
        if not self._turns.has_time():
            # Its arithmetic can't be divided.
            self._wait_for_turn()
            return False
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._send_encrypted()
            return False
        self._is_ready = True
        self._send_encrypted()
        self._flush()
        return not self._is_closing

    def _count(self, come: int, found: int) -> None:
        """Cut the connection of a client that sends far more of TLS than of its protocol."""
        self._overhead += OVERHEAD_SHARE * found - come
        if self._overhead < 0:
            self.abort()
        # Bytes of long ago allow no more than this.
        self._overhead = min(self._overhead, OVERHEAD_SHARE * OVERHEAD_BYTES)

    def _on_end(self) -> None:
        """Note the end of the client's data, and close behind what waits, as asyncio's own TLS does."""
        if not self._is_ending:
            self._protocol.eof_received()
        self.close()

    def _refuse(self, error: ssl.SSLError) -> None:
        """Send the alert that OpenSSL has for what came, and close."""
        if error.reason == PLAIN_HTTP:
            self._outgoing.read()
            self._outgoing.write(PLAIN_HTTP_REPLY)
        self._send_encrypted()
        self._lose(None)

    # Writing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; those that the socket doesn't take now are kept, uncopied but for a bytearray's."""
        if self._is_ending or self._is_closing or not data:
            return
        rest = memoryview(bytes(data) if isinstance(data, bytearray) else data)
        self._waiting.append(rest)
        self._buffered += len(rest)
        if self._is_ready and not self._encrypted:
            self._flush()
        if self.get_write_buffer_size() > self._high and not self._is_protocol_paused:
            self._is_protocol_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces together."""
        self.write(b"".join(list_of_data))

    def encrypt(self, data: bytes | memoryview) -> bool:
        """Encrypt bytes and send them, behind all that was written; return whether the socket took all.

        Raises:
            BlockingIOError: earlier bytes wait for the socket; nothing was done.
        """
        if self._waiting or (self._encrypted and not self._send_encrypted()):
            raise BlockingIOError
        self._ssl.write(data)
        return self._send_encrypted()

    def _send_encrypted(self) -> bool:
        """Send what is encrypted, as far as the socket takes it; return whether that is all."""
        data = self._outgoing.read()
        if self._encrypted:
            data = b"".join((self._encrypted, data))
        if not data or self._is_over:
            return True
        sent = 0
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            pass
        except OSError as error:
            self._lose(error)
            return True
        self._encrypted = memoryview(data)[sent:]
        if not self._encrypted:
            return True
        self._loop.add_writer(self._fd, self._on_writable)
        return False

    def _on_writable(self) -> None:
        if not self._send_encrypted():
            return
        self._loop.remove_writer(self._fd)
        if self._is_ready and not self._is_over:
            self._flush()

    def _flush(self) -> None:
        """Encrypt and send what waits, as far as the socket takes it."""
        while self._waiting and not self._is_over:
            data = self._next()
            self._buffered -= len(data)
            self._ssl.write(data)
            if not self._send_encrypted():
                break
        if self._is_protocol_paused and self.get_write_buffer_size() <= self._low:
            self._is_protocol_paused = False
            self._protocol.resume_writing()
        if (self._is_ending or self._is_closing) and not self.get_write_buffer_size():
            self._end()

    def _next(self) -> bytes | memoryview:
        """Return the bytes that are encrypted next: small pieces together, and large ones in parts."""
        first = self._waiting.popleft()
        if len(first) > WRITE_BYTES + REST_BYTES:
            self._waiting.appendleft(first[WRITE_BYTES:])
            return first[:WRITE_BYTES]
        pieces, length = [first], len(first)
        while self._waiting and length + len(self._waiting[0]) <= WRITE_BYTES + REST_BYTES:
            length += len(self._waiting[0])
            pieces.append(self._waiting.popleft())
        return first if len(pieces) == 1 else b"".join(pieces)

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the socket."""
        return self._buffered + len(self._encrypted)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return below which and above which number of waiting bytes the protocol writes on and pauses."""
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set above which number of waiting bytes the protocol pauses, and below which it goes on."""
        self._high = (HIGH_WATER_BYTES if low is None else 4 * low) if high is None else high
        self._low = self._high // 4 if low is None else low
        if self.get_write_buffer_size() > self._high and not self._is_protocol_paused:
            self._is_protocol_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Return that the sending side can be ended by itself."""
        return True

    def write_eof(self) -> None:
        """End the sending side behind what waits; what still comes is read and dropped until `close`."""
        self._is_ending = True
        if not self.get_write_buffer_size():
            self._end()

    # The end

    def is_closing(self) -> bool:
        """Return whether the connection is over, or ends once what waits is sent."""
        return self._is_closing

    def close(self) -> None:
        """Send what waits, say that no more comes, and close the connection.

        Before the end of the handshake nothing can be sent, and nobody is waited for.
        """
        if self._is_closing:
            return
        if not self._is_ready:
            self._lose(None)
            return
        self._is_closing = True
        self._loop.remove_reader(self._fd)
        if not self.get_write_buffer_size():
            self._end()

    def abort(self) -> None:
        """Cut the connection."""
        self._lose(None)

    def _end(self) -> None:
        """Send the alert that no more bytes come (RFC 8446 §6.1), which clients needn't answer."""
        if self._is_ready:
            with contextlib.suppress(OSError, ValueError):
                self._ssl.unwrap()
            self._send_encrypted()
        if self._is_closing:
            self._lose(None)
        else:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def _lose(self, error: Exception | None) -> None:
        if self._is_over:
            return
        self._is_over = self._is_closing = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self._waiting.clear()
        self._buffered, self._encrypted = 0, memoryview(b"")
        self._loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        # Protocols refer to their transport: without this no cycle is left for the garbage collector.
        protocol, self._protocol = self._protocol, asyncio.Protocol()
        try:
            protocol.connection_lost(error)
        finally:
            self._socket.close()


class TlsOutput:
    """The sending side of an encrypted connection, for `FileSender` in place of a plain socket.

    Each method raises BlockingIOError where the socket is full.
    """

    def __init__(self, transport: TlsTransport) -> None:
        self._transport = transport
        self._held = b""

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """Encrypt and send bytes, or keep them for the record of the file that follows them (MSG_MORE).

        Returns:
            How many bytes were taken.
        """
        if flags and len(data) <= HELD_BYTES:
            self._held = bytes(data)
            return len(data)
        view, taken = memoryview(data), 0
        while taken < len(view) and self._encrypt(view[taken : taken + FILE_BYTES], taken):
            taken += min(len(view) - taken, FILE_BYTES)
        return taken

    def sendmsg(
        self, pieces: Sequence[bytes | memoryview], _ancillary: Sequence[Any] = (), _flags: int = 0
    ) -> int:
        """Encrypt and send several pieces together; return how many bytes were taken."""
        return self.send(b"".join(pieces))

    def sendfile(self, file: int, first: int, count: int) -> int:
        """Encrypt and send bytes of a file until the socket is full.

        Returns:
            How many bytes of the file were taken; 0 at its end.
        """
        room, taken = memoryview(_FILE_BUFFER), 0
        while taken < count:
            held = len(self._held)
            room[:held] = self._held
            end = held + min(count - taken, FILE_BYTES)
            length = os.preadv(file, [room[held:end]], first + taken)
            if not length:
                break
            if not self._encrypt(room[: held + length], taken):
                break
            self._held = b""
            taken += length
        return taken

    def _encrypt(self, data: memoryview, taken: int) -> bool:
        """Encrypt and send bytes; return whether they were taken.

        Args:
            taken: how many bytes were taken in this call already.

        Raises:
            BlockingIOError: the socket is full, and nothing was taken in this call.
        """
        try:
            self._transport.encrypt(data)
        except BlockingIOError:
            if not taken:
                raise
            return False
        return True
