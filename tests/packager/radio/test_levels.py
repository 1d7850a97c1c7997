"""Tracks of a station are equally loud, and fade into each other, where that is asked for."""

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packager.process.ffmpeg_discovery import Tools
from packager.radio.crossfade import Crossfader
from packager.radio.folder_station import Station, StationOptions
from packager.radio.loudness import LARGEST_GAIN, Loudness, gain_to, measure
from tests.packager.radio.station_audio import FITTING, audio, packets, play
from tests.patience import STATION

SECONDS = 6


def tune(path: Path, frequency: int, volume: int, title: str) -> Path:
    """Make a tone at a volume in decibels."""
    path.parent.mkdir(exist_ok=True)
    source = ["-f", "lavfi", "-i", f"sine=frequency={frequency}:duration={SECONDS}"]
    words = ["-af", f"volume={volume}dB", *FITTING, "-metadata", f"title={title}"]
    subprocess.run(["ffmpeg", "-v", "error", *source, *words, str(path)], check=True)
    return path


def integrated(path: Path, start: float, seconds: float) -> float:
    """Loudness of a part, in LUFS, as ffmpeg's meter sums it up."""
    words = ["-ss", str(start), "-t", str(seconds), "-i", str(path), "-af", "ebur128", "-f", "null", "-"]
    answer = subprocess.run(["ffmpeg", "-nostdin", *words], check=True, capture_output=True, text=True)
    return float(re.findall(r"I: +(-?[\d.]+) LUFS", answer.stderr)[-1])


def spectrum(path: Path, start: float, seconds: float, *frequencies: int) -> list[float]:
    """Share of each frequency in a part's power."""
    words = ["-ss", str(start), "-t", str(seconds), "-i", str(path), "-ac", "1", "-ar", "8000", "-f", "s16le"]
    answer = subprocess.run(["ffmpeg", "-v", "error", *words, "-"], check=True, capture_output=True)
    power = np.abs(np.fft.rfft(np.frombuffer(answer.stdout, "<i2").astype(float) * 1.0)) ** 2
    width = 8000 / 2 / (len(power) - 1)
    bands = [power[int((f - 40) / width) : int((f + 40) / width)].sum() for f in frequencies]
    return [float(band / power.sum()) for band in bands]


def station(folder: Path, tools: Tools, *, loudness: float | None = None, crossfade: float = 0.0) -> Station:
    options = StationOptions(
        "test", folder, loop=False, prefill=3600.0, loudness=loudness, crossfade=crossfade, limits=STATION
    )
    return Station(options, tools)


async def test_a_quiet_and_a_loud_track_are_heard_equally_loud(tmp_path: Path, tools: Tools) -> None:
    tune(tmp_path / "music" / "1.mp3", 400, -14, "quiet")
    tune(tmp_path / "music" / "2.mp3", 400, +12, "loud")
    played = await play(station(tmp_path / "music", tools, loudness=-18).blocks())
    saved = tmp_path / "all.mp3"
    saved.write_bytes(audio(played))
    quiet, loud = integrated(saved, 0.5, SECONDS - 1), integrated(saved, SECONDS + 0.5, SECONDS - 1)
    assert quiet == pytest.approx(-18, abs=1)
    assert loud == pytest.approx(-18, abs=1)


async def test_a_track_that_is_as_loud_already_goes_out_as_it_is(tmp_path: Path, tools: Tools) -> None:
    path = tune(tmp_path / "music" / "1.mp3", 400, 0, "right")
    level = integrated(path, 0, SECONDS)
    played = await play(station(tmp_path / "music", tools, loudness=level).blocks())
    saved = tmp_path / "all.mp3"
    saved.write_bytes(audio(played))
    assert packets(saved) == packets(path)


async def test_the_measured_loudness_is_what_ffmpeg_sums_up_and_measured_once(
    tmp_path: Path, tools: Tools
) -> None:
    path = tune(tmp_path / "1.mp3", 1000, -6, "tone")
    level = integrated(path, 0, SECONDS)
    assert await measure(path, tools) == pytest.approx(level, abs=0.1)
    program = tmp_path / "ffmpeg"
    program.symlink_to(tools.ffmpeg)
    loudness = Loudness(-16.0, dataclasses.replace(tools, ffmpeg=program), STATION)
    await loudness.expect(path)
    gain = await loudness.gain(path)
    assert gain == pytest.approx(-16 - level, abs=0.1)
    # No second measurement: there is no ffmpeg that could.
    program.unlink()
    assert await loudness.gain(path) == gain


async def test_silence_and_what_cant_be_measured_stay_as_they_are(tmp_path: Path, tools: Tools) -> None:
    silent = tune(tmp_path / "silent.mp3", 1000, -120, "silence")
    broken = tmp_path / "broken.mp3"
    broken.write_bytes(bytes(5000))
    loudness = Loudness(-16.0, tools, STATION)
    assert [await loudness.gain(path) for path in (silent, broken, tmp_path / "gone.mp3")] == [0.0] * 3


@pytest.mark.parametrize(
    ("measured", "gain"),
    [(-16.0, 0.0), (-16.4, 0.0), (-20.0, 4.0), (-8.0, -8.0), (-60.0, LARGEST_GAIN), (-70.0, 0.0)],
)
def test_the_gain_is_what_is_lacking_within_reason(measured: float, gain: float) -> None:
    assert gain_to(-16.0, measured) == gain


async def test_in_a_crossfade_both_tracks_are_heard(tmp_path: Path, tools: Tools) -> None:
    tune(tmp_path / "music" / "1.mp3", 500, 0, "low")
    tune(tmp_path / "music" / "2.mp3", 2000, 0, "high")
    played = await play(station(tmp_path / "music", tools, crossfade=2.0).blocks())
    assert sum(block.duration for block in played) / 44100 == pytest.approx(2 * SECONDS - 2, abs=0.2)
    saved = tmp_path / "all.mp3"
    saved.write_bytes(audio(played))
    assert spectrum(saved, 1, 2, 500, 2000) == pytest.approx([1, 0], abs=0.02)
    assert spectrum(saved, SECONDS - 1.4, 0.8, 500, 2000) == pytest.approx([0.5, 0.5], abs=0.15)
    assert spectrum(saved, SECONDS + 1, 2, 500, 2000) == pytest.approx([0, 1], abs=0.02)
    # The next title is told from where its track begins to be heard.
    low = sum(block.duration for block in played if block.title == "low") / 44100
    assert low == pytest.approx(SECONDS - 2, abs=0.1)


def faded(tracks: list[bytes], length: int, cut: int) -> bytes:
    fader, out = Crossfader(length, 1), b""
    for track in tracks:
        out += fader.begin()
        for start in range(0, len(track), 4 * cut):
            out += fader.feed(track[start : start + 4 * cut])
    return out + fader.end()


TRACKS = st.lists(
    st.lists(st.floats(-1, 1, width=32), max_size=40).map(lambda s: np.array(s, "<f4").tobytes()), max_size=4
)


@settings(deadline=None)
@given(TRACKS, st.integers(0, 10), st.integers(1, 50))
def test_however_samples_are_cut_the_same_stream_comes_out(
    tracks: list[bytes], length: int, cut: int
) -> None:
    whole = faded(tracks, length, 1000)
    assert faded(tracks, length, cut) == whole
    samples = [len(track) // 4 for track in tracks]
    assert sum(samples) - length * max(len(samples) - 1, 0) <= len(whole) // 4 <= sum(samples)


@settings(deadline=None)
@given(TRACKS)
def test_without_a_crossfade_every_sample_stays_what_it_is(tracks: list[bytes]) -> None:
    assert faded(tracks, 0, 7) == b"".join(tracks)


def test_the_fades_are_of_equal_power() -> None:
    ones = np.full(1000, 0.5, "<f4").tobytes()
    silence = bytes(4000)
    out = np.frombuffer(faded([ones, silence], 1000, 100), "<f4")
    into = np.frombuffer(faded([silence, ones], 1000, 100), "<f4")
    assert len(out) == len(into) == 1000
    assert np.allclose(out**2 + into**2, 0.25, rtol=0.001)
