"""Codec strings: RFC 6381 §3.3 and the codecs' own bindings; entries that are cut off."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.errors import MalformedError, MediaError, UnsupportedError
from media.mp4.boxes import box, full_box
from media.mp4.codecs.sample_entry import parse_sample_entry
from media.mp4.codecs.sequence_parameters import hevc_parameter_sets

SPS = b"\x67\x64\x00\x1f\xac"
AVCC = b"\x01\x64\x00\x1f\xff\xe1" + struct.pack(">H", len(SPS)) + SPS + b"\x01\x00\x01\x68"
LC_48000_STEREO = bytes([0x11, 0x90])


def video(kind: bytes, *boxes: bytes, width: int = 640, height: int = 360) -> bytes:
    fixed = bytes(6) + b"\x00\x01" + bytes(16) + struct.pack(">HH", width, height)
    fixed += struct.pack(">III", 0x480000, 0x480000, 0) + b"\x00\x01" + bytes(32) + b"\x00\x18\xff\xff"
    return box(kind, fixed, *boxes)


def sound(kind: bytes, *boxes: bytes, version: int = 0, extra: bytes = b"", rate: int = 48000) -> bytes:
    fixed = bytes(6) + struct.pack(">HH6xHHII", 1, version, 2, 16, 0, rate << 16)
    return box(kind, fixed, extra, *boxes)


def descriptor(tag: int, body: bytes) -> bytes:
    return bytes([tag, 0x80, 0x80, 0x80, len(body)]) + body


def esds(object_type: int, specific: bytes | None, flags: int = 0, optional: bytes = b"") -> bytes:
    configuration = bytes([object_type, 0x15]) + bytes(11)
    if specific is not None:
        configuration += descriptor(5, specific)
    return full_box(
        b"esds", 0, 0, descriptor(3, bytes([0, 1, flags]) + optional + descriptor(4, configuration))
    )


PQ = b"nclx" + struct.pack(">HHHB", 9, 16, 9, 0)


def hvcc(profile: int, compatibility: int, constraints: bytes, level: int) -> bytes:
    return box(
        b"hvcC",
        bytes([1, profile]) + compatibility.to_bytes(4, "big") + constraints + bytes([level]) + bytes(10),
    )


@pytest.mark.parametrize(
    ("entry", "codec"),
    [
        (video(b"avc1", box(b"avcC", AVCC)), "avc1.64001f"),
        (video(b"avc3", box(b"avcC", AVCC)), "avc3.64001f"),
        # ISO/IEC 14496-15 Annex E.3's own examples
        (video(b"hev1", hvcc(0x01, 0x60000000, b"\xb0\0\0\0\0\0", 93)), "hev1.1.6.L93.B0"),
        (video(b"hvc1", hvcc(0x02, 0x20000000, b"\x90\0\0\0\0\0", 120)), "hvc1.2.4.L120.90"),
        (video(b"hvc1", hvcc(0x41 | 0x20, 0x80000000, bytes(6), 93)), "hvc1.A1.1.H93"),
        # AV1 binding §5: main profile, level 2.3 … and its 10-bit example
        (video(b"av01", box(b"av1C", bytes([0x81, 0x04, 0x0C, 0]))), "av01.0.04M.08"),
        (video(b"av01", box(b"av1C", bytes([0x81, 0x04, 0x4C, 0]))), "av01.0.04M.10"),
        # the full form, where a default would be wrong: 4:4:4, and the binding's own example of PQ
        (video(b"av01", box(b"av1C", bytes([0x81, 0x4D, 0xE0, 0]))), "av01.2.13H.12.0.000.01.01.01.0"),
        (
            video(b"av01", box(b"av1C", bytes([0x81, 0x04, 0x4E, 0])), box(b"colr", PQ)),
            "av01.0.04M.10.0.112.09.16.09.0",
        ),
        # VP binding: its own example, and 4:4:4
        (
            video(b"vp09", full_box(b"vpcC", 1, 0, bytes([2, 10, 0xA3, 9, 16, 9, 0, 0]))),
            "vp09.02.10.10.01.09.16.09.01",
        ),
        (
            video(b"vp09", full_box(b"vpcC", 1, 0, bytes([1, 11, 0x86, 2, 2, 2, 0, 0]))),
            "vp09.01.11.08.03.01.01.01.00",
        ),
        (video(b"vp09", full_box(b"vpcC", 1, 0, bytes([2, 10, 0xA2, 1, 1, 1, 0, 0]))), "vp09.02.10.10"),
        (sound(b"mp4a", esds(0x40, LC_48000_STEREO)), "mp4a.40.2"),
        (sound(b"mp4a", esds(0x40, bytes([0x2B, 0x92, 0x08, 0]))), "mp4a.40.5"),
        (sound(b"mp4a", esds(0x40, bytes([0xEB, 0x8A, 0x08, 0]))), "mp4a.40.29"),
        # escape value 31, then 42 - 32 in six bits: xHE-AAC
        (sound(b"mp4a", esds(0x40, bytes([0xF9, 0x40]))), "mp4a.40.42"),
        (sound(b"mp4a", esds(0x6B, None)), "mp4a.6B"),
        (sound(b"mp4a", esds(0x69, None)), "mp4a.69"),
        (sound(b"mp4a", esds(0x67, LC_48000_STEREO)), "mp4a.67"),
        (sound(b"mp4a", esds(0x40, LC_48000_STEREO, 0xE0, bytes(2) + b"\x01u" + bytes(2))), "mp4a.40.2"),
        (sound(b"Opus", box(b"dOps", bytes(11))), "Opus"),
        (sound(b"fLaC", full_box(b"dfLa", 0, 0)), "fLaC"),
        (sound(b"ac-3", box(b"dac3", bytes(3))), "ac-3"),
        (sound(b"ec-3", box(b"dec3", bytes(5))), "ec-3"),
        (sound(b"alac", full_box(b"alac", 0, 0, bytes(24))), "alac"),
    ],
)
def test_the_codec_string_comes_from_the_configuration(entry: bytes, codec: str) -> None:
    assert parse_sample_entry(entry).codec == codec


def test_a_video_entry_says_its_coded_size() -> None:
    entry = parse_sample_entry(video(b"avc1", box(b"avcC", AVCC), width=1920, height=1080))
    assert (entry.width, entry.height, entry.channels) == (1920, 1080, 0)


def test_a_sound_entry_says_channels_and_rate() -> None:
    entry = parse_sample_entry(sound(b"mp4a", esds(0x40, LC_48000_STEREO), rate=44100))
    assert (entry.channels, entry.sample_rate) == (2, 44100)


@pytest.mark.parametrize(
    ("specific", "channels"),
    [
        (b"\x11\x88", 1),
        (b"\x11\x90", 2),
        (b"\x11\xb0", 6),
        (b"\x11\xb8", 8),
        (b"\x17\x80\x5d\xc0\x08", 1),  # the rate in 24 bits
        (b"\x11\x80", 2),  # a program configuration element, which isn't read: the entry's word counts
        (b"\xeb\x8a\x08\x00", 2),  # parametric stereo
    ],
)
def test_the_channels_of_aac_come_from_its_configuration(specific: bytes, channels: int) -> None:
    assert parse_sample_entry(sound(b"mp4a", esds(0x40, specific))).channels == channels


@pytest.mark.parametrize(
    ("dec3", "channels", "objects"),
    [
        # one independent substream of 3/2 with LFE and one dependent one at Lrs/Rrs: 7.1
        ("0600200f0202", 8, 0),
        # the same without the dependent one, then with the extension of 16 objects
        ("0600200f00", 6, 0),
        ("0600200f000110", 6, 16),
        # two programmes: the first counts
        ("0601200f00200200", 6, 0),
        ("0600200400", 2, 0),
    ],
)
def test_the_channels_of_e_ac_3_come_from_its_configuration(dec3: str, channels: int, objects: int) -> None:
    """ETSI TS 102 366 §F.6.2 and tables 4.3 and F.6.1; ETSI TS 103 420 §C.3."""
    entry = parse_sample_entry(sound(b"ec-3", box(b"dec3", bytes.fromhex(dec3))))
    assert (entry.channels, entry.joc_complexity) == (channels, objects)


@pytest.mark.parametrize(("dac3", "channels"), [("103d40", 6), ("101140", 2), ("100940", 1), ("103940", 5)])
def test_the_channels_of_ac_3_come_from_its_configuration(dac3: str, channels: int) -> None:
    """ETSI TS 102 366 §F.4.2: acmod at bit 10, lfeon at bit 13."""
    assert parse_sample_entry(sound(b"ac-3", box(b"dac3", bytes.fromhex(dac3)))).channels == channels


def test_an_entry_is_rendered_with_what_decoders_need_and_nothing_of_quicktime() -> None:
    aspect = box(b"pasp", struct.pack(">II", 10, 11))
    colours = box(b"colr", b"nclx" + bytes(7))
    source = video(
        b"avc1", box(b"avcC", AVCC), aspect, colours, box(b"gama", bytes(4)), box(b"fiel", bytes(2)), bytes(4)
    )
    assert parse_sample_entry(source).render() == video(b"avc1", box(b"avcC", AVCC), aspect, colours)


@pytest.mark.parametrize(
    ("version", "extra"), [(1, bytes(16)), (2, struct.pack(">Id", 72, 44100.0) + bytes(24))]
)
def test_quicktime_sound_descriptions_become_iso_entries(version: int, extra: bytes) -> None:
    configuration = esds(0x40, LC_48000_STEREO)
    if version == 2:
        extra = extra[:12] + struct.pack(">I", 6) + extra[16:]
    wave = box(b"wave", box(b"frma", b"mp4a"), box(b"mp4a", bytes(4)), configuration, bytes(4))
    entry = parse_sample_entry(sound(b"mp4a", wave, version=version, extra=extra))
    assert (entry.channels, entry.sample_rate) == (2, 48000 if version == 1 else 44100)
    assert entry.render()[36:] == configuration


@pytest.mark.parametrize("kind", [b"encv", b"enca"])
def test_encrypted_media_are_named_so(kind: bytes) -> None:
    with pytest.raises(UnsupportedError, match="encrypted"):
        parse_sample_entry(video(kind))


@pytest.mark.parametrize(
    "entry",
    [
        video(b"rle "),
        video(b"s263"),
        sound(b"lpcm"),
        sound(b"mp4a", esds(0xDD, b"")),
        sound(b"mp4a", version=3),
    ],
)
def test_other_codecs_are_not_supported(entry: bytes) -> None:
    with pytest.raises(UnsupportedError):
        parse_sample_entry(entry)


@pytest.mark.clause("ISO/IEC 14496-15 §5.3.3")
@pytest.mark.parametrize(
    "entry",
    [
        video(b"avc1"),
        box(b"avc1", bytes(77)),
        box(b"mp4a", bytes(27)),
        sound(b"mp4a"),
        sound(b"mp4a", box(b"esds", b"")),
        sound(b"mp4a", struct.pack(">I4s", 4, b"esds")),
        sound(b"mp4a", full_box(b"esds", 0, 0, b"\x03\xff\xff\xff\x7f")),
        sound(b"mp4a", full_box(b"esds", 0, 0, descriptor(3, bytes(3) + descriptor(6, bytes(13))))),
        sound(b"mp4a", full_box(b"esds", 0, 0, descriptor(4, bytes(13)))),
        sound(b"mp4a", esds(0x40, b"\x11")),
        sound(b"mp4a", esds(0x40, LC_48000_STEREO, 0x40, b"\xff")),
        sound(b"mp4a", version=2, extra=bytes(36)),
        video(b"avc1", box(b"avcC", AVCC[:6])),
        video(b"avc1", box(b"avcC", AVCC[:5] + b"\xff\xff\xff")),
        video(b"avc1", box(b"avcC", AVCC[:5] + b"\xff" + b"\xff\xff" * 40)),
        video(b"hvc1", box(b"hvcC", bytes(22))),
        video(b"av01", box(b"av1C", bytes(3))),
        video(b"vp09", full_box(b"vpcC", 1, 0, bytes(3))),
        sound(b"ac-3", box(b"dac3", bytes(2))),
        sound(b"ec-3", box(b"dec3", bytes(4))),
        sound(b"ec-3", box(b"dec3", bytes.fromhex("0600200f02"))),
        sound(b"ec-3", box(b"dec3", bytes.fromhex("0607200f00"))),
        video(b"hvc1", hvcc(1, 0, bytes(6), 93), box(b"dvvC", bytes(4))),
    ],
)
def test_a_configuration_that_is_missing_or_cut_off_is_malformed(entry: bytes) -> None:
    with pytest.raises(MalformedError):
        parse_sample_entry(entry)


@pytest.mark.clause("ISO/IEC 14496-15 §5.3.3")
@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([video(b"avc1", box(b"avcC", AVCC)), sound(b"mp4a", esds(0x40, LC_48000_STEREO))]),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4),
    st.integers(8, 200),
)
def test_damaged_entries_are_read_or_refused(entry: bytes, flips: list[tuple[int, int]], length: int) -> None:
    damaged = bytearray(entry)
    for position, value in flips:
        damaged[position % len(damaged)] = value
    with contextlib.suppress(MediaError):
        parse_sample_entry(bytes(damaged[:length]))


def units_of(kind: int, *units: bytes) -> bytes:
    """Write an array of an hvcC (ISO/IEC 14496-15 §8.3.3.1.2)."""
    return struct.pack(">BH", kind, len(units)) + b"".join(struct.pack(">H", len(one)) + one for one in units)


@pytest.mark.parametrize("size", range(40))
def test_an_hvcc_that_is_cut_off_has_the_parameter_sets_up_to_there(size: int) -> None:
    arrays = units_of(32, b"video") + units_of(33) + units_of(0x80 | 34, b"one", b"other")
    told = bytes(22) + b"\x03" + arrays
    found = hevc_parameter_sets(told[:size])
    whole = [(32, b"video"), (34, b"one"), (34, b"other")]
    assert hevc_parameter_sets(told) == whole
    assert len(found) <= len(whole)
    assert all(one == other for one, other in zip(found[:-1], whole, strict=False))


@pytest.mark.clause("CWE-770")
def test_units_without_end_are_not_listed() -> None:
    """An array can have 65,535 of no bytes, and an hvcC 255 arrays."""
    assert hevc_parameter_sets(bytes(22) + b"\x01" + units_of(33, *[b""] * 257)) == []
    assert len(hevc_parameter_sets(bytes(22) + b"\x01" + units_of(33, *[b""] * 256))) == 256
