"""Streams made to cost their reader as much as possible, each of about as many bytes as asked for."""

from __future__ import annotations

import itertools
import struct

from media.mp4.boxes import box, full_box
from media.ogg.page import CONTINUED, FIRST, NO_POSITION, Page, paginate
from media.ts.tables import PACKET, ElementaryStream, ProgramMap, write_tables

FRAME = b"\xff\xfb\x90\xc4" + bytes(413)
"""A frame of Layer III: 44,100 Hz, 128 kbit/s."""

SMALLEST_FRAME = b"\xff\xf3\x14\xc4" + bytes(20)
"""One of 24 bytes: 24,000 Hz, 8 kbit/s."""

OPUS_HEAD = b"OpusHead" + struct.pack("<BBHIHB", 1, 2, 312, 48000, 0, 0)
OPUS_TAGS = b"OpusTags" + bytes(8)
VIDEO, AUDIO = 0x100, 0x101


def repeated(unit: bytes, size: int) -> bytes:
    return unit * max(size // len(unit), 1)


# MPEG audio


def adts_frames(size: int) -> bytes:
    """Frames of AAC of 8 bytes each."""
    return repeated(adts_frame(), size)


def adts_frame(size: int = 8) -> bytes:
    """Write a header of ADTS (44,100 Hz, two channels), and as many zeros as make up the size."""
    word = 0xFFF1 << 40 | 1 << 38 | 4 << 34 | 2 << 30 | size << 13 | 0x7FF << 2
    return word.to_bytes(7, "big") + bytes(size - 7)


def small_frames(size: int) -> bytes:
    return repeated(SMALLEST_FRAME, size)


def empty_id3(size: int) -> bytes:
    return repeated(b"ID3\x04\0\0\0\0\0\0", size)


def id3_of_empty_frames(size: int) -> bytes:
    """One tag of ID3v2.2 whose frames have nothing in them; behind a megabyte another one follows."""
    length = min(size, 1 << 20) - 10
    head = b"ID3\x02\0\0" + bytes(length >> shift & 0x7F for shift in (21, 14, 7, 0))
    return repeated(head + repeated(b"TXX\0\0\0", length).ljust(length, b"\0"), size)


def titles(size: int) -> bytes:
    """Tags that each have a title, and between them a frame."""
    title = b"TIT2\0\0\x0f\x7f\0\0\x03" + "\u0301".encode() * 999
    head = b"ID3\x04\0\0" + bytes(len(title) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return repeated(head + title + FRAME, size)


def false_sync_words(size: int) -> bytes:
    """Headers of frames behind each of which no other one stands; in time a frame that is one."""
    false = b"\xff\xfb\x90\xc4" * 15_000
    return repeated(false + b"\0" + FRAME * 4, size)


def sync_bytes(size: int) -> bytes:
    return repeated(b"\xff" * 60_000 + b"\0" + FRAME * 4, size)


# Ogg


def _opus() -> bytes:
    pages = [*paginate([OPUS_HEAD], 7, 0, FIRST), *paginate([OPUS_TAGS], 7, 1)]
    return b"".join(page.serialize() for page in pages)


def false_pages(size: int) -> bytes:
    """Beginnings of pages, 27 bytes apart, that each want a page of tens of thousands of bytes."""
    # The lacing values are what stands behind: mostly 0xff.
    false = b"OggS\0" + b"\xff" * 22
    return _opus() + repeated(false * 2400 + _opus(), size)


def tiny_pages(size: int) -> bytes:
    pages = (Page(0, 960 * n, 7, n + 2, b"\0", b"") for n in range(max(size // 28, 1)))
    return _opus() + b"".join(page.serialize() for page in pages)


def tiny_links(size: int) -> bytes:
    return repeated(_opus(), size)


def header_of_many_pages(size: int) -> bytes:
    """A comment of Opus whose every page has one segment, and never ends."""
    parts = [page.serialize() for page in paginate([OPUS_HEAD], 7, 0, FIRST)]
    for number in range(max(size // 283, 1)):
        flags = CONTINUED if number else 0
        parts.append(Page(flags, NO_POSITION, 7, number + 1, b"\xff", OPUS_TAGS.ljust(255)).serialize())
    return b"".join(parts)


def many_comments(size: int) -> bytes:
    """Tags of Opus with as many empty comments as there is room for."""
    count = min(max(size // 4, 1), (4 << 20) // 4 - 100)
    tags = b"OpusTags" + bytes(4) + struct.pack("<I", count) + bytes(4 * count)
    pages = [*paginate([OPUS_HEAD], 7, 0, FIRST), *paginate([tags], 7, 1)]
    return b"".join(page.serialize() for page in pages)


# MPEG-TS


def _packet(pid: int, payload: bytes, *, starts: bool = False, access: bool = False) -> bytes:
    head = struct.pack(">BHB", 0x47, (0x4000 if starts else 0) | pid, 0x30)
    field = bytes((1, 0x40 if access else 0))
    return (head + field + payload).ljust(PACKET, b"\xff")[:PACKET]


def _tables(*streams: ElementaryStream) -> bytes:
    return write_tables(ProgramMap(VIDEO, streams or (ElementaryStream(0x1B, VIDEO),)), 0x20)


def start_codes(size: int) -> bytes:
    """An access unit of start codes that is never decided about, and packets of another stream."""
    unit = [
        _packet(VIDEO, b"\0\0\1\x09" * 46, starts=number == 0, access=number == 0) for number in range(22)
    ]
    return _tables() + b"".join(unit) + repeated(_packet(AUDIO, bytes(180)), size)


def parameter_sets(size: int) -> bytes:
    """Access units of nothing but sequence parameter sets, each of them another one."""
    numbers = itertools.count()
    sets = (b"\0\0\1\x67" + struct.pack(">H", 0x0101 + next(numbers) % 0xF000) for _ in itertools.count())
    units = []
    for at in range(max(size // PACKET, 1)):
        payload = b"".join(itertools.islice(sets, 30))
        units.append(_packet(VIDEO, payload, starts=at % 23 == 0, access=at % 23 == 0))
    return _tables() + b"".join(units)


def program_maps(size: int) -> bytes:
    """Tables that say each time something else."""
    two = []
    for first in (0x0F, 0x03):
        streams = [ElementaryStream(0x1B, VIDEO), *(ElementaryStream(first, 0x200 + n) for n in range(30))]
        two.append(_tables(*streams))
    return repeated(b"".join(two), size)


def null_packets(size: int) -> bytes:
    return _tables() + repeated(_packet(0x1FFF, b""), size)


def packets_out_of_step(size: int) -> bytes:
    """A byte too many behind each packet."""
    return _tables() + repeated(_packet(AUDIO, bytes(180)) + b"\0", size)


def associations(size: int) -> bytes:
    return repeated(_tables()[:PACKET], size)


# FLV


def flv_tag(kind: int, body: bytes, time: int = 0) -> bytes:
    size = len(body).to_bytes(3, "big")
    stamp = (time & 0xFFFFFF).to_bytes(3, "big") + bytes((time >> 24 & 0xFF,))
    return bytes((kind,)) + size + stamp + bytes(3) + body + (len(body) + 11).to_bytes(4, "big")


FLV_HEAD = b"FLV\1\5\0\0\0\x09" + bytes(4)


def empty_tags(size: int) -> bytes:
    return FLV_HEAD + repeated(flv_tag(8, b""), size)


def changing_headers(size: int) -> bytes:
    two = flv_tag(9, b"\x17\0\0\0\0\1") + flv_tag(9, b"\x17\0\0\0\0\2")
    return FLV_HEAD + repeated(two, size)


def one_huge_tag(size: int) -> bytes:
    return FLV_HEAD + repeated(flv_tag(9, b"\x17\1" + bytes((8 << 20) - 2)), size)


# Movie fragments


def moof(count: int, size: int) -> bytes:
    """A fragment of so many samples of so many bytes, told by defaults: a box of a hundred bytes."""

    def at(offset: int) -> bytes:
        traf = box(
            b"traf",
            full_box(b"tfhd", 0, 0x02_0038, struct.pack(">IIII", 1, 1 << 20, size, 0x0200_0000)),
            full_box(b"tfdt", 1, 0, bytes(8)),
            full_box(b"trun", 0, 1, struct.pack(">Ii", count, offset)),
        )
        return box(b"moof", full_box(b"mfhd", 0, 0, bytes(4)), traf)

    return at(len(at(0)) + 8)


def many_samples(init: bytes, size: int, count: int = 1 << 16) -> bytes:
    """Fragments of so many samples of a byte, each a tenth of a second and more."""
    return init + repeated(moof(count, 1) + box(b"mdat", bytes(count)), size)


def as_many_samples_as_may_be(init: bytes, size: int) -> bytes:
    return many_samples(init, size, 1 << 13)


def samples_of_nothing(init: bytes, size: int) -> bytes:
    """Fragments of as many samples as may be, of which none has a byte."""
    return init + repeated(moof(1 << 13, 0) + box(b"mdat"), size)


def empty_boxes(init: bytes, size: int) -> bytes:
    return init + repeated(box(b"free"), size)


def boxes_in_moofs(init: bytes, size: int) -> bytes:
    one = box(b"moof", full_box(b"mfhd", 0, 0, bytes(4)), *[box(b"free")] * 4000)
    return init + repeated(one + box(b"mdat"), size)


def boxes_in_trafs(init: bytes, size: int) -> bytes:
    traf = box(
        b"traf",
        full_box(b"tfhd", 0, 0x02_0000, struct.pack(">I", 1)),
        *[box(b"free")] * 4000,
    )
    return init + repeated(box(b"moof", *[traf] * 30) + box(b"mdat"), size)


def one_large_sample(init: bytes, size: int) -> bytes:
    return one_huge_sample(init, size, 15 << 20)


def one_huge_sample(init: bytes, size: int, length: int = 31 << 20) -> bytes:
    return init + repeated(moof(1, length) + box(b"mdat", bytes(length)), size)


# RTSP


def many_messages(size: int) -> bytes:
    return repeated(b"RTSP/1.0 200 O\r\n\r\n", size)


def messages_of_many_fields(size: int) -> bytes:
    return repeated(b"RTSP/1.0 200 O\r\n" + b"a:\n" * 5000 + b"\r\n", size)


def empty_frames(size: int) -> bytes:
    return repeated(b"$\0\0\0", size)


# Texts

PLAYLIST_HEAD = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n"


def many_segments(size: int) -> bytes:
    return PLAYLIST_HEAD + repeated(b"#EXTINF:1,\na\n", size)


def different_segments(size: int) -> bytes:
    lines = (b"#EXTINF:%d.%07d,\n%d\n" % (n % 6, n, n) for n in range(max(size // 26, 1)))
    return PLAYLIST_HEAD + b"".join(lines)


def empty_lines(size: int) -> bytes:
    return PLAYLIST_HEAD + repeated(b"\n", size)


def many_keys(size: int) -> bytes:
    keys = (b'#EXT-X-KEY:METHOD=SAMPLE-AES,KEYFORMAT="%d"\n' % n for n in range(max(size // 90, 1)))
    return PLAYLIST_HEAD + b"".join(keys) + repeated(b"#EXTINF:1,\na\n", size // 2)


def many_attributes(size: int) -> bytes:
    line = b"#EXT-X-MAP:" + b"A=," * 5000 + b'URI="a"\n'
    return PLAYLIST_HEAD + repeated(line, size)


def variants_without_addresses(size: int) -> bytes:
    media = b"".join(b'#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="%d",URI="a"\n' % n for n in range(60))
    return b"#EXTM3U\n" + media + repeated(b"#EXT-X-STREAM-INF:BANDWIDTH=1\n", size) + b"a\n"


def many_cues(size: int) -> bytes:
    return b"WEBVTT\n\n" + repeated(b"00:00.000 --> 59:00.000\na\n\n", size)


def many_backward_cues(size: int) -> bytes:
    count = max(size // 30, 1)
    cues = (b"%05d:00:00.000 --> 99999:00:00.000\na\n\n" % (count - n) for n in range(count))
    return b"WEBVTT\n\n" + b"".join(cues)


def caption_lines(size: int) -> bytes:
    return b"WEBVTT\n\n" + repeated(b"\n", size)


def titles_between_bytes(size: int) -> bytes:
    """ICY with a byte of sound between two titles."""
    return repeated(b"\0\1StreamTitle='a';\0\1StreamTitle='b';", size)


# RTMP


def rtmp_messages_of_nothing(size: int) -> bytes:
    """Messages of a byte each, of a publisher who was let in."""
    return _rtmp_messages(b"", size)


def rtmp_frames_of_nothing(size: int) -> bytes:
    """Video messages of Enhanced RTMP without a frame in them."""
    return _rtmp_messages(b"\x93hvc1", size)


def rtmp_tracks_of_nothing(size: int) -> bytes:
    """Video messages that each have thirty tracks without a frame in them."""
    return _rtmp_messages(b"\x96\x13hvc1" + bytes(4) * 30, size)


def rtmp_messages_of_no_kind(size: int) -> bytes:
    """Messages of a byte each of a kind that nobody knows."""
    return b"\6\0\0\0\0\0\1\x63\1\0\0\0a" + repeated(b"\xc6a", size)


def rtmp_chunks_of_a_byte(size: int) -> bytes:
    """Two messages whose chunks of a byte each are interleaved."""
    sizes = b"\2\0\0\0\0\0\4\1\0\0\0\0" + (1).to_bytes(4, "big")
    begins = [bytes((number,)) + b"\0\0\0\x0f\xff\xff\x09\1\0\0\0\x17" for number in (5, 6)]
    return sizes + b"".join(begins) + repeated(b"\xc5a\xc6b", size)


def _rtmp_messages(body: bytes, size: int) -> bytes:
    head = b"\6\0\0\0" + len(body).to_bytes(3, "big") + b"\x09\1\0\0\0"
    return head + body + repeated(b"\xc6" + body, size)
