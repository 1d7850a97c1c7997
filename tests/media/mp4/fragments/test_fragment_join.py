"""Picture and sound that come as streams of their own, joined: what ffprobe reads of both is the same."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from media.errors import MalformedError, UnsupportedError
from media.mp4.fragments import moof
from media.mp4.fragments.fragment_join import FragmentJoiner, JoinLimits
from media.stream_reader import CLOCK_RATE, StreamChunk
from tests.media.mp4.fragments.joined_packets import essence, packets

SECONDS, RATE = 4, 25
FRAGMENTED = "-movflags +frag_keyframe+empty_moov+default_base_moof -frag_duration 2000000 -f mp4"


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A film's picture with B-frames, its sound, and both in one; in fragments of two seconds."""
    folder = tmp_path_factory.mktemp("join")
    inputs = f"-f lavfi -i testsrc2=size=160x120:rate={RATE} -f lavfi -i sine=sample_rate=48000 -t {SECONDS}"
    coding = f"-c:v libx264 -preset ultrafast -bf 2 -g {RATE} -sc_threshold 0 -pix_fmt yuv420p -c:a aac"
    outputs = {"picture": "-map 0:v", "sound": "-map 1:a", "both": "-map 0:v -map 1:a"}
    for name, which in outputs.items():
        words = f"-v error {inputs} {which} {coding} {FRAGMENTED} {folder}/{name}.mp4"
        subprocess.run(["ffmpeg", *words.split()], check=True)
    return {name: (folder / f"{name}.mp4").read_bytes() for name in outputs}


def join(*streams: bytes, step: int = 4096) -> list[StreamChunk]:
    """Take them in turns, a step of each."""
    joiner, found = FragmentJoiner(len(streams), JoinLimits()), list[StreamChunk]()
    for start in range(0, max(map(len, streams)), step):
        for index, data in enumerate(streams):
            if start < len(data):
                found += joiner.receive_data(index, data[start : start + step])
    return [*found, *joiner.receive_eof()]


@pytest.mark.parametrize("names", [("picture", "sound"), ("sound", "picture"), ("both",)])
def test_joined_streams_have_the_same_packets_at_the_same_times(
    streams: dict[str, bytes], names: tuple[str, ...], tmp_path: Path
) -> None:
    found = join(*(streams[name] for name in names))
    ours = packets(b"".join(piece.data for piece in found), tmp_path / "ours.mp4")
    for kind, name in (("video", "picture"), ("audio", "sound")):
        source = packets(streams[name if len(names) > 1 else "both"], tmp_path / "source.mp4")
        assert essence(ours[kind]) == essence(source[kind])
    positions = sorted((int(one["pos"]), float(one["dts_time"])) for kind in ours.values() for one in kind)
    latest = [time for _, time in positions]
    # Whoever reads it at real time has both in time.
    assert all(time > max(latest[: index + 1]) - 0.25 for index, time in enumerate(latest))


def test_pieces_begin_where_decoding_can_and_say_their_time(streams: dict[str, bytes]) -> None:
    found = join(streams["picture"], streams["sound"])
    assert [piece.header for piece in found[:2]] == [True, False]
    keys = [piece.clock / CLOCK_RATE for piece in found if piece.access and piece.clock is not None]
    assert keys == pytest.approx([keys[0] + second for second in range(SECONDS)])
    clocks = [piece.clock for piece in found if piece.clock is not None]
    assert clocks == sorted(clocks)


def test_the_same_init_segment_again_changes_nothing_and_another_one_does(streams: dict[str, bytes]) -> None:
    joiner = FragmentJoiner(1, JoinLimits())
    list(joiner.receive_data(0, streams["picture"]))
    before = joiner.signature
    assert not any(piece.changes for piece in joiner.receive_data(0, streams["picture"]))
    assert joiner.signature == before
    assert next(piece.changes for piece in joiner.receive_data(0, streams["sound"]))
    assert joiner.signature != before


def test_what_is_no_stream_of_fragments_is_refused(streams: dict[str, bytes]) -> None:
    with pytest.raises((MalformedError, UnsupportedError)):
        list(FragmentJoiner(1, JoinLimits()).receive_data(0, bytes(100)))
    begin = streams["picture"].index(b"moof") - 4
    moof = streams["picture"][begin : begin + int.from_bytes(streams["picture"][begin : begin + 4], "big")]
    with pytest.raises(MalformedError):  # the samples of the first one are nowhere
        list(FragmentJoiner(1, JoinLimits()).receive_data(0, streams["picture"][:begin] + moof + moof))


@pytest.mark.parametrize(
    ("count", "limits", "reason"),
    [
        (2, JoinLimits(held_bytes=10_000), "aren't of the same time"),
        (1, JoinLimits(sample_bytes=100), "more than 100"),
    ],
)
def test_what_is_more_than_the_limits_allow_is_refused(
    streams: dict[str, bytes], count: int, limits: JoinLimits, reason: str
) -> None:
    joiner = FragmentJoiner(count, limits)
    with pytest.raises(UnsupportedError, match=reason):
        list(joiner.receive_data(0, streams["picture"]))


@pytest.mark.parametrize("limits", [JoinLimits(run_seconds=0.01), JoinLimits(run_bytes=1)])
def test_what_stays_together_is_as_long_as_the_limits_allow(
    streams: dict[str, bytes], limits: JoinLimits
) -> None:
    """Of no length, and of no bytes, each sample is a piece of its own."""
    pieces = [piece for piece in FragmentJoiner(1, limits).receive_data(0, streams["picture"]) if piece.clock]
    times = [piece.clock for piece in pieces]
    assert len(set(times)) == len(times) > 20 * SECONDS


def test_of_many_fragments_that_come_at_once_only_the_next_is_cut(
    streams: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have a turn behind each piece: what the stream has behind it isn't looked at before."""
    read: list[int] = []
    real = moof.parse_moof

    def parsing(data: bytes, *more: Any) -> Any:
        read.append(len(data))
        return real(data, *more)

    monkeypatch.setattr("media.mp4.fragments.fragments.parse_moof", parsing)
    pieces = FragmentJoiner(1, JoinLimits()).receive_data(0, streams["picture"] * 3)
    assert next(pieces).header
    counts = []
    for _ in pieces:
        counts.append(len(read))
        read.clear()
    assert max(counts) == 1
    assert sum(counts) > 10
