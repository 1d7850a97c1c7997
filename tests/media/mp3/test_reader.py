import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, NeedMoreDataError, UnsupportedError
from media.mp3.frame import parse_frame_header
from media.mp3.id3 import Tags
from media.mp3.reader import GARBAGE_BYTES, TAG_BYTES, Event, Frame, MpegAudioReader
from media.mp3.xing import InfoFrame
from tests.reading import events_of, outcome_of

ZOO = Path(__file__).parents[4] / "shared" / "zoo" / "files"


def read(*chunks: bytes) -> list[Event]:
    return list(events_of(MpegAudioReader(), *chunks))


def outcome(*chunks: bytes) -> tuple[list[Event], type[MediaError] | None]:
    return outcome_of(MpegAudioReader(), *chunks)


def frames(events: list[Event]) -> list[Frame]:
    return [event for event in events if isinstance(event, Frame)]


def make(path: Path, *arguments: str, seconds: float = 2.0, source: str = "sine=frequency=330") -> Path:
    command = ["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", f"{source}:duration={seconds}"]
    subprocess.run([*command, *arguments, str(path)], check=True)
    return path


def packet_sizes(path: Path) -> list[int]:
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "a",
        "-show_entries",
        "packet=size",
        "-of",
        "csv=p=0",
    ]
    answer = subprocess.run([*command, str(path)], check=True, capture_output=True, text=True).stdout
    return [int(line.strip(",")) for line in answer.split()]


MODES = {
    "cbr": ("-ac", "2", "-ar", "44100", "-b:a", "128k"),
    "vbr": ("-ac", "2", "-ar", "44100", "-q:a", "4"),
    "mono": ("-ac", "1", "-ar", "48000", "-b:a", "64k"),
    "mpeg2": ("-ac", "2", "-ar", "22050", "-b:a", "56k"),
    "mpeg2 mono vbr": ("-ac", "1", "-ar", "24000", "-q:a", "6"),
    "abr": ("-ac", "2", "-ar", "44100", "-abr", "1", "-b:a", "112k"),
    "mpeg2.5 stereo": ("-ac", "2", "-ar", "11025", "-b:a", "32k"),
    "mpeg2.5": ("-ac", "1", "-ar", "8000", "-b:a", "16k"),
    "without info frame": ("-ac", "2", "-ar", "32000", "-b:a", "320k", "-write_xing", "0"),
    "id3v2.3 and id3v1": (
        "-ac",
        "2",
        "-ar",
        "44100",
        "-b:a",
        "128k",
        "-id3v2_version",
        "3",
        "-write_id3v1",
        "1",
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_frames_are_the_packets_that_ffprobe_finds(mode: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp3", *MODES[mode], "-metadata", "title=Tone", "-metadata", "artist=Maker")
    events = read(path.read_bytes())
    assert [len(frame.data) for frame in frames(events)] == packet_sizes(path)
    assert Tags("Tone", "Maker") in events


@pytest.mark.parametrize("mode", ["cbr", "vbr", "mpeg2.5"])
def test_garbage_between_frames_changes_nothing_for_us_or_for_ffprobe(mode: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp3", *MODES[mode], "-write_xing", "0", "-id3v2_version", "0")
    whole = [frame.data for frame in frames(read(path.read_bytes()))]
    garbage = bytes(range(1, 128)) * 3
    spoilt = tmp_path / "b.mp3"
    spoilt.write_bytes(b"".join(data + garbage * (number % 20 == 19) for number, data in enumerate(whole)))
    assert [frame.data for frame in frames(read(spoilt.read_bytes()))] == whole
    # Its parser gives garbage with the frame before or behind it; it finds as many frames.
    assert len(packet_sizes(spoilt)) == pytest.approx(len(whole), abs=len(whole) // 20 + 1)


@pytest.mark.parametrize("mode", ["cbr", "mpeg2", "mono"])
def test_frame_headers_say_what_ffmpeg_was_asked_for(mode: str, tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp3", *MODES[mode])
    channels, rate, bitrate = MODES[mode][1::2]
    for frame in frames(read(path.read_bytes())):
        header = frame.header
        assert (header.channels, header.sample_rate) == (int(channels), int(rate))
        assert header.bitrate == 1000 * int(bitrate.rstrip("k"))
        assert header.samples == (576 if mode == "mpeg2" else 1152)  # ISO/IEC 13818-3 §2.4.2.3 halves it


def test_adts_frames_are_the_packets_that_ffprobe_finds(tmp_path: Path) -> None:
    path = make(tmp_path / "a.aac", "-ac", "2", "-ar", "48000", "-c:a", "aac", "-b:a", "96k", "-f", "adts")
    found = frames(read(path.read_bytes()))
    assert [len(frame.data) for frame in found] == packet_sizes(path)
    assert {frame.header.codec for frame in found} == {"aac"}
    assert {(frame.header.sample_rate, frame.header.samples) for frame in found} == {(48000, 1024)}


@pytest.mark.parametrize("path", sorted([*ZOO.glob("*.mp3"), *ZOO.glob("*.aac")]), ids=lambda path: path.name)
def test_files_of_other_makers_have_the_packets_that_ffprobe_finds(path: Path) -> None:
    expected = packet_sizes(path)
    found = [len(frame.data) for frame in frames(read(path.read_bytes()))]
    # ffprobe gives what is left of a last frame that the file's end cuts; a station never sends half a frame.
    assert found in (expected, expected[:-1])


def test_the_info_frame_tells_bitrate_mode_frames_and_delay_and_is_left_out(tmp_path: Path) -> None:
    variable = read(make(tmp_path / "v.mp3", *MODES["vbr"]).read_bytes())
    constant = read(make(tmp_path / "c.mp3", *MODES["cbr"]).read_bytes())
    for events, mode in ((variable, True), (constant, False)):
        (info,) = (event for event in events if isinstance(event, InfoFrame))
        assert (info.variable, info.frames) == (mode, len(frames(events)))
        # LAME puts 576 samples before; with those behind, whole frames of 1152 samples for 2 s of 44.1 kHz.
        assert (info.delay, info.padding) == (576, info.frames * 1152 - 576 - 88200)
    for events in (variable, constant):
        assert not any(b"Xing" in frame.data or b"Info" in frame.data for frame in frames(events))


# MPEG-1 Layer III, 128 kbit/s, 44.1 kHz, stereo: 144 · 128000 / 44100 = 417.96 bytes, cut to 417.
FRAME = b"\xff\xfb\x90\x00" + bytes(413)
MONO = b"\xff\xfb\x90\xc0" + bytes(413)
# ADTS: MPEG-4 AAC LC, no CRC, 44.1 kHz (index 4), stereo, 100 bytes.
ADTS = bytes.fromhex("fff15080") + bytes([100 >> 3, (100 & 7) << 5 | 0x1F, 0xFC]) + bytes(93)
ID3V1 = b"TAG" + b"Title".ljust(30, b"\0") + b"Artist".ljust(30, b"\0") + bytes(65)
ID3V2 = b"ID3\x03\0\0\0\0\0\x1c" + b"TIT2\0\0\0\x06\0\0\0Title" + bytes(12)
APE = (
    (
        b"APETAGEX"
        + (2000).to_bytes(4, "little")
        + (48).to_bytes(4, "little")
        + b"\1\0\0\0\0\0\0\xa0"
        + bytes(8)
    )
    + (b"\2\0\0\0\0\0\0\0Title\0To")
    + (
        b"APETAGEX"
        + (2000).to_bytes(4, "little")
        + (48).to_bytes(4, "little")
        + b"\1\0\0\0\0\0\0\x80"
        + bytes(8)
    )
)


def test_a_vbri_frame_is_left_out() -> None:
    vbri = b"\xff\xfb\x90\x00" + bytes(32) + b"VBRI" + bytes(377)
    assert read(vbri + FRAME * 2)[0] == InfoFrame(variable=True)
    assert len(frames(read(vbri + FRAME * 2))) == 2


@pytest.mark.parametrize("tag", [ID3V1, ID3V2, APE, b"TAG+" + bytes(223) + ID3V1, ID3V2 + APE + ID3V1])
def test_tags_before_between_and_behind_frames_are_left_out(tag: bytes) -> None:
    found = frames(read(tag + FRAME * 3 + tag + FRAME * 2 + tag))
    assert [frame.data for frame in found] == [FRAME] * 5


def test_frames_are_found_again_behind_garbage() -> None:
    garbage = bytes(range(1, 255)) * 20
    assert [f.data for f in frames(read(garbage + FRAME * 3 + garbage + FRAME * 2))] == [FRAME] * 5


def test_a_sync_word_that_leads_nowhere_is_garbage() -> None:
    assert [f.data for f in frames(read(FRAME[:100] + FRAME * 3))] == [FRAME] * 3


def test_a_last_frame_that_is_cut_short_is_left_out() -> None:
    assert len(frames(read(FRAME * 3 + FRAME[:-1]))) == 3


def test_a_stream_may_change_from_one_codec_to_another() -> None:
    found = frames(read(FRAME * 3 + ADTS * 3))
    assert [frame.header.codec for frame in found] == ["mp3"] * 3 + ["aac"] * 3


def test_a_tag_with_a_large_picture_is_skipped_without_being_held() -> None:
    reader = MpegAudioReader()
    size = 16 << 20
    syncsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    reader.receive_data(b"ID3\x03\0\0" + syncsafe + b"TIT2\0\0\0\x06\0\0\0Title")
    events: list[Event] = []
    left = size - 16
    while left:
        portion = min(left, 65536)
        reader.receive_data(bytes(portion))
        events += reader.events()
        left -= portion
        assert len(reader._buffer) <= TAG_BYTES + 2 * 65536
    reader.receive_data(FRAME * 2)
    reader.receive_eof()
    events += reader.events()
    assert events[0] == Tags("Title", "")
    assert len(frames(events)) == 2


@pytest.mark.parametrize(
    "content", [b"", b"no audio at all", bytes(5000), ID3V2, b"ID3\x03\0\0\x7f\x7f\x7f\x7f"]
)
def test_an_input_without_any_frame_is_malformed(content: bytes) -> None:
    with pytest.raises(MalformedError):
        read(content)


def test_garbage_without_an_end_is_malformed() -> None:
    with pytest.raises(MalformedError):
        read(FRAME * 2 + bytes(GARBAGE_BYTES + 2000) + FRAME * 2)


def test_layer_two_and_free_format_are_not_supported(tmp_path: Path) -> None:
    layer_two = make(tmp_path / "a.mp2", "-ac", "2", "-ar", "44100", "-b:a", "192k", "-f", "mp2")
    with pytest.raises(UnsupportedError):
        read(layer_two.read_bytes())
    with pytest.raises(UnsupportedError):
        read((b"\xff\xfb\x00\x00" + bytes(413)) * 3)


@pytest.mark.parametrize("content", [b"", b"\xff", b"\xff\xfb\x90", b"\xff\xf1\x50\x80\x0c\x80"])
def test_a_header_that_isnt_all_there_needs_more_data(content: bytes) -> None:
    with pytest.raises(NeedMoreDataError):
        parse_frame_header(content)


@pytest.mark.parametrize(
    "content",
    [
        "fefb9000",  # no sync word
        "ffeb9000",  # version 01 is reserved
        "fffbf000",  # bitrate 15 is forbidden
        "fffb9c00",  # sampling frequency 3 is reserved
        "fffb9002",  # emphasis 2 is reserved
        "fff17c800c9ffc",  # ADTS: sampling frequency 15
        "fff1508000dffc",  # ADTS: a frame shorter than its header
    ],
)
def test_a_header_with_a_reserved_value_is_malformed(content: str) -> None:
    with pytest.raises(MalformedError):
        parse_frame_header(bytes.fromhex(content).ljust(7, b"\0"))


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [FRAME, MONO, ADTS, ID3V1, ID3V2, APE, FRAME[:30], b"TAG+", b"\xff\xfb", b"APETAGEX", b"ID3"]
        ),
        st.binary(max_size=60),
    ),
    max_size=12,
)


@settings(max_examples=80, deadline=None)
@given(PIECES, st.data())
def test_the_same_bytes_cut_anywhere_give_the_same_events(pieces: list[bytes], data: st.DataObject) -> None:
    content = b"".join(pieces)
    places = data.draw(st.lists(st.integers(0, len(content)), max_size=8).map(sorted))
    cuts = [0, *places, len(content)]
    whole = outcome(content)
    assert outcome(*(content[start:end] for start, end in pairwise(cuts))) == whole
    if len(content) < 1500:
        assert outcome(*(content[i : i + 1] for i in range(len(content)))) == whole


@settings(max_examples=80, deadline=None)
@given(st.binary(max_size=3000))
def test_any_bytes_end_in_events_or_a_media_error(content: bytes) -> None:
    events, _ = outcome(content)
    assert sum(len(frame.data) for frame in frames(events)) <= len(content)
