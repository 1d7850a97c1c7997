"""Targets of the containers that publishers send as bytes: MPEG-TS, Matroska and fragmented MP4."""

from __future__ import annotations

import functools
import subprocess

from media.matroska.demuxer import MatroskaDemuxer
from media.matroska.stream_reader import MatroskaStreamReader
from media.mp4.fragments.demuxer import FragmentDemuxer
from media.mp4.fragments.stream_reader import FragmentedStreamReader
from media.ts.demuxer import TransportDemuxer
from media.ts.stream_reader import TransportReader
from media.ts.tables import PACKET
from packager.sources.copy_probe import Copier
from tests import hostile_matroska
from tests import hostile_media as hostile
from tests.fuzzing.fuzzer import Target
from tests.fuzzing.mutation import Parts
from tests.fuzzing.publishing import read_publisher

INPUTS = "-f lavfi -i testsrc2=size=16x16:rate=5 -f lavfi -i sine=440 -t 0.6 -pix_fmt yuv420p"
TRANSPORTS = (
    "-c:v libx264 -preset ultrafast -bsf:v filter_units=remove_types=6 -g 2 -c:a aac -ar 8000 -b:a 8k",
    "-c:v libx264 -preset fast -bsf:v filter_units=remove_types=6 -bf 2 -g 10 -c:a ac3 -ar 48000 -b:a 32k",
    "-c:v libx265 -preset ultrafast -x265-params log-level=none:info=0 -c:a eac3 -b:a 32k",
    "-vn -c:a aac -b:a 8k",
)


H264_AAC = "-c:v libx264 -preset ultrafast -bsf:v filter_units=remove_types=6 -g 2 -c:a aac -ar 8000 -b:a 8k"
MATROSKAS = (
    "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -g 2 -c:a libopus -b:a 8k",
    "-c:v libx264 -preset fast -bsf:v filter_units=remove_types=6 -bf 2 -g 10 -c:a flac",
    "-c:v libx265 -preset ultrafast -x265-params log-level=none:info=0:bframes=2 -c:a ac3 -ar 48000",
)


@functools.cache
def encoded(words: str, container: str) -> bytes:
    """Let ffmpeg make a tiny stream."""
    command = f"ffmpeg -nostdin -v error {INPUTS} {words} -bitexact -f {container} pipe:1"
    return subprocess.run(command.split(), check=True, stdout=subprocess.PIPE).stdout


def packets(data: bytes) -> list[bytes]:
    return [data[at : at + PACKET] for at in range(0, len(data), PACKET)]


def portions(data: bytes, size: int = 64) -> list[bytes]:
    """Divide what has no parts of its own."""
    return [data[at : at + size] for at in range(0, len(data), size)]


def matroska_seeds() -> list[Parts]:
    """Give what ffmpeg muxes, and what costs most."""
    made = [portions(encoded(words, "matroska")) for words in (H264_AAC, *MATROSKAS)]
    return [
        *made,
        *(
            portions(make(1200), 16)
            for make in (hostile_matroska.small_blocks, hostile_matroska.laced_blocks)
        ),
    ]


def ts_seeds() -> list[Parts]:
    """Give what ffmpeg muxes, and what costs most."""
    made = [packets(encoded(words, "mpegts"))[:16] for words in TRANSPORTS]
    costly = (hostile.start_codes, hostile.parameter_sets, hostile.program_maps, hostile.packets_out_of_step)
    return [*made, *(packets(make(1500))[:12] for make in costly)]


TS_WORDS = packets(hostile.null_packets(400))


def whole_packet(part: bytes) -> bytes:
    """Give a packet its length."""
    return part.ljust(PACKET, b"\xff")[:PACKET]


def boxes(data: bytes) -> list[bytes]:
    """Divide what ISO/IEC 14496-12 calls a file."""
    found, at = list[bytes](), 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at : at + size])
        at += size
    return found


def whole_box(part: bytes) -> bytes:
    """Let a box say how long it is."""
    return len(part).to_bytes(4, "big") + part[4:] if len(part) >= 8 else part


@functools.cache
def fragmented() -> list[bytes]:
    """Give a fragmented MP4 of H.264 and AAC."""
    return boxes(encoded(f"{H264_AAC} -movflags frag_keyframe+empty_moov+default_base_moof", "mp4"))


def fragmented_seeds() -> list[Parts]:
    """Give what ffmpeg muxes, with edit lists and negative offsets, too, and what costs most."""
    forms = ("delay_moov+frag_keyframe", "cmaf+delay_moov")
    made = [
        boxes(encoded(f"{words} -strict -2 -movflags {form}", "mp4")) for words in MATROSKAS for form in forms
    ]
    init = b"".join(fragmented()[:2])
    costly = (hostile.many_samples, hostile.samples_of_nothing, hostile.boxes_in_trafs)
    return [fragmented(), *made, *(boxes(make(init, 200)) for make in costly)]


TARGETS: dict[str, Target] = {
    "ts": Target(
        seeds=ts_seeds,
        read=functools.partial(read_publisher, TransportReader, lambda: Copier(TransportDemuxer())),
        words=TS_WORDS,
        mend=whole_packet,
    ),
    "matroska": Target(
        seeds=matroska_seeds,
        read=functools.partial(read_publisher, MatroskaStreamReader, lambda: Copier(MatroskaDemuxer())),
    ),
    "fragmented": Target(
        seeds=fragmented_seeds,
        read=functools.partial(read_publisher, FragmentedStreamReader, lambda: Copier(FragmentDemuxer())),
        mend=whole_box,
    ),
}
