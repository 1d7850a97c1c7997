"""The sounds of films with commentaries, descriptions and dubs: none is lost, and each says what it is.

What is expected are ffmpeg's dispositions, as RFC 8216bis §4.4.6.1 and ISO/IEC 23009-1 name them.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import m3u8
import pytest

from media.mp4.languages import language_name
from packager.encode.renditions import EncodedRenditions
from packager.library.local_storage import Library
from packager.vod import Titles
from packager.vod.segments.clip import Clip
from tests.fork_server import run_headwater
from tests.packager.films import probe, run_ffmpeg

MPD = "{urn:mpeg:dash:schema:mpd:2011}"
PICTURE = "-f lavfi -i testsrc2=size=128x96:rate=10:duration=4"
TONE = "-f lavfi -i sine=frequency=440:sample_rate=48000:duration=4"
H264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 20"

Sound = tuple[str, str, str, str]
"""Codec, language, dispositions and title."""


def make(path: Path, *sounds: Sound) -> Path:
    words = f"{PICTURE} {TONE} -map 0 {'-map 1 ' * len(sounds)} {H264}".split()
    for number, (codec, language, disposition, title) in enumerate(sounds):
        words += [f"-c:a:{number}", codec, f"-disposition:a:{number}", disposition or "0"]
        words += [
            f"-metadata:s:a:{number}",
            f"language={language}",
            f"-metadata:s:a:{number}",
            f"title={title}",
        ]
    run_ffmpeg(*words, path)
    return path


def titles_of(path: Path, *, encodes: bool = False) -> Titles:
    if encodes:
        return Titles(Library(path.parent), encoded=EncodedRenditions("auto", "x").tracks)
    return Titles(Library(path.parent))


def groups_of(playlist: m3u8.M3U8) -> dict[str, list[m3u8.Media]]:
    """Return the sounds by the codecs of the variants that have them."""
    codecs = {one.stream_info.audio: one.stream_info.codecs.partition(",")[2] for one in playlist.playlists}
    found: dict[str, list[m3u8.Media]] = {}
    for media in playlist.media:
        if media.type == "AUDIO":
            found.setdefault(codecs[media.group_id], []).append(media)
    return found


def master(path: Path, *, encodes: bool = False) -> m3u8.M3U8:
    return m3u8.loads(titles_of(path, encodes=encodes).multivariant_playlist(path.name))


def sounds_of(path: Path) -> list[ElementTree.Element]:
    manifest = ElementTree.fromstring(titles_of(path).manifest(path.name))
    return manifest.findall(f".//{MPD}AdaptationSet[@contentType='audio']")


def values(element: ElementTree.Element, name: str) -> list[str | None]:
    return [one.get("value") for one in element.findall(f"{MPD}{name}")]


SURROUND = (
    ("ac3", "eng", "default", "Surround"),
    ("aac", "eng", "comment", "Commentary"),
    ("aac", "fre", "", "VF"),
)


@pytest.mark.clause("RFC 8216bis §4.4.6.1")
@pytest.mark.parametrize("ending", ["mkv", "mp4"])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("encodes", [False, True])
def test_the_main_sound_is_in_a_group_whatever_its_codec_and_no_other_is_lost(
    ending: str, count: int, encodes: bool, tmp_path: Path
) -> None:
    path = make(tmp_path / f"film.{ending}", *SURROUND[:count])
    groups = groups_of(master(path, encodes=encodes))
    assert list(groups) == ["ac-3,mp4a.40.2", *(["mp4a.40.2"] if encodes else [])]
    for sounds in groups.values():
        assert [one.default for one in sounds] == ["YES", *["NO"] * (count - 1)]
        assert {(one.language, "commentary" in one.name.lower()) for one in sounds} == {
            ("en", False),
            ("en", True),
            *([("fr", False)] if count == 3 else []),
        }
        assert sounds[0].language == "en"
        assert "commentary" not in sounds[0].name.lower()
    clip = m3u8.loads(titles_of(path).multivariant_playlist(path.name, Clip(end=Fraction(2))))
    assert [one.default for one in clip.media] == ["YES", *["NO"] * (count - 1)]


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
@pytest.mark.parametrize(
    ("disposition", "title"), [("comment+default", ""), ("comment", ""), ("0", "Director's Commentary")]
)
def test_a_commentary_is_never_the_default_nor_chosen_by_itself(
    ending: str, disposition: str, title: str, tmp_path: Path
) -> None:
    path = make(
        tmp_path / f"film.{ending}", ("aac", "eng", disposition, title), ("aac", "eng", "0", "Feature")
    )
    (sounds,) = groups_of(master(path)).values()
    assert [(one.default, one.autoselect) for one in sounds] == [("YES", "YES"), ("NO", "NO")]
    assert sounds[0].name == "Feature"
    assert "commentary" in sounds[1].name.lower()
    assert [values(one, "Role") for one in sounds_of(path)] == [["main"], ["commentary"]]


@pytest.mark.clause("RFC 8216bis §4.4.6.1")
@pytest.mark.parametrize(
    ("ending", "disposition", "title"),
    [
        *((ending, "visual_impaired", "") for ending in ("mkv", "mp4", "ts")),
        *((ending, "0", "English AD") for ending in ("mkv", "mp4")),
    ],
)
def test_an_audio_description_says_so(ending: str, disposition: str, title: str, tmp_path: Path) -> None:
    path = make(
        tmp_path / f"film.{ending}", ("aac", "eng", disposition, title), ("aac", "eng", "default", "")
    )
    (sounds,) = groups_of(master(path)).values()
    told = [(one.default, one.autoselect, one.characteristics) for one in sounds]
    assert told == [("YES", "YES", None), ("NO", "YES", "public.accessibility.describes-video")]
    assert [one.name for one in sounds] == ["English", title or "English (audio description)"]
    main, described = sounds_of(path)
    assert (values(main, "Role"), values(main, "Accessibility")) == (["main"], [])
    assert (values(described, "Role"), values(described, "Accessibility")) == (["description"], ["1"])
    purpose = described.find(f"{MPD}Accessibility")
    assert purpose is not None
    assert purpose.get("schemeIdUri") == "urn:tva:metadata:cs:AudioPurposeCS:2007"


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_a_dub_and_clear_speech_have_their_roles_and_the_default_is_first(
    ending: str, tmp_path: Path
) -> None:
    path = make(
        tmp_path / f"film.{ending}",
        *(("aac", "ger", "dub", ""), ("aac", "jpn", "hearing_impaired", ""), ("aac", "jpn", "default", "")),
    )
    assert [
        (one.get("lang"), values(one, "Role"), values(one, "Accessibility")) for one in sounds_of(path)
    ] == [
        ("ja", ["main"], []),
        ("de", ["dub"], []),
        ("ja", ["enhanced-audio-intelligibility"], ["2"]),
    ]


def test_labels_are_unique_in_dash_as_names_are_in_hls(tmp_path: Path) -> None:
    path = make(tmp_path / "film.mkv", *(("aac", "eng", "0", "") for _ in range(3)))
    (sounds,) = groups_of(master(path)).values()
    labels = [one.findtext(f"{MPD}Label") for one in sounds_of(path)]
    assert labels == [one.name for one in sounds]
    assert len(set(labels)) == 3


@pytest.mark.parametrize(
    ("written", "tag"), [("pt_BR", "pt-BR"), ("German", "de"), ("zh-Hans", "zh-Hans"), ("por", "pt")]
)
def test_languages_are_read_as_people_write_them(written: str, tag: str, tmp_path: Path) -> None:
    path = make(tmp_path / "film.mkv", ("aac", written, "default", ""))
    (sounds,) = groups_of(master(path)).values()
    assert [one.language for one in sounds] == [tag]


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        *(
            ("pt-BR", "Português (Brasil)"),
            ("pt-PT", "Português"),
            ("zh-Hant-TW", "繁體中文"),
            ("ZH-HANS", "简体中文"),
        ),
        *(("nb", "Norsk bokmål"), ("th", "ไทย"), ("bg", "Български"), ("tlh", "tlh")),
    ],
)
def test_a_language_is_called_as_its_speakers_call_it(tag: str, name: str) -> None:
    """CLDR has these names, by the longest known beginning of a tag."""
    assert language_name(tag) == name


def test_a_package_has_the_same_sounds_without_a_commentary_as_its_default(tmp_path: Path) -> None:
    path = make(tmp_path / "film.mkv", *SURROUND[:2])
    run_headwater("package", str(path), "--out", str(tmp_path / "out"))
    (written,) = (tmp_path / "out").rglob("master.m3u8")
    playlist = m3u8.loads(written.read_text())
    (sounds,) = groups_of(playlist).values()
    assert [(one.default, one.name) for one in sounds] == [("YES", "Surround"), ("NO", "Commentary")]
    heard = probe(written.parent / sounds[0].uri, "-show_streams")
    assert heard["streams"][0]["codec_name"] == "ac3"
