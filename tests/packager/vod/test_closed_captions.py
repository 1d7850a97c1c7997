"""Captions in the pictures of films (CEA-608, CEA-708) are announced: those that are there, and no others."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from media.mp4.codecs.closed_captions import services_of
from packager.library.local_storage import Library
from packager.vod import Titles
from tests.packager.captioned_films import FRAMES, constructs, film, popped_on, sei, shown_by_ffmpeg

MPD = "{urn:mpeg:dash:schema:mpd:2011}"


def announced(path: Path) -> tuple[list[str], str | None, list[tuple[str | None, str | None]]]:
    """Return INSTREAM-IDs, the group of the variant, and DASH's schemes and values."""
    titles = Titles(Library(path.parent))
    playlist = m3u8.loads(titles.multivariant_playlist(path.name))
    captions = [one for one in playlist.media if one.type == "CLOSED-CAPTIONS"]
    assert all(one.uri is None and one.group_id == "captions" for one in captions)
    pictures = ElementTree.fromstring(titles.manifest(path.name)).find(f".//{MPD}AdaptationSet")
    assert pictures is not None
    found = [(one.get("schemeIdUri"), one.get("value")) for one in pictures.findall(f"{MPD}Accessibility")]
    return [one.instream_id for one in captions], playlist.playlists[0].stream_info.closed_captions, found


@pytest.mark.clause("RFC 8216bis §4.4.6.1")
@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("count", [FRAMES, 40])
def test_captions_of_cea_608_are_announced_wherever_they_begin(
    ending: str, count: int, tmp_path: Path
) -> None:
    """The second film has none where its segments begin."""
    path = film(tmp_path / f"film.{ending}", constructs(popped_on("HELLO 608 ", 1), 0, count))
    assert "HELLO 608" in shown_by_ffmpeg(path)
    assert announced(path) == (["CC1"], '"captions"', [("urn:scte:dash:cc:cea-608:2015", "CC1=und")])


def test_each_channel_and_service_is_announced_once(tmp_path: Path) -> None:
    first, second = popped_on("ab", 1), popped_on("cd", 2)
    # CEA-708-E §5: a packet of four bytes, of which service 2 has two.
    packet = ((3, 0x02, 0x42), (2, 0x41, 0x42))
    pictures = [[(0, *one), (1, *other), *packet] for one, other in zip(first, second, strict=True)]
    assert announced(film(tmp_path / "film.mp4", pictures)) == (
        ["CC1", "CC4", "SERVICE2"],
        '"captions"',
        [
            ("urn:scte:dash:cc:cea-608:2015", "CC1=und;CC4=und"),
            ("urn:scte:dash:cc:cea-708:2015", "2=lang:und"),
        ],
    )


def test_room_for_captions_without_any_is_not_announced(tmp_path: Path) -> None:
    path = film(tmp_path / "film.mp4", constructs([], 0, FRAMES))
    assert shown_by_ffmpeg(path) == ""
    assert announced(path) == ([], None, [])
    plain = film(tmp_path / "plain.mp4", [])
    assert announced(plain) == ([], "NONE", [])


def test_user_data_that_are_cut_off_have_what_is_whole() -> None:
    unit = sei([(0, 0x94, 0x20), (3, 0x02, 0x22), (2, 0x41, 0x42)])
    assert services_of(unit) == {"CC1", "SERVICE1"}
    assert all(services_of(unit[:length]) <= {"CC1", "SERVICE1"} for length in range(len(unit)))


@pytest.mark.parametrize("kind", [0, 1, 2, 3])
def test_constructs_that_are_not_valid_have_no_captions(kind: int) -> None:
    unit = sei([(kind, 0x94, 0x20)]).replace(bytes((0xFC | kind,)), bytes((0xF8 | kind,)))
    assert services_of(unit) == frozenset()
