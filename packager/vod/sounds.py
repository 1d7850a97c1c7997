"""The sounds of a file or a title as playlists and manifests offer them: their groups, names and purposes."""

from __future__ import annotations

from collections.abc import Sequence

from media.hls.multivariant import Media
from packager.vod.index.file_index import ENCODED_SOUND, OfferedTrack
from packager.vod.movie.track_names import display_name, distinct
from packager.vod.movie.track_roles import COMMENTARY, DESCRIPTION, DUB, INTELLIGIBLE

_PURPOSES = {
    COMMENTARY: "commentary",
    DESCRIPTION: "audio description",
    INTELLIGIBLE: "clear speech",
    DUB: "dubbed",
}
"""Roles of sounds that are offered, and what menus call them."""

AUDIO_PURPOSE = "urn:tva:metadata:cs:AudioPurposeCS:2007"
_AUDIO_PURPOSES = {DESCRIPTION: "1", INTELLIGIBLE: "2"}
"""Values of TV-Anytime's classification of sounds (ETSI TS 102 822-3-1 Annex A.13)."""

_CHARACTERISTICS = {
    DESCRIPTION: "public.accessibility.describes-video",
    INTELLIGIBLE: "public.accessibility.enhances-speech-intelligibility",
}
"""CHARACTERISTICS of sounds (RFC 8216bis §4.4.6.1)."""


def sound_groups(sounds: Sequence[OfferedTrack]) -> list[list[OfferedTrack]]:
    """Join sounds to a group for each codec of the film's main sound: players choose one that they play.

    RFC 8216bis §4.4.6.1.1: groups should have the same members. Languages and purposes that a group's codec
    lacks are in it in another codec, and sounds of codecs without a group are in all.
    """
    if not sounds:
        return []
    main = main_sounds(sounds)
    codecs = list(dict.fromkeys(one.entry.codec for one in main))
    groups = []
    for codec in codecs:
        group = [one for one in sounds if one.entry.codec not in codecs or one.entry.codec == codec]
        for other in codecs:
            members = {_member(one) for one in group}
            group += [one for one in sounds if one.entry.codec == other and _member(one) not in members]
        groups.append(sorted(group, key=lambda one: (one not in main, sounds.index(one))))
    return groups


def main_sounds(sounds: Sequence[OfferedTrack]) -> list[OfferedTrack]:
    """Return the sounds of the language and purpose that the first, the film's default, has."""
    return [one for one in sounds if _member(one) == _member(sounds[0])]


def _member(track: OfferedTrack) -> tuple[str | None, frozenset[str]]:
    """Return what the renditions of a group are chosen by: language and purpose."""
    return track.language, frozenset(track.roles).intersection(_PURPOSES)


def sound_media(group: Sequence[OfferedTrack], uris: Sequence[str], group_id: str) -> list[Media]:
    """List a group's sounds: names differ, and one of each language and purpose is chosen by itself.

    RFC 8216bis §4.4.6.1.1. A commentary is never chosen by itself.

    Args:
        uris: the addresses of their playlists, in order.
    """
    listed: list[Media] = []
    for track, name, uri in zip(group, sound_names(group), uris, strict=True):
        characteristics = ",".join(words for role, words in _CHARACTERISTICS.items() if role in track.roles)
        kind = track.language, characteristics
        alike = [one for one in listed if (one.language, one.characteristics or "") == kind]
        listed.append(
            Media(
                "AUDIO",
                group_id,
                name=name,
                uri=uri,
                language=track.language,
                default=not listed,
                autoselect=track.language is not None and not alike and COMMENTARY not in track.roles,
                characteristics=characteristics or None,
                channels=_channels(track),
            )
        )
    return listed


def dash_roles(track: OfferedTrack, *, main: bool) -> tuple[str, ...]:
    """Return a sound's roles (ISO/IEC 23009-1 §5.8.5.5)."""
    purposes = tuple(role for role in _PURPOSES if role in track.roles)
    return ("main", *purposes) if main else purposes or ("alternate",)


def dash_accessibility(track: OfferedTrack) -> list[tuple[str, str]]:
    """Return the schemes and values of a sound's accessibility (ISO/IEC 23009-1 §5.8.4.3)."""
    return [(AUDIO_PURPOSE, value) for role, value in _AUDIO_PURPOSES.items() if role in track.roles]


def sound_names(sounds: Sequence[OfferedTrack]) -> list[str]:
    """Return the sounds' names for menus, each different.

    RFC 8216bis §4.4.6.1.1: groups of other codecs name a sound alike, so an encoded one has that of the film.
    """
    given = [
        display_name(one.title, one.language, [_PURPOSES[role] for role in _PURPOSES if role in one.roles])
        for one in sounds
    ]
    owns = [one.name.removesuffix(ENCODED_SOUND) for one in sounds]
    return distinct(zip([name or own for name, own in zip(given, owns, strict=True)], owns, strict=True))


def _channels(track: OfferedTrack) -> str | None:
    """Return the number of channels, or of objects (§4.4.6.1, CHANNELS); None if unknown."""
    if track.entry.joc_complexity:
        return f"{track.entry.joc_complexity}/JOC"
    return str(track.entry.channels) if track.entry.channels else None
