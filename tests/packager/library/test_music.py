"""Tags and covers of music: what the list says of them, and the covers that are drawn."""

from __future__ import annotations

import asyncio
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from packager.concurrency import background_task
from packager.library.catalogue import Catalogue
from packager.library.cover_art import CoverArt
from packager.library.file_listing import CatalogueLimits, File, FileListing, ListedFolder
from packager.library.file_probe import MAX_OUTPUT_BYTES, MAX_TAG_CHARACTERS, NO_TAGS, MusicTags, probe
from packager.library.library_search import ViewQuery
from packager.library.local_storage import Library, NotFoundError
from packager.library.title_files import cover_among
from packager.process.ffmpeg_discovery import Tools
from packager.vod import Titles
from tests.packager.library.listing import listed

PATIENCE_SECONDS = 120.0

SOUND = "-f lavfi -i sine=duration=1"
TAGS = ("-metadata", "title=Das Lied", "-metadata", "artist=Die Band", "-metadata", "album=Das Album")
CODECS = {
    "mp3": "libmp3lame",
    "flac": "flac",
    "ogg": "libvorbis",
    "opus": "libopus",
    "m4a": "aac",
    "mka": "flac",
}


def make(tools: Tools, path: Path, *words: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([tools.ffmpeg, "-nostdin", "-v", "error", *words, f"file:{path}"], check=True, timeout=300)


def covers(tools: Tools, root: Path) -> CoverArt:
    return CoverArt(Library(root), ListedFolder(root), tools, Titles(Library(root)).facts.colour)


def size_of(tools: Tools, path: Path) -> str:
    words = ["-v", "error", "-show_entries", "stream=codec_name,width,height", "-of", "csv=p=0"]
    return subprocess.run([tools.ffprobe, *words, path], check=True, capture_output=True, text=True).stdout


def with_cover(tools: Tools, path: Path, picture: Path) -> None:
    words = ["-f", "lavfi", "-i", "sine=duration=1", "-i", str(picture), "-map", "0", "-map", "1"]
    make(tools, path, *words, "-c:v", "copy", "-disposition:v", "attached_pic")


@pytest.mark.parametrize("ending", CODECS)
async def test_music_is_listed_with_its_tags(tools: Tools, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"music.{ending}"
    make(tools, path, *SOUND.split(), "-c:a", CODECS[ending], *TAGS, "-metadata", "track=3/12")
    assert (await probe(path, tools)).tags == MusicTags("Das Lied", "Die Band", "Das Album", 3)


async def test_tags_are_lines_of_bounded_length(tools: Tools, tmp_path: Path) -> None:
    path = tmp_path / "odd.flac"
    make(
        tools,
        path,
        *SOUND.split(),
        "-metadata",
        f"TITLE=a\r\n\tb\x1b[31m{'c' * 3000}",
        "-metadata",
        "track=x",
    )
    tags = (await probe(path, tools)).tags
    assert tags.title is not None
    assert tags.title.startswith("a b [31mccc")
    assert (len(tags.title) <= MAX_TAG_CHARACTERS, tags.artist, tags.track) == (True, None, None)


async def test_a_file_whose_tag_is_longer_than_an_answer_of_ffprobe_is_listed_without(
    tools: Tools, tmp_path: Path
) -> None:
    plain, path = tmp_path / "plain.mp3", tmp_path / "long.mp3"
    make(tools, plain, *SOUND.split(), "-id3v2_version", "0")
    text = b"\x00" + b"a" * (2 * MAX_OUTPUT_BYTES)
    frame = b"TIT2" + struct.pack(">IH", len(text), 0) + text
    # ID3v2.3 §3.1: the size has seven bits in each byte.
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\0\0" + size + frame + plain.read_bytes())
    facts = await probe(path, tools)
    assert (facts.tags, facts.codecs, facts.reason) == (NO_TAGS, ("mp3",), None)


async def test_a_cover_in_a_file_is_drawn_as_a_small_jpeg(tools: Tools, tmp_path: Path) -> None:
    picture = tmp_path / "wide.png"
    make(tools, picture, *["-f", "lavfi", "-i", "color=red:size=1200x900", "-frames:v", "1"])
    with_cover(tools, tmp_path / "a.mp3", picture)
    make(tools, tmp_path / "none.mp3", *SOUND.split())
    # The first picture of a film is no cover.
    film = "-f lavfi -i testsrc2=size=160x90:rate=10 -t 1 -c:v libx264 -pix_fmt yuv420p"
    make(tools, tmp_path / "film.mp4", *film.split())
    facts = await listed(tmp_path, tools)
    assert {path: one.has_cover for path, one in facts.items()} == {
        "a.mp3": True, "film.mp4": False, "none.mp3": False,
    }  # fmt: skip
    art = covers(tools, tmp_path)
    drawn = tmp_path / "drawn"
    drawn.write_bytes(await art.cover("a.mp3"))
    assert size_of(tools, drawn).strip() == "mjpeg,600,450"
    for name in ("none.mp3", "film.mp4", "gone.mp3", "wide.png", "../a.mp3"):
        with pytest.raises(NotFoundError):
            await art.cover(name)
    # It is kept as long as the file is the same.
    assert await art.cover("a.mp3") is await art.cover("a.mp3")
    (tmp_path / "a.mp3").write_bytes((tmp_path / "none.mp3").read_bytes())
    with pytest.raises(NotFoundError):
        await art.cover("a.mp3")


def png(width: int, height: int) -> bytes:
    """A PNG that says to be so large, with hardly anything in it."""
    chunks = (
        b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT" + zlib.compress(b"\0" * 99),
        b"IEND",
    )
    written = (struct.pack(">I", len(one) - 4) + one + struct.pack(">I", zlib.crc32(one)) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(written)


@pytest.mark.parametrize("picture", [png(30_000, 30_000), b"<svg xmlns='http://www.w3.org/2000/svg'/>", b""])
async def test_a_cover_that_is_too_large_or_no_picture_is_none(
    tools: Tools, tmp_path: Path, picture: bytes
) -> None:
    plain = tmp_path / "plain.mp3"
    make(tools, plain, *SOUND.split(), "-id3v2_version", "0")
    # ID3v2.3 §4.15: an attached picture, whose MIME type is believed by nobody.
    content = b"\x00image/png\x00\x03\x00" + picture
    frame = b"APIC" + struct.pack(">IH", len(content), 0) + content
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    (tmp_path / "a.mp3").write_bytes(b"ID3\x03\0\0" + size + frame + plain.read_bytes())
    with pytest.raises(NotFoundError):
        await covers(tools, tmp_path).cover("a.mp3")


async def test_the_cover_beside_music_is_listed_and_a_new_one_noticed(tools: Tools, tmp_path: Path) -> None:
    names = ("a/1.mp3", "b/2.flac", "c/3.mp3", "film.mp4")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    for name in ("a/Folder.JPG", "a/cover.png", "b/front.jpeg", "c/cover.svg", "cover.jpg"):
        (tmp_path / name).write_bytes(b"picture")
    facts = await listed(tmp_path, tools)
    assert [facts[name].cover for name in names] == ["a/cover.png", "b/front.jpeg", None, None]
    now = 0.0
    listing = FileListing(
        ListedFolder(tmp_path), (".mp3",), limits=CatalogueLimits(stale_seconds=600), clock=lambda: now
    )
    before = (await listing.latest()).files
    (tmp_path / "a" / "cover.png").write_bytes(b"another picture")
    now = 100.0
    after = (await listing.latest()).files
    assert [isinstance(one, File) and one in before for one in after] == [False, True]


def test_the_name_of_a_cover_counts_and_not_its_letters_case() -> None:
    assert cover_among(["front.png", "Album.jpg", "FOLDER.WEBP"]) == "FOLDER.WEBP"
    assert cover_among(["cover.svg", "cover.jpg.txt", "my cover.jpg"]) is None


@pytest.mark.parametrize(
    ("name", "coding"),
    [
        ("xvid.avi", "-c:v mpeg4 -vtag XVID -g 20"),
        ("film.wmv", "-c:v wmv2 -g 20"),
        ("old.mpg", "-c:v mpeg2video -g 20"),
        ("flash.flv", "-c:v flv -g 20"),
    ],
)
async def test_a_picture_of_a_film_is_drawn_from_behind_its_beginning(
    tools: Tools, tmp_path: Path, name: str, coding: str
) -> None:
    # Black for three seconds, and then white.
    film = "-f lavfi -i color=black:size=400x400:rate=25:d=3,format=yuv420p"
    film += " -f lavfi -i color=white:size=400x400:rate=25:d=5,format=yuv420p"
    make(tools, tmp_path / name, *f"{film} -filter_complex [0][1]concat,setsar=1 {coding} -q:v 3".split())
    art = covers(tools, tmp_path)
    drawn = tmp_path / "drawn"
    drawn.write_bytes(await art.poster(name))
    assert size_of(tools, drawn).strip() == "mjpeg,320,320"
    words = f"-v error -i {drawn} -vf scale=1:1 -f rawvideo -pix_fmt gray -"
    shown = subprocess.run([tools.ffmpeg, *words.split()], check=True, capture_output=True, timeout=60)
    assert shown.stdout[0] > 200
    assert await art.poster(name) is await art.poster(name)
    # It is no cover, and music has no picture.
    with pytest.raises(NotFoundError):
        await art.cover(name)
    make(tools, tmp_path / "none.mp3", *SOUND.split())
    with pytest.raises(NotFoundError):
        await art.poster("none.mp3")


async def test_music_is_searched_by_its_tags(tools: Tools, tmp_path: Path) -> None:
    make(tools, tmp_path / "01.mp3", *SOUND.split(), "-metadata", "artist=Björk", "-metadata", "album=Début")
    make(tools, tmp_path / "02.mp3", *SOUND.split(), "-metadata", "artist=Moby")
    catalogue = Catalogue(ListedFolder(tmp_path), tools)

    async def search(words: str) -> list[str]:
        return [item.path for item in (await catalogue.view(ViewQuery(search=words), patience=None)).items]

    async with background_task(catalogue.run()), asyncio.timeout(PATIENCE_SECONDS):
        assert await search("debut BJORK") == ["01.mp3"]
        assert await search("björk moby") == []
