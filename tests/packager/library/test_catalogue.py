"""The listing says of real files what they carry and whether a browser plays them."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import threading
from pathlib import Path

import pytest

from packager.concurrency import background_task
from packager.library.catalogue import MAX_PROBES, Catalogue, Entry, LibraryTitle, PackagingFacts
from packager.library.file_listing import FileListing, ListedFolder
from packager.library.file_probe import MAX_MEMORY_BYTES, Facts, probe
from packager.library.local_storage import Withheld
from packager.process.ffmpeg_discovery import Tools
from tests.packager import crafted
from tests.packager.library.listing import files, fill, listed
from tests.waiting import until

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10:duration=1")
SOUND = ("-f", "lavfi", "-i", "sine=duration=1")
H264 = (*PICTURE, "-c:v", "libx264", "-pix_fmt", "yuv420p")


def make(tools: Tools, path: Path, *arguments: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([tools.ffmpeg, "-nostdin", "-v", "error", *arguments, f"file:{path}"], check=True)


async def test_what_browsers_play_has_no_reason_and_the_rest_says_why(tools: Tools, tmp_path: Path) -> None:
    make(tools, tmp_path / "good.mp4", *H264)
    make(tools, tmp_path / "sub" / "sound.mp3", *SOUND)
    make(tools, tmp_path / "mpeg4.mp4", *PICTURE, "-c:v", "mpeg4")
    make(tools, tmp_path / "deep.mp4", *PICTURE, "-c:v", "libx264", "-pix_fmt", "yuv444p")
    make(tools, tmp_path / "box.avi", *H264)
    (tmp_path / "broken.mp4").write_bytes(b"not a film" * 100)
    (tmp_path / "half.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:1000])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no media")
    facts = await listed(tmp_path, tools)
    assert list(facts) == [
        *("box.avi", "broken.mp4", "deep.mp4", "empty.mp4", "good.mp4", "half.mp4", "mpeg4.mp4"),
        "sub/sound.mp3",
    ]
    assert facts["empty.mp4"].reason == "it is incomplete: the file is empty"
    assert str(facts["half.mp4"].reason).startswith("it is incomplete: 1000 of more than ")
    good = facts["good.mp4"]
    assert (good.reason, good.width, good.height, good.codecs) == (None, 160, 90, ("h264",))
    assert good.duration == pytest.approx(1.0, abs=0.11)
    assert facts["sub/sound.mp3"].reason is None
    assert facts["mpeg4.mp4"].reason == "most browsers don't play mpeg4 video"
    assert "yuv444p" in str(facts["deep.mp4"].reason)
    assert facts["box.avi"].reason == "browsers don't play AVI files; repackaged as MP4 it would play"
    assert str(facts["broken.mp4"].reason).startswith("can't be read: ")


async def test_files_that_arent_looked_into_are_listed_with_their_reason(tmp_path: Path) -> None:
    for name in ("disc/film.MXF", "old.rm", "tape.aiff", "notes.nfo", "cover.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"anything")
    facts = await listed(tmp_path, None)
    assert {path: one.reason for path, one in facts.items()} == {
        "disc/film.MXF": "the server doesn't read MXF files",
        "old.rm": "the server doesn't read RM files",
        "tape.aiff": "the server doesn't read AIFF files",
    }


async def test_what_plays_in_segments_with_the_sound_that_players_begin_with_has_no_reason(
    tools: Tools, tmp_path: Path
) -> None:
    """Matroska and MPEG-TS play as HLS, without the second sound; PCM plays in WAVE files alone."""
    two = ("-f", "lavfi", "-i", "sine=duration=1", "-map", "0:v", "-map", "1:a", "-map", "1:a")
    make(tools, tmp_path / "box.mkv", *H264)
    make(tools, tmp_path / "box.ts", *H264)
    make(tools, tmp_path / "box.flv", *H264)
    make(tools, tmp_path / "disc.vob", *PICTURE, "-c:v", "mpeg2video")
    make(tools, tmp_path / "two.mkv", *PICTURE, *two, *H264[len(PICTURE) :], "-c:a:0", "aac", "-c:a:1", "ac3")
    ac3 = (*PICTURE, *two, *H264[len(PICTURE) :], "-c:a:0", "ac3", "-c:a:1", "aac")
    make(tools, tmp_path / "commentary.mkv", *ac3)
    make(tools, tmp_path / "dubbed.mkv", *ac3, "-disposition:a:0", "0", "-disposition:a:1", "default")
    make(tools, tmp_path / "silent.mkv", *PICTURE, *two[:8], *H264[len(PICTURE) :], "-c:a", "ac3")
    make(tools, tmp_path / "camera.mov", *PICTURE, *two[:8], *H264[len(PICTURE) :], "-c:a", "pcm_s16le")
    make(tools, tmp_path / "studio.wav", *SOUND[:4], "-c:a", "pcm_s24le")
    facts = await listed(tmp_path, tools)
    assert {path: one.reason for path, one in facts.items()} == {
        "box.flv": None,
        "box.mkv": None,
        "box.ts": None,
        "camera.mov": "most browsers don't play pcm_s16le audio in MOV files",
        "commentary.mkv": "most browsers don't play ac3 audio",
        "dubbed.mkv": None,
        "disc.vob": "most browsers don't play mpeg2video video",
        "silent.mkv": "most browsers don't play ac3 audio",
        "studio.wav": None,
        "two.mkv": None,
    }


async def test_a_file_that_says_to_have_billions_of_samples_takes_bounded_memory_of_ffprobe(
    tools: Tools, tmp_path: Path
) -> None:
    """Without a bound it takes more than 8 GB, and half a minute."""
    path = crafted.write(tmp_path / "bomb.mp4", crafted.bomb())
    index = await asyncio.to_thread(crafted.film, 10)
    long = await asyncio.to_thread(crafted.write, tmp_path / "film.mp4", *index)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    await probe(path, tools)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    # A child counts what this process had when it was forked. And the kernel counts resident pages by
    # processor, and sums them up later: it may be some megabytes off.
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bound = max(MAX_MEMORY_BYTES, max(before.ru_maxrss, own) << 10)
    assert after.ru_maxrss << 10 <= bound + (16 << 20)
    assert own << 10 < 4 << 30, "this process is too large itself to show it"
    assert (await probe(long, tools)).codecs == ("h264", "aac")


async def test_a_playlist_called_mp4_is_not_followed(tools: Tools, tmp_path: Path) -> None:
    make(tools, tmp_path / "secret" / "real.mp4", *H264)
    playlist = (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:{tmp_path}/secret/real.mp4\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "trap.mp4").write_text(playlist)
    (tmp_path / "concat.mp4").write_text(f"ffconcat version 1.0\nfile '{tmp_path}/secret/real.mp4'\n")
    facts = await listed(tmp_path, tools)
    for name in ("trap.mp4", "concat.mp4"):
        assert facts[name].codecs == ()
        assert str(facts[name].reason).startswith("can't be read")


async def test_a_changed_file_is_asked_again_and_an_unchanged_one_is_not(
    tools: Tools, tmp_path: Path
) -> None:
    path = tmp_path / "film.mp4"
    make(tools, path, *H264)
    catalogue = Catalogue(ListedFolder(tmp_path), tools)
    async with background_task(catalogue.run()):
        (first,) = await files(catalogue)
        (again,) = await files(catalogue)
        assert again.facts is first.facts
        path.unlink()
        make(tools, path, *PICTURE, "-c:v", "mpeg4")
        (changed,) = await files(catalogue)
    assert changed.facts is not None
    assert changed.facts.codecs == ("mpeg4",)


async def test_a_list_of_many_files_comes_before_all_is_known_of_them_and_completes_itself(
    tmp_path: Path,
) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.mp4").write_bytes(b"1234")
    gate, under_way, most = threading.Event(), 0, 0

    def obstacle(path: str) -> str | None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if path > "04.mp4":
            gate.wait()
        under_way -= 1
        return None

    catalogue = Catalogue(ListedFolder(tmp_path), None, PackagingFacts(obstacle))
    async with background_task(catalogue.run()):
        try:
            entries = await files(catalogue, 0.3)
            assert len(entries) == 20
            assert entries[-1].facts is None
            await until(lambda: under_way == MAX_PROBES)
        finally:
            gate.set()
        entries = await files(catalogue)
    assert all(entry.facts is not None for entry in entries)
    assert most == MAX_PROBES


async def test_without_ffprobe_files_are_still_listed(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"1234")
    assert await listed(tmp_path, None) == {"film.mp4": Facts()}


async def test_a_link_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(b"1")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real.mp4")
    assert list(await listed(tmp_path, None)) == ["real.mp4"]


@pytest.mark.clause("RFC 3629 §3", "RFC 3986 §2.5")
async def test_names_that_no_address_can_say_are_not_listed(tmp_path: Path) -> None:
    """An address is UTF-8, and names on a disk are any bytes."""
    for name in (b"good.mp4", b"n\xe4me.mp4", b"back\\slash.mp4", "n\u00e4me.mp4".encode()):
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(b"")
    (tmp_path / os.fsdecode(b"f\xf6lder")).mkdir()
    (tmp_path / os.fsdecode(b"f\xf6lder") / "inside.mp4").write_bytes(b"")
    assert list(await listed(tmp_path, None)) == ["good.mp4", "n\u00e4me.mp4"]


async def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await Catalogue(ListedFolder(tmp_path / "nowhere"), None).page(patience=0)


async def test_renditions_of_one_name_in_one_folder_are_a_title(tmp_path: Path) -> None:
    for name in ("a/film.720p.mp4", "a/film.240p.mp4", "b/film.720p.mp4", "film.1080p.mp4", "film.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    (title,) = [
        item
        for item in (await Catalogue(ListedFolder(tmp_path), None).page(patience=0)).items
        if isinstance(item, LibraryTitle)
    ]
    assert title.path == "a/film"
    assert [entry.path for entry in title.renditions] == ["a/film.240p.mp4", "a/film.720p.mp4"]


async def test_the_servers_own_data_and_its_configuration_are_not_listed(tmp_path: Path) -> None:
    """By whatever name they are in the library: a link to a folder isn't followed anyway."""
    fill(tmp_path, ["film.mp4", "data/live/demo/dvr/0.mp4", "other/data.mp4", "hidden.mp4"])
    withheld = Withheld((tmp_path / "hidden.mp4",), (tmp_path / "data",))
    os.link(tmp_path / "hidden.mp4", tmp_path / "another.mp4")
    listing = await FileListing(ListedFolder(tmp_path, withheld), (".mp4",)).latest()
    assert [file.path for file in listing.files] == ["film.mp4", "other/data.mp4"]


async def test_an_item_is_found_by_its_path(tmp_path: Path) -> None:
    fill(tmp_path, ["film.240p.mp4", "film.720p.mp4", "other.mp4"])
    catalogue = Catalogue(ListedFolder(tmp_path), None)
    (title,) = (await catalogue.named("film", patience=0)).items
    assert isinstance(title, LibraryTitle)
    (file,) = (await catalogue.named("film.720p.mp4", patience=0)).items
    assert file == Entry("film.720p.mp4", 4, None)
    assert (await catalogue.named("film.480p.mp4", patience=0)).items == ()
