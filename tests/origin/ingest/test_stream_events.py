"""Breaks, cue points and ID3 tags of a publisher's stream come to players of HLS and DASH in time."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import pytest

from media.flv.amf0 import Value, write_values
from media.flv.tags import FILE_HEADER, SCRIPT, complete_tags
from media.mp3.id3 import write_id3v2
from media.mp4.boxes import walk
from media.rtmp.chunks import Message, write_message
from media.ts.tables import PACKET, ElementaryStream
from tests.media.flv.flv_tags import write_tag
from tests.media.ts.rewritten_streams import (
    packed,
    packets_of,
    pid_of,
    program_map,
    told,
    with_tables,
)
from tests.media.ts.splice_sections import back, out, section
from tests.origin.ingest.studio import KEY, LADDER, Studio, studio
from tests.ports import kept_port
from tests.rtmp import publishing
from tests.waiting import wait_for

SPLICES, TAGS = 0x1F0, 0x1F1
SECONDS, RATE = 14, 25
WIDTH, HEIGHT = 160, 120
NULL = 0x1FFF
Pictures = npt.NDArray[np.int16]
TAG = write_id3v2([("TIT2", "A song")])


class Stream(NamedTuple):
    """A stream in real time: what is sent when, and the times of its key frames in ticks."""

    pieces: Sequence[tuple[float, bytes]]
    keys: Sequence[int]


def encoded(folder: Path, container: str, *more: str) -> Path:
    path = folder / f"film.{container}"
    made = ("-f", "lavfi", "-i", f"testsrc2=size={WIDTH}x{HEIGHT}:rate={RATE}:duration={SECONDS}")
    sound = ("-f", "lavfi", "-i", f"sine=440:sample_rate=48000:duration={SECONDS}")
    coding = (
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-g",
        str(RATE),
        "-b:v",
        "300k",
    )
    command = (
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        *made,
        *sound,
        *coding,
        "-pix_fmt",
        "yuv420p",
        "-c:a",
        "aac",
    )
    subprocess.run((*command, *more, str(path)), check=True, timeout=300)
    return path


def key_frames(path: Path) -> list[int]:
    """Return when key frames are shown, in ticks of 90 kHz, by ffprobe."""
    command = ("ffprobe", "-v", "error", "-select_streams", "v", "-show_entries", "packet=pts_time,flags")
    told_by = subprocess.run(
        (*command, "-of", "json", str(path)), check=True, capture_output=True, timeout=300
    )
    packets = json.loads(told_by.stdout)["packets"]
    return [round(float(one["pts_time"]) * 90_000) for one in packets if one["flags"].startswith("K")]


def tag_packet(pts: int) -> bytes:
    """Write a PES packet with an ID3 tag, as Apple's players take it."""
    stamp = bytes(
        (
            0x21 | pts >> 29 & 0x0E,
            pts >> 22 & 0xFF,
            pts >> 14 & 0xFE | 1,
            pts >> 7 & 0xFF,
            pts << 1 & 0xFE | 1,
        )
    )
    data = b"\0\0\1\xbd" + (len(TAG) + 8).to_bytes(2, "big") + b"\x84\x80\5" + stamp + TAG
    stuffing = PACKET - 4 - len(data)
    head = b"\x47" + (0x4000 | TAGS).to_bytes(2, "big") + b"\x30"
    return head + bytes((stuffing - 1, 0)) + b"\xff" * (stuffing - 2) + data


def transport_stream(folder: Path) -> Stream:
    """Make a stream of MPEG-TS at a constant rate, with events in the place of its stuffing."""
    path = encoded(folder, "ts", "-f", "mpegts", "-muxrate", "1M")
    keys, data = key_frames(path), path.read_bytes()
    program = told(data)
    streams = (ElementaryStream(0x86, SPLICES), ElementaryStream(0x15, TAGS))
    program = replace(program, streams=(*program.streams, *streams), descriptors=b"\5\4CUEI")
    packets = packets_of(with_tables(data, (), lambda _: [program_map(program)]))
    counter = itertools.count()
    # Each section is sent twice, as encoders do.
    sent = [(4.0, packed(SPLICES, [out(keys[6])], counter)), (4.5, packed(SPLICES, [out(keys[6])], counter))]
    sent += [(7.0, packed(SPLICES, [section(back(7, keys[9]), 5)], counter)), (5.5, [tag_packet(keys[7])])]
    for seconds, inserted in sent:
        at = int(seconds / SECONDS * len(packets))
        for packet in inserted:
            at = next(number for number in range(at, len(packets)) if pid_of(packets[number]) == NULL)
            packets[at] = packet
    step = len(packets) // (SECONDS * 10)
    pieces = [(n / 10, b"".join(packets[n * step : (n + 1) * step])) for n in range(SECONDS * 10)]
    return Stream(pieces, keys)


def flv_tags(folder: Path) -> list[tuple[int, int, bytes]]:
    """Make the tags of a stream in FLV, with cue points."""
    path = encoded(folder, "flv")
    keys, data = key_frames(path), path.read_bytes()
    tags = [
        (kind, when, data[begin:end])
        for kind, when, begin, end in complete_tags(memoryview(data), FILE_HEADER)
    ]
    ad: dict[str, Value] = {"type": "scte35", "cue": base64.b64encode(out(5)).decode(), "duration": 30.0}
    point: dict[str, Value] = {
        "name": "Score",
        "type": "event",
        "parameters": {"home": "2", 'guest "x"': 1.0},
        "duration": 4.0,
    }
    cues: tuple[tuple[int, list[Value]], ...] = (
        (keys[6], ["onAdCue", ad]),
        (keys[6], ["onAdCue", ad]),
        (keys[8], ["onCuePoint", point]),
    )
    tags += [(SCRIPT, ticks // 90, write_values(values)) for ticks, values in cues]
    tags += [
        (
            SCRIPT,
            keys[9] // 90,
            write_values(["onAdCue", {"cue": base64.b64encode(section(back(7, 5), 5)).decode()}]),
        )
    ]
    return sorted(tags, key=lambda one: one[1])


def paced(pieces: Iterable[tuple[float, bytes]]) -> Iterator[bytes]:
    """Yield pieces at their times, counted from now."""
    begin = time.monotonic()
    for seconds, data in pieces:
        time.sleep(max(begin + seconds - time.monotonic(), 0))
        yield data


def put(one: Studio, pieces: Iterable[tuple[float, bytes]], media_type: str) -> None:
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": media_type}
    assert one.client.put(one.address, content=paced(pieces), headers=headers).is_success


def drain(peer: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while peer.recv(65536):
            pass


def over_rtmp(port: int, tags: Sequence[tuple[int, int, bytes]]) -> None:
    with socket.create_connection(("127.0.0.1", port)) as peer:
        threading.Thread(target=drain, args=(peer,), daemon=True).start()
        peer.sendall(publishing(f"studio?key={KEY}"))
        written = (
            (when / 1000, write_message(4, Message(kind, 1, when, body), 128)) for kind, when, body in tags
        )
        for piece in paced(written):
            peer.sendall(piece)


def ranges(playlist: str) -> list[str]:
    return re.findall("#EXT-X-DATERANGE:(.*)", playlist)


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def begin_of(line: str) -> float:
    found = re.search(r'START-DATE="([^"]+)"', line)
    assert found is not None
    return moment(found[1])


def lasted(line: str) -> float:
    """Return the duration of a range, whose dates follow the clock by less than a millisecond a segment."""
    return float(line.partition(",DURATION=")[2].partition(",")[0])


def splices_of(one: Studio) -> list[str]:
    """Return the messages of SCTE 35 in the manifest, in hexadecimal."""
    text = one.client.get(f"{one.server.url}/live/studio/manifest.mpd").text
    scheme = "[@schemeIdUri='urn:scte:scte35:2013:bin']"
    dash = "{urn:mpeg:dash:schema:mpd:2011}"
    found = ElementTree.fromstring(text).findall(f".//{dash}EventStream{scheme}/{dash}Event")
    return [base64.b64decode(each.text or "").hex() for each in found]


def pictures(data: bytes) -> Pictures:
    """Decode a stream into grey pictures of the source's size."""
    raw = ("-vf", f"scale={WIDTH}:{HEIGHT},format=gray", "-f", "rawvideo", "-fps_mode", "passthrough", "-")
    command = ("ffmpeg", "-nostdin", "-v", "error", "-i", "pipe:0", "-an", *raw)
    done = subprocess.run(command, input=data, check=True, capture_output=True, timeout=300)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, WIDTH * HEIGHT).astype(np.int16)


def picture_at(one: Studio, playlist: str, rendition: str, date: float, source: Path) -> int:
    """Return the number of the picture of the source that is shown at a date, by its likeness."""
    first = re.search("#EXT-X-PROGRAM-DATE-TIME:(.*)", playlist)
    init = re.search('#EXT-X-MAP:URI="([^"]+)"', playlist)
    assert first is not None
    assert init is not None
    folder = f"{one.server.url}/live/studio/{rendition}"
    names = [init[1], *re.findall(r"#EXTINF:.*\n(?:#.*\n)*([^#\n]+)", playlist)]
    shown = pictures(b"".join(one.client.get(f"{folder}/{name}").content for name in names))
    looked = shown[round((date - moment(first[1])) * RATE)]
    return int(np.abs(pictures(source.read_bytes()) - looked).sum(axis=1).argmin())


def last_playlist(one: Studio, rendition: str) -> str:
    """Return the playlist once the stream is over, and both ways of the break are in it."""
    one.wait_for_state("idle")

    def listed() -> str:
        text = one.media_playlist(rendition=rendition)
        return text if "SCTE35-IN" in text else ""

    return wait_for(listed, "the end of the break")


def tags_in(one: Studio, playlist: str, rendition: str) -> list[tuple[float, bytes]]:
    """Return the tags in the segments, each with the date at which its segment begins."""
    found, date = list[tuple[float, bytes]](), 0.0
    for name, _, value in (line.partition(":") for line in playlist.splitlines()):
        if name == "#EXT-X-PROGRAM-DATE-TIME":
            date = moment(value)
        elif name == "#EXTINF":
            length = float(value.rstrip(","))
        elif name and not name.startswith("#"):
            data = one.client.get(f"{one.server.url}/live/studio/{rendition}/{name}").content
            tags = (data[box.payload : box.end] for box in walk(data) if box.kind == b"emsg")
            found += [(date, box[box.index(b"ID3\4") :]) for box in tags]
            date += length
    return found


@pytest.mark.clause("RFC 8216bis §4.4.5.1")
@pytest.mark.parametrize(("ladder", "rendition"), [('ladder = ["source"]\n', "source"), (LADDER, "240p")])
def test_breaks_and_tags_of_a_transport_stream_are_at_their_pictures(
    tmp_path: Path, ladder: str, rendition: str
) -> None:
    made = transport_stream(tmp_path)
    with studio(tmp_path, f'{ladder}dvr = "1m"\n', ladder=False) as one:
        put(one, made.pieces, "video/mp2t")
        playlist = last_playlist(one, rendition)
        first, end = ranges(playlist)
        assert f"SCTE35-OUT=0x{out(made.keys[6]).hex().upper()}" in first
        assert "PLANNED-DURATION=30.000" in first
        assert f"SCTE35-IN=0x{section(back(7, made.keys[9]), 5).hex().upper()}" in end
        assert begin_of(end) == begin_of(first)
        assert lasted(end) == pytest.approx(3, abs=0.05)
        picture = picture_at(one, playlist, rendition, begin_of(first), tmp_path / "film.ts")
        assert picture == pytest.approx(6 * RATE, abs=1)
        assert splices_of(one) == [out(made.keys[6]).hex(), section(back(7, made.keys[9]), 5).hex()]
        ((date, tag),) = tags_in(one, playlist, rendition)
        assert tag == TAG
        # In the segment of the seventh second, whose dates follow the clock by less than a millisecond each.
        assert date - begin_of(first) == pytest.approx(1, abs=1.01)


@pytest.mark.parametrize("protocol", ["http", "rtmp"])
def test_cue_points_of_flv_are_breaks_and_ranges(tmp_path: Path, protocol: str) -> None:
    tags = flv_tags(tmp_path)
    with (
        kept_port() as port,
        studio(
            tmp_path, 'ladder = ["source"]\ndvr = "1m"\n', f"[server]\nrtmp_port = {port}\n", ladder=False
        ) as one,
    ):
        if protocol == "http":
            pieces = [(when / 1000, write_tag(kind, when, body)) for kind, when, body in tags]
            put(one, [(0.0, b"FLV\1\5\0\0\0\x09\0\0\0\0"), *pieces], "video/x-flv")
        else:
            over_rtmp(port, tags)
        playlist = last_playlist(one, "source")
        first, point, end = ranges(playlist)
        assert f"SCTE35-OUT=0x{out(5).hex().upper()}" in first
        picture = picture_at(one, playlist, "source", begin_of(first), tmp_path / "film.flv")
        assert picture == pytest.approx(6 * RATE, abs=1)
        assert lasted(end) == pytest.approx(3, abs=0.05)
        assert point.startswith('ID="cue-Score-')
        assert 'CLASS="org.headwater.cue"' in point
        assert "DURATION=4.000" in point
        for attribute in ('X-NAME="Score"', 'X-TYPE="event"', 'X-HOME="2"', "X-GUEST--X-=1"):
            assert attribute in point
        assert begin_of(point) - begin_of(first) == pytest.approx(2, abs=0.01)
