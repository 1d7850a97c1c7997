"""Descriptions of DVDs' title sets: which streams they speak of, and how damaged ones are refused."""

from __future__ import annotations

import struct

import pytest

from media.errors import MalformedError, MediaError
from media.ps.title_set import DescribedStream, TitleSet, read_title_set
from tests.media.ps.title_sets import AC3, DTS, LPCM, MPEG2, Sound, Subpicture, title_set

COLOURS = tuple(bytes((16 + number, 128, 240 - number)) for number in range(16))


def read(data: bytes) -> TitleSet:
    return read_title_set(lambda at, length: data[at : at + length], len(data))


def test_streams_have_the_languages_of_their_attributes_by_the_numbers_of_the_program_chain() -> None:
    # http://dvd.sourceforge.net/dvdinfo/mpeghdrs.html: AC-3 from 0x80, DTS from 0x88, PCM from 0xA0 on
    sounds = [Sound(AC3, "de", 1), Sound(AC3, "en", 0), Sound(DTS, "fr", 2), Sound(LPCM, "iw", 3)]
    sounds += [Sound(MPEG2, "ja", 4), Sound(AC3, "", 5)]
    subpictures = [
        Subpicture("es", (3, 0, 0, 0)),
        Subpicture("it", (0, 0, 0, 0), 5),
        Subpicture("", (1, 0, 0, 0), 9),
    ]
    found = read(title_set(COLOURS, sounds, subpictures))
    assert found.palette == COLOURS
    told = {0x181: "de", 0x180: "en", 0x18A: "fr", 0x1A3: "he", 0xC4: "ja", 0x185: None, 0x123: "es"}
    for number, language in told.items():
        assert found.stream(number) == DescribedStream(number, language)
    assert found.stream(0x120) == DescribedStream(0x120, "it", is_caption=True)
    assert found.stream(0x121) == DescribedStream(0x121, None, is_forced=True)
    # The number of a track of PCM has its format, too.
    assert found.stream(0x41 << 12 | 0x1A3) == DescribedStream(0x1A3, "he")
    assert found.stream(0x122) is None


def test_wide_pictures_have_subtitles_for_each_way_in_which_they_are_shown() -> None:
    subpictures = [Subpicture("en", (0, 0, 1, 2)), Subpicture("de", (0, 3, 4, 0))]
    found = read(title_set(COLOURS, (), subpictures, is_wide=True))
    assert {one.number: one.language for one in found.streams} == {
        0x120: "en", 0x121: "en", 0x122: "en", 0x123: "de", 0x124: "de"
    }  # fmt: skip


def test_a_stream_that_the_program_chain_lacks_is_not_described() -> None:
    data = title_set(COLOURS, [Sound(AC3, "de", 0)], [Subpicture("de", (0, 0, 0, 0))])
    at = 2048 + 16
    absent = data[: at + 0x0C] + b"\0" + data[at + 0x0D : at + 0x1C] + b"\0" + data[at + 0x1D :]
    assert len(read(data).streams) == 2
    assert read(absent).streams == ()


def test_a_palette_of_nothing_is_none() -> None:
    assert read(title_set(16 * [bytes(3)])).palette == ()


@pytest.mark.parametrize("language", ["\0\0", "xx", "1!", "é"])
def test_a_code_of_no_language_is_none(language: str) -> None:
    (one,) = read(title_set(COLOURS, [Sound(AC3, language, 0)])).streams
    assert one.language is None


def test_damaged_descriptions_are_refused() -> None:
    data = title_set(COLOURS, [Sound(AC3, "de", 0)])
    for length in (0, 5, 12, 0x315, 2048, 2048 + 15, 2048 + 16, len(data) - 9):
        with pytest.raises(MediaError):
            read(data[:length])
    far = struct.pack(">I", 0xFFFFFFFF)
    for damaged in (
        title_set(COLOURS, chains=0),
        data.replace(b"VIDEO-VTS", b"VIDEO-VMG"),
        data[:0xCC] + far + data[0xD0:],
        data[: 2048 + 12] + far + data[2048 + 16 :],
    ):
        with pytest.raises(MediaError):
            read(damaged)
    # A file that is cut off while it is read
    with pytest.raises(MalformedError):
        read_title_set(lambda at, length: data[at : at + length][:12], len(data))
