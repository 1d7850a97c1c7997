"""Frames of silence, as ffmpeg decodes them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from media.mp4.codecs.audio_specific_config import write_audio_specific_config
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.codecs.silence import AAC_LC, silent_frame
from media.mp4.fragments.fragments import write_fragment
from media.mp4.fragments.moof import Sample
from media.muxers.fragment_tracks import sound_track

FRAMES = 50

OPUS = b"OpusHead\x01%c\x00\x00\x80\xbb\x00\x00\x00\x00\x00"
"""RFC 7845 §5.1: version, channels, pre-skip, 48 kHz, gain and mapping family."""


@pytest.mark.parametrize(
    ("codec", "configuration", "rate", "channels"),
    [
        *(
            (
                "A_AAC",
                write_audio_specific_config(AAC_LC, 44_100, number),
                44_100,
                (0, 1, 2, 3, 4, 5, 6, 8)[number],
            )
            for number in range(1, 8)
        ),
        ("A_OPUS", OPUS % 1, 48_000, 1),
        ("A_OPUS", OPUS % 2, 48_000, 2),
    ],
)
def test_ffmpeg_decodes_silence_without_an_error(
    tmp_path: Path, codec: str, configuration: bytes, rate: int, channels: int
) -> None:
    # Of Opus, the length of the first frame is in the sample entry: 20 ms (RFC 6716 §3.1).
    track = sound_track(codec, configuration, b"\xf8\xff\xfe", rate, channels)
    silence = silent_frame(parse_sample_entry(track.init.tracks[0].sample_entries[0]))
    assert silence is not None
    assert silence.rate == rate
    frame = Sample(silence.samples, len(silence.data), True, 0)
    made = tmp_path / "silence.mp4"
    body = write_fragment(
        sequence_number=1,
        track_id=track.track_id,
        base_media_decode_time=0,
        samples=[frame] * FRAMES,
        data=silence.data * FRAMES,
    )
    made.write_bytes(track.init.data + body)
    words = f"-nostdin -hide_banner -i {made} -af volumedetect -f null -"
    told = subprocess.run(["ffmpeg", *words.split()], check=True, capture_output=True, text=True).stderr
    assert not re.search(r"\berror\b|invalid", told, re.IGNORECASE)
    assert float(re.findall(r"mean_volume: (\S+) dB", told)[-1]) <= -91
    assert int(re.findall(r"n_samples: (\d+)", told)[-1]) == channels * silence.samples * FRAMES


def test_no_silence_is_known_of_error_resilient_aac() -> None:
    entry = sound_track("A_AAC", write_audio_specific_config(23, 48_000, 2), b"", 48_000, 2).init.tracks[0]
    assert silent_frame(parse_sample_entry(entry.sample_entries[0])) is None


@pytest.mark.parametrize("layout", ["mono", "stereo", "3.0", "3.0(back)", "4.0", "quad", "5.0", "5.1", "2.1"])
@pytest.mark.parametrize(("rate", "bits"), [(48_000, "448k"), (44_100, "192k"), (32_000, "96k")])
@pytest.mark.parametrize("codec", ["ac3", "eac3"])
def test_ffmpeg_decodes_silence_of_ac3_with_right_sums(
    tmp_path: Path, layout: str, rate: int, bits: str, codec: str
) -> None:
    tone = tmp_path / f"tone.{codec}"
    channels = f"aformat=channel_layouts={layout},aresample={rate}"
    words = f"-v error -y -f lavfi -i sine=440:r={rate}:d=0.2 -af {channels} -c:a {codec} -b:a {bits} {tone}"
    subprocess.run(["ffmpeg", *words.split()], check=True)
    track = sound_track(f"A_{codec.upper()}", b"", tone.read_bytes()[:4096], rate, 2)
    silence = silent_frame(parse_sample_entry(track.init.tracks[0].sample_entries[0]))
    assert silence is not None
    assert (silence.samples, silence.rate) == (1536, rate)
    # Behind the tone, too, as in a film; a frame of silence is as long as others at 48 and 32 kHz.
    made = tmp_path / f"silence.{codec}"
    made.write_bytes(tone.read_bytes() + silence.data * FRAMES)
    check = "-nostdin -hide_banner -xerror -err_detect crccheck+bitstream+buffer+explode"
    words = f"{check} -f {codec} -i {made} -af atrim=start=0.5,volumedetect -f null -"
    told = subprocess.run(["ffmpeg", *words.split()], check=True, capture_output=True, text=True).stderr
    assert not re.search(r"\berror\b|invalid|mismatch", told, re.IGNORECASE)
    assert float(re.findall(r"mean_volume: (\S+) dB", told)[-1]) <= -91
    assert f"{layout}" in told or layout == "3.0(back)"
