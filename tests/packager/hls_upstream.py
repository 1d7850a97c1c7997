"""An HLS server of another make: segments by ffmpeg's muxer, listed one after the other as time goes on."""

from __future__ import annotations

import contextlib
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GOP = 10
PICTURE = "-f lavfi -i testsrc2=size={size}:rate=10 -f lavfi -i sine=frequency=440:sample_rate=48000"
CODING = f"-c:v libx264 -preset ultrafast -g {GOP} -sc_threshold 0 -pix_fmt yuv420p -c:a aac -ac 2"
LISTED = 5
NO_FIELDS: Mapping[str, str] = {}


@dataclass
class Listed:
    """A line of a playlist that is to come: a segment with the tags in front of it."""

    uri: str
    tags: str = ""


@dataclass
class Programme:
    """What is listed by and by: the first ``before`` segments at once, then one each second.

    Who reads it may stand still: beyond what was asked for never more are listed than in the beginning.

    Attributes:
        files: by name, what is served besides.
        playlists: by name, their segments.
        head: further lines at the beginning of each playlist.
        session: the value of a cookie without which there is nothing but ``start.m3u8``: that sets it, and
            leads to ``live.m3u8``. With all else comes a cookie of its own.
        asked: what was asked for, in order.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    playlists: dict[str, list[Listed]] = field(default_factory=dict)
    head: str = ""
    session: str = ""
    before: int = 3
    ends: bool = False
    began: float = 0.0
    asked: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def count(self, name: str) -> int:
        """How many segments a playlist has had by now."""
        segments, asked = self.playlists[name], set(self.asked)
        passed = int(time.monotonic() - self.began) if self.began else 0
        return min(self.before + min(passed, sum(one.uri in asked for one in segments)), len(segments))

    def stop_short(self) -> int:
        """Leave out what isn't listed yet, of all playlists from the same one on; give its number."""
        with self.lock:
            count = max(self.count(name) for name in self.playlists)
            for segments in self.playlists.values():
                del segments[count:]
            return count

    def playlist(self, name: str) -> bytes:
        """Write a playlist as of now."""
        with self.lock:
            if not self.began:
                self.began = time.monotonic()
            return self._written(name, self.count(name))

    def _written(self, name: str, count: int) -> bytes:
        segments = self.playlists[name]
        first = max(count - LISTED, 0)
        lines = [
            "#EXTM3U",
            "#EXT-X-TARGETDURATION:1",
            f"#EXT-X-MEDIA-SEQUENCE:{first}",
            *self.head.splitlines(),
        ]
        latest = ""
        for index, one in enumerate(segments[:count]):
            maps = re.findall("#EXT-X-(?:MAP|KEY).*", one.tags)
            latest = "\n".join(maps) or latest
            if index >= first:
                tags = one.tags if maps or index > first or not latest else f"{latest}\n{one.tags}"
                lines += [*tags.split("\n"), "#EXTINF:1.0,", one.uri]
        lines += ["#EXT-X-ENDLIST"] if self.ends and count == len(segments) else []
        return "\n".join(line for line in lines if line).encode() + b"\n"


@contextlib.contextmanager
def serving(programme: Programme) -> Iterator[str]:
    """Serve it; gives the address, without a slash at its end."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/").partition("?")[0]
            programme.asked.append(name)
            if not programme.session:
                self.answer(name)
            elif name == "start.m3u8":
                set_cookie = f"session={programme.session}; Path=/; HttpOnly"
                self.answer(None, 302, {"location": "/live.m3u8", "set-cookie": set_cookie})
            elif f"session={programme.session}" in (self.headers["cookie"] or "").split("; "):
                self.answer(name, fields={"set-cookie": f"seen-{len(programme.asked)}=1; Path=/"})
            else:
                self.answer(None, 403)

        def answer(self, name: str | None, status: int = 200, fields: Mapping[str, str] = NO_FIELDS) -> None:
            body: bytes | None = b""
            if name is not None:
                body = programme.playlist(name) if name in programme.playlists else programme.files.get(name)
            self.send_response(404 if body is None else status)
            for field_name, value in {**fields, "content-length": str(len(body or b""))}.items():
                self.send_header(field_name, value)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def segments(
    folder: Path, name: str, size: str, kind: str = "mpegts", seconds: int = 4, start: int = 0
) -> Path:
    """Let ffmpeg cut a film into segments of a second; gives their folder.

    Args:
        folder: where they go, into one of its own.
        name: of that folder.
        size: of the picture.
        kind: ``mpegts`` or ``fmp4``.
        seconds: how many.
        start: the media time of the first one.
    """
    path = folder / name
    path.mkdir()
    inputs = PICTURE.format(size=size)
    which = {"picture": "-map 0:v", "sound": "-map 1:a"}.get(name.partition("-")[0], "-map 0:v -map 1:a")
    ending = "ts" if kind == "mpegts" else "m4s"
    words = (
        f"-v error {inputs} -t {seconds} {which} {CODING} -output_ts_offset {start} -f hls -hls_time 1 "
        f"-hls_list_size 0 -hls_segment_type {kind} -hls_segment_filename {path}/%d.{ending} {path}/list.m3u8"
    )
    subprocess.run(["ffmpeg", *words.split()], check=True, cwd=path)
    return path


def add(programme: Programme, playlist: str, path: Path, tags: str = "") -> None:
    """Add a folder's segments to a playlist, with tags in front of the first one."""
    name = path.name
    files = sorted(path.glob("[0-9]*"), key=lambda one: int(one.stem))
    for index, file in enumerate(files):
        programme.files[f"{name}/{file.name}"] = file.read_bytes()
        ahead = tags if index == 0 else ""
        if index == 0 and (path / "init.mp4").exists():
            programme.files[f"{name}/init.mp4"] = (path / "init.mp4").read_bytes()
            ahead = f'{ahead}\n#EXT-X-MAP:URI="{name}/init.mp4"'.strip()
        with programme.lock:
            programme.playlists.setdefault(playlist, []).append(Listed(f"{name}/{file.name}", ahead))
