"""The transport of an encrypted connection, between a real OpenSSL on each side."""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import gc
import os
import shutil
import socket
import ssl
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from origin.http.byte_ranges import SelectedRange
from origin.http1.sendfile import FileSender
from origin.tls.certificates import MAX_CERTIFICATES, Certificates
from origin.tls.transport import TlsTransport
from tests.certificates import CHAIN, KEY, self_signed
from tests.waiting import until

PATIENCE_SECONDS = 120.0


class Recorder(asyncio.Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.transport: TlsTransport
        self.data = bytearray()
        self.calls: list[str] = []
        self.on_data: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TlsTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.on_data()

    def eof_received(self) -> None:
        self.calls.append("eof")

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append("lost")


class Pair:
    """An accepted connection, and a client that does what it is told in a thread."""

    def __init__(self, folder: Path, transport: TlsTransport, recorder: Recorder, raw: socket.socket) -> None:
        self.folder, self.transport, self.recorder, self.raw = folder, transport, recorder, raw

    @classmethod
    async def of(cls, folder: Path, buffer: int = 0) -> Pair:
        """Connect; the client doesn't begin its handshake yet."""
        accepted, raw = await asyncio.to_thread(connection, buffer)
        certificates = await asyncio.to_thread(Certificates, str(folder / CHAIN), str(folder / KEY), None, [])
        recorder = Recorder()
        transport = TlsTransport(asyncio.get_running_loop(), accepted, certificates.context(), recorder)
        return cls(folder, transport, recorder, raw)

    async def connected(self) -> ssl.SSLSocket:
        """Give the client's connection behind the handshake."""

        def shake_hands() -> ssl.SSLSocket:
            context = ssl.create_default_context(cafile=self.folder / CHAIN)
            return context.wrap_socket(self.raw, server_hostname="127.0.0.1")

        return await asyncio.to_thread(shake_hands)

    async def is_lost(self) -> None:
        await until(lambda: "lost" in self.recorder.calls, "the connection's end")


def connection(buffer: int) -> tuple[socket.socket, socket.socket]:
    """Make the two ends of a connection: one that doesn't block, and one that does.

    Args:
        buffer: how many bytes the kernel keeps on each side; 0: as many as usual.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        raw = socket.socket()
        if buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        raw.settimeout(PATIENCE_SECONDS)
        raw.connect(listener.getsockname())
        accepted, _ = listener.accept()
    if buffer:
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    accepted.setblocking(False)
    return accepted, raw


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    self_signed(tmp_path)
    return tmp_path


def read_exactly(client: ssl.SSLSocket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count and (data := client.recv(count - len(found))):
        found += data
    return bytes(found)


def read_all(client: ssl.SSLSocket) -> bytes:
    found = b""
    while data := client.recv(1 << 20):
        found += data
    return found


@pytest.mark.clause("RFC 8446 §6.1")
async def test_what_is_written_arrives_in_order_and_the_end_is_told(folder: Path) -> None:
    pair = await Pair.of(folder)
    # Before the handshake, too.
    pair.transport.write(b"early ")
    client = await pair.connected()
    # The server's end of the handshake comes with the client's first bytes.
    await asyncio.to_thread(client.sendall, b"a request")
    await until(lambda: pair.recorder.data, "a request")
    pieces: list[bytes | bytearray | memoryview] = [
        b"one",
        bytearray(b"two"),
        memoryview(os.urandom(3_000_000)),
        b"",
        b"four",
    ]
    for piece in pieces:
        pair.transport.write(piece)
    pair.transport.writelines([b"five", b"six"])
    pair.transport.close()
    pair.transport.write(b"too late")
    with client:
        found = await asyncio.to_thread(read_all, client)
    assert found == b"early " + b"".join(pieces) + b"fivesix"
    await pair.is_lost()


async def test_a_client_that_takes_nothing_fills_no_memory_and_pauses_whoever_writes(folder: Path) -> None:
    pair = await Pair.of(folder, 16_384)
    client = await pair.connected()
    data = os.urandom(1_000_000)
    pair.transport.write(data)
    assert pair.recorder.calls == ["pause"]
    assert 0 < pair.transport.get_write_buffer_size() <= len(data)
    assert pair.transport.get_write_buffer_limits() == (16 << 10, 64 << 10)

    def read() -> bytes:
        found = b""
        while len(found) < len(data):
            found += client.recv(1000)
        return found

    assert await asyncio.to_thread(read) == data
    await until(lambda: pair.recorder.calls == ["pause", "resume"], "its being resumed")
    assert pair.transport.get_write_buffer_size() == 0
    pair.transport.write(data)
    pair.transport.abort()
    await pair.is_lost()
    assert pair.transport.get_write_buffer_size() == 0
    client.close()


async def test_reading_pauses_and_goes_on_with_what_is_decrypted_already(folder: Path) -> None:
    pair = await Pair.of(folder)
    client = await pair.connected()
    data = os.urandom(400_000)

    def pause() -> None:
        pair.transport.pause_reading()
        asyncio.get_running_loop().call_later(0.001, pair.transport.resume_reading)

    pair.recorder.on_data = pause
    sending = asyncio.create_task(asyncio.to_thread(client.sendall, data))
    await until(lambda: len(pair.recorder.data) == len(data), "all bytes")
    await sending
    assert pair.recorder.data == data
    assert await asyncio.to_thread(client.unwrap) is not None
    await pair.is_lost()
    assert "eof" in pair.recorder.calls
    client.close()


@pytest.mark.parametrize("buffer", [0, 16_384])
async def test_a_files_bytes_and_others_keep_their_order(folder: Path, buffer: int) -> None:
    pair = await Pair.of(folder, buffer)
    client = await pair.connected()
    # The server's end of the handshake comes with the client's first bytes.
    await asyncio.to_thread(client.sendall, b"a request")
    await until(lambda: pair.recorder.data, "a request")
    content = os.urandom(1_500_000)
    (folder / "film.mp4").write_bytes(content)
    file = await asyncio.to_thread(os.open, folder / "film.mp4", os.O_RDONLY)
    sender = FileSender(asyncio.get_running_loop(), pair.transport)
    expected = bytearray()
    reading = asyncio.create_task(asyncio.to_thread(read_all, client))
    for first, length in ((0, 1), (5, 4096), (77, 4097), (1000, 65_536), (3, 131_073), (1, 1_400_000)):
        head = b"head %d\r\n" % length
        expected += head + content[first : first + length]
        if not sender.begin_range(head, first, first + length - 1, file):
            await sender.rest()
    pieces = (b"before", SelectedRange(10, 9_999), b"between", SelectedRange(0, 700_000), b"after")
    expected += b"before" + content[10:10_000] + b"between" + content[:700_001] + b"after"
    if not sender.begin(pieces, 709_991, file, None):
        await sender.rest()
    assert sender.sent == len(expected)
    sender.close()
    os.close(file)
    pair.transport.close()
    assert await reading == bytes(expected)
    await pair.is_lost()
    client.close()


class CountedSocket(socket.socket):
    """A socket that counts the calls by which bytes are sent."""

    sends = 0

    def send(self, *args: Any) -> int:
        self.sends += 1
        return super().send(*args)


@pytest.mark.parametrize(
    ("size", "most"), [(66_100, 1), (128 << 10, 1), (132_600, 1), (144 << 10, 1), (300_000, 3)]
)
async def test_a_short_rest_goes_with_what_is_before_it(folder: Path, size: int, most: int) -> None:
    # Four parts of 33 kB with their headers are a little more than 128 KiB.
    accepted, raw = await asyncio.to_thread(connection, 1 << 20)
    counted = CountedSocket(fileno=accepted.detach())
    counted.setblocking(False)
    certificates = await asyncio.to_thread(Certificates, str(folder / CHAIN), str(folder / KEY), None, [])
    recorder = Recorder()
    transport = TlsTransport(asyncio.get_running_loop(), counted, certificates.context(), recorder)
    pair = Pair(folder, transport, recorder, raw)
    client = await pair.connected()
    sent = os.urandom(size)
    before = counted.sends
    transport.write(sent)
    assert transport.get_write_buffer_size() == 0
    assert counted.sends - before <= most
    assert await asyncio.to_thread(read_exactly, client, size) == sent
    client.close()
    await pair.is_lost()


async def test_an_end_of_writing_leaves_the_client_time_to_send(folder: Path) -> None:
    """So that an answer to what was refused isn't lost by a reset."""
    pair = await Pair.of(folder)
    client = await pair.connected()
    pair.transport.write(b"refused")
    pair.transport.write_eof()
    assert pair.transport.can_write_eof()
    assert not pair.transport.is_closing()
    assert await asyncio.to_thread(read_all, client) == b"refused"
    await asyncio.to_thread(client.sendall, b"more of it" * 10_000)
    assert pair.recorder.data == b""
    pair.transport.close()
    await pair.is_lost()
    client.close()


@pytest.mark.parametrize(
    "sent",
    [b"", b"\x16\x03\x01", b"\x16\x03\x01\xff\xff" + bytes(20_000), os.urandom(500), b"\x00" * 100],
    ids=["nothing", "a beginning", "a huge record", "noise", "zeros"],
)
async def test_what_is_no_handshake_ends_the_connection_and_nothing_else(folder: Path, sent: bytes) -> None:
    pair = await Pair.of(folder)
    pair.raw.sendall(sent)
    pair.raw.shutdown(socket.SHUT_WR)
    await pair.is_lost()
    assert pair.recorder.data == b""
    assert pair.recorder.calls == ["eof", "lost"] or pair.recorder.calls == ["lost"]
    pair.raw.close()


async def test_http_without_tls_is_told_what_the_port_speaks(folder: Path) -> None:
    pair = await Pair.of(folder)
    pair.raw.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = b""
    while data := await asyncio.to_thread(pair.raw.recv, 1000):
        answer += data
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert b"HTTPS" in body
    pair.raw.close()


async def test_a_client_that_vanishes_within_its_request_is_lost(folder: Path) -> None:
    pair = await Pair.of(folder)
    client = await pair.connected()
    await asyncio.to_thread(client.sendall, b"GET /")
    await until(lambda: pair.recorder.data == b"GET /", "its bytes")
    # Without saying that it ends (RFC 8446 §6.1).
    os.close(client.detach())
    await pair.is_lost()
    assert "eof" not in pair.recorder.calls


@pytest.mark.slow
@pytest.mark.clause("RFC 8446 §4.6.3")
async def test_new_keys_without_an_end_end_the_connection_and_hold_nobody_up(folder: Path) -> None:
    """RFC 8446 §4.6.3 has no bound; each of these messages costs whoever gets it more than its sender."""
    pair = await Pair.of(folder)
    library = ctypes.CDLL(ctypes.util.find_library("ssl"))
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, name).restype = ctypes.c_void_p
    pair.raw.settimeout(None)

    def flood() -> None:
        context = ctypes.c_void_p(library.SSL_CTX_new(ctypes.c_void_p(library.TLS_client_method())))
        client = ctypes.c_void_p(library.SSL_new(context))
        library.SSL_set_fd(client, pair.raw.fileno())
        assert library.SSL_connect(client) == 1
        for _ in range(200_000):
            library.SSL_key_update(client, 0)
            if library.SSL_do_handshake(client) != 1:
                break
        else:
            raise AssertionError("the connection goes on")
        library.SSL_free(client)
        library.SSL_CTX_free(context)

    await asyncio.to_thread(flood)
    await pair.is_lost()
    pair.raw.close()


async def test_an_ended_connection_leaves_nothing_for_the_collector(folder: Path) -> None:
    gc.disable()
    try:
        pair = await Pair.of(folder)
        client = await pair.connected()
        await asyncio.to_thread(client.sendall, b"a request")
        await until(pair.recorder.data.__len__, "a request")
        sender = FileSender(asyncio.get_running_loop(), pair.transport)
        sender.close()
        pair.transport.write(b"some bytes")
        pair.transport.close()
        assert await asyncio.to_thread(read_all, client) == b"some bytes"
        client.close()
        await pair.is_lost()
        transport = weakref.ref(pair.transport)
        del pair, sender
        await until(lambda: transport() is None, "its being freed", 20)
    finally:
        gc.enable()


async def test_closing_before_the_handshakes_end_waits_for_nobody(folder: Path) -> None:
    pair = await Pair.of(folder)
    pair.transport.write(b"what nobody can read yet")
    pair.transport.close()
    await pair.is_lost()
    assert await asyncio.to_thread(pair.raw.recv, 100) == b""
    pair.raw.close()


async def test_a_folder_that_has_become_too_full_changes_nothing(folder: Path) -> None:
    certificates = folder / "certificates"

    def fill() -> None:
        for number in range(MAX_CERTIFICATES + 1):
            (certificates / f"{number}.pem").touch()

    def load() -> Certificates:
        (certificates / "one").mkdir(parents=True)
        shutil.copy(folder / CHAIN, certificates / "one" / "fullchain.pem")
        shutil.copy(folder / KEY, certificates / "one" / "privkey.pem")
        return Certificates(str(certificates), "", None, [])

    served = await asyncio.to_thread(load)
    before = served.fingerprint
    await asyncio.to_thread(fill)
    await served.reload()
    assert served.fingerprint == before
