"""Targets of what others read from outside: containers, sound, playlists, subtitles and protocols."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from media.errors import MediaError
from media.flv.amf0 import read_values, write_values
from media.hls.playlist_reader import read_playlist
from media.mp3.icy import Deinterleaver
from media.mp3.reader import MpegAudioReader
from media.mp3.stream_reader import AudioStreamReader
from media.mp4.boxes import box
from media.mp4.codecs.closed_captions import services_of
from media.mp4.fragments.cmaf_ingest import TrackUploadLimits, TrackUploads, UnknownTrackError, UploadReader
from media.mp4.fragments.fragments import FragmentReader, write_fragment
from media.mp4.fragments.live_segment_check import check_live_segment
from media.mp4.fragments.moof import Sample
from media.mp4.movie.movie import MovieLimits
from media.rtsp.messages import RtspReader
from media.subtitles.character_encodings import decode
from media.subtitles.subtitle_file import read_subtitle_file
from media.subtitles.webvtt import CueReader
from media.xmltv.reader import XmltvReader
from origin.cli.checks.manifest_reader import ManifestError, read_manifest
from origin.http1.websocket import FrameReader, WebSocketError, WebSocketLimits
from origin.ingest.limits import IngestLimits
from origin.ingest.multitrack_configuration import read_client
from origin.ingest.stream_id import read_stream_id
from origin.token_relay.sse_reader import SseError, SseReader
from packager.vod.movie.movie_reader import ContainerLimits, read_movie
from tests import hostile_media as hostile
from tests.fuzzing.containers import H264_AAC, boxes, encoded, fragmented, portions, whole_box
from tests.fuzzing.fuzzer import Outcome, Target
from tests.fuzzing.mutation import Parts
from tests.fuzzing.publishing import METADATA, error_text, joined
from tests.media.rtsp.rtsp_stream import STREAM as RTSP_STREAM
from tests.origin.ingest.multitrack_requests import ASKED

ERRORS = (MediaError, UnknownTrackError, WebSocketError, SseError, ManifestError)
"""What readers document."""

SMALL_MOVIE = MovieLimits(moov_bytes=1 << 20)


GUIDE_WORDS = (
    *(b"<!DOCTYPE tv [", b'<!ENTITY a "b">', b"]>", b"&a;", b"&#0;", b"<![CDATA[", b"]]>", b"<!--", b"-->"),
    *(b"<programme>", b"</programme>", b"<title>", b"</title>", b"start=", b"stop=", b"</tv>", b"\xff"),
)
"""Parts of guides that may stand where they shouldn't."""


def guides() -> Sequence[Parts]:
    """Make programme guides in XMLTV."""
    row = (
        b'<programme start="2026112619%02d00 +0100" stop="2026112620%02d00 +0100" channel="a">',
        b"<title>No. %d &amp; more</title><desc>About</desc></programme>\n",
    )
    rows = [part % ((one,) * part.count(b"%")) for one in range(5) for part in row]
    return [
        [
            b'<?xml version="1.0" encoding="UTF-8"?>',
            b'<!DOCTYPE tv SYSTEM "xmltv.dtd">',
            b"<tv>",
            *rows,
            b"</tv>",
        ]
    ]


class EventReader(Protocol):
    """What is fed, and asked for events."""

    def receive_data(self, data: bytes) -> None: ...

    def receive_eof(self) -> None: ...


def of_events(
    make: Callable[[], EventReader], events: str = "events"
) -> Callable[[Sequence[bytes]], Outcome]:
    """Make what reads events up to the end."""

    def read(pieces: Sequence[bytes]) -> Outcome:
        reader, found, error = make(), list[object](), ""
        take: Callable[[], Iterable[object]] = getattr(reader, events)

        def feed(receive: Callable[[], None]) -> None:
            # What came before an error is still told.
            try:
                receive()
            finally:
                found.extend(take())

        try:
            for piece in pieces:
                feed(functools.partial(reader.receive_data, piece))
            feed(reader.receive_eof)
        except ERRORS as broken:
            error = error_text(broken)
        return Outcome((found, error), error)

    return read


def of_chunks(make: Callable[[], Any]) -> Callable[[Sequence[bytes]], Outcome]:
    """Make what reads a stream for decoders."""

    def read(pieces: Sequence[bytes]) -> Outcome:
        reader, found = make(), list[Any]()
        try:
            for piece in pieces:
                found += reader.receive_data(piece)
        except MediaError as broken:
            return Outcome(None, error_text(broken))
        return Outcome((joined(found), reader.signature))

    return read


def of_whole(read_whole: Callable[[bytes], object]) -> Callable[[Sequence[bytes]], Outcome]:
    """Make what reads all of an input at once; its pieces are joined before."""

    def read(pieces: Sequence[bytes]) -> Outcome:
        try:
            read_whole(b"".join(pieces))
        except ERRORS as broken:
            return Outcome(None, error_text(broken))
        return Outcome(None)

    return read


def read_rtsp(pieces: Sequence[bytes]) -> Outcome:
    """Read a connection; frames may come in any number of pieces."""
    reader, messages, frames = RtspReader(), list[object](), bytearray()
    try:
        for piece in pieces:
            for one in reader.receive_data(piece):
                if isinstance(one, bytes):
                    frames += one
                else:
                    messages.append(one)
    except MediaError as broken:
        return Outcome(None, error_text(broken))
    return Outcome((messages, frames))


def read_upload(pieces: Sequence[bytes]) -> Outcome:
    """Read a request of an encoder, and join what it uploads."""
    reader, uploads = UploadReader("video.mp4"), TrackUploads(TrackUploadLimits())
    found = bytearray()
    try:
        for piece in pieces:
            for one in reader.receive_data(piece):
                for data in uploads.push(reader.track or "", one):
                    found += data
    except ERRORS as broken:
        return Outcome(None, error_text(broken))
    return Outcome((found, reader.track))


def read_titles(pieces: Sequence[bytes]) -> Outcome:
    """Read sound between titles, which may come in any pieces."""
    reader, found = Deinterleaver(16), list[tuple[bytes, str]]()
    for piece in pieces:
        for sound, title in reader.receive_data(piece):
            if found and found[-1][1] == title:
                found[-1] = (found[-1][0] + sound, title)
            else:
                found.append((sound, title))
    return Outcome((found, reader.title))


def read_film(data: bytes) -> None:
    """Read a film's container for VOD, and the samples that it doesn't hold as they are sent."""

    def read(at: int, length: int) -> bytes:
        return data[at : at + length]

    found = read_movie(read, len(data), SMALL_MOVIE, ContainerLimits())
    for track in found.assembled.tracks if found.assembled is not None else ():
        track.read(read, 0, track.size)


def live_segments() -> list[Parts]:
    """Give segments as channels write them: of one part and of several."""
    parts = [
        write_fragment(
            sequence_number=1,
            track_id=1,
            base_media_decode_time=10 * number,
            samples=(Sample(5, 4, is_sync=not number), Sample(5, 3, is_sync=False, composition_offset=shift)),
            data=b"picture",
        )
        for number, shift in enumerate((0, 2, -3))
    ]
    return [
        boxes(b"".join(parts)),
        boxes(parts[1]),
        [*boxes(parts[0]), box(b"emsg", bytes(40)), *boxes(parts[1])],
    ]


def lines(text: str) -> list[bytes]:
    """Divide a text."""
    return [line.encode() for line in text.splitlines(keepends=True)]


def films() -> list[Parts]:
    """Give a film in each container."""
    matroska, transport = (encoded(H264_AAC, kind) for kind in ("matroska", "mpegts"))
    old = [
        portions(encoded(f"-c:v {video} -g 2 -c:a {sound} -ar 44100 -ac 1", kind), length)
        for kind, video, sound, length in (
            ("mpegts", "mpeg2video -bf 1", "mp2", 188),
            ("vob", "mpeg2video -bf 1", "ac3", 2048),
            ("avi", "mpeg4 -vtag XVID -bf 1", "libmp3lame", 64),
            ("avi", "mjpeg", "pcm_s16le", 256),
            ("flv", "flv1", "libmp3lame", 64),
            ("asf", "wmv2", "wmav2", 256),
            ("matroska", "mpeg2video", "pcm_s16le", 64),
        )
    ]
    return [fragmented(), portions(matroska), portions(transport, 188), *old]


MEDIA_PLAYLIST = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:7
#EXT-X-MAP:URI="i.mp4",BYTERANGE="10@5"
#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x000102030405060708090A0B0C0D0E0F
#EXTINF:1.5,title
#EXT-X-BYTERANGE:20@100
a
#EXT-X-PROGRAM-DATE-TIME:2026-01-01T00:00:00.000Z
#EXTINF:2,
#EXT-X-BYTERANGE:30
a
#EXT-X-DISCONTINUITY
#EXT-X-GAP
#EXTINF:2,
c
#EXT-X-ENDLIST
"""
MULTIVARIANT = """#EXTM3U
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="a.m3u8"
#EXT-X-STREAM-INF:BANDWIDTH=1000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=16x16,AUDIO="a"
v.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="i.m3u8"
"""
WEBVTT = """WEBVTT - title

STYLE
::cue { color: red }

1
00:00.000 --> 00:02.500 line:5% align:start
<b>one</b> &amp; <c.a>two</c>

01:00:00.000 --> 01:00:02.000
three
"""
SUBRIP = """1
00:00:01,000 --> 00:00:02,500
<i>one</i> {\\an8}two

2
00:00:03,000 --> 00:00:04,000
three
"""
MPD = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S">
<Period>
<AdaptationSet contentType="video" segmentAlignment="true">
<SegmentTemplate timescale="1000" initialization="$RepresentationID$/i.mp4" media="$Number%05d$.m4s">
<SegmentTimeline><S t="0" d="2000" r="1"/></SegmentTimeline>
</SegmentTemplate>
<Representation id="v" bandwidth="1000" codecs="avc1.64001f"/>
</AdaptationSet>
<AdaptationSet contentType="audio">
<Representation id="a" bandwidth="100">
<BaseURL>a.mp4</BaseURL><SegmentBase indexRange="10-20"/>
</Representation>
</AdaptationSet>
</Period>
</MPD>
"""

LIVE_MPD = """<?xml version="1.0"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="dynamic" availabilityStartTime="1970-01-01T00:00:00Z">
<Period start="PT0S" duration="PT9000S"/><Period>
<AdaptationSet contentType="video"><Representation id="v" bandwidth="1000">
<SegmentTemplate timescale="1000" startNumber="7" media="$Number$.m4s" duration="2000"/>
</Representation></AdaptationSet>
</Period>
</MPD>"""
SSE = ": hello\n\nevent: a\nid: 1\ndata: one\ndata: two\n\ndata\r\nretry: 5\r\rdata:three\n\n"
STREAM_IDS = (
    "publish:studio:of+the:studio",
    "studio?a=b&key=sesame",
    "#!::r=studio,m=publish,u=a,s=b",
    "%23!::r=a%2Cm=publish",
)


def masked(*frames: tuple[int, bytes]) -> Parts:
    """Give the frames of a client of WebSocket."""
    found = []
    for first, payload in frames:
        length = len(payload)
        size = bytes((0x80 | length,)) if length < 126 else b"\xfe" + length.to_bytes(2, "big")
        covered = bytes(one ^ (at % 4 + 1) for at, one in enumerate(payload))
        found.append(bytes((first,)) + size + b"\1\2\3\4" + covered)
    return found


def sounds() -> list[Parts]:
    """Give streams of MPEG audio and AAC, between tags."""
    tagged = "-metadata title=a -id3v2_version 3 -write_id3v1 1"
    mp3 = encoded(f"-vn -c:a libmp3lame -b:a 8k -ar 8000 {tagged}", "mp3")
    title = hostile.titles(1)[: -len(hostile.FRAME)][:200]
    return [
        portions(mp3),
        [hostile.SMALLEST_FRAME] * 8,
        [hostile.adts_frame(40)] * 8,
        [b"ID3\x04\0\0\0\0\0\x0f" + b"TIT2\0\0\0\5\0\0\3abcd", hostile.FRAME, hostile.FRAME, title],
        [hostile.empty_id3(50), hostile.FRAME],
    ]


TARGETS: dict[str, Target] = {
    "fragments": Target(seeds=lambda: [fragmented()], read=of_events(FragmentReader), mend=whole_box),
    "uploads": Target(
        seeds=lambda: [fragmented(), portions(encoded(H264_AAC, "mpegts"), 188)[:8]],
        read=read_upload,
        mend=whole_box,
    ),
    "films": Target(seeds=films, read=of_whole(read_film)),
    "segment": Target(
        seeds=live_segments,
        read=of_whole(lambda data: check_live_segment(lambda at, length: data[at : at + length], len(data))),
    ),
    "xmltv": Target(seeds=guides, read=of_events(XmltvReader), words=GUIDE_WORDS),
    "mp3": Target(seeds=sounds, read=of_events(MpegAudioReader)),
    "sound": Target(seeds=sounds, read=of_chunks(AudioStreamReader)),
    "icy": Target(seeds=lambda: [portions(hostile.titles_between_bytes(200), 19)], read=read_titles),
    "amf0": Target(
        seeds=lambda: [[METADATA], [write_values(["a", 1.0, None, {"b": [True, {"c": "d"}]}])]],
        read=of_whole(lambda data: read_values(data)),
    ),
    "m3u8": Target(seeds=lambda: [lines(MEDIA_PLAYLIST), lines(MULTIVARIANT)], read=of_whole(read_playlist)),
    "mpd": Target(
        seeds=lambda: [lines(MPD), lines(LIVE_MPD)],
        read=of_whole(lambda data: read_manifest("http://h/a.mpd", data.decode("utf-8", "replace"), 1e9)),
    ),
    "webvtt": Target(seeds=lambda: [lines(WEBVTT)], read=of_events(CueReader, "cues")),
    "subtitles": Target(
        seeds=lambda: [lines(WEBVTT), lines(SUBRIP.replace("\n", "\r\n"))],
        read=of_whole(lambda data: read_subtitle_file(decode(data))),
    ),
    "captions": Target(
        seeds=lambda: [
            [b"\6\4\x14", b"\xb5\0\x31GA94\3", b"\x42\xff", b"\xfc\x94\x20", b"\xff\x02\x22", b"\xff\x80"]
        ],
        read=of_whole(services_of),
    ),
    "rtsp": Target(seeds=lambda: [portions(RTSP_STREAM, 24)], read=read_rtsp),
    "websocket": Target(
        seeds=lambda: [
            masked(
                (0x81, b"text"), (1, b"a"), (0x89, b""), (0x80, b"b"), (0x82, bytes(200)), (0x88, b"\3\xe8")
            )
        ],
        read=of_events(lambda: FrameReader(WebSocketLimits())),
    ),
    "sse": Target(seeds=lambda: [lines(SSE)], read=of_events(lambda: SseReader(100))),
    "obs": Target(
        seeds=lambda: [portions(json.dumps(ASKED, indent=1).encode())],
        read=of_whole(lambda data: read_client(data, IngestLimits())),
    ),
    "srt": Target(
        seeds=lambda: [[text.encode()] for text in STREAM_IDS],
        read=of_whole(lambda data: read_stream_id(data.decode("utf-8", "replace"))),
    ),
}
