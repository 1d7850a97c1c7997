"""The kernel keeps nothing of an answer back once all of it is handed on."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from origin.answers.pieces import LazyPieces, Piece
from origin.answers.vectored_read import FileRuns
from origin.http.byte_ranges import SelectedRange
from origin.http1.sendfile import FileSender

SIOCOUTQNSD = 0x894B
"""Asks for the bytes that a socket hasn't sent yet (linux/sockios.h)."""

SIZE = 12_000
HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


def runs() -> FileRuns:
    ends = np.arange(1, 31, dtype=np.int64) * (SIZE // 30)
    return FileRuns(ends[::-1] - SIZE // 30, ends, 0, SIZE)


KINDS: dict[str, Callable[[], Sequence[Piece]]] = {
    "runs": lambda: [HEAD, runs()],
    "bytes and runs": lambda: [HEAD, b"moof" * 100, runs()],
    "runs and bytes": lambda: [HEAD, runs(), b"behind"],
    "runs and a range": lambda: [HEAD, runs(), SelectedRange(0, SIZE - 1)],
    "a range": lambda: [HEAD, SelectedRange(0, SIZE - 1)],
    "a range and bytes": lambda: [HEAD, SelectedRange(0, SIZE - 1), b"behind"],
    "lazy bytes": lambda: [HEAD, LazyPieces(iter([b"moof" * 100] * 30), SIZE)],
    "lazy ranges": lambda: [HEAD, LazyPieces(iter([b"moof", SelectedRange(0, SIZE - 5)]), SIZE)],
    "no lazy pieces": lambda: [HEAD, LazyPieces(iter([]), SIZE)],
}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_end_of_a_short_answer_leaves_at_once(kind: str, tmp_path: Path) -> None:
    (tmp_path / "film").write_bytes(os.urandom(SIZE))
    connected = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *both: connected.set_result(both[1]), "127.0.0.1", 0)
    async with server:
        reader, client = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer: asyncio.StreamWriter = await connected
        sender = FileSender(asyncio.get_running_loop(), writer.transport)
        with (tmp_path / "film").open("rb") as file:
            assert sender.begin(KINDS[kind](), SIZE, file.fileno(), None)
        assert unsent(writer.get_extra_info("socket")) == 0
        assert await reader.readexactly(sender.sent)
        sender.close()
        for one in (writer, client):
            one.close()


def unsent(connection: socket.socket) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(connection.fileno(), SIOCOUTQNSD, count)
    return count[0]
