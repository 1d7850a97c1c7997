"""Publishers' streams, damaged ones too, and what muxers make of them."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from media.errors import MediaError
from media.flv import tags as flv_tags
from media.flv.demuxer import FlvDemuxer
from media.mp4.fragments.fragments import Fragment, InitSegment, write_fragment
from media.mp4.fragments.moof import Sample
from media.muxers.fragment_muxer import FragmentMuxer
from packager.sources.containers import Demuxer
from tests.media.flv.flv_tags import write_tag

EXECUTIONS = 300
"""Of hostile streams here; ``make fuzz`` runs as many as one likes."""


class FragmentRemuxer:
    """Demuxes a stream, FLV by default, and writes its packets as fragments."""

    def __init__(self, demuxer: Demuxer | None = None) -> None:
        self._demuxer, self._muxer = demuxer or FlvDemuxer(), FragmentMuxer()

    @property
    def told_frame_rate(self) -> Fraction | None:
        return self._muxer.told_frame_rate

    def receive_data(self, data: bytes) -> list[InitSegment | Fragment]:
        return self._muxer.push(self._demuxer.receive_data(data))

    def receive_tags(self, tags: Sequence[flv_tags.Tag]) -> list[InitSegment | Fragment]:
        assert isinstance(self._demuxer, FlvDemuxer)
        return self._muxer.push(self._demuxer.receive_tags(tags))


def remuxed(pieces: Iterable[bytes]) -> list[InitSegment | Fragment]:
    remuxer = FragmentRemuxer()
    return [event for piece in pieces for event in remuxer.receive_data(piece)]


def track(events: Iterable[InitSegment | Fragment], track_id: int, later: int = 0) -> bytes:
    """Return the fragmented MP4 of one track, whose times are later by some seconds."""
    found, ticks = b"", 0
    for event in events:
        if isinstance(event, InitSegment):
            if event.tracks[0].track_id == track_id:
                found, ticks = found + event.data, later * event.tracks[0].timescale
        elif event.track_id == track_id:
            found += write_fragment(
                sequence_number=event.sequence_number,
                track_id=track_id,
                base_media_decode_time=event.base_media_decode_time + ticks,
                samples=event.samples,
                data=event.data,
            )
    return found


def packets(path: Path, kind: str) -> list[tuple[int, int, bool, str]]:
    """List ffprobe's packets of the picture (v) or the sound (a): pts and dts in ms, key frames, contents."""
    words = f"-v error -select_streams {kind} -show_packets -show_data_hash md5 -of json {path}"
    told = subprocess.run(["ffprobe", *words.split()], check=True, capture_output=True).stdout
    return [
        (
            round(1000 * float(one["pts_time"])),
            round(1000 * float(one.get("dts_time", one["pts_time"]))),
            "K" in one["flags"],
            one["data_hash"],
        )
        for one in json.loads(told)["packets"]
    ]


def samples(events: Iterable[InitSegment | Fragment]) -> dict[int, list[tuple[int, Sample, bytes]]]:
    """List each track's samples, with their decode times and bytes."""
    found = dict[int, list[tuple[int, Sample, bytes]]]()
    for event in events:
        if isinstance(event, Fragment):
            time, place = event.base_media_decode_time, 0
            for sample in event.samples:
                data = bytes(event.data[place : place + sample.size])
                found.setdefault(event.track_id, []).append((time, sample, data))
                time, place = time + sample.duration, place + sample.size
    return found


def hostile(tags: list[bytes], chance: random.Random) -> bytes:
    """Write a stream with tags that are repeated, lost, swapped, damaged, and of other times and sizes."""
    stream = list(tags)
    for _ in range(chance.randrange(1, 8)):
        place = chance.randrange(len(stream))
        tag = bytearray(stream[place])
        match chance.randrange(6):
            case 0:
                stream.insert(chance.randrange(len(stream)), bytes(tag))
            case 1:
                del stream[place]
                stream = stream or [bytes(tag)]
            case 2:
                tag[4:8] = chance.randbytes(4)
                stream[place] = bytes(tag)
            case 3:
                tag[chance.randrange(min(len(tag), 40))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF))
                stream[place] = bytes(tag)
            case 4:
                body = bytes(tag[flv_tags.TAG_HEADER : -flv_tags.SIZE_BEHIND])[: chance.randrange(12)]
                stream[place] = write_tag(tag[0], int.from_bytes(tag[4:7], "big"), body)
            case _:
                tag[11 + chance.randrange(16) if len(tag) > 40 else 0] ^= 1 << chance.randrange(8)
                stream[place] = bytes(tag)
    return flv_tags.file_header() + b"".join(stream)


def tags_of(data: bytes) -> Iterator[bytes]:
    place = flv_tags.FILE_HEADER
    while place < len(data):
        size = flv_tags.TAG_HEADER + int.from_bytes(data[place + 1 : place + 4], "big") + flv_tags.SIZE_BEHIND
        yield data[place : place + size]
        place += size


def check_hostile(tags: list[bytes], executions: int, seed: int) -> int:
    """Rewrite so many hostile streams; return how many were refused."""
    chance, refused = random.Random(seed), 0
    for _ in range(executions):
        data = hostile(tags, chance)
        cut = chance.randrange(len(data))
        remuxer, ends, most = FragmentRemuxer(), dict[int, int](), len(data)
        try:
            for piece in (data[:cut], data[cut:]):
                for event in remuxer.receive_data(piece):
                    if isinstance(event, InitSegment):
                        ends.pop(event.tracks[0].track_id, None)
                        continue
                    # Whatever comes, decode times go on where the last ones ended, and bytes aren't made up.
                    begin = event.base_media_decode_time
                    assert ends.get(event.track_id, begin) == begin
                    assert all(sample.duration > 0 for sample in event.samples)
                    assert all(abs(sample.composition_offset) < 1 << 31 for sample in event.samples)
                    assert len(event.data) == sum(sample.size for sample in event.samples)
                    ends[event.track_id] = begin + sum(sample.duration for sample in event.samples)
                    most -= len(event.data)
                    assert most > 0
        except MediaError:
            refused += 1
    return refused
