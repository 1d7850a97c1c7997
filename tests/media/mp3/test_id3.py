import json
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from media.mp3.id3 import (
    Tags,
    id3v2_size,
    is_whole_id3v2,
    parse_ape,
    parse_chapters,
    parse_id3v1,
    parse_id3v2,
    parse_trailer,
    write_id3v2,
)
from packager.process.ffmpeg_discovery import Tools
from tests.packager.films import probe, run_ffmpeg


def syncsafe(size: int) -> bytes:
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def tag(version: int, body: bytes, flags: int = 0) -> bytes:
    return b"ID3" + bytes([version, 0, flags]) + syncsafe(len(body)) + body


def frame(version: int, name: bytes, payload: bytes, flags: int = 0) -> bytes:
    if version == 2:
        return name + len(payload).to_bytes(3, "big") + payload
    size = syncsafe(len(payload)) if version == 4 else len(payload).to_bytes(4, "big")
    return name + size + bytes([0, flags]) + payload


def silence(version: str) -> list[str]:
    """Words by which ffmpeg makes a moment of it with a tag of this version."""
    return f"-v error -f lavfi -i anullsrc -t 0.2 -id3v2_version {version}".split()


@pytest.mark.parametrize("version", ["3", "4"])
def test_titles_that_ffmpeg_writes_are_read(version: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    names = ["-metadata", "title=Żółta Łódź", "-metadata", "artist=Björk & 坂本"]
    subprocess.run(["ffmpeg", *silence(version), *names, str(path)], check=True)
    assert parse_id3v2(path.read_bytes()) == Tags("Żółta Łódź", "Björk & 坂本")


@pytest.mark.parametrize(
    ("encoding", "payload"),
    [
        (b"\0", "Café".encode("latin-1")),
        (b"\1", b"\xff\xfe" + "Café".encode("utf-16-le")),
        (b"\1", b"\xfe\xff" + "Café".encode("utf-16-be")),
        (b"\2", "Café".encode("utf-16-be")),
        (b"\3", "Café".encode()),
        (b"\3", "Café\0".encode()),
    ],
)
def test_each_text_encoding_is_read(encoding: bytes, payload: bytes) -> None:
    assert parse_id3v2(tag(4, frame(4, b"TIT2", encoding + payload))).title == "Café"


def test_the_short_frames_of_version_2_are_read() -> None:
    body = frame(2, b"TT2", b"\0Title") + frame(2, b"TP1", b"\0Artist")
    assert parse_id3v2(tag(2, body)) == Tags("Title", "Artist")


def test_several_artists_are_joined() -> None:
    assert parse_id3v2(tag(4, frame(4, b"TPE1", b"\3One\0Two"))).artist == "One / Two"


def test_titles_behind_a_picture_and_an_extended_header_are_read() -> None:
    picture = frame(3, b"APIC", bytes(50_000))
    extended = (6).to_bytes(4, "big") + bytes(6)  # ID3v2.3 §3.2: its size doesn't count itself
    assert parse_id3v2(tag(3, extended + picture + frame(3, b"TIT2", b"\0Title"), 0x40)).title == "Title"
    extended = syncsafe(6) + b"\1\0"  # ID3v2.4 §3.2: its size counts itself
    assert parse_id3v2(tag(4, extended + frame(4, b"TIT2", b"\0Title"), 0x40)).title == "Title"


def test_unsynchronised_text_is_read() -> None:
    # ID3v2.3 §5: a zero stands after each FF, also in the byte order mark
    body = frame(3, b"TIT2", b"\1\xff\xfeA\0").replace(b"\xff", b"\xff\0")
    assert parse_id3v2(tag(3, body, 0x80)).title == "A"


@pytest.mark.parametrize(("version", "flags"), [(3, 0x80), (3, 0x40), (4, 0x08), (4, 0x04)])
def test_compressed_and_encrypted_frames_are_passed_over(version: int, flags: int) -> None:
    body = frame(version, b"TIT2", b"\0secret", flags) + frame(version, b"TPE1", b"\0Artist")
    assert parse_id3v2(tag(version, body)) == Tags("", "Artist")


def test_a_footer_counts_to_the_size() -> None:
    assert id3v2_size(tag(4, bytes(100), 0x10)) == 120


@pytest.mark.parametrize(
    "header", [b"ID3\x05\0\0\0\0\0\1", b"ID3\x03\0\0\0\0\0\x80", b"ID3\x03\xff\0\0\0\0\1", b"ID3"]
)
def test_three_letters_alone_make_no_tag(header: bytes) -> None:
    assert id3v2_size(header) is None
    assert parse_id3v2(header) == Tags()


def id3v1(title: bytes, artist: bytes) -> bytes:
    return b"TAG" + title.ljust(30, b"\0") + artist.ljust(30, b" ") + bytes(65)


def ape(*items: tuple[bytes, bytes]) -> bytes:
    body = b"".join(len(value).to_bytes(4, "little") + bytes(4) + key + b"\0" + value for key, value in items)
    facts = (
        (2000).to_bytes(4, "little") + (len(body) + 32).to_bytes(4, "little") + bytes([len(items), 0, 0, 0])
    )
    header, footer = (b"APETAGEX" + facts + flags + bytes(8) for flags in (b"\0\0\0\xa0", b"\0\0\0\x80"))
    return header + body + footer


def test_an_id3v1_tag_is_read() -> None:
    assert parse_id3v1(id3v1(b"T\xeftle", b"Artist")) == Tags("Tïtle", "Artist")


def test_an_ape_tag_is_read_from_its_beginning_and_from_the_files_end() -> None:
    content = ape((b"Year", b"2001"), (b"TITLE", "Tïtle".encode()), (b"Artist", b"One\0Two"))
    assert parse_ape(content) == Tags("Tïtle", "One / Two")
    assert parse_trailer(bytes(100) + content) == Tags("Tïtle", "One / Two")


def test_the_longer_title_of_the_ape_tag_goes_before_the_id3v1_tags() -> None:
    content = ape((b"Title", b"A title that is longer than thirty")) + id3v1(
        b"A title that is longer than th", b"X"
    )
    assert parse_trailer(bytes(100) + content) == Tags("A title that is longer than thirty", "X")


def test_titles_are_one_line_without_control_characters() -> None:
    assert parse_id3v2(tag(4, frame(4, b"TIT2", b"\3 a\r\nb\tc\x1b "))).title == "a b c"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([2, 3, 4]), st.sampled_from([0, 0x40, 0x80, 0xC0, 0x10]))
def test_broken_tags_are_read_without_an_error(body: bytes, version: int, flags: int) -> None:
    parse_id3v2(tag(version, body, flags))
    parse_id3v2(tag(version, b"TIT2" + body, flags))
    parse_trailer(body)
    parse_trailer(body + id3v1(body[:30], body[30:60]))
    parse_ape(ape((b"Title", body)) + body)
    footer = b"APETAGEX" + (2000).to_bytes(4, "little") + body[:4].ljust(4, b"\0") + bytes(16)
    parse_trailer(body + footer)


def test_ffprobe_reads_the_frames_that_are_written(tools: Tools, tmp_path: Path) -> None:
    frames = [("TIT2", "Größe € 1"), ("TPE1", "A"), ("TXXX:X-NOTE", "ä=1"), ("WOAR", "http://a.example/ü")]
    tag = write_id3v2(frames)
    assert is_whole_id3v2(tag)
    assert not is_whole_id3v2(tag + b"\0")
    words = [*silence("0"), "-write_xing", "0", "-f", "mp3", "-"]
    sound = subprocess.run([str(tools.ffmpeg), *words], check=True, capture_output=True).stdout
    path = tmp_path / "tagged.mp3"
    path.write_bytes(tag + sound)
    command = [str(tools.ffprobe), "-v", "error", "-show_entries", "format_tags", "-of", "json", str(path)]
    tags = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["format"]["tags"]
    assert {"title": "Größe € 1", "artist": "A", "X-NOTE": "ä=1"}.items() <= tags.items()
    assert parse_id3v2(tag) == Tags("Größe € 1", "A")


def test_a_written_tag_is_that_of_the_standard() -> None:
    # ID3v2.4 §3.1, §4, §4.2.6, §4.3.2: header with a syncsafe size, frames, UTF-8 is encoding 3
    assert write_id3v2([("TXXX:d", "x" * 127), ("WXXX:d", "u")]) == b"".join(
        (
            *(b"ID3\x04\0\0", b"\0\0\x01\x1a"),
            *(b"TXXX", b"\0\0\x01\x02", b"\0\0", b"\x03d\0", b"x" * 127),
            *(b"WXXX", b"\0\0\0\x04", b"\0\0", b"\x03d\0u"),
        )
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [("TXXX", "a"), ("PRIV", "a"), ("TIT2", "a\0b"), ("WOAR", "€"), ("TIT2:x", "a"), ("tit2", "")],
)
def test_a_frame_that_can_not_be_written_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError):
        write_id3v2([(name, text)])


@pytest.mark.parametrize("version", ["3", "4"])
def test_chapters_of_a_tag_are_those_that_ffprobe_lists(version: str, tmp_path: Path) -> None:
    listed, path = tmp_path / "chapters.txt", tmp_path / "book.mp3"
    times = [(0, 4000, "One"), (4000, 9500, "Zwei & <drei>"), (9500, 12000, "三")]
    text = "".join(f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={a}\nEND={b}\ntitle={c}\n" for a, b, c in times)
    listed.write_text(f";FFMETADATA1\n{text}")
    made = f"-f lavfi -i sine=440:d=12 -i {listed} -map_chapters 1 -c:a libmp3lame -id3v2_version {version}"
    run_ffmpeg(*made.split(), path)
    asked = [
        (round(1000 * float(one["start_time"])), round(1000 * float(one["end_time"])), one["tags"]["title"])
        for one in probe(path, "-show_chapters")["chapters"]
    ]
    assert asked == times
    assert list(parse_chapters(path.read_bytes())) == asked


def test_chapters_that_are_cut_off_or_have_no_title() -> None:
    frame = b"CHAP" + struct.pack(">IH", 20, 0) + b"c1\0" + struct.pack(">4I", 5, 9, 0, 0) + b"\0"
    tag = b"ID3\3\0\0\0\0\0" + bytes([2 * len(frame)]) + frame + frame
    for size in range(len(tag)):
        assert set(parse_chapters(tag[:size])) <= {(5, 9, "")}
    assert parse_chapters(tag) == ((5, 9, ""), (5, 9, ""))
