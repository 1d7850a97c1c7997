"""Streams that are made to cost their readers as much as possible: what is parsed at once stays short.

By the processor time of the thread, of which several times as much is allowed as it takes anywhere: machines
are slow, but a step that grows with its input, or a byte that costs what a kilobyte does, is far beyond.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable

import pytest

from media.errors import MediaError
from media.flv.demuxer import FlvDemuxer
from media.flv.stream_reader import FlvReader
from media.hls.playlist_reader import DEFAULT_LIMITS, read_playlist
from media.matroska.demuxer import MatroskaDemuxer
from media.matroska.stream_reader import MatroskaStreamReader
from media.mp3.icy import Deinterleaver, clean_title
from media.mp3.reader import MpegAudioReader
from media.mp3.stream_reader import AudioStreamReader
from media.mp4.fragments.fragment_join import FragmentJoiner, JoinLimits
from media.mp4.fragments.stream_reader import FragmentedStreamReader
from media.ogg.reader import OggReader
from media.rtmp.chunks import Message
from media.rtsp.messages import RtspReader
from media.subtitles.webvtt import CueReader
from media.ts.join import TransportJoiner
from media.ts.stream_reader import TransportReader
from origin.ingest.rtmp import RTMP_PORTION_BYTES
from packager.step_budget import AUDIO_PORTION_BYTES, FLV_PORTION_BYTES, PORTION_BYTES
from tests import hostile_matroska, rtmp
from tests import hostile_media as hostile
from tests.loop_watch import slowness
from tests.media.mp4.fragments.fragment_streams import stream

MIB = 1 << 20
DEAR_SECONDS, DEAREST_SECONDS = 1, 8
"""Of what may cost more for a mebibyte a quarter is read, or an eighth: what grows faster does so there."""

PORTION = PORTION_BYTES
SOUND = AUDIO_PORTION_BYTES
FLV = FLV_PORTION_BYTES
RTMP = RTMP_PORTION_BYTES

STEP_SECONDS = 0.1
"""Five times what one portion may take."""

Take = Callable[[bytes], Iterable[object]]


def mpeg_audio() -> Take:
    return events_of(MpegAudioReader())


def ogg() -> Take:
    return events_of(OggReader())


def events_of(reader: MpegAudioReader | OggReader) -> Take:
    def take(data: bytes) -> Iterable[object]:
        reader.receive_data(data)
        return reader.events()

    return take


def captions() -> Take:
    reader = CueReader()

    def take(data: bytes) -> Iterable[object]:
        reader.receive_data(data)
        return reader.cues()

    return take


def fragments() -> Take:
    joiner = FragmentJoiner(1, JoinLimits())
    return lambda data: joiner.receive_data(0, data)


def divided() -> Take:
    return FragmentedStreamReader().receive_data


def packed_sound() -> Take:
    joiner = TransportJoiner(JoinLimits().held_bytes)
    owner = b"com.apple.streaming.transportStreamTimestamp\0" + bytes(8)
    joiner.receive_data(1, b"ID3\x04\0\0\0\0\0\x3f" + b"PRIV\0\0\0\x35\0\0" + owner)
    return lambda data: joiner.receive_data(1, data)


def published() -> Take:
    """Make what reads a publisher's messages and demuxes them, behind its being let in."""
    connection = rtmp.connection(joins_frames=True)
    demuxer = FlvDemuxer(further_video_tracks=9)
    connection.receive_data(rtmp.publishing())
    list(rtmp.accepted(connection))

    def take(data: bytes) -> Iterable[object]:
        connection.receive_data(data)
        for event in connection.events():
            if isinstance(event, Message):
                yield demuxer.receive_tags([(event.kind, event.timestamp, event.payload)])
            elif isinstance(event, list):
                yield demuxer.receive_tags(event)

    return take


def titles() -> Take:
    splitter = Deinterleaver(1)
    return lambda data: [clean_title(title) for _, title in splitter.receive_data(data)]


def of_fragments(make: Callable[[bytes, int], bytes]) -> Callable[[int], bytes]:
    return lambda size: make(stream()[: stream().index(b"moof") - 4], size // 16)


CASES: list[tuple[str, Callable[[], Take], Callable[[int], bytes], int, float]] = [
    # What it is, who reads it, how it is made, how much is read at once, and CPU seconds of a mebibyte.
    ("frames of AAC of eight bytes", mpeg_audio, hostile.adts_frames, SOUND, 8),
    ("frames of AAC for a decoder", lambda: AudioStreamReader().receive_data, hostile.adts_frames, SOUND, 8),
    ("frames of AAC between packets", packed_sound, hostile.adts_frames, PORTION, 15),
    ("frames of 24 bytes", mpeg_audio, hostile.small_frames, SOUND, 3),
    ("empty ID3 tags", mpeg_audio, hostile.empty_id3, SOUND, 0.2),
    ("ID3 tags of empty frames", mpeg_audio, hostile.id3_of_empty_frames, SOUND, 0.1),
    ("ID3 tags with a title each", mpeg_audio, hostile.titles, SOUND, 0.5),
    (
        "sync words for a decoder",
        lambda: AudioStreamReader().receive_data,
        hostile.false_sync_words,
        SOUND,
        8,
    ),
    ("sync words without frames", mpeg_audio, hostile.false_sync_words, SOUND, 0.5),
    ("bytes of sync words", mpeg_audio, hostile.sync_bytes, SOUND, 0.2),
    ("Ogg pages that are none", ogg, hostile.false_pages, SOUND, 0.3),
    ("Ogg pages of 28 bytes", ogg, hostile.tiny_pages, SOUND, 3),
    ("Ogg streams without sound", ogg, hostile.tiny_links, SOUND, 3),
    ("an Ogg header of many pages", ogg, hostile.header_of_many_pages, SOUND, 1),
    ("Ogg comments without text", ogg, hostile.many_comments, SOUND, 0.2),
    ("start codes", lambda: TransportReader().receive_data, hostile.start_codes, PORTION, 0.3),
    ("parameter sets", lambda: TransportReader().receive_data, hostile.parameter_sets, PORTION, 1.5),
    ("program maps", lambda: TransportReader().receive_data, hostile.program_maps, PORTION, 2),
    ("packets out of step", lambda: TransportReader().receive_data, hostile.packets_out_of_step, PORTION, 1),
    ("FLV tags of nothing", lambda: FlvReader().receive_data, hostile.empty_tags, FLV, 3),
    ("FLV headers that change", lambda: FlvReader().receive_data, hostile.changing_headers, FLV, 3),
    ("FLV tags of 8 MiB", lambda: FlvReader().receive_data, hostile.one_huge_tag, FLV, 2),
    (
        "blocks of Matroska",
        lambda: MatroskaStreamReader().receive_data,
        hostile_matroska.small_blocks,
        PORTION,
        10,
    ),
    (
        "clusters of Matroska",
        lambda: MatroskaStreamReader().receive_data,
        hostile_matroska.empty_clusters,
        PORTION,
        3,
    ),
    (
        "tracks of Matroska",
        lambda: MatroskaStreamReader().receive_data,
        hostile_matroska.many_tracks,
        PORTION,
        10,
    ),
    (
        "elements of tracks",
        lambda: MatroskaStreamReader().receive_data,
        hostile_matroska.many_elements,
        PORTION,
        1,
    ),
    ("laced blocks", lambda: MatroskaDemuxer().receive_data, hostile_matroska.laced_blocks, PORTION, 20),
    ("samples of nothing", divided, of_fragments(hostile.samples_of_nothing), PORTION, 1),
    ("samples of a byte", divided, of_fragments(hostile.as_many_samples_as_may_be), PORTION, 15),
    ("fragments with key frames", divided, of_fragments(hostile.many_samples), PORTION, 1),
    ("fragments of many samples", fragments, of_fragments(hostile.many_samples), PORTION, 0.1),
    ("many samples", fragments, of_fragments(hostile.as_many_samples_as_may_be), PORTION, 10),
    ("boxes of nothing", fragments, of_fragments(hostile.empty_boxes), PORTION, 5),
    ("boxes in a moof", fragments, of_fragments(hostile.boxes_in_moofs), PORTION, 2),
    ("boxes in a traf", fragments, of_fragments(hostile.boxes_in_trafs), PORTION, 0.5),
    ("a sample of 31 MiB", fragments, of_fragments(hostile.one_huge_sample), PORTION, 2),
    ("a sample of 15 MiB", fragments, of_fragments(hostile.one_large_sample), PORTION, 2),
    ("cues", captions, hostile.many_cues, PORTION, 4),
    ("lines of captions", captions, hostile.caption_lines, PORTION, 4),
    ("messages of RTSP", lambda: RtspReader().receive_data, hostile.many_messages, PORTION, 10),
    ("fields of RTSP", lambda: RtspReader().receive_data, hostile.messages_of_many_fields, PORTION, 4),
    ("frames of RTSP", lambda: RtspReader().receive_data, hostile.empty_frames, PORTION, 2),
    ("messages of RTMP of nothing", published, hostile.rtmp_messages_of_nothing, RTMP, 30),
    ("messages of RTMP without frames", published, hostile.rtmp_frames_of_nothing, RTMP, 15),
    ("messages of RTMP of many tracks", published, hostile.rtmp_tracks_of_nothing, RTMP, 10),
    ("messages of RTMP of no kind", published, hostile.rtmp_messages_of_no_kind, RTMP, 15),
    ("chunks of RTMP of a byte", published, hostile.rtmp_chunks_of_a_byte, RTMP, 15),
    ("titles between bytes", titles, hostile.titles_between_bytes, SOUND, 8),
]


def consumed(take: Take, data: bytes, portion: int, seconds: float) -> tuple[float, float]:
    """Give the thread's seconds of the longest step and of all, until the end or until it is refused."""
    longest = total = 0.0
    for start in range(0, len(data), portion):
        before = time.thread_time()
        refused = False
        try:
            # A piece that is given is a step by itself: whoever takes it lets others have their turn.
            for _ in take(data[start : start + portion]):
                now = time.thread_time()
                longest, total, before = max(longest, now - before), total + now - before, now
        except MediaError:
            refused = True
        now = time.thread_time()
        longest, total = max(longest, now - before), total + now - before
        if refused or total > seconds:
            break
    return longest, total


@pytest.mark.parametrize(
    ("make", "data", "portion", "seconds"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_no_portion_of_a_hostile_stream_takes_long(
    make: Callable[[], Take], data: Callable[[int], bytes], portion: int, seconds: float
) -> None:
    part = 8 if seconds > DEAREST_SECONDS else 4 if seconds > DEAR_SECONDS else 1
    hostile_stream, seconds = data(MIB // part), seconds / part
    gc.disable()
    try:
        # Whatever else the machine does costs this thread some time, too, but not in each of three attempts.
        most, most_at_once = seconds, STEP_SECONDS
        attempts = list[tuple[float, float]]()
        for _ in range(3):
            longest, total = consumed(make(), hostile_stream, portion, most)
            attempts.append((longest, total))
            if longest < most_at_once and total < most:
                break
            # How slow the machine is now is measured only where that matters.
            factor = slowness()
            most, most_at_once = seconds * factor, STEP_SECONDS * factor
    finally:
        gc.enable()
    assert min(longest for longest, _ in attempts) < most_at_once
    assert min(total for _, total in attempts) < most


@pytest.mark.parametrize(
    ("data", "seconds"),
    [
        (hostile.many_segments, 1),
        (hostile.different_segments, 20),
        (hostile.empty_lines, 1),
        (hostile.many_keys, 2),
        (hostile.many_attributes, 10),
        (hostile.variants_without_addresses, 3),
    ],
)
def test_a_hostile_playlist_is_read_or_refused_in_a_bounded_time(
    data: Callable[[int], bytes], seconds: float
) -> None:
    most = DEFAULT_LIMITS.playlist_bytes
    text = data(most - 8192)[:most]
    begin = time.thread_time()
    with contextlib.suppress(MediaError):
        read_playlist(text)
    took = time.thread_time() - begin
    assert took < seconds or took < seconds * slowness()


@pytest.mark.parametrize(
    ("make", "data", "size"),
    [
        (mpeg_audio, hostile.empty_id3, 20_000),
        (mpeg_audio, hostile.id3_of_empty_frames, 20_000),
        (mpeg_audio, hostile.titles, 20_000),
        # As far as the frames behind the false ones, or the limit of pages that are none.
        (mpeg_audio, hostile.false_sync_words, 100_000),
        (mpeg_audio, hostile.sync_bytes, 100_000),
        (mpeg_audio, hostile.adts_frames, 20_000),
        (ogg, hostile.false_pages, 100_000),
        (ogg, hostile.tiny_links, 20_000),
        (ogg, hostile.header_of_many_pages, 20_000),
        (ogg, hostile.many_comments, 20_000),
        (captions, hostile.many_cues, 20_000),
    ],
)
def test_a_hostile_stream_is_the_same_whole_or_byte_by_byte(
    make: Callable[[], Take], data: Callable[[int], bytes], size: int
) -> None:
    def told(portion: int) -> tuple[list[object], str]:
        take, found = make(), list[object]()
        try:
            for start in range(0, len(given), portion):
                found.extend(take(given[start : start + portion]))
        except MediaError as error:
            return found, str(error)
        return found, ""

    given = data(size)[: size * 3 // 2]
    assert told(len(given)) == told(1) == told(997)


def test_a_message_whose_body_comes_byte_by_byte_is_read_once() -> None:
    head = b"RTSP/1.0 200 OK\r\nContent-Length: 20000\r\n" + b"a:\n" * 5000 + b"\r\n"
    reader, found = RtspReader(), list[object]()
    begin = time.thread_time()
    found += reader.receive_data(head)
    for _ in range(20_000):
        found += reader.receive_data(b"x")
    assert time.thread_time() - begin < 2
    assert len(found) == 1
