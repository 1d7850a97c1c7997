"""media.ts.demuxer: what a publisher sent, picture by picture, and nothing worse than an error."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from media.errors import MalformedError, MediaError, UnsupportedError
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.fragments.fragments import Fragment, InitSegment
from media.ts.demuxer import TransportDemuxer
from media.ts.stream_reader import TransportReaderLimits
from media.ts.tables import PACKET
from media.ts.timestamps import CLOCK_WRAP
from tests.media.muxers.muxed_streams import FragmentRemuxer, packets, samples, track

PICTURE = "-c:v libx264 -preset fast -g 25 -pix_fmt yuv420p"
ENCODINGS = {
    "B-frames at 29.97 a second": f"-r 30000/1001 {PICTURE} -bf 3 -c:a aac -ar 44100",
    "HEVC and AC-3": "-c:v libx265 -x265-params log-level=none -preset ultrafast -g 25 -c:a ac3",
    "E-AC-3, over the wrap": f"{PICTURE} -c:a eac3 -muxdelay 0 -output_ts_offset {CLOCK_WRAP // 90_000 - 1}",
    "AAC in LATM": f"{PICTURE} -c:a aac -ar 48000 -mpegts_flags latm",
    "MP2": f"{PICTURE} -c:a mp2",
    "silent": f"{PICTURE} -an",
}
EXECUTIONS = 200
"""Of hostile streams here."""

Recorded = Callable[[str], Path]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Record two seconds of a stream."""
    folder, made = tmp_path_factory.mktemp("recorded"), dict[str, Path]()

    def record(encoding: str) -> Path:
        if encoding not in made:
            made[encoding] = folder / f"{len(made)}.ts"
            inputs = "-f lavfi -i testsrc2=size=64x48:rate=25 -f lavfi -i sine=440 -t 2"
            words = f"-nostdin -v error {inputs} {ENCODINGS[encoding]} {made[encoding]}"
            subprocess.run(["ffmpeg", *words.split()], check=True)
        return made[encoding]

    return record


def remuxed(pieces: Iterable[bytes]) -> list[InitSegment | Fragment]:
    remuxer = FragmentRemuxer(TransportDemuxer())
    return [event for piece in pieces for event in remuxer.receive_data(piece)]


def decoded(path: Path, kind: str) -> list[str]:
    """List the hashes of what ffmpeg decodes of the picture (v) or the sound (a)."""
    words = f"-nostdin -v error -i {path} -map 0:{kind} -f framemd5 -"
    told = subprocess.run(["ffmpeg", *words.split()], check=True, capture_output=True, text=True).stdout
    return [line.rpartition(",")[2].strip() for line in told.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("encoding", [one for one in ENCODINGS if one not in ("MP2", "silent")])
def test_pictures_and_sound_are_those_of_the_stream(
    recorded: Recorded, encoding: str, tmp_path: Path
) -> None:
    source, made = recorded(encoding), tmp_path / "made.mp4"
    events = remuxed([source.read_bytes()])
    entries = [one.tracks[0].sample_entries[0] for one in events if isinstance(one, InitSegment)]
    kinds = {"avc1", "hvc1", "mp4a", "ac-3", "ec-3"}
    assert {parse_sample_entry(entry).kind.decode() for entry in entries} <= kinds
    for track_id, kind in ((1, "v"), (2, "a")):
        made.write_bytes(track(events, track_id))
        sent, found = packets(source, kind), packets(made, kind)
        assert 40 < len(found) <= len(sent) - 2
        assert decoded(made, kind)[:40] == decoded(source, kind)[:40]
        late = found[0][0] - sent[0][0]
        for one, other in zip(sent, found, strict=False):
            assert abs(other[0] - one[0] - late) <= 1
            assert abs(other[1] - one[1] - late) <= 1
            assert one[2] == other[2]


def test_a_stream_may_come_in_any_pieces(recorded: Recorded) -> None:
    data = recorded("B-frames at 29.97 a second").read_bytes()
    whole, chance = samples(remuxed([data])), random.Random(1)
    cuts = sorted(chance.randrange(len(data)) for _ in range(100))
    pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    for cut in (pieces, [data[place : place + 100] for place in range(0, len(data), 100)]):
        assert samples(remuxed(cut)) == whole


def test_tables_that_come_late_and_sound_of_wild_times_give_the_same_in_any_pieces(
    recorded: Recorded,
) -> None:
    data = recorded("B-frames at 29.97 a second").read_bytes()
    every = [data[place : place + PACKET] for place in range(0, len(data), PACKET)]
    late = [*every[3:40], *every[:3], *every[40:]]
    # Two steps of three eighths of the clock's wrap, after which it is as if it had wrapped.
    starts = [at for at, one in enumerate(every) if one[1:3] == b"\x41\x01"]
    wild = list(every)
    for at, step in ((starts[1], 3), (starts[2], 6)):
        packet = bytearray(every[at])
        begin = packet.index(b"\0\0\1\xc0") + 9
        told = packet[begin] >> 1 & 7
        packet[begin] = (told + step) % 8 << 1 | packet[begin] & 0xF1
        wild[at] = bytes(packet)
    assert samples(remuxed([b"".join(late)])) == samples(remuxed(late))
    # Behind each step comes a picture of the former time.
    for pieces in ([b"".join(wild)], wild):
        with pytest.raises(MalformedError, match="audio times go back"):
            remuxed(pieces)


def test_a_stream_whose_sound_has_another_codec_is_left_to_others(recorded: Recorded) -> None:
    with pytest.raises(UnsupportedError, match="no audio of a supported codec"):
        remuxed([recorded("MP2").read_bytes()])


def test_a_stream_without_sound_has_its_pictures(recorded: Recorded) -> None:
    (found,) = samples(remuxed([recorded("silent").read_bytes()])).values()
    # Two seconds, of which the last picture isn't known to be whole.
    assert len(found) == 48


def test_lost_packets_are_left_out_and_what_comes_behind_them_goes_on(recorded: Recorded) -> None:
    data = recorded("B-frames at 29.97 a second").read_bytes()
    every = [data[place : place + PACKET] for place in range(0, len(data), PACKET)]
    whole, chance = samples(remuxed([data])), random.Random(2)
    for _ in range(20):
        # The tables are repeated, but not in these two seconds.
        kept = every[:20] + [one for one in every[20:] if chance.random() > 0.02]
        found = samples(remuxed([b"".join(kept)]))
        for one in (1, 2):
            assert len(whole[one]) - len(found[one]) < 20


def test_hostile_streams_are_an_error_or_none_within_bounds(recorded: Recorded) -> None:
    data = recorded("B-frames at 29.97 a second").read_bytes()
    chance = random.Random(3)
    for _ in range(EXECUTIONS):
        broken = bytearray(data[: 100 * PACKET])
        for _ in range(chance.choice([1, 10, 100])):
            place = chance.randrange(len(broken))
            # A transport stream's reader has seen to it that its packets are in step.
            broken[place] = broken[place] if place % PACKET == 0 else chance.randrange(256)
        remuxer, given = FragmentRemuxer(TransportDemuxer()), 0
        try:
            for place in range(0, len(broken), 1000):
                for event in remuxer.receive_data(bytes(broken[place : place + 1000])):
                    given += len(event.data)
        except MediaError:
            pass
        assert given <= 2 * len(broken)


def test_what_never_ends_is_bounded() -> None:
    empty = b"\x47\x1f\xff\x10" + bytes(PACKET - 4)
    demuxer = TransportDemuxer(TransportReaderLimits(searched_table_bytes=100 * PACKET))
    for _ in range(100):
        assert demuxer.receive_data(empty) == []
    with pytest.raises(MediaError, match="without a program map"):
        demuxer.receive_data(empty)
