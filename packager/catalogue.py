"""What is in the library: each file, what it carries, and whether browsers play it.

ffprobe tells what a file carries; its answers are kept per (path, size, modification time), so that a listing
after the first costs one walk over the folder. A listing names all files at once; of a large library's first
one the facts come later.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from packager.arguments import LOCAL_PROTOCOLS, UNTRUSTED, local_input, pipe
from packager.ffmpeg import reading, run
from packager.storage import is_served
from packager.tools import Tools, ToolsError

MAX_FILES = 10_000
"""Most files that a listing names."""

MAX_DEPTH = 8
"""How many folders deep a listing looks."""

PROBE_SECONDS = 20.0
PROBES_AT_ONCE = 2
PATIENCE_SECONDS = 1.0
"""For how long a listing waits until all is known."""
PROBE_BYTES = 1 << 20
"""Most that ffprobe's answer about one file may be."""

CONTAINERS = {
    ".mp4": "mov", ".m4v": "mov", ".mov": "mov", ".m4a": "mov", ".3gp": "mov", ".3g2": "mov",
    ".webm": "matroska", ".mkv": "matroska", ".mp3": "mp3", ".aac": "aac", ".ogg": "ogg", ".oga": "ogg",
    ".opus": "ogg", ".flac": "flac", ".wav": "wav", ".ts": "mpegts", ".avi": "avi", ".wmv": "asf",
    ".flv": "flv",
}  # fmt: skip
"""Endings of the files that are listed, and the demuxer that may open each: never a playlist in disguise."""

DECODERS = (
    "h264,hevc,vp8,vp9,libvpx,libvpx-vp9,av1,libdav1d,libaom-av1,mpeg4,msmpeg4,mpeg2video,mpeg1video,h263,flv,"
    "vc1,wmv3,mjpeg,png,prores,theora,aac,aac_latm,mp3,mp3float,mp2,mp2float,ac3,eac3,dca,opus,libopus,vorbis,flac,"
    "alac,pcm_s16le,pcm_s16be,pcm_s24le,pcm_s32le,pcm_u8,pcm_f32le,pcm_mulaw,pcm_alaw,adpcm_g722,adpcm_g726,"
    "adpcm_g726le,wmav2,mov_text,srt,ass"
)
"""Decoders that may run on files of the library: others are named, and not run."""

BROWSER_CONTAINERS = frozenset(CONTAINERS) - {".mkv", ".ts", ".avi", ".wmv", ".flv"}
BROWSER_VIDEO = frozenset({"h264", "vp8", "vp9", "av1"})
BROWSER_AUDIO = frozenset({"aac", "mp3", "opus", "vorbis", "flac", "pcm_s16le", "pcm_u8", "pcm_f32le"})
BROWSER_PIXELS = re.compile(r"yuvj?420p")

RENDITION = re.compile(r"(?P<title>.+)\.(?P<height>[0-9]{2,4})p\.(mp4|m4v|mov)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What ffprobe says of one file.

    Attributes:
        duration: seconds, or None where the file doesn't say.
        width: of the first video stream, in pixels.
        height: likewise.
        codecs: ffmpeg's names of the streams' codecs, video first.
        reason: why a browser can't be expected to play it; None where it can.
        obstacle: why no HLS can be made of it; None where it can, or where nobody asked.
    """

    duration: float | None = None
    width: int | None = None
    height: int | None = None
    codecs: tuple[str, ...] = ()
    reason: str | None = None
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the library.

    Attributes:
        path: relative, with slashes.
        size: in bytes.
        facts: what it carries; None while nobody has looked.
    """

    path: str
    size: int
    facts: Facts | None


@dataclass(frozen=True, slots=True)
class Title:
    """Files ``TITLE.<height>p.mp4`` of one folder, as one adaptive title; the tallest comes last."""

    path: str
    renditions: tuple[Entry, ...]


_Key = tuple[str, int, int]
"""Path, size and modification time of a file."""


class Catalogue:
    """Lists a library's folder; ``run`` looks at the files that listings have found.

    Args:
        root: the folder.
        tools: ffprobe; None where there is none, and files are listed without facts.
        obstacle: tells of a path why no HLS can be made of the file, or None; it may block.
    """

    name = "library"

    def __init__(
        self, root: Path, tools: Tools | None, obstacle: Callable[[str], str | None] = lambda _: None
    ) -> None:
        self._root = root
        self._tools = tools
        self._obstacle = obstacle
        self._known: dict[_Key, Facts] = {}
        self._unknown: deque[_Key] = deque()
        self._wanted = asyncio.Event()
        self._complete = asyncio.Event()

    async def run(self) -> None:
        """Find out about files whenever a listing has found new ones, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            async with asyncio.TaskGroup() as group:
                for _ in range(PROBES_AT_ONCE):
                    group.create_task(self._look())
            if not self._unknown:
                self._complete.set()

    def close(self) -> None:
        """Release who waits for what isn't known yet."""
        self._complete.set()

    async def entries(self, patience: float | None = PATIENCE_SECONDS) -> list[Entry]:
        """List every media file, in order of path.

        Args:
            patience: seconds in which facts may come before it goes without them; None: until all are there.

        Raises:
            OSError: the folder can't be read.
        """
        found = await asyncio.to_thread(lambda: sorted(_walk(self._root)))
        self._known = {key: self._known[key] for key in found if key in self._known}
        self._unknown = deque(key for key in found if key not in self._known)
        if self._unknown:
            self._complete.clear()
            self._wanted.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._complete.wait()
        return [Entry(key[0], key[1], self._known.get(key)) for key in found]

    async def _look(self) -> None:
        """Find out about one file after the other, until all are known."""
        while self._unknown:
            key = self._unknown.popleft()
            if key not in self._known:
                self._known[key] = await self._facts(key[0])

    async def _facts(self, path: str) -> Facts:
        obstacle = await asyncio.to_thread(self._obstacle, path)
        facts = Facts() if self._tools is None else await probe(self._root / path, self._tools)
        return replace(facts, obstacle=obstacle)


def titles(entries: Sequence[Entry]) -> list[Title]:
    """Find the adaptive titles among the files: two or more renditions of one name in one folder."""
    groups: dict[str, list[tuple[int, Entry]]] = {}
    for entry in entries:
        folder, _, name = entry.path.rpartition("/")
        match = RENDITION.fullmatch(name)
        if match is not None:
            path = f"{folder}/{match['title']}".removeprefix("/")
            groups.setdefault(path, []).append((int(match["height"]), entry))
    return [
        Title(path, tuple(entry for _, entry in sorted(group, key=lambda item: item[0])))
        for path, group in sorted(groups.items())
        if len(group) > 1
    ]


async def probe(path: Path, tools: Tools) -> Facts:
    """Ask ffprobe what a file carries.

    Args:
        path: the file; its ending names the one demuxer that may open it.
        tools: ffprobe.

    Returns:
        The facts; a file that can't be read has its error as the reason.
    """
    wanted = "format=duration:stream=codec_type,codec_name,codec_tag_string,profile,pix_fmt,width,height"
    argv: list[str | Path] = [
        tools.ffprobe, "-hide_banner", "-loglevel", "error", *UNTRUSTED, "-codec_whitelist", DECODERS,
        "-protocol_whitelist", LOCAL_PROTOCOLS, "-format_whitelist", CONTAINERS[path.suffix.lower()],
        "-show_entries", f"{wanted}:stream_disposition=attached_pic",
        "-of", "json", "-o", pipe(0), "-i", local_input(path),
    ]  # fmt: skip
    try:
        output = await run(argv, limit=PROBE_SECONDS, max_bytes=PROBE_BYTES, cage=reading(path))
        answer: dict[str, Any] = json.loads(output)
    except (ToolsError, ValueError) as error:
        return Facts(reason=f"can't be read: {str(error).removeprefix(f'{local_input(path)}: ')}")
    return _facts_of(answer, path.suffix.lower())


def _facts_of(answer: dict[str, Any], suffix: str) -> Facts:
    streams = [
        stream
        for stream in answer.get("streams", [])
        if stream.get("codec_type") in ("video", "audio")
        and not stream.get("disposition", {}).get("attached_pic")
    ]
    streams.sort(key=lambda stream: stream["codec_type"] != "video")
    video: dict[str, Any] = next((stream for stream in streams if stream["codec_type"] == "video"), {})
    try:
        duration = float(answer.get("format", {}).get("duration", ""))
    except ValueError:
        duration = None
    return Facts(
        duration=duration,
        width=video.get("width"),
        height=video.get("height"),
        codecs=tuple(str(stream.get("codec_name", "unknown")) for stream in streams),
        reason=_reason(streams, suffix),
    )


def _reason(streams: Sequence[dict[str, Any]], suffix: str) -> str | None:
    if not streams:
        return "there is neither video nor audio in it"
    for stream in streams:
        codec, kind = str(stream.get("codec_name", "unknown")), stream["codec_type"]
        if stream.get("codec_tag_string") in ("encv", "enca"):
            return "it is encrypted"
        if codec not in (BROWSER_VIDEO if kind == "video" else BROWSER_AUDIO):
            return f"most browsers don't play {codec} {kind}"
        pixels = stream.get("pix_fmt")
        if codec == "h264" and pixels and not BROWSER_PIXELS.fullmatch(pixels):
            return f"most browsers don't play H.264 {stream.get('profile', '')} ({pixels})"
    if suffix not in BROWSER_CONTAINERS:
        return f"browsers don't play {suffix[1:].upper()} files; repackaged as MP4 it would play"
    return None


def _walk(root: Path) -> Iterator[_Key]:
    """Give (relative path, size, mtime in ns) of each file whose ending is listed, and that is served."""
    count = 0
    for folder, folders, names in os.walk(root, onerror=_raise_at(root)):
        relative = Path(folder).relative_to(root)
        deep = len(relative.parts) >= MAX_DEPTH
        folders[:] = [] if deep else sorted(name for name in folders if is_served(name))
        for name in sorted(names):
            if not is_served(name) or Path(name).suffix.lower() not in CONTAINERS:
                continue
            try:
                status = (Path(folder) / name).lstat()
            except OSError:  # gone since the folder was read
                continue
            if stat.S_ISREG(status.st_mode) and (count := count + 1) <= MAX_FILES:
                yield (relative / name).as_posix(), status.st_size, status.st_mtime_ns


def _raise_at(root: Path) -> Any:
    def on_error(error: OSError) -> None:
        if error.filename == str(root):
            raise error

    return on_error
