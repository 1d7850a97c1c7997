"""Targets of what publishers send: RTMP and FLV."""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable, Iterable, Sequence
from random import Random

from media.errors import MediaError
from media.flv import tags as flv_tags
from media.flv.amf0 import write_values
from media.flv.demuxer import FlvDemuxer
from media.flv.stream_reader import FlvReader, PacketDivider
from media.flv.tags import AUDIO, SCRIPT, VIDEO, Tag
from media.matroska.stream_reader import MatroskaStreamReader
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.muxers.flv_muxer import FlvMuxer
from media.muxers.fragment_muxer import FragmentMuxer
from media.muxers.matroska_muxer import MatroskaMuxer, check_track
from media.packets import Packet
from media.rtmp import chunks
from media.rtmp.chunks import Message, write_message
from media.rtmp.connection import Event
from media.stream_reader import StreamChunk, StreamReader
from packager.sources.copy_probe import Copier
from tests import hostile_media as hostile
from tests import rtmp
from tests.fuzzing.fuzzer import Outcome, Target
from tests.fuzzing.mutation import Parts
from tests.media.flv.flv_tags import AAC, AVCC, some_tags, write_tag
from tests.media.muxers import enhanced_tracks as enhanced
from tests.media.muxers.muxed_streams import samples

OPUS_HEAD = b"OpusHead\1\2" + struct.pack("<HIHB", 312, 48000, 0, 0)
METADATA = write_values(
    ["onMetaData", {"width": 320.0, "height": 180.0, "framerate": 25.0, "encoder": "obs"}]
)

ENHANCED: Sequence[Tag] = (
    (VIDEO, 0, b"\x90hvc1" + bytes(30)),
    (VIDEO, 0, b"\x93hvc1picture"),
    (VIDEO, 40, b"\x91hvc1\0\0\x50picture"),
    (VIDEO, 40, b"\x90av01\x81\0\x0c\0"),
    (VIDEO, 80, b"\x90avc1" + AVCC),
    (VIDEO, 80, b"\x94avc1" + write_values(["colorInfo", {}])),
    (VIDEO, 80, b"\x96\x00avc1\1" + AVCC),
    (VIDEO, 80, b"\x96\x01avc1\1\0\0\5\0\0\0ab\2\0\0\5\0\0\0cd"),
    (VIDEO, 80, b"\x96\x13hvc1\0\0\0\2ab\1\0\0\3cde"),
    (VIDEO, 80, b"\x97\2\0\0\1\x01av01" + bytes(9)),
    (AUDIO, 0, b"\x90Opus" + OPUS_HEAD),
    (AUDIO, 20, b"\x91Opusframe"),
    (AUDIO, 20, b"\x95\x01mp4a\0\0\0\2\x12\x10\1\0\0\3abc"),
    (AUDIO, 20, b"\x97\2\0\0\1\x01mp4aframe"),
    (AUDIO, 20, b"\x2fMP3 of old"),
    (VIDEO, 20, b"\x12H.263"),
    (VIDEO, 20, b"\x57\0"),
)
"""Bodies of Enhanced RTMP, and of codecs of old."""


def streams() -> list[list[Tag]]:
    """Give short streams of tags: H.264 and AAC, the newer codecs, and both."""
    older = [some_tags(Random(number))[:14] for number in range(6)]
    for stream in older:
        stream[0] = (SCRIPT, 0, METADATA)
    newer = [list(ENHANCED[:3]), list(ENHANCED[4:9]), [*ENHANCED[:2], *ENHANCED[10:12]], list(ENHANCED[9:])]
    sound: list[Tag] = [(AUDIO, 0, AAC[0]), *((AUDIO, time, b"\xaf\1a") for time in range(0, 1500, 300))]
    return [*older, *newer, *copied(), sound, [*older[0][:3], *ENHANCED[6:8], *older[0][3:6]]]


def copied() -> list[list[Tag]]:
    """Give streams in newer codecs that go on as fragments, and one that goes from one codec to the next."""
    dolby = b"\x0b\x77\0\0\x14\x40\x40" + bytes(249)
    found: list[list[Tag]] = []
    for picture, frame, sound, heard in (
        (
            enhanced.HEVC,
            b"hvc1\0\0\x28" + enhanced.sized(enhanced.PPS, enhanced.KEY_SLICE),
            enhanced.OPUS,
            b"\x98a",
        ),
        (
            enhanced.AV1,
            b"av01\x12\0" + enhanced.AV1_SEQUENCE + enhanced.AV1_FRAME,
            enhanced.FLAC,
            enhanced.FLAC_FRAME,
        ),
        (enhanced.VP9, b"vp09" + enhanced.VP9_KEY, (AUDIO, 0, b"\x90ac-3"), dolby),
    ):
        codec = sound[2][1:5]
        stream = [picture, sound]
        for index in range(4):
            mark = b"\x91" if index % 2 == 0 else b"\xa1"
            stream += [(VIDEO, 40 * index, mark + frame), (AUDIO, 32 * index, b"\x91" + codec + heard)]
        found.append(stream)
    return [*found, [tag for stream in found for tag in stream[:6]]]


def error_text(error: Exception) -> str:
    """Tell an error of one kind from one of another."""
    return f"{type(error).__name__}: {error}"


# RTMP

CHUNK_STREAMS = {VIDEO: 6, AUDIO: 4, SCRIPT: 4}
CONNECT = rtmp.command(
    "connect", 1, {"app": "a", "tcUrl": "rtmp://h/a", "fourCcList": ["hvc1"], "capsEx": 15.0}
)
PUBLISH = rtmp.command("publish", 5, None, "demo?k=1", "live", stream=1)
PLAIN_CONNECT = rtmp.command("connect", 1, {"app": "a"})
PLAIN_PUBLISH = rtmp.command("publish", 5, None, "d")


def chunk_size(size: int) -> bytes:
    """Write the message that changes the size of chunks."""
    return b"\2\0\0\0\0\0\4\1\0\0\0\0" + struct.pack(">I", size)


def messages(tags: Iterable[Tag], size: int) -> list[bytes]:
    """Write tags as a publisher does who has said this size of chunks."""
    said = [] if size == chunks.DEFAULT_CHUNK_BYTES else [chunk_size(size)]
    return said + [
        write_message(CHUNK_STREAMS[kind], Message(kind, 1, time, body), size) for kind, time, body in tags
    ]


def aggregated(tags: Iterable[Tag]) -> bytes:
    """Write one message that holds many."""
    return write_message(4, Message(chunks.AGGREGATE, 1, 0, flv_tags.write_tags(tags)), 128)


def rtmp_seeds() -> list[Parts]:
    """Give connections that publish, most of which say no more before than they must."""
    begin = [rtmp.HANDSHAKE, PLAIN_CONNECT, PLAIN_PUBLISH]
    found: list[Parts] = []
    for number, tags in enumerate(streams()):
        found.append([*begin, *messages(tags, (128, 4096, 128, 20)[number % 4])])
    found.append([*begin, aggregated(streams()[0]), rtmp.command("deleteStream", 6, None, 1)])
    delta = b"\x46\0\0\x28\0\0\x07\x09\x27\1\0\0\0ab"
    found.append(
        [
            *begin,
            *messages(streams()[1][:4], 128),
            delta,
            b"\x86\0\0\x28\x27\1\0\0\0cd",
            b"\xc6\x27\1\0\0\0ef",
        ]
    )
    extended = b"\6\xff\xff\xff\0\1\x04\x09\1\0\0\0\1\2\3\4" + b"\x27\1\0\0\0" + bytes(123)
    found.append(
        [
            *begin,
            extended,
            b"\xc6\1\2\3\4" + bytes(128),
            b"\xc6\1\2\3\4abcd",
            b"\xc6\1\2\3\4\x27\1\0\0\0" + bytes(123),
        ]
    )
    interleaved = [
        b"\6\0\0\0\0\1\0\x09\1\0\0\0\x17\1\0\0\0" + bytes(123),
        b"\4\0\0\5\0\0\x03\x08\1\0\0\0\xaf\1a",
        b"\xc6" + bytes(128),
    ]
    found.append([*begin, *interleaved])
    # As librtmp begins.
    whole = rtmp.publishing("demo?key=a%2Fb")
    found.append([rtmp.HANDSHAKE, CONNECT, whole[len(rtmp.HANDSHAKE) :], *messages(streams()[2][:3], 128)])
    found.append(
        [
            rtmp.HANDSHAKE,
            CONNECT,
            PUBLISH,
            *messages(streams()[0][:2], 128),
            rtmp.command("FCUnpublish", 7, None, "d"),
            PUBLISH,
        ]
    )
    return found


RTMP_WORDS = (
    chunk_size(1), chunk_size(7), chunk_size(65536), chunk_size(0), chunk_size(1 << 31),
    b"\2\0\0\0\0\0\4\2\0\0\0\0\0\0\0\6",  # the message of chunk stream 6 is aborted
    b"\2\0\0\0\0\0\4\5\0\0\0\0\0\0\0\1", b"\2\0\0\0\0\0\6\4\0\0\0\0\0\6\0\0\0\1",
    b"\6\xff\xff\xff\0\0\7\x09\1\0\0\0\xff\xff\xff\xff\x27\1\0\0\0ab",
    b"\x46\xff\xff\xff\0\0\7\x09\0\0\0\x05\x27\1\0\0\0ab",
    b"\x86\xff\xff\xff\0\0\0\x09", b"\xc6", b"\xc6\0\0\0\x05", b"\xc4", b"\x86\0\0\x28",
    b"\0\x05\0\0\0\0\0\2\x08\1\0\0\0\xaf\1",
    b"\1\x05\1\0\0\0\0\0\2\x08\1\0\0\0\xaf\1", b"\xc0\x05", b"\xc1\x05\1",
    b"\6\0\0\0\x7f\xff\xff\x09\1\0\0\0", b"\6\0\0\0\x0a\0\0\x09\1\0\0\0", b"\6\0\0\0\0\0\0\x09\1\0\0\0",
    *messages(ENHANCED, 128)[1::2],
    rtmp.command("deleteStream", 6, None, 1), rtmp.command("_checkbw", 8, None),
    rtmp.command("play", 9, None, "a"),
    rtmp.command("onTextData", 0, {"text": "a"}), PLAIN_PUBLISH, PLAIN_CONNECT,
    write_message(
        3, Message(chunks.COMMAND_AMF3, 0, 0, b"\0" + write_values(["createStream", 4.0, None])), 128
    ),
    write_message(4, Message(chunks.DATA, 1, 0, write_values(["@setDataFrame"]) + METADATA), 128),
    write_message(4, Message(chunks.DATA_AMF3, 1, 0, b"\0" + METADATA), 128),
)  # fmt: skip


def read_rtmp(pieces: Sequence[bytes]) -> Outcome:
    """Read a connection on which all that is asked for is accepted; one that is cut as servers do."""
    events, sent, error = rtmp.read(pieces, joins_frames=len(pieces) > 1)
    found = list[Event | Tag]()
    for event in events:
        if isinstance(event, list):
            found += event
        else:
            found.append(
                (event.kind, event.timestamp, event.payload) if isinstance(event, Message) else event
            )
    # Of answers behind an error nobody hears.
    return Outcome((found, b"" if error else sent, error), error)


def follow_rtmp(result: tuple[list[Event | Tag], bytes, str]) -> str:
    """Demux what was published as channels take it, and write it in all forms."""
    tags = [one for one in result[0] if isinstance(one, tuple) and not isinstance(one, Message)]
    demuxer = FlvDemuxer(check_track=check_track, further_video_tracks=9)
    try:
        packets = demuxer.receive_tags(tags)
    except MediaError as error:
        return error_text(error)
    for picture in demuxer.take_further_video_tracks().values():
        PacketDivider().push(picture)
    divider = PacketDivider()
    passed = [packet for chunk in divider.push(packets) for packet in chunk.packets]
    if not passed:
        return "nothing"
    # A reader of FLV finds the same frames again.
    if divider.muxed_container == "flv":
        again = FlvDemuxer().receive_data(FlvMuxer().push(passed))
        assert [one.data for one in again if one.data] == [one.data for one in passed if one.data]
    try:
        MatroskaStreamReader().receive_data(MatroskaMuxer().push(passed))
        FragmentMuxer().push(packets)
    except MediaError as error:
        return error_text(error)
    return ""


# FLV


def flv_seeds() -> list[Parts]:
    """Give files of the same streams, and those that cost most."""
    tags = [*streams(), *([*one[1:3], *one[5:]] for one in streams()[:6])]
    files: list[Parts] = [[flv_tags.file_header(), *(write_tag(*tag) for tag in one)] for one in tags]
    head = len(hostile.FLV_HEAD)
    for make in (hostile.empty_tags, hostile.changing_headers):
        data = make(200)
        files.append([data[:head], data[head:]])
    return files


FLV_WORDS = (
    *(write_tag(*tag) for tag in ENHANCED[::4]),
    *(write_tag(*tag) for tag in (enhanced.HEVC, enhanced.AV1, enhanced.VP9, enhanced.OPUS, enhanced.FLAC)),
    write_tag(VIDEO, 90_000, b"\x17\1\0\0\0ab"), write_tag(AUDIO, 0xFFFFFFFF, b"\xaf\1a"),
    write_tag(VIDEO, 0, b""),
    write_tag(AUDIO, 0, AAC[1]), write_tag(VIDEO, 0, b"\x17\0\0\0\0" + AVCC), write_tag(SCRIPT, 0, METADATA),
    write_tag(VIDEO, 0, b"\x17\2\0\0\0"), write_tag(7, 0, b"a"),
    b"\x09\xff\xff\xff" + bytes(7), b"\x09\x7f\xff\xff" + bytes(7),
)  # fmt: skip


def whole_tag(part: bytes) -> bytes:
    """Let a tag say how long it is, and the file's header be."""
    if part.startswith(b"FLV") or len(part) < flv_tags.TAG_HEADER + flv_tags.SIZE_BEHIND:
        return part
    size = len(part) - flv_tags.SIZE_BEHIND
    told = (size - flv_tags.TAG_HEADER).to_bytes(3, "big")
    return part[:1] + told + part[4:size] + size.to_bytes(4, "big")


def read_publisher(
    make_reader: Callable[[], StreamReader],
    make_copier: Callable[[], Copier],
    pieces: Sequence[bytes],
) -> Outcome:
    """Divide a stream into chunks for decoders, and rewrite these as fragments, as publishers' are."""
    reader, chunks_of = make_reader(), list[list[StreamChunk]]()
    try:
        for piece in pieces:
            chunks_of.append(reader.receive_data(piece))
    except MediaError as broken:
        # How much was told before it depends on where the pieces ended.
        error = error_text(broken)
        return Outcome(error, error)
    rewritten, error = _copied(make_copier, chunks_of)
    # Which one of several errors comes first may depend on what is looked at together.
    result = *joined(itertools.chain.from_iterable(chunks_of)), reader.signature, rewritten
    return Outcome(result, error)


def joined(chunks_of: Iterable[StreamChunk]) -> list[tuple[bool, bool, bool, bytes, object, int | None]]:
    """Join the chunks with which nothing begins: media may come in any number of those."""
    found, data, packets = list[tuple[bool, bool, bool, bytes, object, int | None]](), b"", list[Packet]()
    for one in chunks_of:
        if one.access or one.header or one.changes:
            found.append((False, False, False, data, packets, None))
            found.append((one.access, one.header, one.changes, one.data, list(one.packets), one.clock))
            data, packets = b"", []
        else:
            data, packets = data + one.data, [*packets, *one.packets]
    return [*found, (False, False, False, data, packets, None)]


def _copied(make: Callable[[], Copier], chunks_of: Iterable[Sequence[StreamChunk]]) -> tuple[object, str]:
    """Give the samples, which may come in any number of fragments, or the error.

    Behind a change another copier goes on, as another decoder would.
    """
    copier, found, told = make(), list[InitSegment | Fragment](), list[object]()
    try:
        for some in chunks_of:
            since = list[StreamChunk]()
            for chunk in some:
                if chunk.changes:
                    found += itertools.chain.from_iterable(copier.steps(since))
                    told.append(_samples_of(copier, found))
                    copier, found, since = make(), [], []
                since.append(chunk)
            found += itertools.chain.from_iterable(copier.steps(since))
    except MediaError as error:
        return None, error_text(error)
    return [*told, _samples_of(copier, found)], ""


def _samples_of(copier: Copier, found: Sequence[InitSegment | Fragment]) -> object:
    inits = [one for one in found if isinstance(one, InitSegment)]
    return inits, samples(found), copier.told_frame_rate


TARGETS: dict[str, Target] = {
    "rtmp": Target(
        seeds=rtmp_seeds,
        read=read_rtmp,
        follow=follow_rtmp,
        words=RTMP_WORDS,
        head=len(rtmp.HANDSHAKE),
    ),
    "flv": Target(
        seeds=flv_seeds,
        read=functools.partial(read_publisher, FlvReader, Copier),
        words=FLV_WORDS,
        mend=whole_tag,
    ),
}
