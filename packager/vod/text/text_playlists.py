"""Contents of the playlists of subtitles and captions (RFC 8216bis), which media.hls writes."""

from __future__ import annotations

from collections.abc import Sequence

from media.hls.media_playlist import MediaPlaylist, Segment, target_duration
from media.hls.multivariant import Media
from packager.vod.movie.track_names import display_name, distinct
from packager.vod.text.text_segment_list import TextSegments
from packager.vod.text.text_tracks import PictureSubtitles, TextTrack

TEXT_SUFFIX = ".vtt"
TEXT_FOLDER = "subtitles"
TEXT_GROUP = "subtitles"

SDH_CHARACTERISTICS = ",".join(
    f"public.accessibility.{what}" for what in ("transcribes-spoken-dialog", "describes-music-and-sound")
)
"""CHARACTERISTICS of subtitles for the deaf and hard of hearing (RFC 8216bis §4.4.6.1)."""


def text_playlist(text: TextSegments, folder: str = "", least_target: int = 1) -> MediaPlaylist:
    """Write the media playlist of a text track.

    Args:
        least_target: the target duration of the film's other playlists.
        folder: the beginning of their addresses, relative to that of the playlist.
    """
    durations = text.durations
    named = zip(text.webvtt_names, durations, strict=True)
    segments = [Segment(f"{folder}{name}{TEXT_SUFFIX}", duration) for name, duration in named]
    target = max(target_duration(durations), least_target)
    return MediaPlaylist(target, segments, playlist_type="VOD", ended=True)


def text_media(prefix: str, tracks: Sequence[TextTrack], query: str = "") -> list[Media]:
    """List text tracks; one of each language and purpose may be chosen by itself (§4.4.6.1.1).

    Args:
        prefix: the beginning of the addresses of their file.
        query: the query of their playlists' addresses.
    """
    listed: list[Media] = []
    for track, name in zip(tracks, text_names(tracks), strict=True):
        characteristics = SDH_CHARACTERISTICS if track.sdh else None
        alike = [
            one
            for one in listed
            if (one.language, one.forced, one.characteristics)
            == (track.language, track.forced, characteristics)
        ]
        listed.append(
            Media(
                "SUBTITLES",
                TEXT_GROUP,
                name=name,
                uri=f"{prefix}{TEXT_FOLDER}/{track.name}/media.m3u8{query}",
                language=track.language,
                default=track.default and not any(one.default for one in listed),
                autoselect=track.language is not None and not alike,
                forced=track.forced,
                characteristics=characteristics,
            )
        )
    return listed


def text_names(tracks: Sequence[TextTrack]) -> list[str]:
    """Return the names of subtitles for menus, each different."""
    return distinct((text_title(track), track.file or track.name) for track in tracks)


def text_title(track: TextTrack | PictureSubtitles) -> str:
    """Return the display name of subtitles: its own name, or that of its language and purpose."""
    purposes = [word for word, given in (("forced", track.forced), ("SDH", track.sdh)) if given]
    return display_name(track.title, track.language, purposes, "Subtitles")
