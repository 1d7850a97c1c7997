"""Films with text inside and beside them, and what the packager offers of it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import m3u8

from media.subtitles.webvtt import Cue, CueReader
from packager.library.local_storage import Library
from packager.vod import Titles
from packager.vod.limits import TitleLimits
from tests.packager.films import H264, PICTURE, TONE, probe, run_ffmpeg

SECONDS = 14

CUES = (
    (1000, 2500, "Hello <i>you</i>"),
    (5500, 7250, "Two\nlines"),
    (9000, 9040, "Grün & blau"),
    (11000, 13000, "End"),
)


def srt(cues: tuple[tuple[int, int, str], ...] = CUES) -> str:
    def time(value: int) -> str:
        return f"{value // 3600000:02}:{value // 60000 % 60:02}:{value // 1000 % 60:02},{value % 1000:03}"

    return "".join(f"{n}\n{time(a)} --> {time(b)}\n{text}\n\n" for n, (a, b, text) in enumerate(cues, 1))


def make(path: Path, *words: str, inputs: tuple[str, ...] = ()) -> Path:
    """Make a film of two streams, with what other inputs, from the second on, and words add."""
    picture = [word.format(rate=25, seconds=SECONDS) for word in PICTURE]
    tone = [word.format(hertz=48000, seconds=SECONDS) for word in TONE]
    coded = (*picture, *tone, *H264, "-bf", "2", "-g", "50", "-c:a", "aac")
    if not inputs:
        run_ffmpeg(*coded, *words, path)
        return path
    extra = [word for one in inputs for word in ("-i", one)]
    texts = [number for number, one in enumerate(inputs, 1) if one.endswith(".srt")]
    maps = [word for number in (0, *texts) for word in ("-map", str(number))]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, "plain.mp4")
        run_ffmpeg(*coded, plain)
        coding = "srt" if path.suffix == ".mkv" else "mov_text"
        run_ffmpeg("-i", plain, *extra, *maps, "-c", "copy", "-c:s", coding, *words, path)
    return path


def titles_of(library: Path, limits: TitleLimits | None = None) -> Titles:
    return Titles(Library(library), limits or TitleLimits())


def listed(titles: Titles, name: str) -> list[m3u8.Media]:
    return [one for one in m3u8.loads(titles.multivariant_playlist(name)).media if one.type == "SUBTITLES"]


def cues_of(titles: Titles, name: str, track: str) -> list[Cue]:
    """Read all segments of a track as players do: what is in two of them is one cue."""
    playlist = m3u8.loads(titles.text_playlist(name, track).decode())
    found: dict[Cue, None] = {}
    for number in range(len(playlist.segments)):
        data = titles.texts.webvtt_segment(name, track, number)
        assert data.startswith(b"WEBVTT\nX-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0\n")
        reader = CueReader()
        reader.receive_data(b"WEBVTT\n" + data.split(b"\n", 2)[2])
        reader.receive_eof()
        found.update(dict.fromkeys(reader.cues()))
    return list(found)


def demuxed(path: Path, stream: str = "s:0") -> list[tuple[int, int]]:
    """Ask ffprobe when each subtitle of a file is shown, in milliseconds; what is empty is a gap."""
    packets = probe(path, "-show_packets", "-select_streams", stream)["packets"]
    shown = [one for one in packets if int(one["size"]) > 2]
    return [
        (
            round(float(one["pts_time"]) * 1000),
            round((float(one["pts_time"]) + float(one["duration_time"])) * 1000),
        )
        for one in shown
    ]
