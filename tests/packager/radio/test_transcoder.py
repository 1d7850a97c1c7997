"""Tracks that must be encoded again follow each other without a gap, whatever each of them is."""

import re
import subprocess
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from packager.process.ffmpeg_discovery import Tools
from tests.packager.radio.station_audio import audio, encoders, frames, play, station, tone

OTHERS = (
    ("-ac", "2", "-ar", "48000", "-b:a", "192k"),
    ("-ac", "1", "-ar", "22050", "-b:a", "32k"),
    ("-ac", "2", "-ar", "44100", "-q:a", "5"),
)


def silences(path: Path) -> list[float]:
    """Where ffmpeg finds silence of 5 ms or more: seconds."""
    words = ["-nostdin", "-i", str(path), "-af", "silencedetect=n=-35dB:d=0.005", "-f", "null", "-"]
    answer = subprocess.run(["ffmpeg", *words], check=True, capture_output=True, text=True)
    return [float(found) for found in re.findall(r"silence_start: (-?[\d.]+)", answer.stderr)]


async def test_between_encoded_tracks_there_is_no_gap_and_the_title_changes_in_the_right_frame(
    tmp_path: Path, tools: Tools
) -> None:
    for number, arguments in enumerate(OTHERS, 1):
        tone(tmp_path / "music" / f"{number}.mp3", *arguments, seconds=2.0, title=str(number))
    played = await play(station(tmp_path / "music", tools).blocks())
    saved = tmp_path / "all.mp3"
    saved.write_bytes(audio(played))
    # At both ends stands what encoders and decoders need to begin and to end.
    assert [at for at in silences(saved) if 0.1 < at < 5.9] == []
    counts = dict.fromkeys(("1", "2", "3"), 0)
    for block in played:
        counts[block.title.removeprefix("Maker - ")] += block.duration // 1152
    # 2 s are 76.6 frames of 1152 samples at 44.1 kHz; 1105 samples later, as LAME is; the last has the flush.
    assert counts["1"] == (2 * 44100 + 1105) // 1152
    assert counts["1"] + counts["2"] == pytest.approx((4 * 44100 + 1105) // 1152, abs=1)
    assert sum(counts.values()) == pytest.approx((6 * 44100 + 1105) / 1152, abs=2)


async def test_tracks_that_fit_and_others_take_turns_in_order(tmp_path: Path, tools: Tools) -> None:
    music = tmp_path / "music"
    tone(music / "1.mp3", seconds=0.5, title="1")
    tone(music / "2.mp3", *OTHERS[0], seconds=0.5, title="2")
    tone(music / "3.mp3", *OTHERS[1], seconds=0.5, title="3")
    tone(music / "4.mp3", seconds=0.5, title="4")
    tone(music / "5.mp3", *OTHERS[2], seconds=0.5, title="5")
    played = await play(station(music, tools).blocks())
    assert [block.title for block in played] == [f"Maker - {number}" for number in range(1, 6)]
    headers = {(one.header.sample_rate, one.header.bitrate) for one in frames(audio(played))}
    assert headers == {(44100, 128000)}


async def test_a_track_that_breaks_off_leaves_the_next_ones_whole(tmp_path: Path, tools: Tools) -> None:
    music = tmp_path / "music"
    tone(music / "1.mp3", *OTHERS[0], seconds=1.0, title="1")
    (music / "2.mp3").write_bytes(b"\xff\xfd\x90\x00" + bytes(3000))  # looks like Layer II, and is nothing
    tone(music / "3.mp3", *OTHERS[0], seconds=1.0, title="3")
    with capture_logs() as logs:
        played = await play(station(music, tools).blocks())
    assert [entry["event"] for entry in logs] == ["track skipped"]
    assert {block.title for block in played} == {"Maker - 1", "Maker - 3"}
    assert sum(block.duration for block in played) / 44100 == pytest.approx(2.0, abs=0.15)
    assert not encoders()
