"""A folder that ``headwater package`` wrote, asked as a server is, so that the same checks judge both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote

import httpx

from origin.http.media_types import media_type
from packager.threads import SHARED_THREADS

HOST = "folder.invalid"
"""A name that no server has (RFC 6761 §6.4)."""

PLAYLISTS = ("master.m3u8", "manifest.mpd")
MAX_PLAYLISTS = 1000
BLOCK_BYTES = 1 << 20


class _FileStream(httpx.AsyncByteStream):
    """A range of a file in blocks."""

    def __init__(self, path: Path, first: int, size: int) -> None:
        self._path, self._first, self._size = path, first, size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        position, end = self._first, self._first + self._size
        while position < end:
            block = await SHARED_THREADS.run(self._block, position, min(BLOCK_BYTES, end - position))
            if not block:
                return
            yield block
            position += len(block)

    def _block(self, position: int, length: int) -> bytes:
        with self._path.open("rb") as file:
            file.seek(position)
            return file.read(length)


class FolderTransport(httpx.AsyncBaseTransport):
    """Answers requests with the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def url(self, path: Path) -> str:
        """Return the address of a file in the folder."""
        return f"http://{HOST}/{quote(path.resolve().relative_to(self._folder).as_posix())}"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        return await SHARED_THREADS.run(self._answer, request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = (self._folder / unquote(request.url.path).lstrip("/")).resolve()
        if request.url.host != HOST:
            raise httpx.UnsupportedProtocol("an address outside of the folder")
        if not path.is_relative_to(self._folder) or not path.is_file():
            return httpx.Response(404, stream=_FileStream(path, 0, 0), request=request)
        size = path.stat().st_size
        first, last, status = 0, size - 1, 200
        told = request.headers.get("range", "").removeprefix("bytes=")
        if told:
            begin, _, end = told.partition("-")
            first, last, status = int(begin), min(int(end), size - 1), 206
        headers = {"content-type": media_type(path.name), "content-length": str(last + 1 - first)}
        body = _FileStream(path, first, 0 if request.method == "HEAD" else last + 1 - first)
        return httpx.Response(status, headers=headers, stream=body, request=request)


def open_folder(place: Path) -> tuple[FolderTransport, list[str]] | None:
    """Find the playlists and manifests of a folder, or the named playlist.

    Returns:
        A transport that answers with their files, and their addresses; None where there is no such file or
        folder.
    """
    if place.is_dir():
        transport = FolderTransport(place)
        found = sorted(path for name in PLAYLISTS for path in place.rglob(name))
        return transport, [transport.url(path) for path in found[:MAX_PLAYLISTS]]
    if place.is_file():
        # The playlist may name files beside its folder, as of a title's renditions.
        transport = FolderTransport(place.resolve().parent.parent)
        return transport, [transport.url(place)]
    return None
