"""The listing says of real files what they carry and whether a browser plays them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from packager.catalogue import Catalogue, Entry, Facts, titles
from packager.tools import Tools

PICTURE = ("-f", "lavfi", "-i", "testsrc2=size=160x90:rate=10:duration=1")
SOUND = ("-f", "lavfi", "-i", "sine=duration=1")
H264 = (*PICTURE, "-c:v", "libx264", "-pix_fmt", "yuv420p")


def make(tools: Tools, path: Path, *arguments: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([tools.ffmpeg, "-nostdin", "-v", "error", *arguments, f"file:{path}"], check=True)


async def listed(root: Path, tools: Tools | None) -> dict[str, Facts]:
    return {entry.path: entry.facts for entry in await Catalogue(root, tools).entries()}


async def test_what_browsers_play_has_no_reason_and_the_rest_says_why(tools: Tools, tmp_path: Path) -> None:
    make(tools, tmp_path / "good.mp4", *H264)
    make(tools, tmp_path / "sub" / "sound.mp3", *SOUND)
    make(tools, tmp_path / "mpeg4.mp4", *PICTURE, "-c:v", "mpeg4")
    make(tools, tmp_path / "deep.mp4", *PICTURE, "-c:v", "libx264", "-pix_fmt", "yuv444p")
    make(tools, tmp_path / "box.avi", *H264)
    (tmp_path / "broken.mp4").write_bytes(b"not a film" * 100)
    (tmp_path / ".hidden.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no media")
    facts = await listed(tmp_path, tools)
    assert list(facts) == ["box.avi", "broken.mp4", "deep.mp4", "good.mp4", "mpeg4.mp4", "sub/sound.mp3"]
    good = facts["good.mp4"]
    assert (good.reason, good.width, good.height, good.codecs) == (None, 160, 90, ("h264",))
    assert good.duration == pytest.approx(1.0, abs=0.11)
    assert facts["sub/sound.mp3"].reason is None
    assert facts["mpeg4.mp4"].reason == "most browsers don't play mpeg4 video"
    assert "yuv444p" in str(facts["deep.mp4"].reason)
    assert facts["box.avi"].reason == "browsers don't play AVI files; repackaged as MP4 it would play"
    assert str(facts["broken.mp4"].reason).startswith("can't be read: ")


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
    catalogue = Catalogue(tmp_path, tools)
    (first,) = await catalogue.entries()
    (again,) = await catalogue.entries()
    assert again.facts is first.facts
    path.unlink()
    make(tools, path, *PICTURE, "-c:v", "mpeg4")
    (changed,) = await catalogue.entries()
    assert changed.facts.codecs == ("mpeg4",)


async def test_without_ffprobe_files_are_still_listed(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"1234")
    (entry,) = await Catalogue(tmp_path, None).entries()
    assert (entry.path, entry.size, entry.facts) == ("film.mp4", 4, Facts())


async def test_a_link_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "real.mp4").write_bytes(b"1")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "real.mp4")
    assert [entry.path for entry in await Catalogue(tmp_path, None).entries()] == ["real.mp4"]


async def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        await Catalogue(tmp_path / "nowhere", None).entries()


def test_renditions_of_one_name_in_one_folder_are_a_title() -> None:
    names = ["a/film.720p.mp4", "a/film.240p.mp4", "b/film.720p.mp4", "film.1080p.mp4", "film.mp4"]
    (title,) = titles([Entry(name, 1, Facts()) for name in names])
    assert title.path == "a/film"
    assert [entry.path for entry in title.renditions] == ["a/film.240p.mp4", "a/film.720p.mp4"]
